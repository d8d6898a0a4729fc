package wasm

// What instructions cost, in fuel: about a third of a nanosecond each. The figures need no more precision than that: a
// slice of fuel is sized by the time that the last ones took.
const (
	costPlain  = 1
	costLoad   = 2
	costDivide = 8
	costCall   = 4
	// costHost is a call of a host function, some 90 ns.
	costHost = 256
	costGrow = 256
	// costTable is an instruction on up to 65,536 entries of a table.
	costTable = 16384
	costBulk  = 16
	// bulkShift: bytes per fuel of instructions on many bytes, as a power of two.
	bulkShift = 1
	// costLeaf is the most that a function may cost that its callers pay for: one that neither loops nor calls. It is
	// also what a call through a table pays, which does not know.
	costLeaf = 64
)

// shape is what the rewriter wants to know of a function before it writes the first one.
type shape struct {
	calls, loops bool
	// deep: it calls more than leaves and host functions. Known after weights.
	deep bool
	// bulk: there is an instruction whose cost is known only as it runs.
	bulk bool
	// cost of all instructions without calls.
	cost uint32
	// instructions and locals, parameters included.
	instructions, locals int
}

// leaf says that the callers pay.
func (s *shape) leaf() bool { return !s.calls && !s.loops && !s.bulk && s.cost <= costLeaf }

// frameWords estimates a frame's size in words: the compiler keeps locals and what lives across calls on the stack.
func (s *shape) frameWords() int64 { return 8 + int64(s.locals) + int64(s.instructions)/4 }

// eachBody calls fn with a reader of each function's body.
func (w *rewriter) eachBody(fn func(n int, r *reader)) {
	r := &reader{b: w.sections[10]}
	for n := range r.u32() {
		size := int(r.u32())
		from := r.at
		r.bytes(size)
		if r.err != nil {
			break
		}
		body := &reader{b: w.sections[10][:from+size], at: from}
		fn(int(n), body)
		w.fail(body)
		if w.err != nil {
			return
		}
	}
	w.fail(r)
}

// measure takes the functions' shapes.
func (w *rewriter) measure() {
	w.shapes = make([]shape, w.info.Functions)
	w.eachBody(func(n int, r *reader) {
		s := &w.shapes[n]
		s.locals = w.info.locals(r, int(w.imported)+n)
		for r.err == nil && r.left() > 0 {
			in := w.info.instruction(r)
			s.instructions++
			switch in.op {
			case opCall, opCallIndirect:
				s.calls = true
			case opLoop:
				s.loops = true
			case opMisc:
				s.bulk = s.bulk || in.sub == miscMemoryInit || in.sub == miscMemoryFill || in.sub == miscMemoryCopy
				if in.sub == miscMemoryFill || in.sub == miscMemoryCopy {
					s.calls = true // of the helper
					w.need(in.sub)
				}
			}
			s.cost += w.cost(in, false)
		}
	})
}

// cost of an instruction; with calls, what is called where that is known and its callers pay.
func (w *rewriter) cost(in instr, calls bool) uint32 {
	switch op := in.op; {
	case op == opCall && calls:
		return w.callCost(in.index)
	case op == opCallIndirect && calls:
		return 2*costCall + costLeaf
	case op >= 0x28 && op <= 0x3e:
		return costLoad
	case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82, op == 0x91, op == 0x95, op == 0x9f, op == 0xa3:
		return costDivide
	case op == opMemoryGrow:
		return costGrow
	case op == opVector:
		return 2 * costPlain
	case op == opMisc:
		switch in.sub {
		case miscMemoryInit, miscMemoryFill, miscMemoryCopy:
			return costBulk
		case miscTableInit, miscTableCopy, miscTableFill, miscTableGrow:
			return costTable
		}
	}
	return costPlain
}

func (w *rewriter) callCost(index uint32) uint32 {
	if index < w.imported {
		return costHost
	}
	if s := &w.shapes[index-w.imported]; s.leaf() {
		return costCall + s.cost
	}
	return costCall
}

// weights gives what the function's entry and each of its loops' turns cost, the loops in order: all instructions that
// are in no loop; all that are in the loop but in none within.
func (w *rewriter) weights(r *reader, s *shape, out []uint32) []uint32 {
	out = append(out[:0], 0)
	open := []int32{0} // of each open block: whose weight its instructions go to
	for r.err == nil && len(open) > 0 {
		in := w.info.instruction(r)
		region := open[len(open)-1]
		switch in.op {
		case opBlock, opIf:
			open = append(open, region)
		case opLoop:
			region = int32(len(out))
			out = append(out, 0)
			open = append(open, region)
		case opEnd:
			open = open[:len(open)-1]
		}
		out[region] += w.cost(in, true)
		s.deep = s.deep || w.goesDeep(in)
	}
	return out
}

// goesDeep says whether an instruction calls what counts fuel or stack by itself.
func (w *rewriter) goesDeep(in instr) bool {
	switch in.op {
	case opCall:
		return in.index >= w.imported && !w.shapes[in.index-w.imported].leaf()
	case opCallIndirect:
		return true
	case opMisc:
		return in.sub == miscMemoryFill || in.sub == miscMemoryCopy
	}
	return false
}
