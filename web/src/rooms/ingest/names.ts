/** A name that a twin may have, made of what a device is called. */
export function nameFrom(text: string | undefined): string {
  return (text ?? "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 128);
}
