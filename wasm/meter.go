package wasm

// Metered is a module that is ready to be compiled.
type Metered struct {
	file []byte
	info *Info
}

// Meter prepares a verified module so that its calls can be stopped. Today it leaves the module as it is: the compiler
// inserts the checks (see DESIGN.md, "Deadlines"). Rewriting the module, so that loops and function entries count
// down, takes this place.
func Meter(v *Verified) (*Metered, error) { return &Metered{file: v.file, info: v.Info}, nil }

// Info is what is in the module.
func (m *Metered) Info() *Info { return m.info }
