package wasm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// compilerEnv makes this test's own program the compiler.
const compilerEnv = "POLLUX_TEST_COMPILER=1"

func TestMain(m *testing.M) {
	if name, value, _ := strings.Cut(compilerEnv, "="); os.Getenv(name) == value {
		os.Exit(wasm.CompileChild(os.Args[1:], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

func apart(t *testing.T, dir string) wasm.Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return wasm.Options{CacheDir: dir, Compiler: []string{self}, CompilerEnv: []string{compilerEnv}}
}

func marks(t *testing.T, dir string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "compiled-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestModulesAreCompiledApart(t *testing.T) {
	dir := t.TempDir()
	r := newRuntime(t, &hooks{}, apart(t, dir))
	p := newPool(t, r, counting(), wasm.PoolOptions{})
	if got, err := call(t.Context(), p, "a", 0, 0); got != 1 || err != nil {
		t.Fatalf("%d, %v", got, err)
	}
	if n := marks(t, dir); n != 1 {
		t.Fatalf("%d marks", n)
	}
	code, _ := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if len(code) != 1 {
		t.Fatalf("the child and this process do not share their code: %q", code)
	}
	// One that cannot be started any more is not asked for what is there already.
	o := apart(t, dir)
	o.Compiler = []string{filepath.Join(dir, "gone")}
	other := newRuntime(t, &hooks{}, o)
	if got, err := call(t.Context(), newPool(t, other, counting(), wasm.PoolOptions{}), "a", 0, 0); got != 1 || err != nil {
		t.Fatalf("from the cache: %d, %v", got, err)
	}
	if err := compileError(t.Context(), t, other, recursion().Bytes()); err == nil || !strings.Contains(err.Error(), "start") {
		t.Fatalf("without a compiler: %v", err)
	}
}

// TestCachedCodeWaitsForNobody: while a compiler works, what was compiled before is there at once. Twins that move to a node wait
// for their driver, so one upload would hold up all.
func TestCachedCodeWaitsForNobody(t *testing.T) {
	o := apart(t, t.TempDir())
	r := newRuntime(t, &hooks{}, o)
	newPool(t, r, counting(), wasm.PoolOptions{})
	started := filepath.Join(t.TempDir(), "started")
	o.Compiler = []string{"sh", "-c", "touch " + started + "; exec sleep 600"}
	other := newRuntime(t, &hooks{}, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- compileError(ctx, t, other, recursion().Bytes()) }()
	for _, err := os.Stat(started); err != nil; _, err = os.Stat(started) {
		time.Sleep(time.Millisecond)
	}
	if got, err := call(t.Context(), newPool(t, other, counting(), wasm.PoolOptions{}), "a", 0, 0); got != 1 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the compiler that was stopped: %v", err)
	}
}

// TestCompilerIsBounded: what is too much for the compiler ends the child, and is refused with a sentence.
func TestCompilerIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := apart(t, dir)
	o.CompileProcessor = time.Second
	r := newRuntime(t, &hooks{}, o)
	var refusal *wasm.Refusal
	err := compileError(t.Context(), t, r, guest(wasmtest.Code(0x42, 5)).Bytes())
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "does not compile: ") {
		t.Errorf("an ill-typed module: %v", err)
	}
	o.CompileTime, o.CacheDir = time.Millisecond, t.TempDir()
	slow := newRuntime(t, &hooks{}, o)
	if err := compileError(t.Context(), t, slow, guest(wasmtest.Const(0)).Bytes()); !errors.Is(err, wasm.ErrSlow) || errors.As(err, &refusal) ||
		!strings.Contains(err.Error(), " in 1ms") {
		t.Errorf("a machine that is too slow: %v", err)
	}
	var code []byte // a second or some each
	for i := range 9000 {
		code = append(code, 0x20, 0, 0x04, 0x40, 0x20, byte(2+i%60), 0x41, 1, 0x6a, 0x21, byte(2+(i*7)%60), 0x0b)
	}
	m := guest(wasmtest.Const(0))
	m.Shared = true
	for range 12 {
		m.Functions = append(m.Functions, wasmtest.Function{Type: handle, Locals: 60, Code: wasmtest.Code(code, wasmtest.Const(0))})
	}
	err = compileError(t.Context(), t, r, m.Bytes())
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "the module takes the compiler more than") {
		t.Errorf("a bomb: %v", err)
	}
	t.Logf("12 functions that take a second or some each: %v", err)
	if n := marks(t, dir); n != 0 {
		t.Errorf("%d marks", n)
	}
}

func compileError(ctx context.Context, t *testing.T, r *wasm.Runtime, file []byte) error {
	t.Helper()
	v, err := wasm.Verify(file, testRules())
	if err != nil {
		t.Fatal(err)
	}
	metered, err := wasm.Meter(v)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Compile(ctx, metered, 1<<20)
	return err
}
