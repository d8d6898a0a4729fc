package wasm

import "fmt"

// PageBytes is the unit of a module's memory.
const PageBytes = 65536

// Limits bound a module's structure before it is compiled: what is far beyond real modules and makes a compiler slow
// is refused. A zero field means its default.
type Limits struct {
	// FileBytes, default 32 MiB. The largest real guest seen has 3.3 MB.
	FileBytes int
	// Functions, default 50,000; imports count. Seen: 12,000.
	Functions int
	// BodyBytes of one function, default 128 KiB. Seen: 58 KB. 300 KB of nested blocks took 29 s to compile.
	BodyBytes int
	// Nesting of blocks in one function, default 2,000. Seen: 1,307.
	Nesting int
	// LoopNesting in one function, default 32.
	LoopNesting int
	// Loops in one function, default 2,000. Each is rewritten, and takes the compiler the longer the more there are: 4,000
	// took 2.3 s.
	Loops int
	// BranchTable entries, default 8,000. Seen: 3,014.
	BranchTable int
	// Locals of one function, parameters included, default 4,000.
	Locals int
	// TableEntries of one table, default 65,536.
	TableEntries int
	// Pieces of data that lie apart in the memory, default 5,000; what lies within 64 bytes behind the last is of its piece.
	// Seen: 16, of tens of thousands of segments.
	Pieces int
	// Types, Globals, Exports, Tables, Segments count entries of the sections; defaults 20,000, 20,000, 10,000, 16, 100,000.
	Types, Globals, Exports, Tables, Segments int
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.FileBytes, 32 << 20}, {&l.Functions, 50_000}, {&l.BodyBytes, 128 << 10}, {&l.Nesting, 2000},
		{&l.LoopNesting, 32}, {&l.Loops, 2000}, {&l.BranchTable, 8000}, {&l.Locals, 4000}, {&l.TableEntries, 65_536},
		{&l.Types, 20_000}, {&l.Globals, 20_000}, {&l.Exports, 10_000}, {&l.Tables, 16}, {&l.Segments, 100_000},
		{&l.Pieces, freezePieces},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

// Refusal says in a sentence why a module is not taken.
type Refusal struct {
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

func refuse(format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...)}
}
