const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Bytes as text: what can be read as it is, the rest as escapes such as \r and \x02. */
export function asText(data: Uint8Array): string {
  let text: string;
  try {
    text = utf8.decode(data);
  } catch {
    return Array.from(data, (b) => (b >= 0x20 && b < 0x7f && b !== 0x5c ? String.fromCharCode(b) : escape(b))).join("");
  }
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\\\u2028\u2029]/g, (c) => escape(c.charCodeAt(0)));
}

function escape(code: number): string {
  switch (code) {
    case 0x0a:
      return "\\n";
    case 0x0d:
      return "\\r";
    case 0x09:
      return "\\t";
    case 0x5c:
      return "\\\\";
    default:
      return code < 0x100 ? `\\x${hexByte(code)}` : `\\u${code.toString(16).padStart(4, "0")}`;
  }
}

function hexByte(b: number): string {
  return b.toString(16).padStart(2, "0");
}

/** Bytes as hex, at most `limit` of them. */
export function asHex(data: Uint8Array, limit = Infinity): string {
  const part = Array.from(data.subarray(0, Math.min(limit, data.length)), hexByte).join(" ");
  return data.length > limit ? `${part} …` : part;
}

/** Rows of 16 bytes: offset, hex, text. */
export function dump(data: Uint8Array): string {
  const rows: string[] = [];
  for (let at = 0; at < data.length; at += 16) {
    const row = data.subarray(at, at + 16);
    const text = Array.from(row, (b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : "·")).join("");
    rows.push(`${at.toString(16).padStart(6, "0")}  ${asHex(row).padEnd(47)}  ${text}`);
  }
  return rows.join("\n");
}
