package wasm_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// TestTrapsShowTheAuthorsLines: the lines on the stack of a crash are those marked in the source, also after the
// rewriting; without debug information there are names.
func TestTrapsShowTheAuthorsLines(t *testing.T) {
	c, rust, program := "testdata/crash/crash.c", "testdata/crash/crash.rs", "testdata/go/main.go"
	abs := func(path string) string { path, _ = filepath.Abs(path); return path }
	for _, test := range []struct {
		name, source string
		file         func() []byte
		reason       string
		want         []string // functions, with the mark of their line
	}{
		{"C with -g", c, func() []byte { return wasmtest.C(t, abs(c), "-g") }, "integer divide by zero",
			[]string{"share innermost", "deeper next", "crash outermost"}},
		{"C with -g, dwarf 4", c, func() []byte { return wasmtest.C(t, abs(c), "-g", "-gdwarf-4", "-O1") }, "integer divide by zero",
			[]string{"share innermost", "deeper next", "crash outermost"}},
		{"C", c, func() []byte { return wasmtest.C(t, abs(c)) }, "integer divide by zero", []string{"share", "deeper", "crash"}},
		{"Rust with -g", rust, func() []byte { return wasmtest.Rust(t, abs(rust), "-g") }, "panic: bounds check",
			[]string{"crash::room::share innermost", "crash::room::deeper next", "crash outermost"}},
		{"Rust", rust, func() []byte { return wasmtest.Rust(t, abs(rust), "-C", "link-arg=--strip-debug") }, "panic: bounds check",
			[]string{"crash::room::share", "crash::room::deeper", "crash"}},
		{"Go", program, func() []byte { return wasmtest.Go(t, abs(filepath.Dir(program))) },
			"panic: runtime error: index out of range [100] with length 3", []string{"main.crash innermost"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := test.file()
			p := wasm.NewPool(compileAny(t, guestRuntime(t, wasm.Options{}), file, 32<<20), wasm.PoolOptions{Entries: []string{"crash"}})
			defer func() { _ = p.Close() }()
			arg := uint64(0)
			if test.name == "Go" {
				arg = 100
			}
			_, err := call(t.Context(), p, "a", arg, 0)
			var trap *wasm.Trap
			if !errors.As(err, &trap) {
				t.Fatal(err)
			}
			t.Logf("%s, in %s", trap.Reason, strings.Join(trap.Functions, ", called by "))
			if trap.Reason != test.reason {
				t.Errorf("reason %q, want %q", trap.Reason, test.reason)
			}
			at := 0
			for _, want := range test.want {
				name, mark, _ := strings.Cut(want, " ")
				if mark != "" {
					name += " at " + marked(t, test.source, mark)
				}
				k := slices.Index(trap.Functions[at:], name)
				if k < 0 {
					t.Errorf("no %q among %q", name, trap.Functions[at:])
					continue
				}
				at += k + 1
			}
		})
	}
}

// marked gives "dir/file:line" of the line that ends with a comment.
func marked(t *testing.T, path, mark string) string {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Split(string(source), "\n") {
		if strings.HasSuffix(line, "// "+mark) {
			return fmt.Sprintf("%s/%s:%d", filepath.Base(filepath.Dir(path)), filepath.Base(path), n+1)
		}
	}
	t.Fatalf("no mark %q in %s", mark, path)
	return ""
}
