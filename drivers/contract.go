package drivers

import (
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/wasm"
)

var (
	sigPull  = wasm.Signature{Params: []wasm.ValueType{wasm.I32}}
	sigPush  = wasm.Signature{Params: []wasm.ValueType{wasm.I32, wasm.I32}}
	sigCap   = wasm.Signature{Params: []wasm.ValueType{wasm.I32, wasm.I32}, Results: []wasm.ValueType{wasm.I32}}
	sigEmpty = wasm.Signature{}
)

// entryHandle is the exported function that takes events.
const entryHandle = "drv_handle"

// rules are what a driver may import and must export.
func rules() *wasm.Rules {
	twin1 := map[string]wasm.ImportRule{
		"input": {Signature: sigPull}, "reply": {Signature: sigPull}, "output": {Signature: sigPush},
	}
	for _, name := range offered {
		twin1[name] = wasm.ImportRule{Signature: sigCap}
	}
	wasiName, wasi := wasm.WASIImports()
	return &wasm.Rules{
		Imports: map[string]map[string]wasm.ImportRule{Contract: twin1, wasiName: wasi},
		Exports: []wasm.RequiredExport{
			{Name: entryHandle, Signature: sigCap},
			{Name: "_initialize", Signature: sigEmpty, Optional: true},
		},
	}
}

// checked is a file that passed check.
type checked struct {
	manifest *Manifest
	model    *Model
	verified *wasm.Verified
}

// Check says whether a file is a driver: its structure, its imports and exports, its manifest, and that the manifest's
// capabilities cover its imports. It runs nothing. Errors are sentences: *wasm.Refusal, *ManifestError, ErrNoManifest.
func Check(file []byte) (*Manifest, error) {
	c, err := check(file)
	if err != nil {
		return nil, err
	}
	return c.manifest, nil
}

func check(file []byte) (*checked, error) {
	verified, err := wasm.Verify(file, rules())
	if err != nil {
		return nil, err
	}
	text, err := ReadManifest(file)
	if err != nil {
		return nil, err
	}
	manifest, model, err := parseManifest(slices.Clone(text))
	if err != nil {
		return nil, err
	}
	for _, imp := range verified.Info.Imports {
		if imp.Module == Contract && slices.Contains(offered, imp.Name) && !slices.Contains(manifest.Capabilities, imp.Name) {
			return nil, bad("capabilities", "the module imports %q, which is not among them", imp.Name)
		}
	}
	if need := int64(verified.Info.MemoryMin) * wasm.PageBytes; need > manifest.memoryBytes() {
		return nil, bad("memory_mb", "the module starts with %s; its cap is %d MB", megabytes(need), manifest.memoryMB())
	}
	return &checked{manifest: manifest, model: model, verified: verified}, nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

func (m *Manifest) memoryBytes() int64 { return int64(m.memoryMB()) << 20 }

// Imports tells which functions of the contract a module imports, capabilities among them. It runs nothing. The error is
// a *wasm.Refusal.
func Imports(file []byte) (map[string]bool, error) {
	verified, err := wasm.Verify(file, rules())
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, imp := range verified.Info.Imports {
		if imp.Module == Contract {
			out[imp.Name] = true
		}
	}
	return out, nil
}
