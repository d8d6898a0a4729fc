// Command rust builds drivers in Rust for the Makefile: rust -o DIR PROJECT... Where there is no compiler for them it says so
// in one sentence, and leaves them out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/polluxhq/pollux/drivers/project"
)

func main() {
	out := flag.String("o", "bin/drivers", "where to write NAME.wasm")
	flag.Parse()
	if err := run(context.Background(), *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, dirs []string) error {
	if err := project.HasRust(ctx); errors.Is(err, project.ErrNoRust) {
		fmt.Printf("leaving out the drivers in Rust: %v\n", err)
		return nil
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, dir := range dirs {
		fmt.Println("building driver", filepath.Base(dir))
		p, err := project.Find(dir)
		if err != nil {
			return err
		}
		file, err := p.Build(ctx)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, filepath.Base(dir)+".wasm"), file, 0o644); err != nil {
			return err
		}
	}
	return nil
}
