package wasm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TrapKind says how a call ended before its time.
type TrapKind int

// The kinds.
const (
	// TrapCrash: the guest did what it must not, or ended itself.
	TrapCrash TrapKind = iota
	// TrapDeadline: the deadline of the call's context passed.
	TrapDeadline
	// TrapCancelled: the call's context was cancelled.
	TrapCancelled
	// TrapDepth: the guest's functions called each other too deep.
	TrapDepth
)

// Trap is the error of a call that crashed or was stopped. Its instance is gone.
type Trap struct {
	Kind TrapKind
	// Reason in a few words, such as "unreachable" or "panic: index out of range".
	Reason string
	// Functions were on the stack, innermost first, as far as the module names them.
	Functions []string
	// Output is the beginning and the end of what the guest wrote to its standard output and error during the call.
	Output string

	cause error
}

func (t *Trap) Error() string {
	if t.cause != nil {
		return t.Reason
	}
	return "the module crashed: " + t.Reason
}

// Unwrap gives the context's error of a call that was stopped.
func (t *Trap) Unwrap() error { return t.cause }

// exitStatus is the panic of proc_exit.
type exitStatus uint32

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", uint32(e)) }

// newTrap reads a failed call's error and the guest's output.
func (in *Instance) newTrap(err error) *Trap {
	t := &Trap{Reason: firstLine(err.Error()), Output: string(in.Output())}
	t.Reason = strings.TrimPrefix(t.Reason, "wasm error: ")
	t.Reason = strings.TrimSuffix(t.Reason, " (recovered by wazero)")
	t.Functions = in.pool.module.stack(err)
	var depth depthError
	switch {
	case in.meter.stopped != nil:
		t.stop(in.meter.stopped, time.Since(in.lastUsed))
		return t
	case errors.As(err, &depth):
		t.Kind = TrapDepth
		return t
	}
	for line := range strings.Lines(t.Output) { // a Go guest says why, then exits or aborts
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			t.Reason = strings.TrimSpace(line)
			break
		}
	}
	return t
}

// stop makes it the trap of a call that was ended from outside.
func (t *Trap) stop(cause error, after time.Duration) {
	t.Kind, t.cause = TrapDeadline, cause
	if errors.Is(cause, context.Canceled) {
		t.Kind = TrapCancelled
	}
	t.Reason = fmt.Sprintf("the call was stopped after %s: %v", after.Round(time.Millisecond), cause)
}

// stack reads the functions out of a failed call's error.
func (m *Module) stack(err error) (functions []string) {
	_, stack, _ := strings.Cut(err.Error(), "wasm stack trace:")
	for line := range strings.Lines(stack) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" && len(functions) > 0:
			return functions
		case line == "", strings.HasPrefix(line, meterModule+"."):
		default:
			functions = append(functions, strings.TrimPrefix(m.unshifted(line), "."))
		}
	}
	return functions
}

// unshifted gives a function without a name the number that it had before the module was metered.
func (m *Module) unshifted(line string) string {
	module, rest, ok := strings.Cut(line, ".$")
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	index, err := strconv.Atoi(rest[:digits])
	if !ok || err != nil || index <= len(m.info.Imports) {
		return line
	}
	return module + ".$" + strconv.Itoa(index-1) + rest[digits:]
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
