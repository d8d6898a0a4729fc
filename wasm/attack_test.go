package wasm_test

import (
	"encoding/binary"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// bombs are modules that keep a compiler busy; n says how much of it.
var bombs = []struct {
	name     string
	within   int // the largest n that is let pass
	past     int
	sentence string
	file     func(n int) []byte
}{
	{"nested blocks", 2000, 100_000, "the limit is 131072", func(n int) []byte {
		return guest(wasmtest.Code(repeat(n, 0x02, 0x40), repeat(n, 0x0b), wasmtest.Const(0))).Bytes()
	}},
	{"nested loops", 32, 5000, "loops are nested deeper than 32", func(n int) []byte {
		var code []byte
		for i := range n {
			code = append(code, 0x03, 0x40, 0x20, byte(2+i%60), 0x41, 1, 0x6a, 0x21, byte(2+(i*7)%60))
		}
		for i := range n {
			code = append(code, 0x20, byte(2+i%60), 0x0d, 0, 0x0b)
		}
		return manyLocals(60, code)
	}},
	{"ifs over 60 locals", 9_000, 20_000, "the limit is 131072", func(n int) []byte {
		var code []byte
		for i := range n {
			code = append(code, 0x20, 0, 0x04, 0x40, 0x20, byte(2+i%60), 0x41, 1, 0x6a, 0x21, byte(2+(i*7)%60), 0x0b)
		}
		return manyLocals(60, code)
	}},
	{"loops one after the other", 2000, 40_000, "more than 2000 loops", func(n int) []byte {
		return guest(wasmtest.Code(repeat(n, 0x03, 0x40, 0x0b), wasmtest.Const(0))).Bytes()
	}},
	{"one straight function", 18_000, 40_000, "the limit is 131072", func(n int) []byte {
		return guest(wasmtest.Code(repeat(n, 0x20, 0, 0x41, 3, 0x6c, 0x21, 0), wasmtest.Const(0))).Bytes()
	}},
	{"a deep operand stack", 20_000, 40_000, "the limit is 131072", func(n int) []byte {
		return guest(wasmtest.Code(repeat(n, 0x20, 0, 0x41, 5, 0x6a), repeat(n-1, 0x6a))).Bytes()
	}},
	{"locals", 3900, 1_000_000, "1000002 locals", func(n int) []byte { return manyLocals(uint32(n), nil) }},
	{"a branch table", 8000, 100_000, "branch table has 100000 entries", func(n int) []byte {
		table := append(binary.AppendUvarint([]byte{0x0e}, uint64(n)), make([]byte, n+1)...)
		return guest(wasmtest.Code(0x02, 0x40, wasmtest.Local(0), table, 0x0b, wasmtest.Const(0))).Bytes()
	}},
	{"branch tables", 16, 17, "the limit is 131072", func(n int) []byte {
		table := append(binary.AppendUvarint([]byte{0x0e}, 8000), make([]byte, 8001)...)
		var code []byte
		for range n {
			code = append(code, wasmtest.Code(0x02, 0x40, wasmtest.Local(0), table, 0x0b)...)
		}
		return guest(wasmtest.Code(code, wasmtest.Const(0))).Bytes()
	}},
	{"functions", 49_000, 60_000, "the limit is 5", func(n int) []byte {
		m := guest(wasmtest.Const(0))
		m.Functions = append(m.Functions, make([]wasmtest.Function, 0, n)...)
		for range n {
			m.Functions = append(m.Functions, wasmtest.Function{Type: none, Code: []byte{0x01}})
		}
		return oneType(m)
	}},
	{"a huge table", 65_536, 1 << 27, "134217728 entries", func(n int) []byte {
		m := guest(wasmtest.Const(0))
		m.Table = []uint32{uint32(n)}
		return m.Bytes()
	}},
	{"globals", 20_000, 1_000_000, "the limit is 20000", func(n int) []byte {
		m := guest(wasmtest.Const(0))
		m.Globals = make([]int32, n)
		return m.Bytes()
	}},
}

func manyLocals(n uint32, code []byte) []byte {
	m := guest(wasmtest.Code(code, wasmtest.Const(0)))
	m.Functions[0].Locals = n
	return m.Bytes()
}

// oneType assembles a module whose functions have few types; the builder gives each its own.
func oneType(m *wasmtest.Module) []byte { m.Shared = true; return m.Bytes() }

// thin divides what tests repeat, and what they have the compiler work on; see race_test.go.
var thin = 1

// TestBombsAreDefused: past the limits a module is refused in no time, with a sentence; the worst that is let pass
// takes some seconds and not all memory.
func TestBombsAreDefused(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	for _, bomb := range bombs {
		began := time.Now()
		_, err := wasm.Verify(bomb.file(bomb.past), testRules())
		refused := time.Since(began)
		if err == nil || !strings.Contains(err.Error(), bomb.sentence) {
			t.Errorf("%s, %d: got %v, want %q", bomb.name, bomb.past, err, bomb.sentence)
		}
		file := bomb.file(bomb.within)
		if _, err := wasm.Verify(file, testRules()); err != nil {
			t.Errorf("%s, %d: %v", bomb.name, bomb.within, err)
			continue
		}
		size := bomb.within / thin
		file = bomb.file(size)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		worked := processor()
		v, err := wasm.Verify(file, testRules())
		if err != nil {
			t.Errorf("%s, %d: %v", bomb.name, size, err)
			continue
		}
		metered, err := wasm.Meter(v)
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Compile(t.Context(), metered, 1<<20)
		if err != nil {
			t.Errorf("%s, %d: %v", bomb.name, size, err)
			continue
		}
		took := processor() - worked
		runtime.ReadMemStats(&after)
		_ = m.Close()
		t.Logf("%-26s refused after %7v; what passes, %6d (%d bytes): %7v of a processor, %d MB", bomb.name, refused.Round(time.Microsecond),
			size, len(file), took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20)
		if took > 30*time.Second {
			t.Errorf("%s: %v", bomb.name, took)
		}
	}
}

// processor is the time that this process has computed, which other processes do not lengthen.
func processor() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
