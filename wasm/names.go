package wasm

import (
	"encoding/binary"
	"fmt"
)

const nameSection = "name"

// name is a function's, for people: its number and, where the module tells, what it is called.
func (i *Info) name(index int) string {
	for _, n := range functionNames(i.file) {
		if int(n.index) == index {
			return fmt.Sprintf("function %d (%.100q)", index, n.name)
		}
	}
	for _, e := range i.Exports {
		if e.Kind == KindFunction && int(e.index) == index {
			return fmt.Sprintf("function %d (%.100q)", index, e.Name)
		}
	}
	return fmt.Sprintf("function %d", index)
}

type functionName struct {
	index uint32
	name  string
}

// functionNames reads the names of functions from a file's section of names, which the file may well not have or have
// broken: then there are none.
func functionNames(file []byte) []functionName {
	r := &reader{b: file, at: min(preamble, len(file))}
	for r.err == nil && r.left() > 0 {
		id := r.byte()
		section := r.bytes(int(r.u32()))
		if id != 0 || r.err != nil {
			continue
		}
		s := &reader{b: section}
		if s.name() == nameSection && s.err == nil {
			return readNames(s)
		}
	}
	return nil
}

// readNames looks for the functions among the parts of a section of names.
func readNames(r *reader) []functionName {
	const functions = 1
	for r.err == nil && r.left() > 0 {
		id := r.byte()
		part := &reader{b: r.bytes(int(r.u32()))}
		if id != functions || r.err != nil {
			continue
		}
		n := part.count("names", 1<<20)
		names := make([]functionName, 0, n)
		for range n {
			names = append(names, functionName{part.u32(), part.name()})
			// The compiler wants them in order, each once.
			if k := len(names) - 1; part.err != nil || k > 0 && names[k].index <= names[k-1].index {
				return nil
			}
		}
		return names
	}
	return nil
}

// appendNames writes a section of names.
func appendNames(out []byte, names []functionName) []byte {
	list := binary.AppendUvarint(nil, uint64(len(names)))
	for _, n := range names {
		list = appendText(binary.AppendUvarint(list, uint64(n.index)), n.name)
	}
	body := appendText(nil, nameSection)
	body = append(body, 1)
	body = append(binary.AppendUvarint(body, uint64(len(list))), list...)
	return appendSection(out, 0, body)
}

func appendText(out []byte, text string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(text))), text...)
}

func appendSection(out []byte, id byte, body []byte) []byte {
	out = binary.AppendUvarint(append(out, id), uint64(len(body)))
	return append(out, body...)
}
