package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors/bench"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// scripts reads test scripts.
func scripts(t *testing.T, paths ...string) []*script.File {
	t.Helper()
	var all []*script.File
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := script.Parse(path, text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// Each SDK's example does what the same script says, also with a fresh instance for each event; the driver in C does what
// the lamp's script says.
func TestEverySDKsExamplePassesTheSameScript(t *testing.T) {
	dir := filepath.Join("..", "drivers", "conformance", "thermostat")
	c := filepath.Join("..", "drivers", "sdk", "c")
	thermostat := scripts(t, filepath.Join(dir, "thermostat.test.yaml"), filepath.Join(dir, "login.test.yaml"))
	read := func(t *testing.T, path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, sdk := range []struct {
		name    string
		scripts []*script.File
		build   func(t *testing.T) []byte
	}{
		{"go", thermostat, func(t *testing.T) []byte {
			return drivertest.BuildWith(t, filepath.Join(dir, "go"), filepath.Join(dir, "driver.json"))
		}},
		{"rust", thermostat, func(t *testing.T) []byte { return drivertest.Rust(t, filepath.Join(dir, "rust")) }},
		{"js", thermostat, func(t *testing.T) []byte {
			drivertest.NeedEngine(t)
			return read(t, filepath.Join(dir, "js", "thermostat.js"))
		}},
		{"c", scripts(t, filepath.Join(c, "lamp.test.yaml")), func(t *testing.T) []byte {
			file, err := drivers.AppendManifest(wasmtest.C(t, filepath.Join(c, "lamp.c")), read(t, filepath.Join(c, "driver.json")))
			if err != nil {
				t.Fatal(err)
			}
			return file
		}},
	} {
		t.Run(sdk.name, func(t *testing.T) {
			suite := bench.Suite{Options: bench.Options{File: sdk.build(t), CacheDir: drivertest.CacheDir(t)}, Files: sdk.scripts, Shuffle: true}
			report, err := suite.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range report.Tests {
				if r.Failure != nil {
					var b strings.Builder
					r.Write(&b)
					t.Error("\n" + b.String())
				}
			}
			t.Logf("%d passed, %d failed", report.Passed, report.Failed)
		})
	}
}
