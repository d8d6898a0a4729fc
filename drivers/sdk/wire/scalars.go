package wire

import (
	"reflect"
	"strconv"
	"unsafe"
)

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
