package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// driver build makes the file that push sends; a driver that is wrong is none.
func TestDriverBuild(t *testing.T) {
	drivertest.NeedEngine(t)
	t.Setenv(asProgram, "1") // it compiles drivers in a process of its own, which is this one
	dir := filepath.Join(t.TempDir(), "lamp")
	if r := cli(t.Context(), nil, "driver", "new", "lamp", "--dir", dir); r.code != 0 {
		t.Fatal(r.err)
	}
	out := filepath.Join(t.TempDir(), "out", "lamp.js")
	r := cli(t.Context(), nil, "driver", "build", dir, "--out", out)
	if r.code != 0 || !strings.Contains(r.out, "lamp@0.1.0") {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	built, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "lamp.js")
	if text, err := os.ReadFile(source); err != nil || string(text) != string(built) {
		t.Errorf("a driver in JavaScript is its source: %v", err)
	}
	if err := os.WriteFile(source, []byte("export default driver({ name: 'lamp' });"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(t.Context(), nil, "driver", "build", dir); r.code != 1 || !strings.Contains(r.err, "version") {
		t.Errorf("without a version: exit code %d: %s%s", r.code, r.out, r.err)
	}
}

// driver pack puts a manifest into a module of any toolchain; one that does not cover what the module imports is refused.
func TestDriverPack(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	entry := wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}
	module := write("lamp.wasm", (&wasmtest.Module{
		Imports:   []wasmtest.Import{{Module: "twin1", Name: "send", Type: entry}},
		Functions: []wasmtest.Function{{Type: entry, Code: wasmtest.Const(0)}},
		Exports:   []wasmtest.Export{{Name: "drv_handle", Index: 1}, {Name: "memory", Kind: 2}},
		Pages:     []uint32{1},
	}).Bytes())
	manifest := write("driver.json", []byte(`{"contract":"twin1","name":"lamp","version":"1.2.3","capabilities":["send"],"transport":{"scheme":"tcp"},"model":{}}`))
	out := filepath.Join(dir, "packed.wasm")
	if r := cli(t.Context(), nil, "driver", "pack", module, "--manifest", manifest, "--out", out); r.code != 0 || !strings.Contains(r.out, "lamp@1.2.3") {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := drivers.Check(file); err != nil || m.Name != "lamp" || m.Version != "1.2.3" {
		t.Errorf("what was packed: %+v, %v", m, err)
	}
	silent := write("silent.json", []byte(`{"contract":"twin1","name":"lamp","version":"1.2.3","capabilities":[],"model":{}}`))
	if r := cli(t.Context(), nil, "driver", "pack", module, "--manifest", silent, "--out", out); r.code != 1 || !strings.Contains(r.err, "send") {
		t.Errorf("a manifest that does not say what the module uses: exit code %d: %s%s", r.code, r.out, r.err)
	}
	if r := cli(t.Context(), nil, "driver", "pack", module, "--manifest", filepath.Join(dir, "none.json")); r.code != 1 || !strings.Contains(r.err, "none.json") {
		t.Errorf("no manifest: exit code %d: %s%s", r.code, r.out, r.err)
	}
}

// driver logs prints what all twins of a driver log, from now on; for a driver that is not there it does not wait.
func TestDriverLogs(t *testing.T) {
	drivertest.NeedEngine(t)
	t.Setenv(asProgram, "1")
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	path := filepath.Join(t.TempDir(), "chatter.js")
	source := `export default driver({ name: 'chatter', version: '1.0.0', properties: {}, load(twin) { twin.every('tick', '200ms'); },
	  timers: { tick: (twin) => console.warn('chatter ticks') } });`
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(t.Context(), env, "driver", "push", path, "--no-test"); r.code != 0 {
		t.Fatal(r.err)
	}
	t.Cleanup(func() {
		cli(context.Background(), env, "twin", "rm", "chatter-1", "chatter-2")
		cli(context.Background(), env, "driver", "rm", "chatter")
	})
	for _, id := range []string{"chatter-1", "chatter-2"} {
		if r := cli(t.Context(), env, "twin", "create", id, "--driver", "chatter"); r.code != 0 {
			t.Fatal(r.err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out := &printed{}
	done := make(chan int, 1)
	go func() { done <- runTo(ctx, out, out, env, "driver", "logs", "chatter") }()
	out.wait(t, "chatter-1", 1)
	out.wait(t, "chatter-2", 1)
	out.wait(t, "chatter ticks", 2)
	cancel()
	<-done
	if r := cli(t.Context(), env, "driver", "logs", "nosuch"); r.code == 0 || !strings.Contains(r.err, "nosuch") {
		t.Errorf("a driver that is not there: exit code %d: %s%s", r.code, r.out, r.err)
	}
}
