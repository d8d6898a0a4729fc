package wasm

import (
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

// Bounds of a module that can be frozen: more data segments would make a function that takes the compiler long.
const (
	freezeSegments = 5000
	freezeGlobals  = 256
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
	// segments of data that are put into the memory at the start.
	segments int
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

// freezable says whether instances can begin as copies of one that was initialised.
func (i *Info) freezable() bool {
	f := &i.freezing
	return f.unfit == "" && !f.loose && i.Functions > 0 && f.segments <= freezeSegments && len(f.mutable) <= freezeGlobals
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

// passiveData rewrites the data section and gives the body of the function that does what it did.
func (w *rewriter) passiveData() []byte {
	section := w.sections[11]
	if section == nil || w.info.freezing.segments == 0 {
		return nil
	}
	body := []byte{0}
	r := &reader{b: section}
	n := r.u32()
	out := binary.AppendUvarint(make([]byte, 0, len(section)), uint64(n))
	for k := range n {
		flags := r.u32()
		if flags == 2 {
			r.u32()
		}
		if flags != 1 {
			body = w.constant(r, body)
			body = body[:len(body)-1] // its end
		}
		data := r.bytes(int(r.u32()))
		out = binary.AppendUvarint(append(out, 1), uint64(len(data)))
		out = append(out, data...)
		if flags != 1 {
			body = append(body, opI32Const, 0, opI32Const)
			body = appendSleb(body, int64(int32(len(data))))
			body = binary.AppendUvarint(append(body, opMisc, miscMemoryInit), uint64(k))
			body = append(body, 0)
		}
	}
	w.fail(r)
	w.sections[11] = out
	if w.sections[12] == nil {
		w.sections[12] = binary.AppendUvarint(nil, uint64(n))
	}
	return append(body, opEnd)
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
