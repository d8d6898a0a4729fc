/** `project/name` as its parts; a bare name is of the project `default`. */
export function split(id: string): { project: string; name: string } {
  const at = id.indexOf("/");
  return at < 0 ? { project: "default", name: id } : { project: id.slice(0, at), name: id.slice(at + 1) };
}

/** A bare name completed by the project `default`. */
export function full(id: string): string {
  return id.includes("/") ? id : `default/${id}`;
}

/** The console's address of a twin. */
export function twinPath(id: string): string {
  return `/twins/${full(id).split("/").map(encodeURIComponent).join("/")}`;
}

/** `name@version` as its parts. */
export function splitDriver(driver: string): { name: string; version: string } {
  const [name = "", version = ""] = driver.split("@");
  return { name, version };
}

/** The project to begin with, of those that there are: `default`, or the first where that is not one of them. */
export function homeOf(names: string[]): string {
  return names.includes("default") ? "default" : (names[0] ?? "default");
}
