package wire

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Value is the text of one valid JSON value, or nil where there is none. It aliases the document that it came from.
type Value []byte

// Kind is what a Value is.
type Kind uint8

// The kinds of values. Absent is a nil Value.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Parse checks that b is one JSON value and returns it without the space around it. The value aliases b.
func Parse(b []byte) (Value, error) {
	if !utf8.Valid(b) {
		return nil, ErrSyntax
	}
	start := skipSpace(b, 0)
	end, ok := scanValue(b, start, 0)
	if !ok || skipSpace(b, end) != len(b) {
		return nil, ErrSyntax
	}
	return Value(b[start:end]), nil
}

// Kind tells what the value is.
func (v Value) Kind() Kind {
	if len(v) == 0 {
		return Absent
	}
	switch v[0] {
	case 'n':
		return Null
	case 't', 'f':
		return Bool
	case '"':
		return String
	case '[':
		return Array
	case '{':
		return Object
	}
	return Number
}

// Exists says that the value is there and not null.
func (v Value) Exists() bool { return len(v) > 0 && v[0] != 'n' }

// Each calls fn with the members of an object, keys decoded, or the elements of an array, with an empty key, until fn
// returns false. On other values it does nothing.
func (v Value) Each(fn func(key string, value Value) bool) {
	switch v.Kind() {
	case Object:
		text := string(v) // one copy for all keys
		v.members(func(key []byte, value Value) bool {
			if IndexByte(key, '\\') >= 0 {
				return fn(unquote(key), value)
			}
			start := cap(v) - cap(key)
			return fn(text[start+1:start+len(key)-1], value)
		})
	case Array:
		for i := skipSpace(v, 1); i < len(v) && v[i] != ']'; {
			end, ok := scanValue(v, i, 0)
			if !ok || !fn("", v[i:end]) {
				return
			}
			i = skipSpace(v, end)
			if i < len(v) && v[i] == ',' {
				i = skipSpace(v, i+1)
			}
		}
	}
}

// Members calls fn with the members of an object until fn returns false. A key without escapes aliases the document;
// it is valid as long as the document is.
func (v Value) Members(fn func(key []byte, value Value) bool) {
	if v.Kind() != Object {
		return
	}
	v.members(func(quoted []byte, value Value) bool {
		key, _ := Value(quoted).Key()
		return fn(key, value)
	})
}

// members calls fn with the quoted keys and the values of an object.
func (v Value) members(fn func(key []byte, value Value) bool) {
	for i := skipSpace(v, 1); i < len(v) && v[i] == '"'; {
		key, start, ok := scanKey(v, i)
		if !ok {
			return
		}
		end, ok := scanValue(v, start, 0)
		if !ok || !fn(key, v[start:end]) {
			return
		}
		i = skipSpace(v, end)
		if i < len(v) && v[i] == ',' {
			i = skipSpace(v, i+1)
		}
	}
}

// Get walks down the named members of nested objects; nil where one is missing. Of a name that occurs twice, the first counts.
func (v Value) Get(names ...string) Value {
	for _, name := range names {
		if v.Kind() != Object {
			return nil
		}
		var found Value
		v.members(func(key []byte, value Value) bool {
			if !keyIs(key, name) {
				return true
			}
			found = value
			return false
		})
		v = found
	}
	return v
}

// Index returns the element i of an array, or nil.
func (v Value) Index(i int) Value {
	var found Value
	if v.Kind() != Array {
		return nil
	}
	v.Each(func(_ string, value Value) bool {
		if i == 0 {
			found = value
		}
		i--
		return i >= 0
	})
	return found
}

func keyIs(quoted []byte, name string) bool {
	inner := quoted[1 : len(quoted)-1]
	if string(inner) == name {
		return true
	}
	return IndexByte(inner, '\\') >= 0 && unquote(quoted) == name
}

// Bool returns a boolean; ok is false where the value is none.
func (v Value) Bool() (value, ok bool) {
	if v.Kind() != Bool {
		return false, false
	}
	return v[0] == 't', true
}

// Float returns a number.
func (v Value) Float() (float64, bool) {
	if v.Kind() != Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(unsafe.String(&v[0], len(v)), 64)
	return f, err == nil
}

// Int returns a whole number that fits; 3.0 and 3e0 are whole as well.
func (v Value) Int() (int64, bool) {
	if v.Kind() != Number {
		return 0, false
	}
	if n, err := strconv.ParseInt(unsafe.String(&v[0], len(v)), 10, 64); err == nil {
		return n, true
	}
	f, ok := v.Float()
	if !ok || f != float64(int64(f)) || f < -(1<<53) || f > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Text returns a string, decoded.
func (v Value) Text() (string, bool) {
	if v.Kind() != String {
		return "", false
	}
	return unquote(v), true
}

// Key is a Text that aliases the document where nothing needs decoding: valid only as long as the document is.
func (v Value) Key() ([]byte, bool) {
	if v.Kind() != String {
		return nil, false
	}
	inner := v[1 : len(v)-1]
	if IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	return []byte(unquote(v)), true
}

// unquote decodes a valid quoted string.
func unquote(q []byte) string {
	inner := q[1 : len(q)-1]
	n := IndexByte(inner, '\\')
	if n < 0 {
		return string(inner)
	}
	out := append(make([]byte, 0, len(inner)), inner[:n]...)
	for i := n; i < len(inner); i++ {
		if inner[i] != '\\' {
			out = append(out, inner[i])
			continue
		}
		i++
		switch c := inner[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hexRune(inner[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 < len(inner) && inner[i+1] == '\\' && inner[i+2] == 'u' {
					low = hexRune(inner[i+3:])
				}
				if joined := utf16.DecodeRune(r, low); joined != utf8.RuneError {
					r = joined
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func hexRune(b []byte) rune {
	r := rune(0)
	for _, c := range b[:4] {
		r = r<<4 | hexDigit(c)
	}
	return r
}
