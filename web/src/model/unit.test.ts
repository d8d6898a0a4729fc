import { expect, test } from "vitest";
import { unitSymbol } from "./unit";

test("units are written as people write them", () => {
  const want: Record<string, string> = {
    "": "", Cel: "°C", "[degF]": "°F", K: "K", "%": "%", deg: "°", kPa: "kPa", "m[Hg]": "mHg", "mm[H2O]": "mmH₂O", "kW.h": "kWh", "W.h": "Wh", kW: "kW", "m3/h": "m³/h", "W/m2": "W/m²", "m.s-2": "m·s⁻²",
    "ug/m3": "µg/m³", um: "µm", us: "µs", kOhm: "kΩ", "[ppm]": "ppm", "[in_i]": "in", "[gal_us]/min": "gal/min", "[psi]": "psi", "{rev}/min": "rev/min", "{people}": "people", "[Btu_IT]/h": "BTU/h", By: "B", MBy: "MB",
    lx: "lx", "l/min": "l/min", "10*3": "10*3", "unit:DEG_C": "unit:DEG_C", "Cel/h": "°C/h", "dB[SPL]": "dBSPL", "lm/m2": "lm/m²", "V.A": "VA", "dB[mW]": "dBm", "kvar.h": "kvarh",
  };
  for (const [code, symbol] of Object.entries(want)) expect(unitSymbol(code), code).toBe(symbol);
});
