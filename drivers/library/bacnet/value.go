package main

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Data in the encoding of ANSI/ASHRAE 135, clause 20.2: each begins with a tag.

// Application tags, clause 20.2.1.4.
const (
	tagNull = iota
	tagBoolean
	tagUnsigned
	tagSigned
	tagReal
	tagDouble
	tagOctets
	tagText
	tagBits
	tagEnumerated
	tagDate
	tagTime
	tagObject
	// tagOther is what is no application data: shown as it is, in hexadecimal.
	tagOther = 255
)

// tag of a datum. Length is that of its body, or a boolean's value.
type tag struct {
	number                 byte
	context, opens, closes bool
	length                 int
}

// next takes the first datum off b. Brackets have no body.
func next(b []byte) (t tag, body, rest []byte, ok bool) {
	if len(b) == 0 {
		return t, nil, nil, false
	}
	first := b[0]
	t.number, t.context, t.length = first>>4, first&8 != 0, int(first&7)
	b = b[1:]
	if t.number == 15 {
		if len(b) == 0 {
			return t, nil, nil, false
		}
		t.number, b = b[0], b[1:]
	}
	switch {
	case t.length >= 6:
		t.opens, t.closes = t.length == 6, t.length == 7
		return t, nil, b, t.context
	case t.length == 5:
		if t.length, b, ok = longLength(b); !ok {
			return t, nil, nil, false
		}
	}
	if !t.context && t.number == tagBoolean {
		return t, nil, b, t.length <= 1
	}
	if t.length > len(b) {
		return t, nil, nil, false
	}
	return t, b[:t.length], b[t.length:], true
}

func longLength(b []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(b) >= 1 && b[0] < 254:
		return int(b[0]), b[1:], true
	case len(b) >= 3 && b[0] == 254:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], true
	case len(b) >= 5 && b[0] == 255:
		n := binary.BigEndian.Uint32(b[1:])
		return int(n), b[5:], n < 1<<20
	}
	return 0, nil, false
}

// enclosed gives what is between the brackets of that number that b begins with.
func enclosed(b []byte, number byte) (inside, rest []byte, ok bool) {
	t, _, rest, ok := next(b)
	if !ok || !t.opens || t.number != number {
		return nil, nil, false
	}
	inside = rest
	for depth := 1; ; {
		at := len(inside) - len(rest)
		if t, _, rest, ok = next(rest); !ok {
			return nil, nil, false
		}
		switch {
		case t.opens:
			depth++
		case t.closes:
			if depth--; depth == 0 {
				return inside[:at], rest, t.number == number
			}
		}
	}
}

// context takes a datum with that context tag off b, as an unsigned number.
func context(b []byte, number byte) (n uint32, rest []byte, ok bool) {
	t, body, rest, ok := next(b)
	if !ok || !t.context || t.opens || t.closes || t.number != number || len(body) == 0 || len(body) > 4 {
		return 0, b, false
	}
	return uint32(unsigned(body)), rest, true
}

func unsigned(body []byte) (n uint64) {
	for _, c := range body {
		n = n<<8 | uint64(c)
	}
	return n
}

// value is one datum of an application tag.
type value struct {
	tag byte
	// n of booleans, numbers without fraction and objects; f of reals; text of the others.
	n    int64
	f    float64
	text string
}

// values reads a list of data. A datum that cannot be right fails all.
func values(b []byte) ([]value, bool) {
	var all []value
	for len(b) > 0 {
		t, body, rest, ok := next(b)
		if !ok {
			return nil, false
		}
		if t.context {
			all = append(all, value{tag: tagOther, text: hex.EncodeToString(b[:len(b)-len(rest)])})
		} else if v, ok := parse(t, body); ok {
			all = append(all, v)
		} else {
			return nil, false
		}
		b = rest
	}
	return all, true
}

func parse(t tag, body []byte) (v value, ok bool) {
	v.tag = t.number
	switch t.number {
	case tagNull:
		return v, len(body) == 0
	case tagBoolean:
		v.n = int64(t.length)
	case tagUnsigned, tagEnumerated:
		v.n = int64(unsigned(body))
		return v, len(body) > 0 && len(body) <= 8 && v.n >= 0
	case tagSigned:
		if len(body) == 0 || len(body) > 8 {
			return v, false
		}
		shift := 64 - 8*len(body)
		v.n = int64(unsigned(body)<<shift) >> shift
	case tagReal:
		if len(body) != 4 {
			return v, false
		}
		f := math.Float32frombits(binary.BigEndian.Uint32(body))
		v.f, _ = strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64) // 72.3 stays 72.3
	case tagDouble:
		if len(body) != 8 {
			return v, false
		}
		v.f = math.Float64frombits(binary.BigEndian.Uint64(body))
	case tagObject:
		v.n = int64(unsigned(body))
		return v, len(body) == 4
	default:
		return parseText(v, body)
	}
	return v, true
}

func parseText(v value, body []byte) (_ value, ok bool) {
	switch v.tag {
	case tagOctets:
		v.text = hex.EncodeToString(body)
	case tagText:
		v.text, ok = characters(body)
		return v, ok
	case tagBits:
		if len(body) == 0 || body[0] > 7 || len(body) == 1 && body[0] > 0 {
			return v, false
		}
		bits := make([]byte, 8*(len(body)-1)-int(body[0]))
		for i := range bits {
			bits[i] = '0' + body[1+i/8]>>(7-i%8)&1
		}
		v.text = string(bits)
	case tagDate:
		if len(body) != 4 {
			return v, false
		}
		year := "*"
		if body[0] != 255 {
			year = strconv.Itoa(1900 + int(body[0]))
		}
		v.text = year + "-" + digits(body[1]) + "-" + digits(body[2])
	case tagTime:
		if len(body) != 4 {
			return v, false
		}
		v.text = digits(body[0]) + ":" + digits(body[1]) + ":" + digits(body[2]) + "." + digits(body[3])
	default:
		v.tag, v.text = tagOther, hex.EncodeToString(body)
	}
	return v, true
}

// digits of a part of a date or time; 255 is any.
func digits(n byte) string {
	switch {
	case n == 255:
		return "*"
	case n < 10:
		return "0" + strconv.Itoa(int(n))
	}
	return strconv.Itoa(int(n))
}

// characters reads a text of character set 0 (UTF-8), 3 (UCS-4), 4 (UCS-2) or 5 (ISO 8859-1).
func characters(body []byte) (string, bool) {
	if len(body) == 0 {
		return "", false
	}
	set, body := body[0], body[1:]
	switch set {
	case 0:
		return strings.ToValidUTF8(string(body), "\uFFFD"), true
	case 3:
		var s []rune
		for ; len(body) >= 4; body = body[4:] {
			s = append(s, rune(binary.BigEndian.Uint32(body)))
		}
		return string(s), len(body) == 0
	case 4:
		var s []uint16
		for ; len(body) >= 2; body = body[2:] {
			s = append(s, binary.BigEndian.Uint16(body))
		}
		return string(utf16.Decode(s)), len(body) == 0
	case 5:
		s := make([]rune, len(body))
		for i, c := range body {
			s[i] = rune(c)
		}
		return string(s), true
	}
	return "", false
}

// plain is the value as JSON has it.
func (v value) plain() any {
	switch v.tag {
	case tagNull:
		return nil
	case tagBoolean:
		return v.n != 0
	case tagUnsigned, tagSigned, tagEnumerated:
		return v.n
	case tagReal, tagDouble:
		if math.IsNaN(v.f) || math.IsInf(v.f, 0) {
			return nil
		}
		return v.f
	case tagObject:
		return objectName(uint32(v.n)>>22) + ":" + strconv.Itoa(int(uint32(v.n)&maxInstance))
	}
	return v.text
}

// fit is the value as a property of a JSON type has it; nil where it is of another kind.
func (v value) fit(kind string) any {
	p := v.plain()
	switch kind {
	case "number", "integer":
		if f, ok := p.(float64); ok && kind == "integer" {
			if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
				return nil
			}
			return int64(f)
		}
		if b, ok := p.(bool); ok {
			if b {
				return int64(1)
			}
			return int64(0)
		}
		if _, ok := p.(string); ok {
			return nil
		}
	case "boolean":
		if n, ok := p.(int64); ok {
			return n != 0
		}
		if _, ok := p.(bool); !ok {
			return nil
		}
	case "string":
		switch x := p.(type) {
		case int64:
			return strconv.FormatInt(x, 10)
		case float64:
			return strconv.FormatFloat(x, 'g', -1, 64)
		case bool:
			return strconv.FormatBool(x)
		}
	}
	return p
}

// appendTag appends a tag with a body of n bytes.
func appendTag(b []byte, number byte, isContext bool, n int) []byte {
	first := number << 4
	if isContext {
		first |= 8
	}
	switch {
	case n < 5:
		return append(b, first|byte(n))
	case n < 254:
		return append(b, first|5, byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, first|5, 254), uint16(n))
}

// shortest gives n in as few bytes as it needs.
func shortest(n uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, n)
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

// appendContext appends an unsigned number with a context tag.
func appendContext(b []byte, number byte, n uint32) []byte {
	body := shortest(uint64(n))
	return append(appendTag(b, number, true, len(body)), body...)
}

// encode gives a JSON value as application data. It says what is wrong where that cannot be.
func encode(as string, v wire.Value) (b []byte, problem string) {
	text, isText := v.Text()
	on, isBool := v.Bool()
	f, isNumber := v.Float()
	if isBool {
		isNumber = true
		if on {
			f = 1
		}
	}
	whole := isNumber && f == math.Trunc(f)
	switch {
	case v.Kind() == wire.Null:
		return []byte{0}, ""
	case as == "text" && isText && utf8.RuneCountInString(text) <= 400:
		return append(append(appendTag(nil, tagText, false, len(text)+1), 0), text...), ""
	case as == "boolean" && (isBool || whole && (f == 0 || f == 1)):
		return []byte{tagBoolean<<4 | byte(f)}, ""
	case as == "real" && isNumber && math.Abs(f) <= math.MaxFloat32:
		return binary.BigEndian.AppendUint32([]byte{tagReal<<4 | 4}, math.Float32bits(float32(f))), ""
	case as == "double" && isNumber:
		return binary.BigEndian.AppendUint64([]byte{tagDouble<<4 | 5, 8}, math.Float64bits(f)), ""
	case as == "unsigned" && whole && f >= 0 && f <= math.MaxUint32:
		return number(tagUnsigned, shortest(uint64(f))), ""
	case as == "enumerated" && whole && f >= 0 && f <= math.MaxUint32:
		return number(tagEnumerated, shortest(uint64(f))), ""
	case as == "signed" && whole && f >= math.MinInt32 && f <= math.MaxInt32:
		body := binary.BigEndian.AppendUint32(nil, uint32(int32(f)))
		for len(body) > 1 && (body[0] == 0 && body[1] < 128 || body[0] == 255 && body[1] >= 128) {
			body = body[1:]
		}
		return number(tagSigned, body), ""
	}
	return nil, "value: " + string(v) + " cannot be written as " + as
}

func number(tag byte, body []byte) []byte {
	return append(appendTag(nil, tag, false, len(body)), body...)
}
