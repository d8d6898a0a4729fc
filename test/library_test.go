package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors/bench"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
)

// Each driver of the library does what its scripts say: as they are written, with a fresh instance for each event, and
// with a device that misbehaves.
func TestDriversOfTheLibrary(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join("..", "drivers", "library", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no drivers in the library: %v", err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			p, err := project.Find(dir)
			if err != nil {
				t.Fatal(err)
			}
			switch p.Lang {
			case project.JavaScript:
				drivertest.NeedEngine(t)
			case project.Rust:
				if err := project.HasRust(t.Context()); err != nil {
					t.Skip(err)
				}
			}
			named, err := p.Scripts()
			if err != nil || len(named) == 0 {
				t.Fatalf("the driver has no tests: %v", err)
			}
			file, err := p.Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			suite := bench.Suite{Options: bench.Options{File: file, CacheDir: drivertest.CacheDir(t)}, Files: scripts(t, named...),
				Shuffle: true, Faults: 1, Seed: 1}
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
		})
	}
}
