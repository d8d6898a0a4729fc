package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// Each SDK's example does what the same script says, also with a fresh instance for each event; the driver in C does what
// the lamp's script says. The program runs them, which the race detector does not slow down.
func TestEverySDKsExamplePassesTheSameScript(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "drivers", "conformance", "thermostat")
	c := filepath.Join("..", "drivers", "sdk", "c")
	thermostat := []string{filepath.Join(dir, "thermostat.test.yaml"), filepath.Join(dir, "login.test.yaml")}
	read := func(t *testing.T, path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, sdk := range []struct {
		name    string
		scripts []string
		file    string
		build   func(t *testing.T) []byte
	}{
		{"go", thermostat, "driver.wasm", func(t *testing.T) []byte {
			return drivertest.BuildWith(t, filepath.Join(dir, "go"), filepath.Join(dir, "driver.json"))
		}},
		{"rust", thermostat, "driver.wasm", func(t *testing.T) []byte { return drivertest.Rust(t, filepath.Join(dir, "rust")) }},
		{"js", thermostat, "driver.js", func(t *testing.T) []byte {
			drivertest.NeedEngine(t)
			return read(t, filepath.Join(dir, "js", "thermostat.js"))
		}},
		{"c", []string{filepath.Join(c, "lamp.test.yaml")}, "driver.wasm", func(t *testing.T) []byte {
			file, err := drivers.AppendManifest(wasmtest.C(t, filepath.Join(c, "lamp.c")), read(t, filepath.Join(c, "driver.json")))
			if err != nil {
				t.Fatal(err)
			}
			return file
		}},
	} {
		t.Run(sdk.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), sdk.file)
			if err := os.WriteFile(file, sdk.build(t), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"driver", "test", "--shuffle", file}
			for _, s := range sdk.scripts {
				args = append(args, "--script", s)
			}
			out, err := exec.CommandContext(t.Context(), harness.Binary(t), args...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), " passed") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
