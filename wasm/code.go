package wasm

// Opcodes with a structure of their own.
const (
	opBlock = 0x02
	opLoop  = 0x03
	opIf    = 0x04
	opElse  = 0x05
	opEnd   = 0x0b
)

func (i *Info) codeSection(r *reader) {
	n := r.count("function bodies", i.limits.Functions)
	if n != i.Functions {
		r.fail("the module declares %d functions and defines %d", i.Functions, n)
		return
	}
	imported := len(i.functions) - i.Functions
	for f := range n {
		size := int(r.u32())
		if r.err == nil && size > i.limits.BodyBytes {
			r.fail("the body of function %d has %d bytes; the limit is %d", imported+f, size, i.limits.BodyBytes)
		}
		body := r.bytes(size)
		if r.err != nil {
			return
		}
		i.body(&reader{b: r.b[:r.at], at: r.at - len(body)}, r, imported+f)
		if r.err != nil {
			return
		}
		i.bodies++
	}
}

// body walks one function; what is wrong goes to outer.
func (i *Info) body(r, outer *reader, index int) {
	i.locals(r, index)
	var loops []bool // of each open block: is it a loop?
	depth := 0
	loops = append(loops, false)
	for r.err == nil && len(loops) > 0 {
		op := r.byte()
		switch op {
		case opBlock, opLoop, opIf:
			r.skipLEB(5) // block type
			loops = append(loops, op == opLoop)
			if op == opLoop {
				depth++
			}
			if len(loops)-1 > i.limits.Nesting {
				r.fail("function %d nests blocks deeper than %d", index, i.limits.Nesting)
			}
			if depth > i.limits.LoopNesting {
				r.fail("function %d nests loops deeper than %d", index, i.limits.LoopNesting)
			}
		case opEnd:
			if loops[len(loops)-1] {
				depth--
			}
			loops = loops[:len(loops)-1]
		case opElse:
		default:
			i.walkImmediate(r, op)
			if refusal, ok := r.err.(*Refusal); ok {
				refusal.Reason = inFunction(refusal.Reason, index)
			}
		}
	}
	if r.err == nil && r.left() != 0 {
		r.fail("function %d goes on behind its end", index)
	}
	if r.err != nil {
		outer.err = r.err
	}
}

func inFunction(reason string, index int) string {
	return refuse("in function %d %s", index, reason).Error()
}

func (i *Info) locals(r *reader, index int) {
	total := uint64(len(i.types[i.functions[index]].Params))
	for range r.count("groups of locals", i.limits.Locals) {
		total += uint64(r.u32())
		if t := ValueType(r.byte()); r.err == nil && !t.known() {
			r.fail("function %d has a local of the unknown type 0x%02x", index, byte(t))
		}
		if r.err == nil && total > uint64(i.limits.Locals) {
			r.fail("function %d has %d locals; the limit is %d", index, total, i.limits.Locals)
		}
		if r.err != nil {
			return
		}
	}
}

// walkImmediate passes what follows an opcode other than those of blocks.
func (i *Info) walkImmediate(r *reader, op byte) {
	switch {
	case op <= 0x01, op == 0x0f, op == 0x1a, op == 0x1b, op == 0xd1, op >= 0x45 && op <= 0xc4:
	case op == 0x0c, op == 0x0d, op == 0x10, op >= 0x20 && op <= 0x26, op == 0xd2:
		r.skipLEB(5)
	case op == 0x0e:
		i.walkBranchTable(r)
	case op == 0x11:
		r.skipLEB(5)
		r.skipLEB(5)
	case op == 0x1c:
		for range r.count("types of a select", 16) {
			r.byte()
		}
	case op >= 0x28 && op <= 0x3e:
		r.skipLEB(5)
		r.skipLEB(5)
	case op == 0x3f, op == 0x40, op == 0xd0:
		r.byte()
	case op == 0x41:
		r.skipLEB(5)
	case op == 0x42:
		r.skipLEB(10)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == 0xfc:
		i.walkMisc(r)
	case op == 0xfd:
		walkVector(r)
	default:
		r.fail("the instruction 0x%02x is not supported", op)
	}
}

func (i *Info) walkBranchTable(r *reader) {
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(i.limits.BranchTable) {
		r.fail("a branch table has %d entries; the limit is %d", n, i.limits.BranchTable)
		return
	}
	for range uint64(n) + 1 {
		r.skipLEB(5)
		if r.err != nil {
			return
		}
	}
}

// walkMisc passes a saturating conversion, or an instruction on memories and tables as a whole.
func (i *Info) walkMisc(r *reader) {
	switch sub := r.u32(); {
	case sub <= 7:
	case sub == 15 && i.unboundedTable:
		r.fail("a table grows, and has no maximum of at most %d", i.limits.TableEntries)
	case sub == 9, sub == 11, sub == 13, sub >= 15 && sub <= 17:
		r.skipLEB(5)
	case sub == 8, sub == 10, sub == 12, sub == 14:
		r.skipLEB(5)
		r.skipLEB(5)
	default:
		r.fail("the instruction 0xfc %d is not supported", sub)
	}
}

// walkVector passes a SIMD instruction.
func walkVector(r *reader) {
	switch sub := r.u32(); {
	case sub <= 11, sub == 92, sub == 93:
		r.skipLEB(5)
		r.skipLEB(5)
	case sub == 12, sub == 13:
		r.bytes(16)
	case sub >= 21 && sub <= 34:
		r.byte()
	case sub >= 84 && sub <= 91:
		r.skipLEB(5)
		r.skipLEB(5)
		r.byte()
	case sub <= 255:
	default:
		r.fail("the instruction 0xfd %d is not supported", sub)
	}
}
