package project

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

// MaxFile bounds a driver's file, in bytes.
const MaxFile = 32 << 20

// Build makes the driver's file: by the language's own toolchain, then with its manifest inside. A source in JavaScript is
// the file as it is. What a toolchain complains about is in the error.
func (p *Project) Build(ctx context.Context) ([]byte, error) {
	switch p.Lang {
	case JavaScript, Built:
		return readFile(p.File)
	case Go:
		return p.buildGo(ctx)
	case Rust:
		return p.buildRust(ctx)
	}
	return nil, fmt.Errorf("language %q: want js, go or rust", p.Lang)
}

// Pack puts a manifest into a module, and checks that this is a driver.
func Pack(module []byte, manifest string) ([]byte, error) {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	return pack(module, text, manifest)
}

func pack(module, text []byte, manifest string) ([]byte, error) {
	file, err := drivers.AppendManifest(module, text)
	if err != nil {
		return nil, err
	}
	if _, err := drivers.Check(file); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest, err)
	}
	return file, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxFile {
		return nil, fmt.Errorf("%s has %d bytes, %d are allowed", path, info.Size(), MaxFile)
	}
	return os.ReadFile(path)
}

func (p *Project) buildGo(ctx context.Context) ([]byte, error) {
	manifest, err := os.ReadFile(p.Manifest())
	if err != nil {
		return nil, err
	}
	if manifest, err = p.withSchemas(ctx, manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Manifest(), err)
	}
	dir, err := os.MkdirTemp("", "pollux-build-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "driver.wasm")
	// Without symbols of the debugger, but with names: they show in the twin's log where the driver crashes. Without the commit: the same
	// sources make the same file, which a version keeps.
	err = p.run(ctx, []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}, "go", "build", "-buildvcs=false", "-buildmode=c-shared", "-trimpath", "-ldflags=-w", "-o", out, ".")
	if err != nil {
		return nil, err
	}
	module, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return pack(module, manifest, p.Manifest())
}

// run runs a tool in the project's directory.
func (p *Project) run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.Dir
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("build: %s is not installed; it is needed for drivers in this language", name)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, strings.TrimRight(out.String(), "\n"))
	}
	return nil
}
