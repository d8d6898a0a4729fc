package units

import (
	"errors"
	"math"
	"testing"
)

func TestConvert(t *testing.T) {
	for _, c := range []struct {
		x        float64
		from, to string
		want     float64
	}{
		{20, "Cel", "[degF]", 68}, {68, "DEG_F", "unit:DEG_C", 20}, {0, "Cel", "K", 273.15}, {-40, "°C", "°F", -40},
		{1, "kW.h", "J", 3.6e6}, {1, "kWh", "MJ", 3.6}, {1500, "W", "kW", 1.5}, {36, "km/h", "m/s", 10}, {1, "m3/h", "L/min", 1000.0 / 60},
		{1013.25, "hPa", "bar", 1.01325}, {1, "[psi]", "Pa", 6894.757293168}, {50, "%", "1", 0.5}, {400, "[ppm]", "%", 0.04},
		{1, "MiBy", "KiBy", 1024}, {1, "PJ", "TJ", 1000}, {2, "EBy", "PBy", 2000}, {1, "Pa", "hPa", 0.01}, {1, "cd", "mcd", 1000}, {1, "min", "s", 60},
		{1, "[lb_av]", "kg", 0.45359237}, {1, "[gal_us]", "L", 3.785411784}, {1, "mm[Hg]", "Pa", 133.322387415}, {1, "[HP]", "W", 745.69987158227},
		{1, "[Btu_IT]", "kJ", 1.05505585262}, {1, "kcal", "kJ", 4.184}, {1, "eV", "J", 1.602176634e-19}, {1, "[kn_i]", "km/h", 1.852}, {1, "A.h", "C", 3600},
		{230, "V", "mV", 230000}, {1, "F", "C/V", 1}, {1, "H", "V.s/A", 1}, {1, "T", "V.s/m2", 1}, {1, "S", "A/V", 1}, {1, "Ohm", "V/A", 1}, {1, "lx", "lm/m2", 1}, {8, "bit", "By", 1}, {1, "http://qudt.org/vocab/unit/KiloW-HR", "W.h", 1000},
		{90, "min", "h", 1.5}, {1, "d", "s", 86400}, {180, "deg", "rad", math.Pi}, {60, "/min", "Hz", 1}, {3, "{people}", "{persons}", 3},
		{1, "ug/m3", "mg/m3", 1e-3}, {12, "dBm", "dB[mW]", 12}, {1, "V.A", "W", 1}, {1, "N.m", "J", 1}, {1, "10.L", "L", 10}, {1, "m-2", "cm-2", 1e-4},
	} {
		from, err := Parse(c.from)
		if err != nil {
			t.Error(err)
			continue
		}
		to, err := Parse(c.to)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := Convert(c.x, from, to)
		if err != nil || math.Abs(got-c.want) > 1e-9*math.Max(1, math.Abs(c.want)) {
			t.Errorf("%v %s is %v %s (%v), want %v", c.x, c.from, got, c.to, err, c.want)
		}
		back, err := Convert(got, to, from)
		if err != nil || math.Abs(back-c.x) > 1e-9*math.Max(1, math.Abs(c.x)) {
			t.Errorf("%v %s comes back as %v (%v)", c.x, c.from, back, err)
		}
	}
}

func TestOtherDimensionsAreRefused(t *testing.T) {
	for _, c := range [][2]string{{"Cel", "%"}, {"kW", "kW.h"}, {"m", "m2"}, {"dB", "W"}, {"bit/s", "Hz"}, {"dB", "dB[mW]"}} {
		from, err := Parse(c[0])
		if err != nil {
			t.Fatal(err)
		}
		to, err := Parse(c[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Convert(1, from, to); !errors.Is(err, ErrDimension) {
			t.Errorf("%s to %s: %v", c[0], c[1], err)
		}
	}
}

func TestUnknownCodes(t *testing.T) {
	for _, code := range []string{"", " ", "foo", "Kmin", "m..s", "kCel", "m/", "{a", "{a}b}", "m99", "kg.[x]", "KiW", "Cel/s", "ft"} {
		if u, err := Parse(code); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q is taken as %+v (%v)", code, u, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for code := range aliases {
		f.Add(code)
	}
	for code := range atoms {
		f.Add("k" + code + "2/s")
	}
	f.Fuzz(func(t *testing.T, code string) {
		u, err := Parse(code)
		if err != nil {
			return
		}
		if x, err := Convert(1, u, u); err != nil || x != 1 {
			t.Errorf("%q does not convert to itself: %v, %v", code, x, err)
		}
	})
}

func TestTableIsWhole(t *testing.T) {
	for name := range aliases {
		if _, err := Parse(name); err != nil {
			t.Errorf("alias %s: %v", name, err)
		}
	}
}
