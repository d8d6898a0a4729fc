// Compiler compiles drivers for tests, in a process of its own that is built without the race detector: under it
// compiling takes ten times longer.
package main

import (
	"os"

	"github.com/polluxhq/pollux/wasm"
)

func main() { os.Exit(wasm.CompileChild(os.Args[1:], os.Stdin, os.Stdout)) }
