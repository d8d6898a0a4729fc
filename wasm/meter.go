package wasm

import (
	"encoding/binary"
)

const (
	// meterModule is the module of the one function that Meter adds to a module's imports. Its name carries the version
	// of the rewriting: the compilation cache goes by the rewritten bytes, so that a new version never meets code that
	// an old one made.
	meterModule   = "pollux_meter_2"
	meterFunction = "refill"

	// What the function is called for: the fuel is used up (it gives more), or the recursion is too deep (it does not
	// return).
	reasonFuel  = 0
	reasonDepth = 1

	// stackWords bounds what the frames of one call take together, in words of 8 bytes as frameWords estimates them.
	stackWords = 2 << 20

	preamble = 8
)

// Metered is a module that is ready to be compiled.
type Metered struct {
	file  []byte
	info  *Info
	lines *lines
}

// Info is what is in the module, as it was before the rewriting.
func (m *Metered) Info() *Info { return m.info }

// Bytes is the rewritten module. It imports one function more, see MeterImport.
func (m *Metered) Bytes() []byte { return m.file }

// MeterImport names the function that a metered module imports, (i32) -> i64. It is called when the fuel is used up (0)
// and gives more, or when the recursion is too deep (1), where it does not return. Runtime offers it.
func MeterImport() (module, function string) { return meterModule, meterFunction }

// Meter rewrites a verified module so that its calls can be stopped: each loop's turn and each call of a function takes
// what it costs off a count of fuel, and calls the host where that is used up; functions that call others count how
// deep the stack is. See DESIGN.md, "Metering".
//
// Custom sections are left out, but for the functions' names: they do not run, and files that differ in nothing else
// share their place in the compilation cache. Debug information is kept beside the module, for traps.
func Meter(v *Verified) (*Metered, error) {
	for _, imp := range v.Info.Imports {
		if imp.Module == meterModule {
			return nil, refuse("the module imports %q from %q, which is the host's own", imp.Name, imp.Module)
		}
	}
	if err := checkHostExports(v.Info); err != nil {
		return nil, err
	}
	w := newRewriter(v)
	if v.Info.Functions > 0 {
		w.measure()
	}
	file := w.module()
	if w.err != nil {
		return nil, w.err
	}
	return &Metered{file: file, info: v.Info, lines: w.lines}, nil
}

// rewriter makes the metered module of a verified one. The added function is the last import; types, globals and helper
// functions are added behind the module's own, so that of all indexes only those of functions move, by one, from the
// first function that is not imported on.
type rewriter struct {
	info     *Info
	file     []byte
	sections [len(sectionNames)][]byte
	imported uint32 // functions; the index of the added one
	err      error
	// lines is nil where the module has no debug information.
	lines *lines

	types   [][]byte          // added
	results map[string]uint32 // type of a block, by its results
	shapes  []shape           // of the functions that the module defines
	helpers []helper
	// exported are the entries that are added to the exports.
	exported [][]byte
	helper   map[uint32]uint32 // index of the helper that stands for an instruction behind opMisc
}

func newRewriter(v *Verified) *rewriter {
	w := &rewriter{info: v.Info, file: v.file, imported: uint32(len(v.Info.Imports)), results: map[string]uint32{},
		helper: map[uint32]uint32{}}
	r := &reader{b: v.file, at: preamble}
	for r.err == nil && r.left() > 0 {
		id := r.byte()
		if body := r.bytes(int(r.u32())); id != 0 && r.err == nil {
			w.sections[id] = body
		}
	}
	w.err = r.err
	w.lines = debugInfo(v.file)
	return w
}

// addedGlobals: the fuel, then the words of stack that are left.
func (w *rewriter) fuel() uint64  { return uint64(w.info.globals) }
func (w *rewriter) stack() uint64 { return uint64(w.info.globals) + 1 }

func (w *rewriter) shift(index uint32) uint64 {
	if index >= w.imported {
		return uint64(index) + 1
	}
	return uint64(index)
}

// addType gives the index of a function type that is added.
func (w *rewriter) addType(params, results []ValueType) uint32 {
	body := append(binary.AppendUvarint([]byte{0x60}, uint64(len(params))), asBytes(params)...)
	body = append(binary.AppendUvarint(body, uint64(len(results))), asBytes(results)...)
	w.types = append(w.types, body)
	return uint32(len(w.info.types) + len(w.types) - 1)
}

// module assembles the rewritten file.
func (w *rewriter) module() []byte {
	out := make([]byte, 0, len(w.file)*3/2)
	out = append(out, w.file[:preamble]...)
	if w.info.Functions == 0 { // nothing runs
		return w.copied(out)
	}
	refill := w.addType([]ValueType{I32}, []ValueType{I64})
	if w.info.freezable() {
		w.freeze()
	}
	code := w.code()
	globals := appendSleb([]byte{byte(I64), 1, opI64Const}, 0)
	globals = append(globals, opEnd, byte(I64), 1, opI64Const)
	globals = append(appendSleb(globals, stackWords), opEnd)
	for _, id := range []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		body := w.sections[id]
		switch id {
		case 1:
			body = extended(body, w.types...)
		case 2:
			entry := appendText(appendText(nil, meterModule), meterFunction)
			body = extended(body, binary.AppendUvarint(append(entry, byte(KindFunction)), uint64(refill)))
		case 3:
			added := make([][]byte, len(w.helpers))
			for k, h := range w.helpers {
				added[k] = binary.AppendUvarint(nil, uint64(h.typeIndex))
			}
			body = extended(body, added...)
		case 6:
			body = extended(body, globals)
			body = recount(body, w.info.globals+2)
		case 7:
			if body = w.exports(body); len(w.exported) > 0 {
				body = extended(body, w.exported...)
			}
		case 8:
			body = w.start(body)
		case 9:
			body = w.elements(body)
		case 10:
			body = code
		}
		if body != nil {
			out = appendSection(out, id, body)
		}
	}
	if out = w.names(out); w.lines != nil {
		out = appendDebugStub(out)
	}
	return out
}

// copied writes the sections as they are.
func (w *rewriter) copied(out []byte) []byte {
	for _, id := range []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		if w.sections[id] != nil {
			out = appendSection(out, id, w.sections[id])
		}
	}
	return out
}

// extended appends entries to a section that is a vector, or makes one.
func extended(section []byte, entries ...[]byte) []byte {
	n, rest := uint32(0), []byte(nil)
	if section != nil {
		r := &reader{b: section}
		n, rest = r.u32(), section[r.at:]
	}
	out := append(binary.AppendUvarint(nil, uint64(n)+uint64(len(entries))), rest...)
	for _, e := range entries {
		out = append(out, e...)
	}
	return out
}

// recount sets a vector's number of entries.
func recount(section []byte, n int) []byte {
	r := &reader{b: section}
	r.u32()
	return append(binary.AppendUvarint(nil, uint64(n)), section[r.at:]...)
}

func (w *rewriter) exports(section []byte) []byte {
	if section == nil {
		return nil
	}
	r := &reader{b: section}
	n := r.u32()
	out := binary.AppendUvarint(nil, uint64(n))
	for range n {
		from := r.at
		r.bytes(int(r.u32()))
		kind := Kind(r.byte())
		out = append(out, section[from:r.at]...)
		index := uint64(r.u32())
		if kind == KindFunction {
			index = w.shift(uint32(index))
		}
		out = binary.AppendUvarint(out, index)
	}
	w.fail(r)
	return out
}

func (w *rewriter) start(section []byte) []byte {
	if section == nil {
		return nil
	}
	r := &reader{b: section}
	out := binary.AppendUvarint(nil, w.shift(r.u32()))
	w.fail(r)
	return out
}

func (w *rewriter) elements(section []byte) []byte {
	if section == nil {
		return nil
	}
	r := &reader{b: section}
	n := r.u32()
	out := binary.AppendUvarint(nil, uint64(n))
	for range n {
		from := r.at
		flags := r.u32()
		if flags&1 == 0 && flags&2 != 0 {
			r.u32()
		}
		out = append(out, section[from:r.at]...)
		if flags&1 == 0 {
			out = w.constant(r, out)
		}
		from = r.at
		if flags&3 != 0 {
			r.byte()
		}
		elements := r.u32()
		out = append(out, section[from:r.at]...)
		for range elements {
			if flags&4 != 0 {
				out = w.constant(r, out)
			} else {
				out = binary.AppendUvarint(out, w.shift(r.u32()))
			}
		}
	}
	w.fail(r)
	return out
}

// constant copies an initialiser.
func (w *rewriter) constant(r *reader, out []byte) []byte {
	for r.err == nil {
		in := w.info.instruction(r)
		if in.op == opRefFunc {
			out = binary.AppendUvarint(append(out, opRefFunc), w.shift(in.index))
			continue
		}
		out = append(out, r.b[in.start:r.at]...)
		if in.op == opEnd {
			break
		}
	}
	return out
}

// names writes the functions' names for their new indexes.
func (w *rewriter) names(out []byte) []byte {
	names := functionNames(w.file)
	if names == nil {
		return out
	}
	moved := make([]functionName, 0, len(names)+len(w.helpers))
	for _, n := range names {
		if int(n.index) < len(w.info.functions) {
			moved = append(moved, functionName{uint32(w.shift(n.index)), n.name})
		}
	}
	for k, h := range w.helpers {
		moved = append(moved, functionName{uint32(len(w.info.functions) + 1 + k), h.name})
	}
	return appendNames(out, moved)
}

// fail notes that what Verify let pass could not be read: it cannot happen.
func (w *rewriter) fail(r *reader) {
	if w.err == nil {
		w.err = r.err
	}
}

// appendSleb writes a signed LEB128.
func appendSleb(out []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(out, c)
		}
		out = append(out, c|0x80)
	}
}
