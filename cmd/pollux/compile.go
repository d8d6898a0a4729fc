package main

import (
	"os"
	"runtime"
)

// compileCommand makes this program the compiler of a node's drivers: it compiles one module from its standard input
// within limits of time and memory, and ends. Nodes start it; it is not for people, so no help shows it.
const compileCommand = "compile-driver"

// driverCompiler is the command line of this program as a compiler. Where it cannot find itself the node compiles by
// itself.
func driverCompiler() []string {
	if runtime.GOOS == "linux" { // the very program that runs, also after another one took its place on disk
		return []string{"/proc/self/exe", compileCommand}
	}
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{self, compileCommand}
}
