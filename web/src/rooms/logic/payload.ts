import type { JsonValue } from "@bufbuild/protobuf";

const utf8 = new TextDecoder();

/** A payload as what `run` is given: JSON, or else a text. */
export function payloadOf(bytes: Uint8Array): JsonValue {
  const text = utf8.decode(bytes);
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return text;
  }
}
