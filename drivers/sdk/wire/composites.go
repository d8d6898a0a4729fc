package wire

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

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
