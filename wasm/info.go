package wasm

// ValueType is a type of a parameter, result, local or global.
type ValueType byte

// The value types.
const (
	I32       ValueType = 0x7f
	I64       ValueType = 0x7e
	F32       ValueType = 0x7d
	F64       ValueType = 0x7c
	V128      ValueType = 0x7b
	FuncRef   ValueType = 0x70
	ExternRef ValueType = 0x6f
)

func (t ValueType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	}
	return "unknown"
}

func (t ValueType) known() bool { return t.String() != "unknown" }

// Signature of a function.
type Signature struct {
	Params, Results []ValueType
}

func (s Signature) String() string {
	list := func(types []ValueType) string {
		out := "("
		for i, t := range types {
			if i > 0 {
				out += ", "
			}
			out += t.String()
		}
		return out + ")"
	}
	if len(s.Results) == 0 {
		return list(s.Params)
	}
	return list(s.Params) + " -> " + list(s.Results)
}

func (s Signature) equal(o Signature) bool {
	return string(asBytes(s.Params)) == string(asBytes(o.Params)) && string(asBytes(s.Results)) == string(asBytes(o.Results))
}

func asBytes(types []ValueType) []byte {
	out := make([]byte, len(types))
	for i, t := range types {
		out[i] = byte(t)
	}
	return out
}

// Import is a function that a module asks for.
type Import struct {
	Module, Name string
	Signature    Signature
}

// Kind of what a module exports or imports.
type Kind byte

// The kinds.
const (
	KindFunction Kind = 0
	KindTable    Kind = 1
	KindMemory   Kind = 2
	KindGlobal   Kind = 3
)

func (k Kind) String() string {
	switch k {
	case KindFunction:
		return "function"
	case KindTable:
		return "table"
	case KindMemory:
		return "memory"
	case KindGlobal:
		return "global"
	}
	return "unknown"
}

// Export is what a module shows. Signature is set for functions.
type Export struct {
	Name      string
	Kind      Kind
	Signature Signature
	index     uint32
}

// Info is what is in a module.
type Info struct {
	Imports []Import
	Exports []Export
	// Functions that the module defines itself.
	Functions int
	// MemoryMin and MemoryMax in pages; HasMax says whether the module gives a maximum. Memories is 0 or 1.
	MemoryMin, MemoryMax uint32
	HasMax               bool
	Memories             int

	types     []Signature
	functions []uint32 // type of each function, imports first
	globals   int
	bodies    int
	blocks    []bool // of body, kept for its memory
	file      []byte // while it is parsed, for names
	// unboundedTable: a table might grow past the limit, so that no table may grow.
	unboundedTable bool
	limits         Limits
	freezing       freezing
}

// Export returns the export of that name, or nil.
func (i *Info) Export(name string) *Export {
	for n := range i.Exports {
		if i.Exports[n].Name == name {
			return &i.Exports[n]
		}
	}
	return nil
}
