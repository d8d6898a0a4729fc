// Command pack puts a manifest into a WASM file, which makes it a driver.
//
//	pack -manifest driver.json -o driver.wasm in.wasm
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/polluxhq/pollux/drivers"
)

func main() {
	manifest := flag.String("manifest", "driver.json", "the manifest, JSON")
	out := flag.String("o", "driver.wasm", "the file to write")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: pack -manifest driver.json -o driver.wasm in.wasm")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := pack(flag.Arg(0), *manifest, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(in, manifest, out string) error {
	file, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	packed, err := drivers.AppendManifest(file, text)
	if err != nil {
		return err
	}
	if _, err := drivers.Check(packed); err != nil {
		return err
	}
	return os.WriteFile(out, packed, 0o644)
}
