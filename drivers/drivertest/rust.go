package drivertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/polluxhq/pollux/drivers/project"
)

// Rust builds the driver in dir, written in Rust, and skips the test where there is no compiler for it.
func Rust(tb testing.TB, dir string) []byte {
	tb.Helper()
	NeedRust(tb)
	dir, err := filepath.Abs(dir)
	if err != nil {
		tb.Fatal(err)
	}
	ctx := tb.Context()
	cache := CacheDir(tb)
	build, _ := built.LoadOrStore(dir, sync.OnceValues(func() ([]byte, error) { return buildRust(ctx, dir, cache) }))
	file, err := build.(func() ([]byte, error))()
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

// buildRust builds a project, or takes what another test built from the same sources: that takes seconds.
func buildRust(ctx context.Context, dir, cache string) ([]byte, error) {
	p, err := project.Find(dir)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for _, pattern := range []string{filepath.Join(dir, "*.rs"), filepath.Join(dir, "src", "*.rs"), filepath.Join(root(), "sdk", "rust", "src", "*.rs"),
		filepath.Join(root(), "project", "rust.go")} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(h, "%s %d ", name, len(text))
			h.Write(text)
		}
	}
	at := filepath.Join(cache, "rust-"+hex.EncodeToString(h.Sum(nil)[:16])+".wasm")
	if file, err := os.ReadFile(at); err == nil {
		return file, nil
	}
	file, err := p.Build(ctx)
	if err != nil {
		return nil, err
	}
	// Tests of several packages may write it at once: each its own file, renamed.
	tmp, err := os.CreateTemp(cache, "rust-*")
	if err != nil {
		return nil, err
	}
	_, err = tmp.Write(file)
	return file, errors.Join(err, tmp.Close(), os.Rename(tmp.Name(), at))
}
