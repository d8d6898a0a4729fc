// Package library_test runs the contract's probes on the drivers in JavaScript: whatever a device or a caller sends, none of
// them crashes. What each of them does is in its scripts, which package test runs, and in its simulator's tests.
package library_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

func TestScriptsConform(t *testing.T) {
	drivertest.NeedEngine(t)
	sources, err := filepath.Glob("*/*.js")
	if err != nil || len(sources) == 0 {
		t.Fatal("no drivers", err)
	}
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	for _, path := range sources {
		name := strings.TrimSuffix(filepath.Base(path), ".js")
		t.Run(name, func(t *testing.T) {
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := conformance.Run(t.Context(), box, file)
			if err != nil {
				t.Fatal(err)
			}
			if r.Driver != name || filepath.Dir(path) != name {
				t.Errorf("the file of driver %s", r.Driver)
			}
			for _, p := range r.Probes {
				if p.Outcome == conformance.Failed {
					t.Errorf("%s: %s", p.Name, p.Detail)
				}
			}
			t.Logf("%d calls, longest %.0f ms", r.Calls, r.LongestMS)
			for _, more := range []string{"README.md", name + ".test.yaml"} {
				if _, err := os.Stat(filepath.Join(name, more)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
