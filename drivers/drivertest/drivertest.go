// Package drivertest builds drivers written in Go for tests, from their source.
package drivertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

// built holds what this process has built already, by directory: a driver takes seconds to build.
var built sync.Map // string → func() ([]byte, error)

// Echo builds the echo driver: it has no device, and answers commands and frames.
func Echo(tb testing.TB) []byte {
	tb.Helper()
	return Build(tb, filepath.Join(root(), "testdata", "echo"))
}

// CacheDir is a compilation cache that all tests of this user share: compiling the echo driver takes ten seconds under
// the race detector, taking it from the cache a fraction of one.
func CacheDir(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(os.TempDir(), "pollux-test-wasm-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Compiler is the command line of a program that compiles drivers, for SandboxOptions: it is built without the race
// detector, under which compiling takes ten times longer. What it compiles is found in CacheDir like what a test compiles
// by itself, since it gives wazero the version that wazero takes itself for in a test.
func Compiler(tb testing.TB) []string {
	tb.Helper()
	path := filepath.Join(CacheDir(tb), "compiler")
	own := path + "-" + strconv.Itoa(os.Getpid())
	build, _ := built.LoadOrStore("compiler", sync.OnceValues(func() ([]byte, error) {
		cmd := exec.Command("go", "build", "-race=false", "-ldflags=-s -w -X github.com/tetratelabs/wazero/internal/version.version=dev", "-o", own, "./drivertest/compiler")
		cmd.Dir = root()
		text, err := cmd.CombinedOutput()
		if err != nil {
			return nil, &buildError{err: err, output: string(text)}
		}
		return nil, os.Rename(own, path)
	}))
	if _, err := build.(func() ([]byte, error))(); err != nil {
		tb.Fatalf("build the compiler: %v", err)
	}
	return []string{path}
}

// Build builds the Go driver in dir and packs it with dir's driver.json.
func Build(tb testing.TB, dir string) []byte {
	tb.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	build, _ := built.LoadOrStore(dir, sync.OnceValues(func() ([]byte, error) { return build(dir) }))
	file, err := build.(func() ([]byte, error))()
	if err != nil {
		tb.Fatalf("build %s: %v", dir, err)
	}
	return file
}

// BuildWith builds the Go driver in dir and packs it with a manifest that is elsewhere.
func BuildWith(tb testing.TB, dir, manifest string) []byte {
	tb.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		tb.Fatal(err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	build, _ := built.LoadOrStore(dir+" alone", sync.OnceValues(func() ([]byte, error) { return Module(dir) }))
	module, err := build.(func() ([]byte, error))()
	if err != nil {
		tb.Fatalf("build %s: %v", dir, err)
	}
	file, err := drivers.AppendManifest(module, text)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

// Root is the directory of the module that the test runs in: the one above it that holds go.mod.
func Root() string {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, none := os.Stat(filepath.Join(dir, "go.mod")); none == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return "."
}

// root is the directory of package drivers.
func root() string { return filepath.Join(Root(), "drivers") }

func build(dir string) ([]byte, error) {
	module, err := Module(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "driver.json"))
	if err != nil {
		return nil, err
	}
	return drivers.AppendManifest(module, manifest)
}

// Module builds the Go program in dir as a WASM module, without a manifest.
func Module(dir string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "pollux-driver-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	out := filepath.Join(tmp, "d.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, &buildError{err: err, output: string(text)}
	}
	return os.ReadFile(out)
}

type buildError struct {
	err    error
	output string
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + e.output }
func (e *buildError) Unwrap() error { return e.err }
