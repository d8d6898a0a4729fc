// Command pack compresses the JavaScript engine into the program.
//
//	go run ./drivers/js/pack build/engine.wasm drivers/js/dist/engine.wasm.zst
package main

import (
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack IN.wasm OUT.zst")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(in, out string) error {
	file, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	packed := enc.EncodeAll(file, nil)
	fmt.Printf("javascript engine: %d KB, packed %d KB\n", len(file)>>10, len(packed)>>10)
	return os.WriteFile(out, packed, 0o644)
}
