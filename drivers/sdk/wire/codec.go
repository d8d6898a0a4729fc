package wire

import (
	"errors"
	"reflect"
	"strconv"
	"sync/atomic"
	"unsafe"
)

// codec encodes and decodes one Go type. Both work on a pointer to the value.
type codec struct {
	decode func(p unsafe.Pointer, v Value) error
	encode func(b []byte, p unsafe.Pointer) []byte
	empty  func(p unsafe.Pointer) bool
}

// plans are the codecs made so far, by the type of the interface that they were asked for with. A driver has a handful:
// looking through them costs a guest less than a map.
var plans atomic.Pointer[[]plan]

type plan struct {
	word    unsafe.Pointer // the type word of the interface
	codec   *codec
	pointer bool // the interface holds a pointer to what the codec is for
	boxed   bool // the interface's data word points to the value
}

// planOf finds or makes the plan for what value holds.
func planOf(value any) (plan, error) {
	word := *(*unsafe.Pointer)(unsafe.Pointer(&value))
	known := plans.Load()
	if known != nil {
		for i := range *known {
			if p := &(*known)[i]; p.word == word {
				return *p, nil
			}
		}
	}
	t := reflect.TypeOf(value)
	p := plan{word: word, pointer: t.Kind() == reflect.Pointer}
	switch t.Kind() {
	case reflect.Pointer:
		t = t.Elem()
	case reflect.Map, reflect.Struct, reflect.Array: // may be the data word themselves
	default:
		p.boxed = true
	}
	var err error
	if p.codec, err = buildCodec(t, map[reflect.Type]*codec{}); err != nil {
		return p, err
	}
	for {
		var next []plan
		if known != nil {
			next = append(next, *known...)
		}
		next = append(next, p)
		if plans.CompareAndSwap(known, &next) {
			return p, nil
		}
		known = plans.Load()
	}
}

func dataWord(value any) unsafe.Pointer {
	return (*[2]unsafe.Pointer)(unsafe.Pointer(&value))[1]
}

var (
	valueType = reflect.TypeFor[Value]()
	anyType   = reflect.TypeFor[any]()
)

// Unmarshal decodes JSON into the value that target points to. Members without a field are ignored, fields without a
// member keep what they have, null sets the zero value. Fields are named by their `json` tag.
//
// Types: bool, integers, floats, string, pointers, slices, maps with string keys, structs, any, and Value for raw text
// (copied). Errors name the path.
func Unmarshal(b []byte, target any) error {
	v, err := Parse(b)
	if err != nil {
		return err
	}
	return v.Decode(target)
}

// Decode is Unmarshal of a value that was parsed already.
func (v Value) Decode(target any) error {
	if target == nil {
		return errors.New("decode: target is nil")
	}
	p, err := planOf(target)
	if err != nil {
		return err
	}
	at := dataWord(target)
	if !p.pointer || at == nil {
		return errors.New("decode: target is no pointer")
	}
	if len(v) == 0 {
		return ErrSyntax
	}
	return p.codec.decode(at, v)
}

// Append appends the value's JSON to b. The error names a type that has no JSON.
func Append(b []byte, value any) ([]byte, error) {
	switch x := value.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, x), nil
	case string:
		return AppendString(b, x), nil
	case int:
		return strconv.AppendInt(b, int64(x), 10), nil
	case float64:
		return AppendFloat(b, x), nil
	case Value:
		if len(x) == 0 {
			return append(b, "null"...), nil
		}
		return append(b, x...), nil
	}
	p, err := planOf(value)
	if err != nil {
		return b, err
	}
	at := dataWord(value)
	switch {
	case p.pointer && at == nil:
		return append(b, "null"...), nil
	case p.pointer, p.boxed:
		return p.codec.encode(b, at), nil
	}
	rv := reflect.ValueOf(value)
	box := reflect.New(rv.Type())
	box.Elem().Set(rv)
	return p.codec.encode(b, box.UnsafePointer()), nil
}

// buildCodec makes the codecs of t and of all below it. building holds those under way, so that a type may hold itself.
func buildCodec(t reflect.Type, building map[reflect.Type]*codec) (*codec, error) {
	if c, ok := building[t]; ok {
		return c, nil
	}
	c := &codec{}
	building[t] = c
	made, err := kindCodec(t, building)
	if err != nil {
		return nil, err
	}
	*c = *made
	if c.empty == nil {
		c.empty = func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().IsZero() }
	}
	return c, nil
}

func kindCodec(t reflect.Type, building map[reflect.Type]*codec) (*codec, error) {
	if t == valueType {
		return rawCodec(), nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return boolCodec(), nil
	case reflect.String:
		return stringCodec(), nil
	case reflect.Int:
		return intCodec[int](), nil
	case reflect.Int8:
		return intCodec[int8](), nil
	case reflect.Int16:
		return intCodec[int16](), nil
	case reflect.Int32:
		return intCodec[int32](), nil
	case reflect.Int64:
		return intCodec[int64](), nil
	case reflect.Uint:
		return uintCodec[uint](), nil
	case reflect.Uint8:
		return uintCodec[uint8](), nil
	case reflect.Uint16:
		return uintCodec[uint16](), nil
	case reflect.Uint32:
		return uintCodec[uint32](), nil
	case reflect.Uint64:
		return uintCodec[uint64](), nil
	case reflect.Float32:
		return floatCodec[float32](), nil
	case reflect.Float64:
		return floatCodec[float64](), nil
	case reflect.Pointer:
		return pointerCodec(t, building)
	case reflect.Slice:
		return sliceCodec(t, building)
	case reflect.Map:
		return mapCodec(t, building)
	case reflect.Struct:
		return structCodec(t, building)
	case reflect.Interface:
		if t == anyType {
			return anyCodec(), nil
		}
	}
	return nil, errors.New("type " + t.String() + " has no JSON")
}

func wrong(want string, v Value) error {
	text := string(v)
	if len(text) > 40 {
		text = text[:40] + "…"
	}
	return errors.New(": " + text + " is no " + want)
}

// at puts a name in front of an error's path.
func at(name string, err error) error { return errors.New("/" + name + err.Error()) }
