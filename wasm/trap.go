package wasm

import (
	"fmt"
	"strings"
	"time"
)

// Trap is the error of a call that crashed. Its instance is gone.
type Trap struct {
	// Reason in a few words, such as "unreachable" or "panic: index out of range".
	Reason string
	// Functions were on the stack, innermost first, as far as the module names them.
	Functions []string
	// Output is the beginning and the end of what the guest wrote to its standard output and error during the call.
	Output string
}

func (t *Trap) Error() string { return "the module crashed: " + t.Reason }

// exitStatus is the panic of proc_exit.
type exitStatus uint32

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", uint32(e)) }

// newTrap reads a failed call's error and the guest's output.
func newTrap(err error, output []byte) *Trap {
	t := &Trap{Reason: firstLine(err.Error()), Output: string(output)}
	t.Reason = strings.TrimPrefix(t.Reason, "wasm error: ")
	t.Reason = strings.TrimSuffix(t.Reason, " (recovered by wazero)")
	if _, stack, ok := strings.Cut(err.Error(), "wasm stack trace:"); ok {
		for line := range strings.Lines(stack) {
			line = strings.TrimSpace(line)
			if line == "" {
				if len(t.Functions) > 0 {
					break
				}
				continue
			}
			t.Functions = append(t.Functions, line)
		}
	}
	for line := range strings.Lines(t.Output) { // a Go guest says why, then exits or aborts
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			t.Reason = strings.TrimSpace(line)
			break
		}
	}
	return t
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// stoppedError is the error of a call that was ended from outside: errors.Is finds the context's error in it.
func stoppedError(cause error, after time.Duration) error {
	return fmt.Errorf("the call was stopped after %s: %w", after.Round(time.Millisecond), cause)
}
