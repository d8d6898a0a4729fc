package wasm

// Opcodes with a meaning of their own here.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableSet     = 0x26
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opVector       = 0xfd
)

// Instructions behind opMisc.
const (
	miscMemoryInit = 8
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17
)

// instr is one instruction: its opcode, the second one behind opMisc and opVector, its first immediate where that is
// an index (of a branch table the greatest), and where it begins.
type instr struct {
	op    byte
	sub   uint32
	index uint32
	start int
}

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
			r.fail("the body of %s has %d bytes; the limit is %d", i.name(imported+f), size, i.limits.BodyBytes)
		}
		body := r.bytes(size)
		if r.err != nil {
			return
		}
		b := &reader{b: r.b[:r.at], at: r.at - len(body)}
		if i.body(b, imported+f); b.err != nil {
			r.err = refuse("in %s %s", i.name(imported+f), b.err)
			return
		}
		i.bodies++
	}
}

// body walks one function. Whatever the rewritten module has more than this one (functions, types, globals, locals, a
// label) must not be named here: what the compiler would have refused, it would then take.
func (i *Info) body(r *reader, index int) {
	locals := i.locals(r, index)
	blocks := append(i.blocks[:0], false) // of each open block: is it a loop?
	loops, all := 0, 0                    // open ones, all
	for r.err == nil && len(blocks) > 0 {
		in := i.instruction(r)
		switch in.op {
		case opBlock, opLoop, opIf:
			blocks = append(blocks, in.op == opLoop)
			if in.op == opLoop {
				loops++
				all++
			}
			if all > i.limits.Loops {
				r.fail("there are more than %d loops", i.limits.Loops)
			}
			if len(blocks)-1 > i.limits.Nesting {
				r.fail("blocks are nested deeper than %d", i.limits.Nesting)
			}
			if loops > i.limits.LoopNesting {
				r.fail("loops are nested deeper than %d", i.limits.LoopNesting)
			}
		case opEnd:
			if blocks[len(blocks)-1] {
				loops--
			}
			blocks = blocks[:len(blocks)-1]
		case opBr, opBrIf, opBrTable:
			r.below(in.index, len(blocks), "label")
		case opLocalGet, opLocalSet, opLocalTee:
			r.below(in.index, locals, "local")
		}
	}
	i.blocks = blocks
	if r.err == nil && r.left() != 0 {
		r.fail("code goes on behind the end")
	}
}

// locals reads the groups of a function's locals and gives their number, parameters included.
func (i *Info) locals(r *reader, index int) int {
	total := uint64(len(i.types[i.functions[index]].Params))
	for range r.count("groups of locals", i.limits.Locals) {
		total += uint64(r.u32())
		if t := ValueType(r.byte()); r.err == nil && !t.known() {
			r.fail("a local has the unknown type 0x%02x", byte(t))
		}
		if r.err == nil && total > uint64(i.limits.Locals) {
			r.fail("there are %d locals; the limit is %d", total, i.limits.Locals)
		}
		if r.err != nil {
			return 0
		}
	}
	return int(total)
}

// instruction reads one instruction. Indexes of functions, types and globals are checked.
func (i *Info) instruction(r *reader) (in instr) {
	in.start = r.at
	in.op = r.byte()
	switch op := in.op; {
	case op <= 0x01, op == opElse, op == opEnd, op == opReturn, op == opDrop, op == 0x1b, op == 0xd1, op >= 0x45 && op <= 0xc4:
	case op >= opBlock && op <= opIf:
		i.blockType(r)
	case op == opBr, op == opBrIf, op >= opLocalGet && op <= opLocalTee, op == 0x25:
		in.index = r.u32()
	case op == opTableSet:
		in.index = r.u32()
		i.freezing.spoil("it changes a table")
	case op == opBrTable:
		in.index = i.branchTable(r)
	case op == opCall, op == opRefFunc:
		in.index = r.u32()
		r.below(in.index, len(i.functions), "function")
	case op == opCallIndirect:
		in.index = r.u32()
		r.below(in.index, len(i.types), "type")
		r.u32()
	case op == opSelectTyped:
		i.valueTypes(r, "types of a select")
	case op == opGlobalGet, op == opGlobalSet:
		in.index = r.u32()
		r.below(in.index, i.globals, "global")
	case op >= 0x28 && op <= 0x3e:
		r.u32()
		r.u32()
	case op == opMemorySize, op == opMemoryGrow:
		r.zero()
	case op == 0xd0:
		r.byte()
	case op == opI32Const:
		r.skipLEB(5)
	case op == opI64Const:
		r.skipLEB(10)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == opMisc:
		in.sub = r.u32()
		i.misc(r, in.sub)
	case op == opVector:
		in.sub = r.u32()
		vector(r, in.sub)
	default:
		r.fail("the instruction 0x%02x is not supported", op)
	}
	return in
}

// blockType passes nothing, a value type, or a type's index, which is a signed number and not negative.
func (i *Info) blockType(r *reader) {
	if r.err != nil || r.left() == 0 {
		r.byte()
		return
	}
	if b := r.b[r.at]; b == 0x40 || b < 0x80 && ValueType(b).known() {
		r.at++
		return
	}
	index := r.u32()
	if r.err == nil && r.b[r.at-1]&0x40 != 0 {
		r.fail("the type of a block at byte %d is unknown", r.at-1)
	}
	r.below(index, len(i.types), "type")
}

// branchTable gives the greatest label in it.
func (i *Info) branchTable(r *reader) (greatest uint32) {
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(i.limits.BranchTable) {
		r.fail("a branch table has %d entries; the limit is %d", n, i.limits.BranchTable)
	}
	for k := uint64(0); k <= uint64(n) && r.err == nil; k++ {
		greatest = max(greatest, r.u32())
	}
	return greatest
}

// misc passes a saturating conversion, or an instruction on memories and tables as a whole.
func (i *Info) misc(r *reader, sub uint32) {
	if sub > 7 && sub != miscMemoryCopy && sub != miscMemoryFill && sub != miscTableSize {
		i.freezing.spoil("it changes a table, or its segments")
	}
	switch {
	case sub <= 7:
	case sub == miscTableGrow && i.unboundedTable:
		r.fail("a table grows, and has no maximum of at most %d", i.limits.TableEntries)
	case sub == miscMemoryFill:
		r.zero()
	case sub == miscMemoryCopy:
		r.zero()
		r.zero()
	case sub == 9, sub == 13, sub >= miscTableGrow && sub <= miscTableFill:
		r.u32()
	case sub == miscMemoryInit, sub == miscTableInit, sub == miscTableCopy:
		r.u32()
		r.u32()
	default:
		r.fail("the instruction 0xfc %d is not supported", sub)
	}
}

// vector passes a SIMD instruction.
func vector(r *reader, sub uint32) {
	switch {
	case sub <= 11, sub == 92, sub == 93:
		r.u32()
		r.u32()
	case sub == 12, sub == 13:
		r.bytes(16)
	case sub >= 21 && sub <= 34:
		r.byte()
	case sub >= 84 && sub <= 91:
		r.u32()
		r.u32()
		r.byte()
	case sub <= 255:
	default:
		r.fail("the instruction 0xfd %d is not supported", sub)
	}
}
