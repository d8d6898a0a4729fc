const superscripts: Record<string, string> = { "0": "⁰", "1": "¹", "2": "²", "3": "³", "4": "⁴", "5": "⁵", "6": "⁶", "7": "⁷", "8": "⁸", "9": "⁹", "-": "⁻", "+": "" };

// symbols of codes and of parts of them, as people write them.
const symbols: Record<string, string> = { Cel: "°C", "[degF]": "°F", "[degR]": "°R", deg: "°", By: "B", "[Btu_IT]": "BTU", "[HP]": "hp", "[H2O]": "H₂O", "W.h": "Wh", "A.h": "Ah", "var.h": "varh", "V.A": "VA", "dB[mW]": "dBm" };

/**
 * A unit as people write it: °C for Cel, kWh for kW.h, m³/h for m3/h, what stands in braces as it is. What is no code of UCUM is left alone.
 * Source: The Unified Code for Units of Measure, 2.2, columns "c/s" and "print".
 */
export function unitSymbol(code: string): string {
  if (code.includes(":")) return code; // QUDT
  let rest = code.replace(/(\[degF\]|\[degR\]|\[Btu_IT\]|\[HP\]|\[H2O\]|\bCel\b|\bdeg\b|By\b|(?:W|A|var)\.h\b|V\.A\b|dB\[mW\])/g, (part) => symbols[part] ?? part);
  rest = rest.replace(/Ohm/g, "Ω").replace(/(^|[./])u(?=[A-Za-zΩ])/g, "$1µ");
  rest = rest.replace(/\[([A-Za-z]+)(?:_[a-z]+)?\]/g, "$1").replace(/\[([^\]]*)\]/g, "$1");
  rest = rest.replace(/([A-Za-zΩ°])([+-]?\d+)(?=[./]|$)/g, (_, letter: string, digits: string) => letter + [...digits].map((d) => superscripts[d]).join(""));
  return rest.replace(/\{([^}]*)\}/g, "$1").replace(/\./g, "·");
}
