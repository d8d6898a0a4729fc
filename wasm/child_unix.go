//go:build linux || darwin

package wasm

import (
	"fmt"
	"syscall"
	"time"
)

// limitProcess bounds this process. Past the processor time it is ended; past the memory it finds none.
func limitProcess(processor time.Duration, bytes uint64) error {
	seconds := uint64(processor / time.Second)
	for what, limit := range map[int]syscall.Rlimit{
		syscall.RLIMIT_CPU:  {Cur: seconds, Max: seconds + 1},
		syscall.RLIMIT_DATA: {Cur: bytes, Max: bytes},
		syscall.RLIMIT_CORE: {},
	} {
		if err := syscall.Setrlimit(what, &limit); err != nil {
			return fmt.Errorf("limit the compiler: %w", err)
		}
	}
	return nil
}
