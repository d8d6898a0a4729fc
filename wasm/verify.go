package wasm

import (
	"slices"
	"sort"
	"strings"
)

// Rules say what a module may ask for and must offer.
type Rules struct {
	Limits Limits
	// Imports are the functions that may be imported, by module and name.
	Imports map[string]map[string]ImportRule
	// Exports are the functions that must be there.
	Exports []RequiredExport
}

// ImportRule is one function that may be imported.
type ImportRule struct {
	Signature Signature
	// Refuse, when set, is why the function may not be imported after all: the end of a sentence.
	Refuse string
}

// RequiredExport is a function that a module must export; an optional one is checked where it is there.
type RequiredExport struct {
	Name      string
	Signature Signature
	Optional  bool
}

// Verified is a module that passed Verify.
type Verified struct {
	file []byte
	Info *Info
}

// Verify checks a file's structure against the limits, and its imports and exports against the rules. The error is a
// *Refusal that names the offending thing. It takes a few milliseconds per megabyte and does not type-check: what
// passes may yet be refused by Runtime.Compile. The result aliases file.
func Verify(file []byte, rules *Rules) (*Verified, error) {
	info, err := parse(file, rules.Limits)
	if err != nil {
		return nil, err
	}
	for _, imp := range info.Imports {
		if err := rules.checkImport(imp); err != nil {
			return nil, err
		}
	}
	for _, want := range rules.Exports {
		if err := checkExport(info, want); err != nil {
			return nil, err
		}
	}
	if e := info.Export("memory"); e == nil || e.Kind != KindMemory || info.Memories != 1 {
		return nil, refuse("the module does not export its memory as %q", "memory")
	}
	return &Verified{file: file, Info: info}, nil
}

func (rules *Rules) checkImport(imp Import) error {
	functions, ok := rules.Imports[imp.Module]
	if !ok {
		modules := make([]string, 0, len(rules.Imports))
		for name := range rules.Imports {
			modules = append(modules, name)
		}
		sort.Strings(modules)
		return refuse("the module imports %q from %q; there are only %s", imp.Name, imp.Module, strings.Join(modules, " and "))
	}
	rule, ok := functions[imp.Name]
	switch {
	case !ok:
		return refuse("the module imports %q from %q, which does not offer it", imp.Name, imp.Module)
	case rule.Refuse != "":
		return refuse("the module imports %q from %q, %s", imp.Name, imp.Module, rule.Refuse)
	case !rule.Signature.equal(imp.Signature):
		return refuse("the module imports %q from %q as %s; it is %s", imp.Name, imp.Module, imp.Signature, rule.Signature)
	}
	return nil
}

func checkExport(info *Info, want RequiredExport) error {
	e := info.Export(want.Name)
	switch {
	case e == nil && want.Optional:
		return nil
	case e == nil:
		return refuse("the module does not export the function %q", want.Name)
	case e.Kind != KindFunction:
		return refuse("the module exports %q as a %s; it is to be a function", want.Name, e.Kind)
	case !e.Signature.equal(want.Signature):
		return refuse("the module exports %q as %s; it is to be %s", want.Name, e.Signature, want.Signature)
	}
	return nil
}

// HasImport says whether the module imports the function.
func (i *Info) HasImport(module, name string) bool {
	return slices.ContainsFunc(i.Imports, func(imp Import) bool { return imp.Module == module && imp.Name == name })
}
