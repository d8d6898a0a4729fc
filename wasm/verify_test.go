package wasm_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

var (
	none   = wasmtest.Func{}
	toI32  = wasmtest.Func{Results: []byte{wasmtest.I32}}
	handle = wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}
)

func testRules() *wasm.Rules {
	name, wasi := wasm.WASIImports()
	i32 := wasm.Signature{Params: []wasm.ValueType{wasm.I32}}
	return &wasm.Rules{
		Imports: map[string]map[string]wasm.ImportRule{name: wasi, "host": {
			"note":  {Signature: i32},
			"block": {Signature: i32},
			"boom":  {Signature: wasm.Signature{}},
			"later": {Signature: i32, Refuse: "which comes later"},
		}},
		Exports: []wasm.RequiredExport{
			{Name: "run", Signature: wasm.Signature{Params: []wasm.ValueType{wasm.I32, wasm.I32}, Results: []wasm.ValueType{wasm.I32}}},
			{Name: "_initialize", Optional: true},
		},
	}
}

// guest is a module that passes, with run's code.
func guest(code []byte) *wasmtest.Module {
	return &wasmtest.Module{
		Functions: []wasmtest.Function{{Type: handle, Locals: 2, Code: code}},
		Exports:   []wasmtest.Export{{Name: "run"}, {Name: "memory", Kind: 2}},
		Pages:     []uint32{1},
	}
}

func repeat(n int, code ...byte) []byte {
	return []byte(strings.Repeat(string(code), n))
}

func TestVerifyTakesWhatIsWithinTheRules(t *testing.T) {
	m := guest(wasmtest.Code(repeat(2000, 0x02, 0x40), repeat(2000, 0x0b), wasmtest.Const(0)))
	m.Imports = []wasmtest.Import{{Module: "host", Name: "note", Type: wasmtest.Func{Params: []byte{wasmtest.I32}}}}
	m.Exports[0].Index = 1
	m.Table = []uint32{1, 65_536}
	v, err := wasm.Verify(m.Bytes(), testRules())
	if err != nil {
		t.Fatal(err)
	}
	if !v.Info.HasImport("host", "note") || v.Info.HasImport("host", "block") || v.Info.Functions != 1 || v.Info.MemoryMin != 1 {
		t.Fatalf("info %+v", v.Info)
	}
}

func TestVerifyRefusesWithASentence(t *testing.T) {
	zero := wasmtest.Const(0)
	ok := func(change func(m *wasmtest.Module)) []byte {
		m := guest(zero)
		change(m)
		return m.Bytes()
	}
	code := func(pieces ...any) []byte { return guest(wasmtest.Code(pieces...)).Bytes() }
	branchTable := append(binary.AppendUvarint([]byte{0x0e}, 8001), make([]byte, 8002)...)
	cases := []struct {
		name, want string
		file       []byte
	}{
		{"empty", "no WASM module", nil},
		{"text", "no WASM module", []byte("#!/bin/sh\necho hello")},
		{"component", "another version", []byte("\x00asm\x0d\x00\x01\x00")},
		{"cut off", "ends in the middle", guest(zero).Bytes()[:30]},
		{"no export", `does not export the function "run"`, ok(func(m *wasmtest.Module) { m.Exports = m.Exports[1:] })},
		{"memory named run", `exports "run" as a memory`, ok(func(m *wasmtest.Module) { m.Exports[0] = wasmtest.Export{Name: "run", Kind: 2} })},
		{"wrong signature", `exports "run" as () -> (i32); it is to be (i32, i32) -> (i32)`,
			ok(func(m *wasmtest.Module) { m.Functions[0].Type = toI32 })},
		{"wrong initialiser", `exports "_initialize" as`, ok(func(m *wasmtest.Module) {
			m.Exports = append(m.Exports, wasmtest.Export{Name: "_initialize"})
		})},
		{"no memory", `does not export its memory`, ok(func(m *wasmtest.Module) { m.Pages = nil; m.Exports = m.Exports[:1] })},
		{"unknown module", `imports "open" from "env"; there are only host and wasi_snapshot_preview1`, ok(func(m *wasmtest.Module) {
			m.Imports = []wasmtest.Import{{Module: "env", Name: "open", Type: none}}
		})},
		{"unknown function", `imports "path_open" from "wasi_snapshot_preview1", which does not offer it`, ok(func(m *wasmtest.Module) {
			m.Imports = []wasmtest.Import{{Module: "wasi_snapshot_preview1", Name: "path_open", Type: none}}
		})},
		{"later", `imports "later" from "host", which comes later`, ok(func(m *wasmtest.Module) {
			m.Imports = []wasmtest.Import{{Module: "host", Name: "later", Type: none}}
		})},
		{"import's signature", `imports "note" from "host" as (); it is (i32)`, ok(func(m *wasmtest.Module) {
			m.Imports = []wasmtest.Import{{Module: "host", Name: "note", Type: none}}
		})},
		{"huge table", "table 0 has 134217728 entries", ok(func(m *wasmtest.Module) { m.Table = []uint32{1 << 27} })},
		{"growing table", "a table grows", ok(func(m *wasmtest.Module) {
			m.Table = []uint32{1}
			m.Functions[0].Code = wasmtest.Code(0xd0, 0x70, wasmtest.Const(1), 0xfc, 15, 0)
		})},
		{"nested blocks", `in function 0 ("run") blocks are nested deeper than 2000`, code(repeat(2001, 0x02, 0x40), repeat(2001, 0x0b), zero)},
		{"nested loops", "loops are nested deeper than 32", code(repeat(33, 0x03, 0x40), repeat(33, 0x0b), zero)},
		{"branch table", "branch table has 8001 entries", code(zero, branchTable, zero)},
		{"long body", "has 131", code(repeat(131_072, 0x01), zero)},
		{"locals", "4002 locals", ok(func(m *wasmtest.Module) { m.Functions[0].Locals = 4000 })},
		{"unknown instruction", `in function 0 ("run") the instruction 0xfb is not supported`, code(0xfb, 0)},
		{"threads", "the instruction 0xfe is not supported", code(0xfe, 0)},
		{"behind the end", "code goes on behind the end", code(zero, 0x0b, 0x01)},
		{"section twice", "out of order or there twice", ok(func(m *wasmtest.Module) { m.Extra = []byte{1, 1, 0} })},
		{"unknown section", "section of unknown kind 77", ok(func(m *wasmtest.Module) { m.Extra = []byte{77, 0} })},
		{"promised functions", "promises", append([]byte("\x00asm\x01\x00\x00\x00"), 3, 3, 0xd0, 0x86, 0x03)},
		{"cut off within a count", "ends in the middle", append([]byte("\x00asm\x01\x00\x00\x00"), 1, 6, 1, 0x60, 0x80, 0x80, 0x80, 0xe4)},
		{"too many functions", "the limit is 50000", append([]byte("\x00asm\x01\x00\x00\x00"), 3, 3, 0xd1, 0x86, 0x03)},
		{"shared memory", "shared or 64 bits wide", append([]byte("\x00asm\x01\x00\x00\x00"), 5, 4, 1, 3, 1, 1)},
	}
	for _, c := range cases {
		_, err := wasm.Verify(c.file, testRules())
		var refusal *wasm.Refusal
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, c.want) {
			t.Errorf("%s: got %v, want something with %q", c.name, err, c.want)
		}
	}
	big := wasmtest.Module{Custom: map[string][]byte{"pad": make([]byte, 32<<20)}}
	if _, err := wasm.Verify(big.Bytes(), testRules()); err == nil || !strings.Contains(err.Error(), "the limit is 33554432") {
		t.Errorf("a file of more than 32 MiB: %v", err)
	}
}

// FuzzVerify: no file makes the parser crash or take memory beyond its size, and what the parser lets pass the compiler
// takes or refuses.
func FuzzVerify(f *testing.F) {
	f.Add(guest(wasmtest.Const(0)).Bytes())
	f.Add(guest(wasmtest.Code(wasmtest.Loop(), 0x00)).Bytes())
	m := guest(wasmtest.Code(0x41, 1, 0x04, 0x40, 0x0b, 0xfd, 12, make([]byte, 16), 0x1a, wasmtest.Const(0)))
	m.Table, m.Globals = []uint32{1, 2}, []int32{-5}
	m.Extra = []byte{11, 7, 1, 0, 0x41, 0, 0x0b, 1, 'x'}
	f.Add(m.Bytes())
	f.Fuzz(func(_ *testing.T, file []byte) {
		_, _ = wasm.Verify(file, &wasm.Rules{})
		_, _ = wasm.Verify(file, testRules())
	})
}

// FuzzCompile: what Verify lets pass is compiled or refused, and runs within its deadline.
func FuzzCompile(f *testing.F) {
	f.Add(wasmtest.Const(0))
	f.Add(wasmtest.Code(wasmtest.Local(0), 0x40, 0))
	f.Add(wasmtest.Code(wasmtest.Const(1), 0x04, 0x40, 0x0b, 0xfd, 12, make([]byte, 16), 0x1a, wasmtest.Const(0)))
	f.Add(wasmtest.Code(wasmtest.Loop(), 0x00))
	f.Fuzz(func(t *testing.T, code []byte) {
		v, err := wasm.Verify(guest(code).Bytes(), testRules())
		if err != nil {
			return
		}
		metered, _ := wasm.Meter(v)
		r := newRuntime(t, &hooks{}, wasm.Options{})
		m, err := r.Compile(t.Context(), metered, 1<<20)
		if err != nil {
			return
		}
		p := wasm.NewPool(m, wasm.PoolOptions{Entries: []string{"run"}})
		_, _ = call(lazyContext{t.Context(), time.Now().Add(20 * time.Millisecond)}, p, "a", 1, 2)
		_, _ = p.Close(), m.Close()
	})
}
