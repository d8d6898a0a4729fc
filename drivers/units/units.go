// Package units knows the units that models give their properties: codes of UCUM (`Cel`, `kW.h`, `m3/h`), of QUDT
// (`DEG_C`, `unit:KiloW-HR`), and a few that people write (`°C`, `kWh`). It says which measure the same, and converts.
//
// Codes of UCUM are taken apart by its grammar (https://ucum.org/ucum): prefixes, exponents, products, quotients, and
// annotations in braces, without parentheses. Logarithmic units, such as dB, are each a measure of its own.
package units

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnknown is the error of a code that stands for no unit.
var ErrUnknown = errors.New("unknown unit")

// ErrDimension is the error of a conversion between units that measure different things.
var ErrDimension = errors.New("another dimension")

// The base dimensions; each is the place of its exponent.
const (
	length = iota
	mass
	duration
	current
	temperature
	amount
	luminosity
	angle
	data
	bases
)

// dimension is what a unit measures: the exponents of the base dimensions, or a scale of its own.
type dimension struct {
	exponent [bases]int8
	// scale names what cannot be converted, such as dB.
	scale string
}

// Unit is one unit: a value of it times factor plus offset is a value of the base units. The zero Unit is no unit.
type Unit struct {
	// Code as it was given.
	Code           string
	dim            dimension
	factor, offset float64
}

// Same says whether two units measure the same thing.
func (u Unit) Same(o Unit) bool { return u.dim == o.dim }

// maxCode bounds a unit's code, in bytes.
const maxCode = 64

// Parse reads a code. Errors wrap ErrUnknown.
func Parse(code string) (Unit, error) {
	text := strings.TrimSpace(code)
	if text == "" || len(text) > maxCode {
		return Unit{}, fmt.Errorf("%.70q: %w", code, ErrUnknown)
	}
	for _, prefix := range []string{"http://qudt.org/vocab/unit/", "https://qudt.org/vocab/unit/", "qudt:", "unit:", "ucum:"} {
		text = strings.TrimPrefix(text, prefix)
	}
	if same, ok := aliases[text]; ok {
		text = same
	}
	u, ok := special[text]
	if !ok {
		var err error
		if u, err = parseTerm(text); err != nil {
			return Unit{}, fmt.Errorf("%q: %w", code, err)
		}
	}
	u.Code = code
	return u, nil
}

// Convert gives a value of one unit in another. Errors wrap ErrDimension.
func Convert(x float64, from, to Unit) (float64, error) {
	if !from.Same(to) {
		return 0, fmt.Errorf("%s is not to be had in %s: %w", from.Code, to.Code, ErrDimension)
	}
	if from.factor == to.factor && from.offset == to.offset {
		return x, nil
	}
	return (x*from.factor + from.offset - to.offset) / to.factor, nil
}

// parseTerm reads products and quotients of units: `kg.m/s2`, `/min`.
func parseTerm(text string) (Unit, error) {
	out := Unit{factor: 1}
	sign := int8(1)
	if strings.HasPrefix(text, "/") {
		sign, text = -1, text[1:]
	}
	for {
		end := termEnd(text)
		if err := out.multiply(text[:end], sign); err != nil {
			return Unit{}, err
		}
		if end == len(text) {
			return out, nil
		}
		sign = 1
		if text[end] == '/' {
			sign = -1
		}
		text = text[end+1:]
	}
}

// termEnd is where the first component ends: at a dot or a slash outside of brackets and braces.
func termEnd(text string) int {
	depth := 0
	for i, c := range text {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '.', '/':
			if depth == 0 {
				return i
			}
		}
	}
	return len(text)
}

// multiply takes one component in: a number, or a unit with its exponent.
func (u *Unit) multiply(text string, sign int8) error {
	if name, note, ok := strings.Cut(text, "{"); ok {
		if !strings.HasSuffix(note, "}") || strings.ContainsAny(note[:len(note)-1], "{}") {
			return fmt.Errorf("%q: %w", text, ErrUnknown)
		}
		if name == "" {
			return nil // {people}: a count
		}
		text = name
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n > 0 {
		u.scale(float64(n), sign)
		return nil
	}
	name, exponent := splitExponent(text)
	a, ok := lookup(name)
	if !ok || exponent == 0 || exponent < -9 || exponent > 9 {
		return fmt.Errorf("%q: %w", text, ErrUnknown)
	}
	exponent *= int(sign)
	for i, e := range a.dim.exponent {
		u.dim.exponent[i] += e * int8(exponent)
	}
	step := int8(1)
	if exponent < 0 {
		step, exponent = -1, -exponent
	}
	for range exponent {
		u.scale(a.factor, step)
	}
	return nil
}

func (u *Unit) scale(f float64, sign int8) {
	if sign < 0 {
		u.factor /= f
	} else {
		u.factor *= f
	}
}

// splitExponent takes `m-2` apart; without an exponent it is 1.
func splitExponent(text string) (name string, exponent int) {
	i := len(text)
	for i > 0 && text[i-1] >= '0' && text[i-1] <= '9' {
		i--
	}
	if i == len(text) || i == 0 {
		return text, 1
	}
	if text[i-1] == '-' || text[i-1] == '+' {
		i--
	}
	n, err := strconv.Atoi(text[i:])
	if err != nil {
		return text, 0
	}
	return text[:i], n
}

// lookup finds a unit without exponent, with or without a prefix.
func lookup(name string) (Unit, bool) {
	if a, ok := atoms[name]; ok {
		return a.Unit, true
	}
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(name, p.code); ok {
			if a, ok := atoms[rest]; ok && a.metric && (!p.binary || a.dim.exponent[data] != 0) {
				u := a.Unit
				u.factor *= p.factor
				return u, true
			}
		}
	}
	return Unit{}, false
}

// Shifted says whether zero of the one unit is not zero of the other, so that sums and differences do not convert as values do.
func (u Unit) Shifted(o Unit) bool { return u.offset != o.offset }
