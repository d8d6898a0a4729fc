package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// The smallest driver: it takes every event and does nothing.
const tinyManifest = `{"contract":"twin1","name":"tiny","version":"1.0.0","capabilities":[],"model":{}}`

var entryType = wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}

// tiny assembles the smallest driver after change.
func tiny(change func(m *wasmtest.Module)) []byte {
	m := &wasmtest.Module{
		Functions: []wasmtest.Function{{Type: entryType, Code: wasmtest.Const(0)}},
		Exports:   []wasmtest.Export{{Name: "drv_handle"}, {Name: "memory", Kind: 2}},
		Pages:     []uint32{16},
		Custom:    map[string][]byte{"driver.manifest": []byte(tinyManifest)},
	}
	change(m)
	return m.Bytes()
}

func tinyImporting(module, name string) []byte {
	return tiny(func(m *wasmtest.Module) {
		m.Imports = []wasmtest.Import{{Module: module, Name: name, Type: entryType}}
		m.Exports[0].Index = 1
	})
}

// tinyStarting runs code when it starts.
func tinyStarting(code []byte) []byte {
	return tiny(func(m *wasmtest.Module) {
		m.Functions = append(m.Functions, wasmtest.Function{Code: code})
		m.Exports = append(m.Exports, wasmtest.Export{Name: "_initialize", Index: 1})
	})
}

func tinyManifested(old, new string) []byte {
	return tiny(func(m *wasmtest.Module) {
		m.Custom["driver.manifest"] = []byte(strings.Replace(tinyManifest, old, new, 1))
	})
}

// TestUploadsRefused: what is no driver is refused by a sentence that says why, and nothing of it stays.
func TestUploadsRefused(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	dir := t.TempDir()
	push := func(file []byte) (string, error) {
		path := filepath.Join(dir, "driver.wasm")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return n.Command(ctx, "driver", "push", path)
	}
	unreachable := []byte{0x00}
	for _, test := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "no WASM module"},
		{"bytes", []byte("\x7fELF\x00no driver"), "no WASM module"},
		{"cut off", tiny(func(*wasmtest.Module) {})[:40], "ends"},
		{"no contract", tiny(func(m *wasmtest.Module) { m.Exports = m.Exports[1:] }), `does not export the function "drv_handle"`},
		{"no memory", tiny(func(m *wasmtest.Module) { m.Exports = m.Exports[:1] }), `does not export its memory`},
		{"no manifest", tiny(func(m *wasmtest.Module) { m.Custom = nil }), "no custom section driver.manifest"},
		{"other contract", tinyManifested("twin1", "twin9"), "twin9"},
		{"unknown module", tinyImporting("env", "system"), `imports "system" from "env"`},
		{"unknown import", tinyImporting("twin1", "teleport"), `imports "teleport" from "twin1", which does not offer it`},
		{"capability not asked for", tinyImporting("twin1", "send"), `the module imports "send", which is not among them`},
		{"unknown capability", tinyManifested("[]", `["teleport"]`), `capabilities/0: "teleport" is unknown`},
		{"crash at start", tinyStarting(unreachable), "start-up code crashed: unreachable"},
		{"loop at start", tinyStarting(wasmtest.Loop()), "start-up code did not end within"},
		{"too much memory", tiny(func(m *wasmtest.Module) { m.Pages = []uint32{16 * 64} }), "memory_mb: the module starts with 64.0 MB"},
	} {
		out, err := push(test.file)
		if err == nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: %v, printed %q, want %q", test.name, err, out, test.want)
		}
		if strings.Contains(out, "goroutine") || strings.Count(strings.TrimSpace(out), "\n") > 3 {
			t.Errorf("%s: no sentence: %q", test.name, out)
		}
		t.Logf("%s: %s", test.name, strings.TrimSpace(out))
	}
	if r, err := n.Drivers().ListDrivers(t.Context(), connect.NewRequest(&pb.ListDriversRequest{})); err != nil || len(r.Msg.Drivers) != 0 {
		t.Errorf("drivers after refusals: %v, %v", r, err)
	}
	if out, err := push(tiny(func(*wasmtest.Module) {})); err != nil {
		t.Errorf("the same module without a fault: %v %s", err, out)
	}
}

// TestArgumentsRefused: a wrong setting or argument is refused with its path, and the driver does not see it.
func TestArgumentsRefused(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	createEcho(t, n, "twin", map[string]any{"topic": "twin"})
	fails := func(want string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if out, err := n.Command(ctx, args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v, printed %q, want %q", args, err, out, want)
		} else {
			t.Logf("%v: %s", args, strings.TrimSpace(out))
		}
	}
	fails("/settings: additional properties 'colour' not allowed", "twin", "create", "other", "--driver", "echo", "--setting", "colour=red")
	fails("/input/text: got number", "twin", "call", "twin", "say", `{"text":5}`)
	fails("/input: missing property 'text'", "twin", "call", "twin", "say", `{}`)
	fails("/input/after_ms: minimum", "twin", "call", "twin", "tick", `{"after_ms":-1}`)
	fails("level: invalid /value: got string", "twin", "set", "twin", "level", `"high"`)
	fails("unknown to the model", "twin", "call", "twin", "shout")

	settings, err := structpb.NewStruct(map[string]any{"topic": 5})
	if err != nil {
		t.Fatal(err)
	}
	create := func() error {
		_, err := n.Twins().CreateTwin(t.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "other", Driver: "echo", Settings: settings}}))
		return err
	}
	invoke := func(action string, input any) error {
		v, err := structpb.NewValue(input)
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.Twins().Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: "twin", Action: action, Input: v}))
		return err
	}
	set := func() error {
		_, err := n.Twins().SetDesired(t.Context(), connect.NewRequest(&pb.SetDesiredRequest{Id: "twin", Property: "level", Value: structpb.NewStringValue("high")}))
		return err
	}
	for path, err := range map[string]error{
		"/settings/topic": create(),
		"/input/text":     invoke("say", map[string]any{"text": 5}),
		"/input/after_ms": invoke("tick", map[string]any{"after_ms": 1.5}),
		"/value":          set(),
	} {
		if info := rpc.ErrorInfoOf(err); connect.CodeOf(err) != connect.CodeInvalidArgument || info.GetPath() != path {
			t.Errorf("want a refusal at %s: %v at %q", path, err, info.GetPath())
		}
	}
	// None of them came to the driver, and what is right does.
	if got := reported(t, n, "twin"); got != 0 {
		t.Errorf("level is %v", got)
	}
	if out := n.Must("twin", "call", "twin", "say", `{"text":"you"}`); !strings.Contains(out, "hello you") {
		t.Errorf("say: %s", out)
	}
	if fault := stateOf(t, n, "twin").GetStatus().GetFault(); fault != "" {
		t.Errorf("fault: %s", fault)
	}
	if _, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: "other"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a twin with a wrong setting is there: %v", err)
	}
}
