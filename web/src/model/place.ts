/** Where something is, in degrees. */
export interface Place {
  latitude: number;
  longitude: number;
}

/** A place as it can be read again; empty where there is none. */
export function writePlace(place: Place | undefined): string {
  return place ? `${place.latitude}, ${place.longitude}` : "";
}

/** Latitude and longitude with a comma between; undefined where nothing is written. What is no place is said. */
export function readPlace(text: string): Place | undefined {
  if (text.trim() === "") return undefined;
  const [latitude = NaN, longitude = NaN, ...more] = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (more.length > 0 || !Number.isFinite(latitude) || !Number.isFinite(longitude)) throw new Error(`“${text}” is no place: want latitude and longitude in degrees, such as 52.52, 13.41`);
  return { latitude, longitude };
}
