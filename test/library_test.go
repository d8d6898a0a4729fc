package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/test/harness"
)

// Each driver of the library does what its scripts say: as they are written, with a fresh instance for each event, and
// with a device that misbehaves. The program runs them, which the race detector does not slow down.
func TestDriversOfTheLibrary(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join("..", "drivers", "library", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no drivers in the library: %v", err)
	}
	for _, dir := range append(dirs, filepath.Join("..", "drivers", "pjlink"), filepath.Join("..", "drivers", "tasmota")) {
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
				drivertest.NeedRust(t)
			}
			out, err := exec.CommandContext(t.Context(), harness.Binary(t), "driver", "test", "--shuffle", "--faults", dir).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
