// Package state is what a twin knows, in the form that it has in memory and in its record: small, because there are
// many twins, and readable without the model, because a record outlives driver versions.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"
)

// Kind of a value.
type Kind uint8

// Kinds of values. Lists and objects are kept as canonical JSON.
const (
	Null Kind = iota
	False
	True
	Number
	String
	JSON
)

// Value is a JSON value. The zero Value is null. Values are compared with Equal.
type Value struct {
	text string
	// bits is the kind, or that of a number moved up by firstNumber: a byte for the kind would cost eight.
	bits uint64
}

// firstNumber keeps numbers apart from kinds. What it moves out of range are some NaNs, which JSON does not have.
const firstNumber = 8

// of makes a value of a kind other than Number.
func of(k Kind, text string) Value { return Value{text: text, bits: uint64(k)} }

// num is a number's.
func (v Value) num() float64 { return math.Float64frombits(v.bits - firstNumber) }

// NumberValue makes a number.
func NumberValue(f float64) Value {
	switch {
	case math.IsNaN(f):
		f = math.NaN()
	case f == 0:
		f = 0 // -0 is the same number
	}
	return Value{bits: math.Float64bits(f) + firstNumber}
}

// StringValue makes a string.
func StringValue(s string) Value { return of(String, s) }

// BoolValue makes a boolean.
func BoolValue(b bool) Value {
	if b {
		return of(True, "")
	}
	return of(False, "")
}

// Kind of the value.
func (v Value) Kind() Kind {
	if v.bits >= firstNumber {
		return Number
	}
	return Kind(v.bits)
}

// ParseValue reads one JSON value.
func ParseValue(raw []byte) (Value, error) {
	for len(raw) > 0 && (raw[0] == ' ' || raw[0] == '\n' || raw[0] == '\t' || raw[0] == '\r') {
		raw = raw[1:]
	}
	if len(raw) == 0 {
		return Value{}, fmt.Errorf("parse value: empty")
	}
	switch c := raw[0]; {
	case string(raw) == "null":
		return Value{}, nil
	case string(raw) == "true":
		return of(True, ""), nil
	case string(raw) == "false":
		return of(False, ""), nil
	case c == '"' && plain(raw):
		return of(String, string(raw[1:len(raw)-1])), nil
	case c == '-' || c >= '0' && c <= '9':
		// encoding/json is stricter than ParseFloat about what a number looks like.
		if json.Valid(raw) {
			if f, err := strconv.ParseFloat(trimmed(raw), 64); err == nil {
				return NumberValue(f), nil
			}
		}
	}
	var a any
	err := json.Unmarshal(raw, &a)
	var beyond *json.UnmarshalTypeError
	if errors.As(err, &beyond) { // what else is JSON fits any
		return Value{}, fmt.Errorf("the %.60s is beyond what a number can be, about 1.8e308", beyond.Value)
	}
	if err != nil {
		return Value{}, fmt.Errorf("parse value: %w", err)
	}
	return FromAny(a)
}

func trimmed(raw []byte) string {
	n := len(raw)
	for n > 0 && (raw[n-1] == ' ' || raw[n-1] == '\n' || raw[n-1] == '\t' || raw[n-1] == '\r') {
		n--
	}
	return string(raw[:n])
}

// plain says whether raw is a JSON string of printable ASCII without escapes.
func plain(raw []byte) bool {
	if len(raw) < 2 || raw[len(raw)-1] != '"' {
		return false
	}
	for _, c := range raw[1 : len(raw)-1] {
		if c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// FromAny makes a value from what encoding/json decodes to. Infinite numbers are refused.
func FromAny(a any) (Value, error) {
	switch a := a.(type) {
	case nil:
		return Value{}, nil
	case bool:
		return BoolValue(a), nil
	case float64:
		if math.IsNaN(a) || math.IsInf(a, 0) {
			return Value{}, fmt.Errorf("parse value: %v is no JSON number", a)
		}
		return NumberValue(a), nil
	case string:
		return StringValue(a), nil
	}
	// Marshal sorts the keys of maps: equal values have equal texts.
	b, err := json.Marshal(a)
	if err != nil {
		return Value{}, fmt.Errorf("parse value: %w", err)
	}
	return of(JSON, string(b)), nil
}

// FromProto makes a value from a protobuf Value; nil is null.
func FromProto(p *structpb.Value) (Value, error) {
	switch k := p.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return Value{}, nil
	case *structpb.Value_BoolValue:
		return BoolValue(k.BoolValue), nil
	case *structpb.Value_StringValue:
		return StringValue(k.StringValue), nil
	default:
		return FromAny(p.AsInterface())
	}
}

// Proto gives the value as a protobuf Value.
func (v Value) Proto() *structpb.Value {
	switch v.Kind() {
	case False, True:
		return structpb.NewBoolValue(v.Kind() == True)
	case Number:
		return structpb.NewNumberValue(v.num())
	case String:
		return structpb.NewStringValue(v.text)
	case JSON:
		if p, err := structpb.NewValue(v.Any()); err == nil {
			return p
		}
	}
	return structpb.NewNullValue()
}

// Any gives the value as encoding/json would decode it.
func (v Value) Any() any {
	switch v.Kind() {
	case False, True:
		return v.Kind() == True
	case Number:
		return v.num()
	case String:
		return v.text
	case JSON:
		var a any
		if json.Unmarshal([]byte(v.text), &a) == nil {
			return a
		}
	}
	return nil
}

// AppendJSON appends the value as JSON.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.Kind() {
	case False:
		return append(b, "false"...)
	case True:
		return append(b, "true"...)
	case Number:
		return appendNumber(b, v.num())
	case String:
		return AppendString(b, v.text)
	case JSON:
		return append(b, v.text...)
	}
	return append(b, "null"...)
}

func appendNumber(b []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendInt(b, int64(f), 10)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			q, _ := json.Marshal(s) // a string always marshals
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Sample gives the value as a number for history: numbers as they are, booleans as 0 and 1.
func (v Value) Sample() (float64, bool) {
	switch v.Kind() {
	case Number:
		return v.num(), true
	case False:
		return 0, true
	case True:
		return 1, true
	}
	return 0, false
}

// Text gives a string as it is.
func (v Value) Text() (string, bool) { return v.text, v.Kind() == String }

// Equal compares two values; lists and objects by content.
func (v Value) Equal(o Value) bool { return v == o }

// Size is roughly how many bytes the value has as JSON.
func (v Value) Size() int { return len(v.text) + 8 }
