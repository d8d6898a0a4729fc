// Package js runs drivers that are one file of JavaScript. It holds the engine, QuickJS as a module of the contract twin1,
// and the SDK that a driver's file is evaluated with; package drivers runs both in the sandbox like any driver.
//
// Its border: it knows the engine's exports and what the SDK answers, not manifests, twins or capabilities.
package js

import (
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/klauspost/compress/zstd"
)

//go:embed dist
var dist embed.FS

var (
	//go:embed sdk/sdk.js
	sdkSource string
	//go:embed sdk/twin.js
	twinSource string
	//go:embed sdk/declare.js
	declareSource string
	//go:embed sdk/mdns.js
	mdnsSource string
)

// Types are the TypeScript types of the SDK, for editors.
//
//go:embed sdk/pollux.d.ts
var Types []byte

// ErrNoEngine is the error of a program that was built without the engine.
var ErrNoEngine = errors.New("this program was built without the JavaScript engine; build it with make")

// maxEngine bounds the engine's bytes when it is unpacked.
const maxEngine = 8 << 20

// Engine returns the engine's module. It unpacks it anew each time: some milliseconds. Errors: ErrNoEngine.
func Engine() ([]byte, error) {
	packed, err := dist.ReadFile("dist/engine.wasm.zst")
	if err != nil {
		return nil, ErrNoEngine
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxEngine), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("javascript engine: %w", err)
	}
	defer dec.Close()
	file, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("javascript engine: %w", err)
	}
	return file, nil
}

// SDK is the script that begins an instance: sdk.js, with the other parts where it includes them.
func SDK() string {
	return strings.NewReplacer("//#include twin.js", twinSource, "//#include declare.js", declareSource, "//#include mdns.js", mdnsSource).Replace(sdkSource)
}
