package project_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
)

func sandbox(t *testing.T) *drivers.Sandbox {
	t.Helper()
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	return box
}

// logs is a twin of which only its log counts.
type logs struct {
	drivers.Denied
	mu    sync.Mutex
	lines []string
}

func (l *logs) Log(level, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, level+" "+text)
}

// A new project in Rust builds by rustc alone and conforms; a panic shows with its message, the author's file and line.
func TestNewProjectInRust(t *testing.T) {
	drivertest.NeedRust(t)
	dir := filepath.Join(t.TempDir(), "lamp")
	if _, err := project.New(dir, "lamp", project.Rust); err != nil {
		t.Fatal(err)
	}
	box := sandbox(t)
	report, err := conformance.Run(t.Context(), box, built(t, dir), conformance.Options{})
	if err != nil || !report.Conforms {
		t.Fatalf("%+v, %v", report, err)
	}
	source := filepath.Join(dir, "src", "lib.rs")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), "        match frame {\n", "        let _ = frame[99];\n        match frame {\n", 1)
	if err := os.WriteFile(source, []byte(broken), 0o600); err != nil || broken == string(text) {
		t.Fatal("the template changed", err)
	}
	r, err := box.Load(t.Context(), built(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l := &logs{}
	_, err = r.Handle(ctx, drivers.Call{Event: drivers.EventReceived, Tenant: "a", Input: []byte("POWER=ON")}, l)
	if err == nil || !strings.Contains(strings.Join(l.lines, "\n"), "src/lib.rs:") || !strings.Contains(strings.Join(l.lines, "\n"), "the len is 8 but the index is 99") {
		t.Errorf("a panic: %v, logged %q", err, l.lines)
	}
}

// The SDK's own tests, and those of the library's drivers in Rust, on this machine's own processor.
func TestRustUnits(t *testing.T) {
	rustc, err := exec.LookPath("rustc")
	if _, cc := exec.LookPath("cc"); err != nil || cc != nil {
		drivertest.Missing(t, "rustc or cc is not installed")
	}
	out, root := t.TempDir(), filepath.Join("..", "..")
	run := func(args ...string) {
		t.Helper()
		if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
		}
	}
	sdk, twin := filepath.Join(root, "drivers", "sdk", "rust", "src", "lib.rs"), filepath.Join(out, "libtwin.rlib")
	run(rustc, "--edition", "2021", "--crate-type", "rlib", "--crate-name", "twin", "-o", twin, sdk)
	crates, err := filepath.Glob(filepath.Join(root, "drivers", "library", "*", "src", "lib.rs"))
	if err != nil || len(crates) < 3 {
		t.Fatal(crates, err)
	}
	for _, source := range append(crates, sdk) {
		test := filepath.Join(out, "test")
		run(rustc, "--edition", "2021", "--test", "--extern", "twin="+twin, "-o", test, source)
		run(test)
	}
}
