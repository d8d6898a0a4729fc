package wasm

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// What a metered module exports for the host, beside its own: what puts its data into the memory, its start function, and
// its mutable globals by number. So an instance can begin as a copy of another one, without running anything.
const (
	hostExports  = "pollux:"
	exportData   = hostExports + "data"
	exportStart  = hostExports + "start"
	exportGlobal = hostExports + "global:"
)

// Bounds of a module that can be frozen: more pieces of data would make a function that takes the compiler long.
const (
	freezePieces  = 5000
	freezeGlobals = 256
)

// MeterStart names the exports that are to be called, in this order and where they are there, before a metered module's
// `_initialize`: the rewritten module has no start function, and its data is in no memory yet.
func MeterStart() []string { return []string{exportData, exportStart} }

// freezing is what parse finds of how a module's instances can be copied.
type freezing struct {
	// unfit says why they cannot be: what changes is more than the memory and the globals.
	unfit string
	// mutable are the global variables that can be set, by number.
	mutable []int
	// pieces of data that are put into the memory at the start, as passiveData joins them; end of the last one.
	pieces int
	end    int64
	// loose: a segment's place is no plain constant.
	loose bool
}

// spoil notes why a module's instances cannot be copied.
func (f *freezing) spoil(why string) {
	if f.unfit == "" {
		f.unfit = why
	}
}

// global notes a variable.
func (f *freezing) global(n int, t ValueType, mutable bool) {
	if !mutable {
		return
	}
	f.mutable = append(f.mutable, n)
	if t == V128 || t == FuncRef || t == ExternRef {
		f.spoil("it has a global variable of type " + t.String())
	}
}

// data notes a segment that is put at a place.
func (f *freezing) data(to uint32, n int) {
	if f.pieces == 0 || int64(to) < f.end || int64(to) > f.end+freezeGap {
		f.pieces++
	}
	f.end = int64(to) + int64(n)
}

// freezable says whether instances can begin as copies of one that was initialised.
func (i *Info) freezable() bool {
	f := &i.freezing
	return f.unfit == "" && !f.loose && i.Functions > 0 && f.pieces <= freezePieces && len(f.mutable) <= freezeGlobals
}

// freeze prepares a module whose instances can be copied: data segments become passive, and a function puts them into
// the memory; the start function is exported instead of called; so are the globals.
func (w *rewriter) freeze() {
	added := make([][]byte, 0, len(w.info.freezing.mutable)+2)
	export := func(name string, kind Kind, index uint64) {
		added = append(added, binary.AppendUvarint(append(appendText(nil, name), byte(kind)), index))
	}
	if body := w.passiveData(); body != nil {
		export(exportData, KindFunction, uint64(len(w.info.functions)+1+len(w.helpers)))
		w.helpers = append(w.helpers, helper{name: exportData, typeIndex: w.addType(nil, nil), body: body})
	}
	if start := w.sections[8]; start != nil {
		r := &reader{b: start}
		export(exportStart, KindFunction, w.shift(r.u32()))
		w.fail(r)
		w.sections[8] = nil
	}
	for _, n := range w.info.freezing.mutable {
		export(exportGlobal+strconv.Itoa(n), KindGlobal, uint64(n))
	}
	w.exported = added
}

// passiveData rewrites the data section and gives the body of the function that does what it did. Neighbours are joined
// over small gaps, since the memory is zero before: Go's linker cuts its data into tens of thousands of pieces.
func (w *rewriter) passiveData() []byte {
	pieces := w.pieces()
	if len(pieces) == 0 {
		return nil
	}
	body := []byte{0}
	out := binary.AppendUvarint(make([]byte, 0, len(w.sections[11])), uint64(len(pieces)))
	for k, p := range pieces {
		out = append(binary.AppendUvarint(append(out, 1), uint64(len(p.data))), p.data...)
		body = appendSleb(append(body, opI32Const), int64(int32(p.to)))
		body = appendSleb(append(body, opI32Const, 0, opI32Const), int64(int32(len(p.data))))
		body = append(binary.AppendUvarint(append(body, opMisc, miscMemoryInit), uint64(k)), 0)
	}
	w.sections[11] = out
	w.sections[12] = binary.AppendUvarint(nil, uint64(len(pieces)))
	return append(body, opEnd)
}

// piece is data that is put at a place of the memory.
type piece struct {
	to   uint32
	data []byte
}

// freezeGap is up to how many zeros two segments are joined.
const freezeGap = 64

// pieces reads the data section. Passive segments are left out: nothing in the module names them.
func (w *rewriter) pieces() (pieces []piece) {
	if w.sections[11] == nil {
		return nil
	}
	r := &reader{b: w.sections[11]}
	for range r.u32() {
		flags := r.u32()
		if flags == 2 {
			r.u32()
		}
		to := uint32(0)
		if flags != 1 {
			r.byte() // i32.const
			to = uint32(r.sleb32())
			r.byte() // end
		}
		data := r.bytes(int(r.u32()))
		switch last := len(pieces) - 1; {
		case flags == 1:
		case last >= 0 && pieces[last].joins(to):
			p := &pieces[last]
			p.data = append(p.data, make([]byte, int(to)-int(p.to)-len(p.data))...)
			p.data = append(p.data, data...)
		default:
			pieces = append(pieces, piece{to, bytes.Clone(data)})
		}
	}
	w.fail(r)
	return pieces
}

// joins says whether data at a place comes right behind the piece.
func (p *piece) joins(to uint32) bool {
	end := int64(p.to) + int64(len(p.data))
	return int64(to) >= end && int64(to) <= end+freezeGap
}

// checkHostExports refuses names that only the rewriting may give.
func checkHostExports(info *Info) error {
	for _, e := range info.Exports {
		if strings.HasPrefix(e.Name, hostExports) {
			return refuse("the module exports %.100q; names that begin with %q are the host's own", e.Name, hostExports)
		}
	}
	return nil
}
