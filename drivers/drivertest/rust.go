package drivertest

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/polluxhq/pollux/drivers/project"
)

// Rust builds the driver in dir, written in Rust, and skips the test where there is no compiler for it.
func Rust(tb testing.TB, dir string) []byte {
	tb.Helper()
	if err := project.HasRust(tb.Context()); err != nil {
		tb.Skip(err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	ctx := tb.Context()
	build, _ := built.LoadOrStore(dir, sync.OnceValues(func() ([]byte, error) {
		p, err := project.Find(dir)
		if err != nil {
			return nil, err
		}
		return p.Build(ctx)
	}))
	file, err := build.(func() ([]byte, error))()
	if err != nil {
		tb.Fatal(err)
	}
	return file
}
