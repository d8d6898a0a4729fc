package wasmtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built holds what this process has built, by source.
var built sync.Map // string → func() ([]byte, error)

// errNoCompiler: the machine cannot build guests of that language.
var errNoCompiler = errors.New("no compiler")

// C builds a freestanding guest, by clang and lld, with more options such as -g.
func C(tb testing.TB, source string, options ...string) []byte {
	return build(tb, source, options, func(out string) ([]*exec.Cmd, error) {
		clang, err := tool("clang", "wasm-ld")
		return []*exec.Cmd{exec.Command(clang, append([]string{"--target=wasm32", "-O2", "-nostdlib", "-mbulk-memory",
			"-Wl,--no-entry", "-Wl,-z,stack-size=16384", "-o", out, source}, options...)...)}, err
	})
}

// Rust builds a guest by Debian's rustc, whose package libstd-rust-dev-wasm32 has the target, with
// more options such as -g.
func Rust(tb testing.TB, source string, options ...string) []byte {
	return build(tb, source, options, func(out string) ([]*exec.Cmd, error) {
		rustc, err := tool("/usr/bin/rustc", "wasm-ld")
		return []*exec.Cmd{exec.Command(rustc, append([]string{"--target", "wasm32-unknown-unknown", "--crate-type", "cdylib",
			"-C", "opt-level=3", "-C", "panic=abort", "-C", "linker=wasm-ld", "-o", out, source}, options...)...)}, err
	})
}

// Go builds the program in a directory.
func Go(tb testing.TB, dir string) []byte {
	return build(tb, dir, nil, func(out string) ([]*exec.Cmd, error) {
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return []*exec.Cmd{cmd}, nil
	})
}

// AssemblyScript builds a guest by the compiler of that name; a directory in $POLLUX_ASC may hold it.
func AssemblyScript(tb testing.TB, source string) []byte {
	return build(tb, source, nil, func(out string) ([]*exec.Cmd, error) {
		asc, err := tool(filepath.Join(os.Getenv("POLLUX_ASC"), "asc"))
		if err != nil {
			asc, err = tool("asc")
		}
		return []*exec.Cmd{exec.Command(asc, source, "-o", out, "-O3", "--runtime", "incremental", "--use", "abort=")}, err
	})
}

// tool finds a program, and says whether the others are there too.
func tool(name string, others ...string) (string, error) {
	for _, n := range append(others, name) {
		if _, err := exec.LookPath(n); err != nil {
			return name, fmt.Errorf("%w: %w", errNoCompiler, err)
		}
	}
	return name, nil
}

// build runs what commands gives, once per process. A test is skipped where a compiler is missing.
func build(tb testing.TB, source string, options []string, commands func(out string) ([]*exec.Cmd, error)) []byte {
	tb.Helper()
	once, _ := built.LoadOrStore(fmt.Sprint(source, options), sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "pollux-guest-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		out := filepath.Join(dir, "guest.wasm")
		list, err := commands(out)
		if err != nil {
			return nil, err
		}
		for _, cmd := range list {
			if text, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, text)
			}
		}
		return os.ReadFile(out)
	}))
	file, err := once.(func() ([]byte, error))()
	if errors.Is(err, errNoCompiler) {
		if os.Getenv("POLLUX_PEERS") == "all" { // the gate installs the compilers
			tb.Fatalf("build %s: %v", source, err)
		}
		tb.Skipf("build %s: %v", source, err)
	}
	if err != nil {
		tb.Fatalf("build %s: %v", source, err)
	}
	return file
}
