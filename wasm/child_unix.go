//go:build linux || darwin

package wasm

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// compileNice is the compiler's priority: beside calls that keep all processors busy it has a quarter of one.
const compileNice = 5

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
	lowerPriority()
	return nil
}

// lowerPriority lets others run first. On Linux each thread has a priority of its own, which those inherit that it starts.
// Where the process has a lower one already it stays.
func lowerPriority() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, compileNice)
		return
	}
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, compileNice)
		}
	}
}
