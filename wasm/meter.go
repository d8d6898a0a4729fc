package wasm

import "encoding/binary"

// Metered is a module that is ready to be compiled.
type Metered struct {
	file []byte
	info *Info
}

// Meter prepares a verified module so that its calls can be stopped. The compiler inserts the checks (see DESIGN.md,
// "Deadlines"); rewriting the module, so that loops and function entries count down, would take this place.
//
// Custom sections, but for the names in stack traces, are left out: they do not run, and files that differ in nothing
// else share their place in the compilation cache.
func Meter(v *Verified) (*Metered, error) {
	return &Metered{file: withoutCustom(v.file), info: v.Info}, nil
}

// Info is what is in the module.
func (m *Metered) Info() *Info { return m.info }

const (
	preamble    = 8
	nameSection = "name"
)

// withoutCustom copies a verified file without its custom sections but that of names.
func withoutCustom(file []byte) []byte {
	out := append(make([]byte, 0, len(file)), file[:preamble]...)
	for rest := file[preamble:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		whole := rest[:1+n+int(size)]
		if rest[0] != 0 || isNames(whole[1+n:]) {
			out = append(out, whole...)
		}
		rest = rest[len(whole):]
	}
	return out
}

func isNames(section []byte) bool {
	size, n := binary.Uvarint(section)
	return n > 0 && size == uint64(len(nameSection)) && string(section[n:n+int(size)]) == nameSection
}
