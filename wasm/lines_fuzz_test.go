package wasm_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// FuzzDebugInfo: whatever a file says in its debug information, a crash of it is told, and nothing else happens. The
// three sections are cut out of the bytes at two places; the seed are those of a real file.
func FuzzDebugInfo(f *testing.F) {
	if file := wasmtest.C(f, source("crash", "crash.c"), "-g"); file != nil {
		var all []byte
		var cuts []uint16
		for _, name := range []string{".debug_abbrev", ".debug_info", ".debug_line"} {
			all = append(all, wasmtest.Section(file, name)...)
			cuts = append(cuts, uint16(len(all)))
		}
		f.Add(all, cuts[0], cuts[1])
	}
	r := newRuntime(f, &hooks{}, wasm.Options{})
	f.Fuzz(func(t *testing.T, data []byte, a, b uint16) {
		b = min(b, uint16(min(len(data), 1<<16-1)))
		a = min(a, b)
		m := guest(wasmtest.Code(wasmtest.Const(1), wasmtest.Const(0), 0x6d))
		m.Custom = map[string][]byte{".debug_abbrev": data[:a], ".debug_info": data[a:b], ".debug_line": data[b:]}
		v, err := wasm.Verify(m.Bytes(), testRules())
		if err != nil {
			t.Fatal(err)
		}
		metered, err := wasm.Meter(v)
		if err != nil {
			t.Fatal(err)
		}
		module, err := r.Compile(t.Context(), metered, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		p := wasm.NewPool(module, wasm.PoolOptions{Entries: []string{"run"}})
		_, err = call(t.Context(), p, "a", 0, 0)
		var trap *wasm.Trap
		if !errors.As(err, &trap) || trap.Reason != "integer divide by zero" || len(trap.Functions) != 1 {
			t.Errorf("%v, %q", err, trap.Functions)
		}
		if err := errors.Join(p.Close(), module.Close()); err != nil {
			t.Error(err)
		}
	})
}

// source is the path of a guest's source.
func source(parts ...string) string {
	path, err := filepath.Abs(filepath.Join(append([]string{"testdata"}, parts...)...))
	if err != nil {
		panic(err)
	}
	return path
}
