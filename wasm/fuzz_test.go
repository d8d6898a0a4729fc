package wasm_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// FuzzMeter: whatever Verify lets pass is rewritten, and the compiler takes the result if and only if it takes the
// original. What the rewriting adds must not make a module valid that was not.
func FuzzMeter(f *testing.F) {
	f.Add(guest(wasmtest.Const(0)).Bytes())
	f.Add(withImports(guest(wasmtest.Code(wasmtest.Loop(), 0x00))).Bytes())
	f.Add(recursion(0x0f).Bytes())
	m := counting()
	m.Table, m.Elements, m.Data = []uint32{1, 2}, []uint32{0}, []byte("data")
	m.Custom = map[string][]byte{"name": []byte("\x01\x06\x01\x00\x03run")}
	f.Add(m.Bytes())
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		data := make([]byte, 200)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(wasmtest.Random(data).Bytes())
	}
	files, _ := filepath.Glob("testdata/*.wasm")
	for _, path := range files {
		if file, err := os.ReadFile(path); err == nil {
			f.Add(file)
		}
	}
	ctx := context.Background()
	config := wazero.NewRuntimeConfigCompiler().WithMemoryLimitPages(256)
	f.Fuzz(func(t *testing.T, file []byte) {
		rules := anyImports()
		rules.Limits = wasm.Limits{FileBytes: 64 << 10, BodyBytes: 4096, Functions: 200, Locals: 200, Nesting: 100}
		v, err := wasm.Verify(file, rules)
		if err != nil {
			return
		}
		m, err := wasm.Meter(v)
		if err != nil {
			t.Fatal(err)
		}
		runtime := wazero.NewRuntimeWithConfig(ctx, config)
		defer func() { _ = runtime.Close(ctx) }()
		_, before := runtime.CompileModule(ctx, file)
		_, after := runtime.CompileModule(ctx, m.Bytes())
		// Custom sections are the one thing that may be broken before and is gone after.
		if (before == nil) != (after == nil) && !customBroken(before) {
			t.Fatalf("original: %v; metered: %v", before, after)
		}
	})
}

func customBroken(err error) bool {
	return err != nil && strings.Contains(err.Error(), "section custom")
}

// FuzzMeteredPrograms: random programs, which are valid and end, do the same metered as they are.
func FuzzMeteredPrograms(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for n := range 60 {
		data := make([]byte, 20+n*10)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add(data)
	}
	w := newWorld(f, wazero.NewCompilationCache())
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		file := wasmtest.Random(data).Bytes()
		w.fuel = 1
		if len(data)%2 == 0 {
			w.fuel = 1000
		}
		plain, got := w.start(t, file), w.start(t, metered(t, file))
		defer plain.close()
		defer got.close()
		for _, arg := range []uint64{0, 1, 77, 1<<32 - 3} {
			a, b := plain.call("run", arg, 5), got.call("run", arg, 5)
			if a != b {
				t.Fatalf("run %d: %s; metered: %s", arg, a, b)
			}
		}
		if a, b := plain.memory(), got.memory(); a != b {
			t.Fatalf("memory: %s; metered: %s", a, b)
		}
	})
}

// TestRandomPrograms: they are all valid, and end in many ways.
func TestRandomPrograms(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	ends := map[string]int{}
	w := newWorld(t, wazero.NewCompilationCache())
	w.fuel = 10
	programs := 320 / thin
	for range programs {
		data := make([]byte, 50+random.IntN(400))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		file := wasmtest.Random(data).Bytes()
		plain, got := w.start(t, file), w.start(t, metered(t, file))
		a, b := plain.call("run", 3, 4), got.call("run", 3, 4)
		if a != b || plain.memory() != got.memory() {
			t.Fatalf("%x: %s; metered: %s", data, a, b)
		}
		if strings.HasPrefix(a, "[") {
			a = "a result"
		}
		ends[a]++
		plain.close()
		got.close()
	}
	t.Log(ends)
	if ends["a result"] < programs/5 || len(ends) < 3 {
		t.Error("the programs are of little use")
	}
}
