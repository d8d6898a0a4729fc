package conformance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/wasm/wasmtest"
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

// conforms runs the probes, with what the scripts say, and shows the report.
func conforms(t *testing.T, file []byte, scripts ...*script.File) *conformance.Report {
	t.Helper()
	r, err := conformance.Run(t.Context(), sandbox(t), file, conformance.Options{Scripts: scripts})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Probes {
		line := fmt.Sprintf("%-16s %-8s %7.1f ms  %s", p.Name, p.Outcome, p.Millis, p.Detail)
		if p.Outcome == conformance.Failed {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
	t.Logf("%s %s: %d bytes, %d calls, longest %.1f ms", r.Driver, r.Version, r.Bytes, r.Calls, r.LongestMS)
	return r
}

// subject is a driver that is held to the contract.
type subject struct {
	what, lang, dir string
	build           func(t *testing.T) []byte
}

// subjects are the example of each SDK, the driver without one, and every driver that pollux carries.
func subjects(t *testing.T) []subject {
	t.Helper()
	all := []subject{
		{"SDK", "JavaScript", "thermostat/js", func(t *testing.T) []byte { return source(t, "thermostat/js/thermostat.js") }},
		{"SDK", "Go", "thermostat/go", func(t *testing.T) []byte { return drivertest.BuildWith(t, "thermostat/go", "thermostat/driver.json") }},
		{"SDK", "Rust", "thermostat/rust", func(t *testing.T) []byte { return drivertest.Rust(t, "thermostat/rust") }},
		{"no SDK", "C", "../sdk/c", buildC},
	}
	dirs, err := filepath.Glob("../library/*")
	if err != nil || len(dirs) < 3 {
		t.Fatal(dirs, err)
	}
	for _, dir := range append(dirs, "../pjlink", "../tasmota") {
		if filepath.Ext(dir) == ".go" {
			continue // the library's own tests
		}
		p, err := project.Find(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := subject{what: "bundled", lang: map[project.Lang]string{project.Go: "Go", project.Rust: "Rust", project.JavaScript: "JavaScript"}[p.Lang], dir: dir}
		switch p.Lang {
		case project.Rust:
			s.build = func(t *testing.T) []byte { return drivertest.Rust(t, dir) }
		case project.Go:
			s.build = func(t *testing.T) []byte { return drivertest.Build(t, dir) }
		default:
			s.build = func(t *testing.T) []byte { return source(t, p.File) }
		}
		all = append(all, s)
	}
	return all
}

func source(t *testing.T, path string) []byte {
	drivertest.NeedEngine(t)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// buildC builds the driver of a page, made without an SDK.
func buildC(t *testing.T) []byte {
	manifest, err := os.ReadFile("../sdk/c/driver.json")
	if err != nil {
		t.Fatal(err)
	}
	file, err := drivers.AppendManifest(wasmtest.C(t, "../sdk/c/lamp.c"), manifest)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// scriptsOf opens the scripts that lie beside a driver, or one directory up.
func scriptsOf(t *testing.T, dir string) []*script.File {
	t.Helper()
	files, err := (&project.Project{Dir: dir}).Tests()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Every SDK's example and every driver that pollux carries conforms: whatever a device sends, none of them crashes. What came of it is
// docs/conformance.md, which -update writes anew (make conformance).
func TestEveryDriverConforms(t *testing.T) {
	all := subjects(t)
	reports := make([]*conformance.Report, len(all))
	t.Run("drivers", func(t *testing.T) {
		for i, s := range all {
			t.Run(filepath.Base(s.dir), func(t *testing.T) {
				t.Parallel() // a third of the time it waits for deadlines
				reports[i] = conforms(t, s.build(t), scriptsOf(t, s.dir)...)
			})
		}
	})
	if !t.Failed() {
		checkPage(t, all, reports)
	}
}

// wild is a driver whose every call runs the given code; its type is (event i32, len i32) -> i32.
func wild(code ...byte) []byte {
	pull := wasmtest.Func{Params: []byte{wasmtest.I32}}
	push := wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}}
	entry := wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}
	return (&wasmtest.Module{
		Imports: []wasmtest.Import{{Module: "twin1", Name: "input", Type: pull}, {Module: "twin1", Name: "output", Type: push},
			{Module: "twin1", Name: "state_set", Type: entry}},
		Functions: []wasmtest.Function{{Type: entry, Locals: 1, Code: code}},
		Exports:   []wasmtest.Export{{Name: "drv_handle", Index: 3}, {Name: "memory", Kind: 2}},
		Pages:     []uint32{16},
		Custom: map[string][]byte{"driver.manifest": []byte(`{"contract":"twin1","name":"wild","version":"1.0.0","memory_mb":2,
			"capabilities":["state_set","emit"],"model":{"actions":{"go":{}}}}`)},
	}).Bytes()
}

// Each driver is wrong in one way, and the probe that is about it says so.
func TestWrongDriversFail(t *testing.T) {
	// The number of calls at address 8, as the code of a refusal: kept in the instance.
	counts := wasmtest.Code(wasmtest.Const(8), wasmtest.Const(8), 0x28, 2, 0, wasmtest.Const(1), 0x6a, 0x36, 2, 0,
		wasmtest.Const(8), 0x28, 2, 0)
	for _, c := range []struct {
		name, probe, says string
		file              []byte
	}{
		{"no module", "module", "", []byte("\x00asm\x01\x00\x00\x00\x07")},
		{"traps", "life", "unreachable", wild(0x00)},
		{"takes what it does not know", "unknown commands", "is taken", wild(wasmtest.Const(0)...)},
		{"refuses what it does not know", "unknown events", "is refused", wild(wasmtest.Const(1)...)},
		{"pending for ever", "life", "pending", wild(wasmtest.Code(wasmtest.Const(0), wasmtest.Const(1), 0x6b)...)},
		{"remembers", "shared instance", "an instance that served other calls", wild(counts...)},
		{"never ends", "life", "deadline", wild(wasmtest.Code(0x03, 0x40, 0x0c, 0, 0x0b, wasmtest.Const(0))...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := conformance.Run(t.Context(), sandbox(t), c.file, conformance.Options{})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(r.Probes, func(p conformance.Probe) bool { return p.Name == c.probe })
			if r.Conforms || i < 0 || r.Probes[i].Outcome != conformance.Failed || !strings.Contains(r.Probes[i].Detail, c.says) {
				t.Errorf("want %s to fail with %q, got %+v", c.probe, c.says, r.Probes)
			}
		})
	}
}

// A driver that is right as long as nobody answers, and reports what is not in its model where the device of its tests does.
func TestReportsOfTheScriptsAreHeldAgainstTheModel(t *testing.T) {
	manifest, err := os.ReadFile("../sdk/c/driver.json")
	if err != nil {
		t.Fatal(err)
	}
	file, err := drivers.AppendManifest(wasmtest.C(t, "../sdk/c/lamp.c"), []byte(strings.ReplaceAll(string(manifest), `"boolean"`, `"string"`)))
	if err != nil {
		t.Fatal(err)
	}
	for _, scripts := range [][]*script.File{nil, scriptsOf(t, "../sdk/c")} {
		r, err := conformance.Run(t.Context(), sandbox(t), file, conformance.Options{Scripts: scripts})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(r.Probes, func(p conformance.Probe) bool { return p.Name == "model" })
		if p := r.Probes[i]; (p.Outcome == conformance.Failed) != (scripts != nil) || scripts != nil && !strings.Contains(p.Detail, "lamp.test.yaml:") {
			t.Errorf("with %d scripts: %+v", len(scripts), p)
		}
	}
}
