package actors_test

import (
	"os"
	"runtime"
	"runtime/pprof"
)

func writeHeap() {
	if p := os.Getenv("HEAPPROF"); p != "" {
		f, _ := os.Create(p)
		runtime.GC()
		pprof.Lookup("heap").WriteTo(f, 0)
		f.Close()
	}
}
