package wasm

// sectionOrder is the rank of a section by its id; sections come in rising rank, custom ones anywhere.
var sectionOrder = [...]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 12: 10, 10: 11, 11: 12}

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start",
	"element", "code", "data", "data count"}

// parse reads a module's structure within limits. Its bodies are walked, not type-checked: that is the compiler's.
func parse(file []byte, limits Limits) (*Info, error) {
	limits = limits.withDefaults()
	if len(file) > limits.FileBytes {
		return nil, refuse("the file has %d bytes; the limit is %d", len(file), limits.FileBytes)
	}
	if len(file) < 8 || string(file[:4]) != "\x00asm" {
		return nil, refuse("the file is no WASM module")
	}
	if string(file[4:8]) != "\x01\x00\x00\x00" {
		return nil, refuse("the file is WASM of another version than 1 (a component?)")
	}
	info := &Info{limits: limits, file: file}
	r := &reader{b: file, at: 8}
	last := 0
	for r.err == nil && r.left() > 0 {
		id := r.byte()
		size := r.u32()
		body := r.bytes(int(size))
		if r.err != nil {
			break
		}
		if int(id) >= len(sectionNames) {
			return nil, refuse("the module has a section of unknown kind %d", id)
		}
		if id != 0 {
			rank := sectionOrder[id]
			if rank <= last {
				return nil, refuse("the %s section is out of order or there twice", sectionNames[id])
			}
			last = rank
		}
		s := &reader{b: file[:r.at], at: r.at - len(body)}
		info.section(s, id)
		if s.err == nil && s.left() != 0 {
			s.fail("the %s section has %d bytes too many", sectionNames[id], s.left())
		}
		r.err = s.err
	}
	info.file, info.blocks = nil, nil
	if r.err != nil {
		return nil, r.err
	}
	if info.bodies != info.Functions {
		return nil, refuse("the module declares %d functions and defines %d", info.Functions, info.bodies)
	}
	return info, nil
}

func (i *Info) section(r *reader, id byte) {
	switch id {
	case 0:
		r.name()
		r.at = len(r.b)
	case 1:
		i.typeSection(r)
	case 2:
		i.importSection(r)
	case 3:
		i.functionSection(r)
	case 4:
		i.tableSection(r)
	case 5:
		i.memorySection(r)
	case 6:
		i.globalSection(r)
	case 7:
		i.exportSection(r)
	case 8:
		i.startSection(r)
	case 9:
		i.elementSection(r)
	case 10:
		i.codeSection(r)
	case 11:
		i.dataSection(r)
	case 12:
		r.u32()
	}
}

func (i *Info) valueTypes(r *reader, what string) []ValueType {
	n := r.count(what, 1000)
	out := make([]ValueType, 0, n)
	for range n {
		t := ValueType(r.byte())
		if r.err == nil && !t.known() {
			r.fail("the value type 0x%02x at byte %d is unknown", byte(t), r.at-1)
		}
		out = append(out, t)
	}
	return out
}

func (i *Info) typeSection(r *reader) {
	for range r.count("types", i.limits.Types) {
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.fail("the type 0x%02x at byte %d is no function type", form, r.at-1)
		}
		params := i.valueTypes(r, "parameters")
		i.types = append(i.types, Signature{Params: params, Results: i.valueTypes(r, "results")})
		if r.err != nil {
			return
		}
	}
}

func (i *Info) signature(r *reader, index uint32) Signature {
	if int(index) >= len(i.types) {
		r.fail("the module names type %d of %d", index, len(i.types))
		return Signature{}
	}
	return i.types[index]
}

func (i *Info) importSection(r *reader) {
	for range r.count("imports", i.limits.Functions) {
		module, name, kind := r.name(), r.name(), Kind(r.byte())
		if r.err != nil {
			return
		}
		if kind != KindFunction {
			r.fail("the module imports the %s %q.%q; only functions can be imported", kind, module, name)
			return
		}
		index := r.u32()
		i.functions = append(i.functions, index)
		i.Imports = append(i.Imports, Import{Module: module, Name: name, Signature: i.signature(r, index)})
	}
}

func (i *Info) functionSection(r *reader) {
	n := r.count("functions", i.limits.Functions-len(i.Imports))
	i.Functions = n
	for range n {
		index := r.u32()
		i.signature(r, index)
		i.functions = append(i.functions, index)
		if r.err != nil {
			return
		}
	}
}

// bounds reads the limits of a table or a memory.
func (i *Info) bounds(r *reader, what string) (min, max uint32, hasMax bool) {
	flags := r.byte()
	if flags > 1 {
		r.fail("the %s at byte %d is shared or 64 bits wide, which is not supported", what, r.at-1)
		return 0, 0, false
	}
	min = r.u32()
	if hasMax = flags == 1; hasMax {
		max = r.u32()
	}
	return min, max, hasMax
}

func (i *Info) tableSection(r *reader) {
	for n := range r.count("tables", i.limits.Tables) {
		if t := ValueType(r.byte()); r.err == nil && t != FuncRef && t != ExternRef {
			r.fail("table %d holds 0x%02x, which is no reference type", n, byte(t))
		}
		min, max, hasMax := i.bounds(r, "table")
		if size := uint64(min); r.err == nil && size > uint64(i.limits.TableEntries) {
			r.fail("table %d has %d entries; the limit is %d", n, size, i.limits.TableEntries)
		}
		if !hasMax || uint64(max) > uint64(i.limits.TableEntries) {
			i.unboundedTable = true
		}
		if r.err != nil {
			return
		}
	}
}

func (i *Info) memorySection(r *reader) {
	i.Memories = r.count("memories", 1)
	if i.Memories == 1 {
		i.MemoryMin, i.MemoryMax, i.HasMax = i.bounds(r, "memory")
	}
}

func (i *Info) globalSection(r *reader) {
	for range r.count("globals", i.limits.Globals) {
		t := ValueType(r.byte())
		if r.err == nil && !t.known() {
			r.fail("the value type 0x%02x at byte %d is unknown", byte(t), r.at-1)
		}
		i.freezing.global(i.globals, t, r.byte() == 1)
		i.constant(r)
		i.globals++
		if r.err != nil {
			return
		}
	}
}

func (i *Info) exportSection(r *reader) {
	for range r.count("exports", i.limits.Exports) {
		e := Export{Name: r.name(), Kind: Kind(r.byte()), index: r.u32()}
		if r.err != nil {
			return
		}
		if e.Kind > KindGlobal {
			r.fail("the export %q is of unknown kind %d", e.Name, e.Kind)
			return
		}
		if e.Kind == KindFunction {
			if int(e.index) >= len(i.functions) {
				r.fail("the export %q names function %d of %d", e.Name, e.index, len(i.functions))
				return
			}
			e.Signature = i.signature(r, i.functions[e.index])
		}
		if e.Kind == KindGlobal {
			r.below(e.index, i.globals, "global")
		}
		i.Exports = append(i.Exports, e)
	}
}

func (i *Info) startSection(r *reader) {
	index := r.u32()
	r.below(index, len(i.functions), "function")
	if r.err == nil && !i.signature(r, i.functions[index]).equal(Signature{}) {
		r.fail("the start function %d takes or gives something", index)
	}
}

func (i *Info) elementSection(r *reader) {
	for range r.count("element segments", i.limits.Segments) {
		flags := r.u32()
		if r.err == nil && flags > 7 {
			r.fail("the element segment before byte %d is of unknown kind %d", r.at, flags)
		}
		if r.err != nil {
			return
		}
		if flags&1 == 0 { // active: table, offset
			if flags&2 != 0 {
				r.u32()
			}
			i.constant(r)
		}
		if flags&3 != 0 { // element kind or type
			r.byte()
		}
		n := r.count("elements of a segment", 1<<20)
		for range n {
			if flags&4 != 0 {
				i.constant(r)
			} else {
				r.below(r.u32(), len(i.functions), "function")
			}
			if r.err != nil {
				return
			}
		}
	}
}

func (i *Info) dataSection(r *reader) {
	for n := range r.count("data segments", i.limits.Segments) {
		flags := r.u32()
		if r.err == nil && flags > 2 {
			r.fail("the data segment before byte %d is of unknown kind %d", r.at, flags)
		}
		if flags == 2 {
			r.u32()
		}
		place, plain := uint32(0), false
		if flags != 1 {
			place, plain = i.place(r)
		}
		size := len(r.bytes(int(r.u32())))
		if flags != 1 {
			i.freezing.data(place, size)
		}
		switch end, memory := uint64(place)+uint64(size), uint64(i.MemoryMin)*PageBytes; {
		case r.err != nil:
			return
		case plain && end > memory: // it would crash as it starts
			r.fail("the data segment %d ends at byte %d of the memory, which has %d when the module starts", n, end, memory)
		case i.freezing.pieces > i.limits.Pieces:
			r.fail("the data lies in more than %d pieces, apart in the memory; the limit is %[1]d", i.limits.Pieces)
		}
	}
}

// place reads where data goes, and whether that is a constant, as in all that compilers make.
func (i *Info) place(r *reader) (place uint32, plain bool) {
	from := r.at
	i.constant(r)
	again := &reader{b: r.b, at: from}
	op, to, end := again.byte(), again.sleb32(), again.byte()
	if plain = r.err == nil && op == opI32Const && end == opEnd && again.at == r.at; !plain && r.err == nil {
		i.freezing.loose = true
	}
	return uint32(to), plain
}

// constant walks an initialiser.
func (i *Info) constant(r *reader) {
	for r.err == nil {
		in := i.instruction(r)
		switch in.op {
		case opEnd:
			return
		case opI32Const, opI64Const, 0x43, 0x44, opGlobalGet, 0xd0, opRefFunc, opVector:
		default:
			r.fail("the instruction 0x%02x at byte %d does not belong into an initialiser", in.op, in.start)
		}
	}
}
