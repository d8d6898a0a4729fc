// Package wasmtest assembles small WASM modules for tests, byte by byte.
package wasmtest

import "encoding/binary"

// Value types.
const (
	I32 = 0x7f
	I64 = 0x7e
)

// Func is a function type.
type Func struct {
	Params, Results []byte
}

// Module is what is to be assembled. Functions are numbered imports first. A zero Module is empty and valid.
type Module struct {
	Imports   []Import
	Functions []Function
	Exports   []Export
	// Memory in pages; none where Pages is nil.
	Pages []uint32 // min, or min and max
	// Table in entries: min, or min and max.
	Table []uint32
	// Elements are the functions in the table, from its first entry on.
	Elements []uint32
	// Globals are mutable i32s with these values.
	Globals []int32
	// Data is in the memory from address 0 on.
	Data   []byte
	Custom map[string][]byte
	// Shared: functions of the same type share its entry.
	Shared bool
	// Extra is put behind the last section as it is.
	Extra []byte
}

// Import of a function.
type Import struct {
	Module, Name string
	Type         Func
}

// Function with its code, without the closing end.
type Function struct {
	Type   Func
	Locals uint32 // of type i32, beside the parameters
	Code   []byte
}

// Export of a function (Kind 0), table 1, memory 2 or global 3.
type Export struct {
	Name  string
	Kind  byte
	Index uint32
}

// Bytes assembles the module.
func (m *Module) Bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	types, index := m.types()
	out = section(out, 1, vector(len(types), func(b []byte, i int) []byte {
		b = append(b, 0x60)
		b = append(binary.AppendUvarint(b, uint64(len(types[i].Params))), types[i].Params...)
		return append(binary.AppendUvarint(b, uint64(len(types[i].Results))), types[i].Results...)
	}))
	if len(m.Imports) > 0 {
		out = section(out, 2, vector(len(m.Imports), func(b []byte, i int) []byte {
			b = text(text(b, m.Imports[i].Module), m.Imports[i].Name)
			return binary.AppendUvarint(append(b, 0), uint64(index[i]))
		}))
	}
	if len(m.Functions) > 0 {
		out = section(out, 3, vector(len(m.Functions), func(b []byte, i int) []byte {
			return binary.AppendUvarint(b, uint64(index[len(m.Imports)+i]))
		}))
	}
	if m.Table != nil {
		out = section(out, 4, limits([]byte{1, 0x70}, m.Table))
	}
	if m.Pages != nil {
		out = section(out, 5, limits([]byte{1}, m.Pages))
	}
	if len(m.Globals) > 0 {
		out = section(out, 6, vector(len(m.Globals), func(b []byte, i int) []byte {
			return append(sleb(append(b, I32, 1, 0x41), int64(m.Globals[i])), 0x0b)
		}))
	}
	if len(m.Exports) > 0 {
		out = section(out, 7, vector(len(m.Exports), func(b []byte, i int) []byte {
			return binary.AppendUvarint(append(text(b, m.Exports[i].Name), m.Exports[i].Kind), uint64(m.Exports[i].Index))
		}))
	}
	if len(m.Elements) > 0 {
		out = section(out, 9, append([]byte{1, 0, 0x41, 0, 0x0b}, vector(len(m.Elements), func(b []byte, i int) []byte {
			return binary.AppendUvarint(b, uint64(m.Elements[i]))
		})...))
	}
	if len(m.Functions) > 0 {
		out = section(out, 10, vector(len(m.Functions), func(b []byte, i int) []byte {
			body := []byte{0}
			if n := m.Functions[i].Locals; n > 0 {
				body = append(binary.AppendUvarint([]byte{1}, uint64(n)), I32)
			}
			body = append(append(body, m.Functions[i].Code...), 0x0b)
			return append(binary.AppendUvarint(b, uint64(len(body))), body...)
		}))
	}
	if len(m.Data) > 0 {
		data := append([]byte{1, 0, 0x41, 0, 0x0b}, binary.AppendUvarint(nil, uint64(len(m.Data)))...)
		out = section(out, 11, append(data, m.Data...))
	}
	for name, content := range m.Custom {
		out = section(out, 0, append(text(nil, name), content...))
	}
	return append(out, m.Extra...)
}

// types gives each import and function its own, unless they share, and the index of each one's.
func (m *Module) types() (types []Func, index []int) {
	seen := map[string]int{}
	add := func(f Func) {
		key := string(f.Params) + ">" + string(f.Results)
		if at, ok := seen[key]; ok && m.Shared {
			index = append(index, at)
			return
		}
		seen[key] = len(types)
		index = append(index, len(types))
		types = append(types, f)
	}
	for _, imp := range m.Imports {
		add(imp.Type)
	}
	for _, f := range m.Functions {
		add(f.Type)
	}
	return types, index
}

func section(out []byte, id byte, body []byte) []byte {
	out = binary.AppendUvarint(append(out, id), uint64(len(body)))
	return append(out, body...)
}

func vector(n int, item func(b []byte, i int) []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(n))
	for i := range n {
		b = item(b, i)
	}
	return b
}

func text(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func limits(b []byte, l []uint32) []byte {
	b = append(b, byte(len(l)-1))
	for _, n := range l {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Code joins pieces of code: bytes as they are.
func Code(pieces ...any) []byte {
	var out []byte
	for _, p := range pieces {
		switch p := p.(type) {
		case int:
			out = append(out, byte(p))
		case []byte:
			out = append(out, p...)
		default:
			panic("wasmtest: code is of ints and bytes")
		}
	}
	return out
}

// Const pushes an i32.
func Const(v int32) []byte { return sleb([]byte{0x41}, int64(v)) }

// Local pushes a local or parameter.
func Local(i uint32) []byte { return binary.AppendUvarint([]byte{0x20}, uint64(i)) }

// Call calls a function by its number.
func Call(i uint32) []byte { return binary.AppendUvarint([]byte{0x10}, uint64(i)) }

// Loop runs for ever.
func Loop() []byte { return []byte{0x03, 0x40, 0x0c, 0x00, 0x0b} }

// Section gives the content of a module's custom section of that name; nil where it has none, or is broken.
func Section(file []byte, name string) []byte {
	for at := 8; at < len(file); {
		id := file[at]
		size, n := binary.Uvarint(file[at+1:])
		from := at + 1 + n
		if n <= 0 || size > uint64(len(file)-from) {
			return nil
		}
		body := file[from : from+int(size)]
		if length, n := binary.Uvarint(body); id == 0 && n > 0 && length <= uint64(len(body)-n) && string(body[n:n+int(length)]) == name {
			return body[n+int(length):]
		}
		at = from + int(size)
	}
	return nil
}
