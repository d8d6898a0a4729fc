package sim

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// light is the state of a dimmer (which uses only dimmer) or a light of five channels.
type light struct {
	hue, sat int // degrees, percent
	dimmer   int // percent, brightness of what shows
	ct       int // mired, 153 cold to 500 warm
	white    bool
	rgb      [3]byte // as shown, brightness included
}

func newLight() light {
	l := light{hue: 35, sat: 60, dimmer: 60, ct: 300}
	l.mix()
	return l
}

// mix computes rgb from hue, saturation and brightness.
func (l *light) mix() {
	if l.white {
		l.rgb = [3]byte{}
		return
	}
	v := float64(l.dimmer) / 100
	c := v * float64(l.sat) / 100
	h := math.Mod(float64(l.hue), 360) / 60
	x := c * (1 - math.Abs(math.Mod(h, 2)-1))
	t := [6][3]float64{{c, x, 0}, {x, c, 0}, {0, c, x}, {0, x, c}, {x, 0, c}, {c, 0, x}}[int(h)]
	m := v - c
	for i, f := range t {
		l.rgb[i] = byte(math.Round((f + m) * 255))
	}
}

// setRGB takes a colour as it is and computes hue, saturation and brightness from it.
func (l *light) setRGB(rgb [3]byte) {
	l.white, l.rgb = false, rgb
	r, g, b := float64(rgb[0])/255, float64(rgb[1])/255, float64(rgb[2])/255
	hi, lo := max(r, g, b), min(r, g, b)
	span := hi - lo
	hue := 0.
	switch {
	case span == 0:
	case hi == r:
		hue = math.Mod((g-b)/span+6, 6)
	case hi == g:
		hue = (b-r)/span + 2
	default:
		hue = (r-g)/span + 4
	}
	l.hue = int(math.Round(hue*60)) % 360
	l.sat = 0
	if hi > 0 {
		l.sat = int(math.Round(span / hi * 100))
	}
	l.dimmer = int(math.Round(hi * 100))
}

func (l *light) setHSB(h, s, b int) {
	l.white, l.hue, l.sat, l.dimmer = false, h, s, b
	l.mix()
}

func (l *light) setDimmer(percent int) {
	l.dimmer = percent
	l.mix()
}

func (l *light) setCT(mired int) {
	l.white, l.ct = true, mired
	l.mix()
}

// channels gives the five channels in percent: red, green, blue, cold, warm.
func (l *light) channels() [5]int {
	var c [5]int
	for i, v := range l.rgb {
		c[i] = int(math.Round(float64(v) / 2.55))
	}
	if l.white {
		warm := float64(l.ct-153) / (500 - 153)
		c[3] = int(math.Round(float64(l.dimmer) * (1 - warm)))
		c[4] = int(math.Round(float64(l.dimmer) * warm))
	}
	return c
}

// color is RRGGBBCCWW; dark where the light is off.
func (l *light) color(on bool) string {
	if !on {
		return "0000000000"
	}
	c := l.channels()
	return fmt.Sprintf("%02X%02X%02X%02X%02X", l.rgb[0], l.rgb[1], l.rgb[2], c[3]*255/100, c[4]*255/100)
}

func (l *light) hsb() string { return fmt.Sprintf("%d,%d,%d", l.hue, l.sat, l.dimmer) }

// parseColor reads RRGGBB (further channels are passed over), with or without #, or r,g,b.
func parseColor(text string) ([3]byte, bool) {
	var rgb [3]byte
	if numbers, ok := parseNumbers(text, 255); ok && len(numbers) == 3 {
		return [3]byte{byte(numbers[0]), byte(numbers[1]), byte(numbers[2])}, true
	}
	text = strings.TrimPrefix(text, "#")
	if len(text) < 6 {
		return rgb, false
	}
	v, err := strconv.ParseUint(text[:6], 16, 32)
	rgb[0], rgb[1], rgb[2] = byte(v>>16), byte(v>>8), byte(v)
	return rgb, err == nil
}

// parseNumbers reads whole numbers from 0 to limit, separated by commas.
func parseNumbers(text string, limit int) ([]int, bool) {
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 0 || n > limit {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}
