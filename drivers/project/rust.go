package project

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sdk"
)

// rustTarget is what drivers in Rust are compiled for.
const rustTarget = "wasm32-unknown-unknown"

// ErrNoRust says that there is no Rust compiler that makes WASM.
var ErrNoRust = errors.New("no rustc with the target " + rustTarget + " was found; install one: apt-get install rustc libstd-rust-dev-wasm32 lld, or rustup target add " + rustTarget)

// rustCompiler finds a compiler: $RUSTC, the one in the path, or the system's, whichever knows the target first.
func rustCompiler(ctx context.Context) (string, error) {
	for _, name := range []string{os.Getenv("RUSTC"), "rustc", "/usr/bin/rustc"} {
		if name == "" {
			continue
		}
		lib, err := exec.CommandContext(ctx, name, "--print", "target-libdir", "--target", rustTarget).Output()
		if err != nil {
			continue
		}
		if std, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(lib)), "libstd-*")); len(std) > 0 {
			return name, nil
		}
	}
	return "", ErrNoRust
}

// HasRust says, by ErrNoRust, whether drivers in Rust can be built here.
func HasRust(ctx context.Context) error {
	_, err := rustCompiler(ctx)
	return err
}

// buildRust compiles the SDK, then the driver with it. Cargo could do the same; rustc alone needs no network and is there
// where cargo is not. The manifest is in the module already: the driver's macro made it.
func (p *Project) buildRust(ctx context.Context) ([]byte, error) {
	rustc, err := rustCompiler(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pollux-build-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	twin, err := p.rustSDK(dir)
	if err != nil {
		return nil, err
	}
	flags := []string{"--edition", "2021", "--target", rustTarget, "-C", "opt-level=s", "-C", "panic=abort"}
	if _, err := exec.LookPath("wasm-ld"); err == nil {
		flags = append(flags, "-C", "linker=wasm-ld")
	}
	library, out := filepath.Join(dir, "libtwin.rlib"), filepath.Join(dir, "driver.wasm")
	if err := p.run(ctx, nil, rustc, append(flags, "--crate-type", "rlib", "--crate-name", "twin", "-o", library, twin)...); err != nil {
		return nil, err
	}
	source := "src/lib.rs"
	if !exists(p.Dir, source) {
		source = "lib.rs"
	}
	// Without symbols of the debugger, but with names: they show in the twin's log where the driver crashes.
	err = p.run(ctx, nil, rustc, append(flags, "-C", "lto", "-C", "strip=debuginfo", "--crate-type", "cdylib", "--crate-name", "driver",
		"--extern", "twin="+library, "-o", out, source)...)
	if err != nil {
		return nil, err
	}
	file, err := readFile(out)
	if err != nil {
		return nil, err
	}
	if _, err := drivers.Check(file); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(p.Dir, source), err)
	}
	return file, nil
}

// rustSDK gives the crate's main file: the project's own copy, or else the one that this program carries, written to dir.
func (p *Project) rustSDK(dir string) (string, error) {
	if own := "twin/src/lib.rs"; exists(p.Dir, own) {
		return own, nil
	}
	files, err := fs.Glob(sdk.Rust, "rust/src/*.rs")
	if err != nil {
		return "", err
	}
	for _, name := range files {
		text, err := fs.ReadFile(sdk.Rust, name)
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "rust", "src", "lib.rs"), nil
}
