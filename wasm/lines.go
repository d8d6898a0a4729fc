package wasm

import (
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"sync"
)

// lines knows which of the author's lines an instruction of a metered module was. Modules without debug information have
// none. The rewriting notes what it copied from where; DWARF's own addresses are offsets in the code section of the module
// as it was.
type lines struct {
	chunks   []chunk // in rising order
	sections map[string][]byte

	once sync.Once
	rows []row // in rising order
}

// chunk is code that was copied: n bytes from an offset in the old code section to one in the new.
type chunk struct {
	to, from, n uint32
}

// row says which line instructions come from, from an address on.
type row struct {
	address uint64
	place   string // "file:line"; empty: none
}

// Bounds of the debug information that is kept, and of what is read from it: a Rust program with its library has 4 MB.
const (
	debugBytes = 16 << 20
	debugRows  = 1 << 20
)

// debugSections are those that the line tables need, with what DWARF 5 has beside DWARF 4.
var debugSections = []string{"abbrev", "info", "line", "str", "ranges", "addr", "line_str", "str_offsets", "rnglists"}

const debugPrefix = ".debug_"

// debugInfo collects a file's sections of debug information; nil where lines cannot be told from them.
func debugInfo(file []byte) *lines {
	l := &lines{sections: map[string][]byte{}}
	r := &reader{b: file, at: min(preamble, len(file))}
	size := 0
	for r.err == nil && r.left() > 0 {
		id := r.byte()
		s := &reader{b: r.bytes(int(r.u32()))}
		if id != 0 || r.err != nil {
			continue
		}
		if name, ok := strings.CutPrefix(s.name(), debugPrefix); ok && s.err == nil {
			l.sections[name] = s.b[s.at:]
			size += s.left()
		}
	}
	if l.sections["info"] == nil || l.sections["line"] == nil || size > debugBytes {
		return nil
	}
	return l
}

// copied notes a piece of code.
func (l *lines) copied(to, from, n int) {
	if l != nil && n > 0 {
		l.chunks = append(l.chunks, chunk{uint32(to), uint32(from), uint32(n)})
	}
}

// place gives "file:line" of an instruction of the new code section; empty where it is not known. What the rewriting
// added belongs to what follows it.
func (l *lines) place(offset uint64) string {
	if l == nil {
		return ""
	}
	l.once.Do(l.read)
	k := sort.Search(len(l.chunks), func(k int) bool { return uint64(l.chunks[k].to) > offset }) - 1
	if k < 0 {
		return ""
	}
	c := l.chunks[k]
	old := uint64(c.from) + min(offset-uint64(c.to), uint64(c.n))
	k = sort.Search(len(l.rows), func(k int) bool { return l.rows[k].address > old }) - 1
	if k < 0 {
		return ""
	}
	return l.rows[k].place
}

// read reads the line tables, once, when the first trap asks. They are a stranger's: what is wrong with them ends the
// reading, and nothing else.
func (l *lines) read() {
	defer func() {
		if recover() != nil {
			l.rows = nil
		}
		l.sections = nil
	}()
	for _, name := range debugSections {
		if l.sections[name] == nil {
			l.sections[name] = []byte{}
		}
	}
	s := l.sections
	d, err := dwarf.New(s["abbrev"], nil, nil, s["info"], s["line"], nil, s["ranges"], s["str"])
	if err != nil {
		return
	}
	for _, name := range debugSections[5:] {
		if len(s[name]) > 0 {
			if err := d.AddSection(debugPrefix+name, s[name]); err != nil {
				return
			}
		}
	}
	if l.readUnits(d) != nil {
		l.rows = nil
	}
	sort.SliceStable(l.rows, func(a, b int) bool { return l.rows[a].address < l.rows[b].address })
}

func (l *lines) readUnits(d *dwarf.Data) error {
	units := d.Reader()
	for {
		unit, err := units.Next()
		if err != nil || unit == nil {
			return err
		}
		units.SkipChildren()
		if unit.Tag != dwarf.TagCompileUnit {
			continue
		}
		table, err := d.LineReader(unit)
		if err != nil || table == nil {
			continue // the others may be whole
		}
		if err := l.readTable(table); err != nil {
			return err
		}
	}
}

func (l *lines) readTable(table *dwarf.LineReader) error {
	var e dwarf.LineEntry
	last, dead := "", false
	for begins := true; ; begins = e.EndSequence {
		if err := table.Next(&e); err != nil {
			return nil // the end of the table, or of what of it can be read
		}
		if begins { // what the linker left out begins at 0, or at the end of all numbers
			dead = e.Address == 0 || uint32(e.Address) >= 1<<32-2
		}
		if dead {
			continue
		}
		place := ""
		if !e.EndSequence && e.Line > 0 && e.File != nil {
			place = fmt.Sprintf("%s:%d", shortPath(e.File.Name), e.Line)
		} else if !e.EndSequence {
			place = last // line 0: the compiler made it up
		}
		last = place
		if len(l.rows) == debugRows {
			return errors.New("too many lines")
		}
		l.rows = append(l.rows, row{e.Address, place})
	}
}

// shortPath leaves the last two parts of a path, which say enough and fit in a line of a log.
func shortPath(name string) string {
	name = path.Clean(strings.ReplaceAll(name, `\`, "/"))
	dir, file := path.Split(name)
	if dir = path.Base(dir); dir == "." || dir == "/" {
		return file
	}
	return dir + "/" + file
}

// appendDebugStub writes debug information that says of any address only that it is one: the compiler then tells the
// offset of each function on the stack of a trap, which lines.place understands.
func appendDebugStub(out []byte) []byte {
	const from, size = 1, 0x7ffffff0
	le := binary.LittleEndian
	abbrev := []byte{
		1, 0x11, 0, // a compile unit without children
		0x03, 0x08, // name: a string
		0x10, 0x17, // its line table: an offset
		0x11, 0x01, // from: an address
		0x12, 0x06, // size: four bytes
		0, 0, 0,
	}
	info := []byte{4, 0, 0, 0, 0, 0, 4, 1, 'o', 0, 0, 0, 0, 0} // DWARF 4, addresses of 4 bytes
	info = le.AppendUint32(le.AppendUint32(info, from), size)
	header := []byte{1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 'o', 0, 0, 0, 0, 0}
	line := append(le.AppendUint32([]byte{2, 0}, uint32(len(header))), header...)
	line = le.AppendUint32(append(line, 0, 5, 2), from) // the address, a row
	line = append(line, 1, 2)
	line = append(binary.AppendUvarint(line, size-from), 0, 1, 1) // further on, the end
	sized := func(b []byte) []byte { return append(le.AppendUint32(nil, uint32(len(b))), b...) }
	for _, s := range []struct {
		name string
		body []byte
	}{{"abbrev", abbrev}, {"info", sized(info)}, {"line", sized(line)}} {
		out = appendSection(out, 0, append(appendText(nil, debugPrefix+s.name), s.body...))
	}
	return out
}
