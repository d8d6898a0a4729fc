// Command pack compresses driver files into the catalog of the program.
//
//	go run ./drivers/catalog/pack bin/drivers/*.wasm
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/polluxhq/pollux/drivers"
)

func main() {
	dir := flag.String("dir", filepath.Join("drivers", "catalog", "dist"), "the directory to fill")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: pack [-dir DIR] FILE.wasm…")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := pack(*dir, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(dir string, files []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		m, err := drivers.Check(file)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out := filepath.Join(dir, m.Name+".wasm.zst")
		if keep[out] {
			return fmt.Errorf("%s: there are two drivers %s", name, m.Name)
		}
		keep[out] = true
		packed := enc.EncodeAll(file, nil)
		if err := write(out, packed); err != nil {
			return err
		}
		fmt.Printf("%s %s: %d KB, packed %d KB\n", m.Name, m.Version, len(file)>>10, len(packed)>>10)
	}
	return nil
}

// write leaves a file alone that is the same already, so that the program is not built anew.
func write(path string, b []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return os.WriteFile(path, b, 0o644)
}
