package wasm

import "encoding/binary"

// code rewrites the code section: the module's functions, then the helpers.
func (w *rewriter) code() []byte {
	section := w.sections[10]
	out := make([]byte, 0, len(section)*3/2)
	out = binary.AppendUvarint(out, uint64(len(w.shapes)+len(w.helpers)))
	f := &function{rewriter: w}
	w.eachBody(func(n int, r *reader) {
		f.shape, f.index = &w.shapes[n], int(w.imported)+n
		noted := w.noted()
		f.write(r)
		out = binary.AppendUvarint(out, uint64(len(f.out)))
		w.moveNoted(noted, len(out))
		out = append(out, f.out...)
	})
	for _, h := range w.helpers {
		out = append(binary.AppendUvarint(out, uint64(len(h.body))), h.body...)
	}
	return out
}

// noted is how many pieces of code were noted for the debug information.
func (w *rewriter) noted() int {
	if w.lines == nil {
		return 0
	}
	return len(w.lines.chunks)
}

// moveNoted puts those of a function, from the given one on, to where the function is.
func (w *rewriter) moveNoted(from, to int) {
	if w.lines == nil {
		return
	}
	for k := range w.lines.chunks[from:] {
		w.lines.chunks[from+k].to += uint32(to)
	}
}

// function rewrites one function.
type function struct {
	*rewriter
	*shape
	index   int
	out     []byte
	weighed []uint32
	// long and short are the indexes of the added locals, an i64 and an i32.
	long, short uint64
	// kept: the fuel is kept in long while the function runs, since nothing that it calls counts: loops that do not
	// touch the memory for it are as fast as without.
	kept bool
}

// write puts the function into out:
//
//	locals, and two more
//	burn the entry's weight
//	take the frame's words off the stack's            (only where it goes deep)
//	block                                             (where it goes deep or keeps the fuel)
//	  the body: loops burn their weight, returns branch out of the block
//	end
//	give the words back, or the fuel
//
// A branch to the function's end becomes one to the block's, its number the same.
func (f *function) write(r *reader) {
	f.out = f.out[:0]
	from := r.at
	f.info.locals(r, f.index)
	groups := r.b[from:r.at]
	if f.kept = false; f.leaf() {
		f.out = append(f.out, groups...)
		f.copyBody(r, nil)
		return
	}
	f.weighed = f.weights(&reader{b: r.b, at: r.at}, f.shape, f.weighed)
	f.long, f.short = uint64(f.locals), uint64(f.locals)+1
	f.out = append(f.out, extended(groups, []byte{1, byte(I64)}, []byte{1, byte(I32)})...)
	f.burn(f.weighed[0])
	f.kept = f.loops && !f.deep && !f.bulk
	if f.deep {
		f.enter()
	}
	if f.wrapped() {
		f.out = append(append(f.out, opBlock), f.blockType(f.info.types[f.info.functions[f.index]].Results)...)
	}
	f.copyBody(r, f.weighed[1:])
}

// wrapped says whether the body becomes a block.
func (f *function) wrapped() bool { return f.deep || f.kept }

// copyBody copies the instructions and changes what is to be changed.
func (f *function) copyBody(r *reader, weights []uint32) {
	depth, from := 0, r.at
	flush := func(to int) {
		f.lines.copied(len(f.out), from, to-from)
		f.out = append(f.out, r.b[from:to]...)
	}
	for r.err == nil && r.left() > 0 {
		in := f.info.instruction(r)
		switch in.op {
		case opBlock, opIf:
			depth++
		case opLoop:
			depth++
			flush(r.at)
			f.burn(weights[0])
			weights, from = weights[1:], r.at
		case opEnd:
			if depth--; depth < 0 && f.wrapped() {
				flush(in.start)
				f.leave()
				from = in.start
			}
		case opReturn:
			if f.wrapped() {
				flush(in.start)
				f.op(opBr, uint64(depth))
				from = r.at
			}
		case opCall, opRefFunc:
			flush(in.start)
			f.op(in.op, f.shift(in.index))
			from = r.at
		case opMisc:
			switch in.sub {
			case miscMemoryFill, miscMemoryCopy:
				flush(in.start)
				f.op(opCall, uint64(f.helper[in.sub]))
				from = r.at
			case miscMemoryInit:
				flush(in.start)
				f.payInit()
				from = in.start
			}
		}
	}
	flush(r.at)
}

// payInit pays for a memory.init before it runs; its length is on the stack.
func (f *function) payInit() {
	f.op(opLocalTee, f.short)
	f.op(opGlobalGet, f.fuel())
	f.op(opLocalGet, f.short)
	f.out = append(f.out, 0xad) // i64.extend_i32_u
	f.out = append(f.out, opI64Const, bulkShift, 0x88, 0x7d)
	f.op(opGlobalSet, f.fuel())
}

// op writes an instruction with one index.
func (f *function) op(op byte, index uint64) {
	f.out = binary.AppendUvarint(append(f.out, op), index)
}

// burn takes fuel, and asks for more where it is used up. After it, the fuel that is left is in long too.
func (f *function) burn(weight uint32) {
	if f.kept {
		f.op(opLocalGet, f.long)
	} else {
		f.op(opGlobalGet, f.fuel())
	}
	f.out = append(appendSleb(append(f.out, opI64Const), int64(weight)), 0x7d)
	f.op(opLocalTee, f.long)
	if !f.kept {
		f.op(opGlobalSet, f.fuel())
		f.op(opLocalGet, f.long)
	}
	f.out = append(f.out, opI64Const, 0, 0x53, opIf, 0x40, opI32Const, reasonFuel) // i64.lt_s
	f.op(opCall, uint64(f.imported))
	f.op(opLocalTee, f.long)
	if f.kept {
		f.out = append(f.out, opDrop)
	} else {
		f.op(opGlobalSet, f.fuel())
	}
	f.out = append(f.out, opEnd)
}

// enter takes the frame's words.
func (f *function) enter() {
	f.op(opGlobalGet, f.stack())
	f.out = append(appendSleb(append(f.out, opI64Const), f.frameWords()), 0x7d)
	f.op(opLocalTee, f.long)
	f.op(opGlobalSet, f.stack())
	f.op(opLocalGet, f.long)
	f.out = append(f.out, opI64Const, 0, 0x53, opIf, 0x40, opI32Const, reasonDepth)
	f.op(opCall, uint64(f.imported))
	f.out = append(f.out, opDrop, opUnreachable, opEnd)
}

// leave closes the block and gives back the words, or the fuel that was kept.
func (f *function) leave() {
	f.out = append(f.out, opEnd)
	if f.kept {
		f.op(opLocalGet, f.long)
		f.op(opGlobalSet, f.fuel())
		return
	}
	f.op(opGlobalGet, f.stack())
	f.out = append(appendSleb(append(f.out, opI64Const), f.frameWords()), 0x7c)
	f.op(opGlobalSet, f.stack())
}

// blockType is the type of a block that takes nothing and gives results.
func (w *rewriter) blockType(results []ValueType) []byte {
	switch len(results) {
	case 0:
		return []byte{0x40}
	case 1:
		return []byte{byte(results[0])}
	}
	key := string(asBytes(results))
	index, ok := w.results[key]
	if !ok {
		index = w.addType(nil, results)
		w.results[key] = index
	}
	return appendSleb(nil, int64(index))
}
