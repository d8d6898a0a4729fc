package wire

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
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

func rawCodec() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error { *(*Value)(p) = append(Value(nil), v...); return nil },
		encode: func(b []byte, p unsafe.Pointer) []byte {
			if v := *(*Value)(p); len(v) > 0 {
				return append(b, v...)
			}
			return append(b, "null"...)
		},
		empty: func(p unsafe.Pointer) bool { return len(*(*Value)(p)) == 0 },
	}
}

func boolCodec() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			x, ok := v.Bool()
			if !ok && v.Exists() {
				return wrong("boolean", v)
			}
			*(*bool)(p) = x
			return nil
		},
		encode: func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendBool(b, *(*bool)(p)) },
		empty:  func(p unsafe.Pointer) bool { return !*(*bool)(p) },
	}
}

func stringCodec() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			x, ok := v.Text()
			if !ok && v.Exists() {
				return wrong("string", v)
			}
			*(*string)(p) = x
			return nil
		},
		encode: func(b []byte, p unsafe.Pointer) []byte { return AppendString(b, *(*string)(p)) },
		empty:  func(p unsafe.Pointer) bool { return *(*string)(p) == "" },
	}
}

func intCodec[T int | int8 | int16 | int32 | int64]() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			x, ok := v.Int()
			if !ok && v.Exists() || int64(T(x)) != x {
				return wrong(reflect.TypeFor[T]().String(), v)
			}
			*(*T)(p) = T(x)
			return nil
		},
		encode: func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendInt(b, int64(*(*T)(p)), 10) },
		empty:  func(p unsafe.Pointer) bool { return *(*T)(p) == 0 },
	}
}

func uintCodec[T uint | uint8 | uint16 | uint32 | uint64]() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			x, ok := v.Int()
			if !ok && v.Exists() || x < 0 || uint64(T(x)) != uint64(x) {
				return wrong(reflect.TypeFor[T]().String(), v)
			}
			*(*T)(p) = T(x)
			return nil
		},
		encode: func(b []byte, p unsafe.Pointer) []byte { return strconv.AppendUint(b, uint64(*(*T)(p)), 10) },
		empty:  func(p unsafe.Pointer) bool { return *(*T)(p) == 0 },
	}
}

func floatCodec[T float32 | float64]() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			x, ok := v.Float()
			if !ok && v.Exists() {
				return wrong("number", v)
			}
			*(*T)(p) = T(x)
			return nil
		},
		encode: func(b []byte, p unsafe.Pointer) []byte {
			return appendFloat(b, float64(*(*T)(p)), int(unsafe.Sizeof(T(0)))*8)
		},
		empty: func(p unsafe.Pointer) bool { return *(*T)(p) == 0 },
	}
}

func pointerCodec(t reflect.Type, building map[reflect.Type]*codec) (*codec, error) {
	elem, err := buildCodec(t.Elem(), building)
	if err != nil {
		return nil, err
	}
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			slot := (*unsafe.Pointer)(p)
			if !v.Exists() {
				*slot = nil
				return nil
			}
			if *slot == nil {
				*slot = reflect.New(t.Elem()).UnsafePointer()
			}
			return elem.decode(*slot, v)
		},
		encode: func(b []byte, p unsafe.Pointer) []byte {
			if inner := *(*unsafe.Pointer)(p); inner != nil {
				return elem.encode(b, inner)
			}
			return append(b, "null"...)
		},
		empty: func(p unsafe.Pointer) bool { return *(*unsafe.Pointer)(p) == nil },
	}, nil
}

func sliceCodec(t reflect.Type, building map[reflect.Type]*codec) (*codec, error) {
	elem, err := buildCodec(t.Elem(), building)
	if err != nil {
		return nil, err
	}
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			slot := reflect.NewAt(t, p).Elem()
			if !v.Exists() {
				slot.SetZero()
				return nil
			}
			if v.Kind() != Array {
				return wrong("array", v)
			}
			out := reflect.MakeSlice(t, 0, 4)
			var failed error
			n := 0
			v.Each(func(_ string, item Value) bool {
				x := reflect.New(t.Elem())
				if err := elem.decode(x.UnsafePointer(), item); err != nil {
					failed = at(strconv.Itoa(n), err)
					return false
				}
				n++
				out = reflect.Append(out, x.Elem())
				return true
			})
			slot.Set(out)
			return failed
		},
		encode: func(b []byte, p unsafe.Pointer) []byte {
			rv := reflect.NewAt(t, p).Elem()
			b = append(b, '[')
			for i := range rv.Len() {
				if i > 0 {
					b = append(b, ',')
				}
				b = elem.encode(b, rv.Index(i).Addr().UnsafePointer())
			}
			return append(b, ']')
		},
		empty: func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().Len() == 0 },
	}, nil
}

func mapCodec(t reflect.Type, building map[reflect.Type]*codec) (*codec, error) {
	if t.Key().Kind() != reflect.String {
		return nil, errors.New("type " + t.String() + " has no JSON: its keys are no strings")
	}
	elem, err := buildCodec(t.Elem(), building)
	if err != nil {
		return nil, err
	}
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			slot := reflect.NewAt(t, p).Elem()
			if !v.Exists() {
				slot.SetZero()
				return nil
			}
			if v.Kind() != Object {
				return wrong("object", v)
			}
			out := reflect.MakeMap(t)
			var failed error
			v.Each(func(key string, item Value) bool {
				x := reflect.New(t.Elem())
				if err := elem.decode(x.UnsafePointer(), item); err != nil {
					failed = at(key, err)
					return false
				}
				out.SetMapIndex(reflect.ValueOf(key).Convert(t.Key()), x.Elem())
				return true
			})
			slot.Set(out)
			return failed
		},
		encode: func(b []byte, p unsafe.Pointer) []byte { return encodeMap(b, reflect.NewAt(t, p).Elem(), elem) },
		empty:  func(p unsafe.Pointer) bool { return reflect.NewAt(t, p).Elem().Len() == 0 },
	}, nil
}

func encodeMap(b []byte, rv reflect.Value, elem *codec) []byte {
	keys := rv.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendString(b, key.String()), ':')
		x := reflect.New(rv.Type().Elem())
		x.Elem().Set(rv.MapIndex(key))
		b = elem.encode(b, x.UnsafePointer())
	}
	return append(b, '}')
}

type field struct {
	name      string
	key       string // `"name":`
	offset    uintptr
	omitEmpty bool
	codec     *codec
}

func structCodec(t reflect.Type, building map[reflect.Type]*codec) (*codec, error) {
	fields, err := structFields(t, building)
	if err != nil {
		return nil, err
	}
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error {
			if !v.Exists() {
				reflect.NewAt(t, p).Elem().SetZero()
				return nil
			}
			if v.Kind() != Object {
				return wrong("object", v)
			}
			return decodeStruct(fields, p, v)
		},
		encode: func(b []byte, p unsafe.Pointer) []byte {
			b = append(b, '{')
			first := true
			for i := range fields {
				f := &fields[i]
				fp := unsafe.Add(p, f.offset)
				if f.omitEmpty && f.codec.empty(fp) {
					continue
				}
				if !first {
					b = append(b, ',')
				}
				first = false
				b = append(b, f.key...)
				b = f.codec.encode(b, fp)
			}
			return append(b, '}')
		},
	}, nil
}

func structFields(t reflect.Type, building map[reflect.Type]*codec) ([]field, error) {
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" || !sf.IsExported() {
			continue
		}
		if name == "" {
			name = sf.Name
		}
		c, err := buildCodec(sf.Type, building)
		if err != nil {
			return nil, err
		}
		key := append(AppendString(nil, name), ':')
		fields = append(fields, field{name: name, key: string(key), offset: sf.Offset,
			omitEmpty: options == "omitempty", codec: c})
	}
	return fields, nil
}

func decodeStruct(fields []field, p unsafe.Pointer, v Value) error {
	var failed error
	next := 0 // members mostly come in the fields' order
	v.members(func(key []byte, value Value) bool {
		for i := range fields {
			f := &fields[(next+i)%len(fields)]
			if !keyIs(key, f.name) {
				continue
			}
			next = (next + i + 1) % len(fields)
			if err := f.codec.decode(unsafe.Add(p, f.offset), value); err != nil {
				failed = at(f.name, err)
				return false
			}
			break
		}
		return true
	})
	return failed
}

func anyCodec() *codec {
	return &codec{
		decode: func(p unsafe.Pointer, v Value) error { *(*any)(p) = v.Any(); return nil },
		encode: func(b []byte, p unsafe.Pointer) []byte {
			out, err := Append(b, *(*any)(p))
			if err != nil {
				return append(b, "null"...)
			}
			return out
		},
		empty: func(p unsafe.Pointer) bool { return *(*any)(p) == nil },
	}
}

// Any returns the value as nil, bool, float64, string, []any or map[string]any.
func (v Value) Any() any {
	switch v.Kind() {
	case Bool:
		x, _ := v.Bool()
		return x
	case Number:
		x, _ := v.Float()
		return x
	case String:
		x, _ := v.Text()
		return x
	case Array:
		out := []any{}
		v.Each(func(_ string, item Value) bool { out = append(out, item.Any()); return true })
		return out
	case Object:
		out := map[string]any{}
		v.Each(func(key string, item Value) bool { out[key] = item.Any(); return true })
		return out
	}
	return nil
}
