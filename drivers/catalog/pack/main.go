// Command pack compresses driver files into the catalog of the program.
//
//	go run ./drivers/catalog/pack bin/drivers/*.wasm
//	go run ./drivers/catalog/pack drivers/library/*/*.js
package main

import (
	"bytes"
	"context"
	"encoding/json"
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
		fmt.Fprintln(flag.CommandLine.Output(), "usage: pack [-dir DIR] FILE.wasm|FILE.js…")
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
	p := packer{dir: dir, enc: enc, seen: map[string]bool{}}
	defer p.close()
	for _, name := range files {
		if err := p.pack(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// packer checks files and packs them. Sources of JavaScript are run for their manifest, in a sandbox.
type packer struct {
	dir     string
	enc     *zstd.Encoder
	sandbox *drivers.Sandbox
	seen    map[string]bool
}

func (p *packer) close() {
	if p.sandbox != nil {
		_ = p.sandbox.Close()
	}
}

func (p *packer) pack(name string) error {
	file, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	m, suffix, err := p.check(file)
	if err != nil {
		return err
	}
	if p.seen[m.Name] {
		return fmt.Errorf("there are two drivers %s", m.Name)
	}
	p.seen[m.Name] = true
	packed := p.enc.EncodeAll(file, nil)
	if err := write(filepath.Join(p.dir, m.Name+suffix), packed); err != nil {
		return err
	}
	if drivers.IsSource(file) {
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(p.dir, m.Name+".manifest.json"), text); err != nil {
			return err
		}
	}
	fmt.Printf("%s %s: %d KB, packed %d KB\n", m.Name, m.Version, len(file)>>10, len(packed)>>10)
	return nil
}

func (p *packer) check(file []byte) (m *drivers.Manifest, suffix string, err error) {
	if !drivers.IsSource(file) {
		m, err = drivers.Check(file)
		return m, ".wasm.zst", err
	}
	if p.sandbox == nil {
		if p.sandbox, err = drivers.NewSandbox(drivers.SandboxOptions{}); err != nil {
			return nil, "", err
		}
	}
	m, err = p.sandbox.Verify(context.Background(), file)
	return m, ".js.zst", err
}

// write leaves a file alone that is the same already, so that the program is not built anew.
func write(path string, b []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return os.WriteFile(path, b, 0o644)
}
