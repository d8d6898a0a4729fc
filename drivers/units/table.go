package units

import "math"

// atom is a unit that is not made of others, or has a name of its own; metric ones take prefixes.
type atom struct {
	Unit
	metric bool
}

func of(factor float64, metric bool, dims ...int8) atom {
	var d dimension
	for i := 0; i+1 < len(dims); i += 2 {
		d.exponent[dims[i]] = dims[i+1]
	}
	return atom{Unit{dim: d, factor: factor}, metric}
}

// atoms by their UCUM code. Base units: m, g, s, A, K, mol, cd, rad, bit.
var atoms = map[string]atom{
	"m": of(1, true, length, 1), "[in_i]": of(0.0254, false, length, 1), "[ft_i]": of(0.3048, false, length, 1),
	"[yd_i]": of(0.9144, false, length, 1), "[mi_i]": of(1609.344, false, length, 1), "[nmi_i]": of(1852, false, length, 1),
	"ar":       of(100, true, length, 2),
	"l":        of(1e-3, true, length, 3),
	"L":        of(1e-3, true, length, 3),
	"[gal_us]": of(3.785411784e-3, false, length, 3),
	"g":        of(1, true, mass, 1), "t": of(1e6, true, mass, 1), "[lb_av]": of(453.59237, false, mass, 1), "[oz_av]": of(28.349523125, false, mass, 1),
	"s": of(1, true, duration, 1), "min": of(60, false, duration, 1), "h": of(3600, false, duration, 1), "d": of(86400, false, duration, 1),
	"wk": of(604800, false, duration, 1), "mo": of(2629800, false, duration, 1), "a": of(31557600, false, duration, 1),
	"Hz": of(1, true, duration, -1), "Bq": of(1, true, duration, -1),
	"A": of(1, true, current, 1), "C": of(1, true, current, 1, duration, 1),
	"K":   of(1, true, temperature, 1),
	"mol": of(1, true, amount, 1),
	"cd":  of(1, true, luminosity, 1), "lm": of(1, true, luminosity, 1), "lx": of(1, true, luminosity, 1, length, -2),
	"rad": of(1, true, angle, 1), "deg": of(math.Pi/180, false, angle, 1), "'": of(math.Pi/10800, false, angle, 1),
	"N": of(1e3, true, mass, 1, length, 1, duration, -2), "Pa": of(1e3, true, mass, 1, length, -1, duration, -2),
	"bar": of(1e8, true, mass, 1, length, -1, duration, -2), "atm": of(101325e3, false, mass, 1, length, -1, duration, -2),
	"[psi]":    of(6894757.293168, false, mass, 1, length, -1, duration, -2),
	"m[Hg]":    of(133322387.415, true, mass, 1, length, -1, duration, -2),
	"m[H2O]":   of(9806650, true, mass, 1, length, -1, duration, -2),
	"J":        of(1e3, true, mass, 1, length, 2, duration, -2),
	"eV":       of(1.602176634e-16, true, mass, 1, length, 2, duration, -2),
	"cal":      of(4184, true, mass, 1, length, 2, duration, -2),
	"[Btu_IT]": of(1055055.85262, false, mass, 1, length, 2, duration, -2),
	"W":        of(1e3, true, mass, 1, length, 2, duration, -3),
	"var":      of(1e3, true, mass, 1, length, 2, duration, -3),
	"[HP]":     of(745699.87158227, false, mass, 1, length, 2, duration, -3),
	"V":        of(1e3, true, mass, 1, length, 2, duration, -3, current, -1),
	"Ohm":      of(1e3, true, mass, 1, length, 2, duration, -3, current, -2),
	"S":        of(1e-3, true, mass, -1, length, -2, duration, 3, current, 2),
	"F":        of(1e-3, true, mass, -1, length, -2, duration, 4, current, 2),
	"H":        of(1e3, true, mass, 1, length, 2, duration, -2, current, -2),
	"T":        of(1e3, true, mass, 1, duration, -2, current, -1),
	"Gy":       of(1, true, length, 2, duration, -2),
	"Sv":       of(1, true, length, 2, duration, -2),
	"bit":      of(1, true, data, 1),
	"By":       of(8, true, data, 1),
	"Bd":       of(1, true, data, 1, duration, -1),
	"%":        of(0.01, false),
	"[ppth]":   of(1e-3, false),
	"[ppm]":    of(1e-6, false),
	"[ppb]":    of(1e-9, false),
	"1":        of(1, false),
	"[kn_i]":   of(1852.0/3600, false, length, 1, duration, -1),
}

// prefixes of UCUM. Those smaller than p are left out: who writes ft means feet, which are [ft_i].
var prefixes = []struct {
	code   string
	factor float64
	binary bool
}{
	{"Ki", 1 << 10, true}, {"Mi", 1 << 20, true}, {"Gi", 1 << 30, true}, {"Ti", 1 << 40, true},
	{"da", 10, false}, {"E", 1e18, false}, {"P", 1e15, false}, {"T", 1e12, false}, {"G", 1e9, false}, {"M", 1e6, false}, {"k", 1e3, false}, {"h", 100, false},
	{"d", 0.1, false}, {"c", 0.01, false}, {"m", 1e-3, false}, {"u", 1e-6, false}, {"n", 1e-9, false}, {"p", 1e-12, false},
}

// special units have a zero of their own, or a scale that is not linear: these are only ever what they are.
var special = map[string]Unit{
	"Cel":    {dim: of(0, false, temperature, 1).dim, factor: 1, offset: 273.15},
	"[degF]": {dim: of(0, false, temperature, 1).dim, factor: 5.0 / 9, offset: 273.15 - 32*5.0/9},
	"[pH]":   ownScale("pH"), "dB": ownScale("dB"), "Np": ownScale("Np"),
	"dB[mW]": ownScale("dB[mW]"), "dB[W]": ownScale("dB[W]"), "dB[V]": ownScale("dB[V]"), "dB[SPL]": ownScale("dB[SPL]"),
	"dB[uV]": ownScale("dB[uV]"), "mired": ownScale("mired"),
}

func ownScale(name string) Unit { return Unit{dim: dimension{scale: name}, factor: 1} }

// aliases are QUDT's names and what people write, by their UCUM code.
var aliases = map[string]string{
	"DEG_C": "Cel", "DEG_F": "[degF]", "°C": "Cel", "°F": "[degF]", "degC": "Cel", "degF": "[degF]", "C_deg": "Cel",
	"PERCENT": "%", "percent": "%", "PERCENT_RH": "%", "%RH": "%", "PPM": "[ppm]", "ppm": "[ppm]", "PPB": "[ppb]", "ppb": "[ppb]",
	"UNITLESS": "1", "NUM": "1",
	"kWh": "kW.h", "Wh": "W.h", "MWh": "MW.h", "VA": "V.A", "kVA": "kV.A", "VAr": "var", "W-HR": "W.h", "KiloW-HR": "kW.h", "MegaW-HR": "MW.h",
	"KiloW": "kW", "MegaW": "MW", "MilliW": "mW", "MilliA": "mA", "MilliV": "mV", "KiloV": "kV", "KiloV-A": "kV.A", "V-A": "V.A",
	"J": "J", "KiloJ": "kJ", "MegaJ": "MJ", "PA": "Pa", "HectoPA": "hPa", "KiloPA": "kPa", "MegaPA": "MPa", "BAR": "bar",
	"MilliBAR": "mbar", "PSI": "[psi]", "psi": "[psi]", "ATM": "atm", "OHM": "Ohm", "Ω": "Ohm", "HZ": "Hz", "KiloHZ": "kHz", "MegaHZ": "MHz",
	"SEC": "s", "MIN": "min", "HR": "h", "DAY": "d", "WK": "wk", "YR": "a", "MilliSEC": "ms", "MicroSEC": "us", "µs": "us", "μs": "us",
	"M": "m", "CentiM": "cm", "MilliM": "mm", "KiloM": "km", "MicroM": "um", "µm": "um", "FT": "[ft_i]", "IN": "[in_i]", "MI": "[mi_i]",
	"M2": "m2", "M3": "m3", "m²": "m2", "m³": "m3", "L": "L", "LITRE": "L", "MilliL": "mL", "GAL_US": "[gal_us]",
	"M-PER-SEC": "m/s", "KiloM-PER-HR": "km/h", "MI-PER-HR": "[mi_i]/h", "KN": "[kn_i]", "M-PER-SEC2": "m/s2", "M3-PER-HR": "m3/h",
	"M3-PER-SEC": "m3/s", "L-PER-MIN": "L/min", "L-PER-SEC": "L/s", "m³/h": "m3/h",
	"GM": "g", "KiloGM": "kg", "MilliGM": "mg", "TONNE": "t", "LB": "[lb_av]", "OZ": "[oz_av]", "MicroGM-PER-M3": "ug/m3", "µg/m³": "ug/m3",
	"GM-PER-M3": "g/m3", "KiloGM-PER-M3": "kg/m3",
	"LUX": "lx", "lux": "lx", "LM": "lm", "CD": "cd", "DEG": "deg", "°": "deg", "RAD": "rad", "REV-PER-MIN": "{rev}/min", "rpm": "{rev}/min",
	"BIT": "bit", "BYTE": "By", "B": "By", "kB": "kBy", "MB": "MBy", "GB": "GBy", "TB": "TBy", "KiB": "KiBy", "MiB": "MiBy", "GiB": "GiBy",
	"KiloBYTE": "kBy", "MegaBYTE": "MBy", "GigaBYTE": "GBy", "KiloBIT-PER-SEC": "kbit/s", "DeciB": "dB", "DECIBEL": "dB", "DeciB_M": "dB[mW]",
	"dBm": "dB[mW]", "MOL": "mol", "W-PER-M2": "W/m2", "W/m²": "W/m2", "N-M": "N.m", "PH": "[pH]", "pH": "[pH]", "MIRED": "mired",
}
