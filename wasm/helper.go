package wasm

import "encoding/binary"

// bulkBytes is how much of a memory is filled or copied without a look at the fuel: a few microseconds.
const bulkBytes = 64 << 10

// helper is a function that is added to a module. It stands for an instruction that might take long.
type helper struct {
	name      string
	typeIndex uint32
	body      []byte
}

// need adds the helper for an instruction behind opMisc, once.
func (w *rewriter) need(sub uint32) {
	if _, ok := w.helper[sub]; ok {
		return
	}
	w.helper[sub] = uint32(len(w.info.functions) + 1 + len(w.helpers))
	h := helper{typeIndex: w.addType([]ValueType{I32, I32, I32}, nil)}
	if sub == miscMemoryFill {
		h.name, h.body = "memory.fill", w.fillBody()
	} else {
		h.name, h.body = "memory.copy", w.copyBytesBody()
	}
	w.helpers = append(w.helpers, h)
}

// Parameters of the helpers: where to, what or where from, how many. The locals are those of function.
const (
	paramTo    = 0
	paramFrom  = 1
	paramCount = 2
	paramLong  = 3
)

func (w *rewriter) helperFunction() *function {
	f := &function{rewriter: w, long: paramLong, short: paramLong + 1}
	f.out = []byte{2, 1, byte(I64), 1, byte(I32)}
	return f
}

// fillBody fills in pieces.
//
//	burn; if it is small or reaches out of the memory: as it is
//	loop: burn; fill a piece; to += piece; count -= piece; again while more than a piece is left
//	fill the rest
func (w *rewriter) fillBody() []byte {
	f := w.helperFunction()
	piece := []byte{opMisc, miscMemoryFill, 0}
	f.asItIs(piece, false)
	f.forwards(piece, false)
	return append(f.out, opEnd)
}

// copyBytesBody copies in pieces, from the end where the target lies behind the source: they may overlap.
func (w *rewriter) copyBytesBody() []byte {
	f := w.helperFunction()
	piece := []byte{opMisc, miscMemoryCopy, 0, 0}
	f.asItIs(piece, true)
	f.locals2(paramTo, paramFrom)
	f.out = append(f.out, 0x4d, opIf, 0x40) // i32.le_u
	f.forwards(piece, true)
	f.out = append(f.out, opElse)
	f.backwards(piece)
	f.out = append(f.out, opEnd, opEnd)
	return f.out
}

func (f *function) locals2(a, b uint64) {
	f.op(opLocalGet, a)
	f.op(opLocalGet, b)
}

// constant pushes an i32.
func (f *function) constant32(v int64) { f.out = appendSleb(append(f.out, opI32Const), v) }

// add adds v to an i32 local.
func (f *function) add(local uint64, v int64) {
	f.op(opLocalGet, local)
	f.constant32(v)
	f.out = append(f.out, 0x6a)
	f.op(opLocalSet, local)
}

func (f *function) all(piece []byte) {
	f.locals2(paramTo, paramFrom)
	f.op(opLocalGet, paramCount)
	f.out = append(f.out, piece...)
}

// asItIs burns for up to one piece, and returns after a small one, or one that is about to trap.
func (f *function) asItIs(piece []byte, source bool) {
	// fuel -= min(count, bulkBytes) >> bulkShift
	f.op(opGlobalGet, f.fuel())
	f.op(opLocalGet, paramCount)
	f.constant32(bulkBytes)
	f.op(opLocalGet, paramCount)
	f.constant32(bulkBytes)
	f.out = append(f.out, 0x49, 0x1b, 0xad, opI64Const, bulkShift, 0x88, 0x7d) // i32.lt_u, select, extend, shift, subtract
	f.op(opGlobalSet, f.fuel())
	f.burn(costCall)
	f.op(opLocalGet, paramCount)
	f.constant32(bulkBytes)
	f.out = append(f.out, 0x4d) // i32.le_u
	f.outside(paramTo)
	f.out = append(f.out, 0x72)
	if source {
		f.outside(paramFrom)
		f.out = append(f.out, 0x72)
	}
	f.out = append(f.out, opIf, 0x40)
	f.all(piece)
	f.out = append(f.out, opReturn, opEnd)
}

// outside pushes whether count bytes at a place reach out of the memory.
func (f *function) outside(place uint64) {
	f.op(opLocalGet, place)
	f.out = append(f.out, 0xad)
	f.op(opLocalGet, paramCount)
	f.out = append(f.out, 0xad, 0x7c, opMemorySize, 0, 0xad, opI64Const, 16, 0x86, 0x56) // i64.gt_u
}

// forwards does piece after piece, then the rest.
func (f *function) forwards(piece []byte, source bool) {
	f.out = append(f.out, opLoop, 0x40)
	f.burn(bulkBytes>>bulkShift + costBulk)
	f.locals2(paramTo, paramFrom)
	f.constant32(bulkBytes)
	f.out = append(f.out, piece...)
	f.add(paramTo, bulkBytes)
	if source {
		f.add(paramFrom, bulkBytes)
	}
	f.again()
	f.all(piece)
}

// backwards does the last piece first.
func (f *function) backwards(piece []byte) {
	f.out = append(f.out, opLoop, 0x40)
	f.burn(bulkBytes>>bulkShift + costBulk)
	for _, place := range []uint64{paramTo, paramFrom} {
		f.locals2(place, paramCount)
		f.out = append(f.out, 0x6a)
		f.constant32(bulkBytes)
		f.out = append(f.out, 0x6b)
	}
	f.constant32(bulkBytes)
	f.out = append(f.out, piece...)
	f.again()
	f.all(piece)
}

// again takes a piece off the count and ends the loop where no more than one is left.
func (f *function) again() {
	f.op(opLocalGet, paramCount)
	f.constant32(bulkBytes)
	f.out = append(f.out, 0x6b)
	f.out = binary.AppendUvarint(append(f.out, opLocalTee), paramCount)
	f.constant32(bulkBytes)
	f.out = append(f.out, 0x4b, opBrIf, 0, opEnd) // i32.gt_u
}
