package wasmtest

// Random makes a valid module out of any bytes: a few functions that call each other, directly and through a table,
// with all kinds of blocks, branches and ways out. It exports run (i32, i32) -> i32 and its memory. Each function and
// each turn of a loop counts global 0 down, and traps where it is 0: all programs end.
func Random(data []byte) *Module {
	g := &random{data: data}
	m := &Module{Pages: []uint32{1 + g.below(3), 4}, Globals: []int32{300, int32(g.byte()), -7},
		Exports: []Export{{Name: "run"}, {Name: "memory", Kind: 2}}}
	g.types = append(g.types, Func{Params: []byte{I32, I32}, Results: []byte{I32}})
	for range g.below(5) {
		g.types = append(g.types, Func{Params: g.list(3), Results: g.list(3)})
	}
	for i, t := range g.types {
		g.locals = append(append([]byte{}, t.Params...), I32, I32)
		g.code, g.results = nil, t.Results
		g.count()
		g.statements(3, [][]byte{t.Results})
		g.push(t.Results, 3)
		m.Functions = append(m.Functions, Function{Type: t, Locals: 2, Code: g.code})
		m.Elements = append(m.Elements, uint32(i))
	}
	m.Table = []uint32{uint32(len(m.Elements)) + 1}
	return m
}

// random writes code; the bytes decide. Where they are used up it writes what is shortest.
type random struct {
	data    []byte
	types   []Func
	locals  []byte
	results []byte
	code    []byte
}

func (g *random) byte() byte {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return b
}

func (g *random) below(n uint32) uint32 { return uint32(g.byte()) % n }

func (g *random) list(most uint32) (types []byte) {
	for range g.below(most + 1) {
		types = append(types, []byte{I32, I64}[g.below(2)])
	}
	return types
}

func (g *random) emit(code ...byte) { g.code = append(g.code, code...) }

// count takes one off global 0.
func (g *random) count() {
	g.emit(0x23, 0, 0x45, 0x04, 0x40, 0x00, 0x0b, 0x23, 0, 0x41, 1, 0x6b, 0x24, 0)
}

func (g *random) push(types []byte, depth int) {
	for _, t := range types {
		g.expression(t, depth)
	}
}

// local gives one of the type, or false.
func (g *random) local(t byte) (byte, bool) {
	from := int(g.below(uint32(len(g.locals))))
	for i := range g.locals {
		if k := (from + i) % len(g.locals); g.locals[k] == t {
			return byte(k), true
		}
	}
	return 0, false
}

func (g *random) constant(t byte) {
	if t == I32 {
		g.code = append(g.code, Const(int32(int8(g.byte()))*int32(g.byte()))...)
	} else {
		g.emit(0x42)
		g.code = sleb(g.code, int64(int8(g.byte()))<<g.below(50))
	}
}

// expression pushes a value of the type.
func (g *random) expression(t byte, depth int) {
	choice := g.below(12)
	if depth == 0 || len(g.data) == 0 {
		choice %= 2
	}
	switch choice {
	case 0:
		g.constant(t)
	case 1:
		if k, ok := g.local(t); ok {
			g.emit(0x20, k)
		} else {
			g.constant(t)
		}
	case 2, 3, 4:
		g.expression(t, depth-1)
		g.expression(t, depth-1)
		base := byte(0x6a)
		if t == I64 {
			base = 0x7c
		}
		g.emit(base + byte(g.below(15)))
	case 5:
		g.expression(I32, depth-1)
		if t == I32 {
			g.emit(0x28, 2, 0)
		} else {
			g.emit(0x29, 3, 0)
		}
	case 6: // if with a value
		g.expression(I32, depth-1)
		g.emit(0x04, t)
		g.expression(t, depth-1)
		g.emit(0x05)
		g.expression(t, depth-1)
		g.emit(0x0b)
	case 7: // block that is left early
		g.emit(0x02, t)
		g.expression(t, depth-1)
		g.expression(I32, depth-1)
		g.emit(0x0d, 0, 0x0b)
	case 8:
		g.expression(t, depth-1)
		g.expression(t, depth-1)
		g.expression(I32, depth-1)
		g.emit(0x1b)
	case 9, 10:
		g.call(t, depth)
	default:
		g.convert(t, depth)
	}
}

func (g *random) convert(t byte, depth int) {
	if t == I64 {
		g.expression(I32, depth-1)
		g.emit(0xac + byte(g.below(2)))
		return
	}
	switch g.below(4) {
	case 0:
		g.emit(0x3f, 0)
	case 1:
		g.emit(0x41, 1, 0x40, 0)
	case 2:
		g.emit(0x23, 1)
	default:
		g.expression(I64, depth-1)
		g.emit(0xa7)
	}
}

// call pushes a value that a function gives, or a constant where none gives that.
func (g *random) call(t byte, depth int) {
	k := g.below(uint32(len(g.types)))
	f := g.types[k]
	if len(f.Results) == 0 || f.Results[0] != t {
		g.constant(t)
		return
	}
	g.invoke(k, depth)
	for range f.Results[1:] {
		g.emit(0x1a)
	}
}

func (g *random) invoke(k uint32, depth int) {
	g.push(g.types[k].Params, depth-1)
	if g.below(3) == 0 {
		g.emit(0x41, byte(g.below(uint32(len(g.types))+1)), 0x11, byte(k), 0) // of any function, so it may trap
		return
	}
	g.emit(0x10, byte(k))
}

// statements leaves the stack as it is. labels are what the blocks around take, the innermost last.
func (g *random) statements(depth int, labels [][]byte) {
	for range g.below(5) {
		if len(g.data) == 0 {
			return
		}
		g.statement(depth, labels)
	}
}

func (g *random) statement(depth int, labels [][]byte) {
	choice := g.below(14)
	if depth == 0 && choice >= 6 {
		choice %= 6
	}
	switch choice {
	case 0, 1:
		t := g.locals[g.below(uint32(len(g.locals)))]
		g.expression(t, 3)
		k, _ := g.local(t)
		g.emit(0x21, k)
	case 2:
		g.expression(I32, 2)
		g.expression(I64, 3)
		g.emit(0x37, 3, 0)
	case 3:
		g.expression(I32, 3)
		g.emit(0x24, 2)
	case 4:
		k := g.below(uint32(len(g.types)))
		g.invoke(k, 3)
		for range g.types[k].Results {
			g.emit(0x1a)
		}
	case 5:
		g.bulk()
	case 6, 7:
		g.emit(0x02, 0x40)
		g.statements(depth-1, append(labels, nil))
		g.emit(0x0b)
	case 8, 9:
		g.emit(0x03, 0x40)
		g.count()
		g.statements(depth-1, append(labels, nil))
		g.expression(I32, 2)
		g.emit(0x0d, 0, 0x0b)
	case 10:
		g.expression(I32, 2)
		g.emit(0x04, 0x40)
		g.statements(depth-1, append(labels, nil))
		g.emit(0x05)
		g.statements(depth-1, append(labels, nil))
		g.emit(0x0b)
	default:
		g.leave(labels)
	}
}

// bulk fills or copies some of the memory, often all of it.
func (g *random) bulk() {
	for range 3 {
		g.code = append(g.code, Const(int32(g.byte())*int32(g.byte())*int32(1+g.below(3)))...)
	}
	if g.below(2) == 0 {
		g.emit(0xfc, 11, 0)
	} else {
		g.emit(0xfc, 10, 0, 0)
	}
}

// leave goes somewhere else, in a block of its own, sometimes only where a condition holds.
func (g *random) leave(labels [][]byte) {
	g.emit(0x02, 0x40)
	depth := uint32(len(labels))
	label := g.below(depth)
	types := labels[depth-1-label]
	switch g.below(5) {
	case 0:
		g.push(types, 2)
		g.emit(0x0c, byte(label+1))
	case 1:
		g.push(types, 2)
		g.expression(I32, 2)
		g.emit(0x0d, byte(label+1))
		for range types {
			g.emit(0x1a)
		}
	case 2:
		if len(types) > 0 { // all labels of a table take the same
			g.push(types, 2)
			g.expression(I32, 2)
			g.emit(0x0e, 1, byte(label+1), byte(label+1))
			break
		}
		g.expression(I32, 2)
		g.emit(0x0e, 2, byte(label+1), 0, byte(label+1))
	case 3:
		g.expression(I32, 2)
		g.emit(0x04, 0x40)
		g.push(g.results, 2)
		g.emit(0x0f, 0x0b)
	default:
		g.push(g.results, 2)
		g.emit(0x0f)
	}
	g.emit(0x0b)
}
