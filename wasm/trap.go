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
	// Functions were on the stack, innermost first, as far as the module names them, with " at FILE:LINE" where it carries
	// debug information, or is a Go program.
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
		t.stop(in.meter.stopped, time.Since(in.meter.start))
		return t
	case errors.As(err, &depth):
		t.Kind = TrapDepth
		return t
	}
	if functions := goStack(t.Output); len(functions) > 0 {
		t.Functions = functions
	}
	t.cutRustPanic()
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
	if after < time.Millisecond { // its time had passed before it began
		t.Reason = fmt.Sprintf("the call was stopped: %v", cause)
		return
	}
	t.Reason = fmt.Sprintf("the call was stopped after %s: %v", after.Round(time.Millisecond), cause)
}

// stack reads the functions out of a failed call's error, with the author's lines where the module tells.
func (m *Module) stack(err error) (functions []string) {
	_, stack, _ := strings.Cut(err.Error(), "wasm stack trace:")
	placed := true // the last one has its line
	for line := range strings.Lines(stack) {
		line = strings.TrimSpace(line)
		offset, isPlace := strings.CutPrefix(line, "0x")
		switch {
		case line == "" && len(functions) > 0:
			return functions
		case line == "":
		case isPlace:
			if place := m.place(offset); place != "" && !placed {
				functions[len(functions)-1] += " at " + place
			}
			placed = true
		case strings.HasPrefix(line, meterModule+"."):
			placed = true
		default:
			functions = append(functions, functionTitle(strings.TrimPrefix(m.unshifted(line), ".")))
			placed = false
		}
	}
	return functions
}

// place reads the offset in "0x1f: …".
func (m *Module) place(text string) string {
	digits, _, _ := strings.Cut(text, ":")
	offset, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return ""
	}
	return m.lines.place(offset)
}

// functionTitle is a function's name as its author writes it: without the types, which the compiler adds, and without what
// Rust puts around it.
func functionTitle(name string) string {
	for at := 0; at < len(name); at++ {
		types, _, ok := strings.Cut(name[at:], ")")
		if ok && types[0] == '(' && strings.Trim(types[1:], "ifv,0123456789") == "" {
			name = name[:at]
		}
	}
	if rest, ok := strings.CutPrefix(name, "_ZN"); ok {
		return rustTitle(name, rest)
	}
	return name
}

// rustTitle reads a name such as _ZN4core9panicking5panic17h0123456789abcdefE: lengths and parts, the last one a digest.
func rustTitle(name, rest string) string {
	var parts []string
	for rest != "" && rest[0] != 'E' {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n > len(rest)-digits {
			return name
		}
		parts = append(parts, rest[digits:digits+n])
		rest = rest[digits+n:]
	}
	if len(parts) > 1 && len(parts[len(parts)-1]) == 17 && parts[len(parts)-1][0] == 'h' {
		parts = parts[:len(parts)-1]
	}
	return strings.Join(parts, "::")
}

// cutRustPanic leaves out the functions by which Rust's library panics, which always are the same ten or so, and says in
// the reason which panic it is.
func (t *Trap) cutRustPanic() {
	for k := len(t.Functions) - 1; k >= 0; k-- {
		name, _, _ := strings.Cut(t.Functions[k], " ")
		if kind, ok := strings.CutPrefix(name, "core::panicking::"); ok || name == "rust_begin_unwind" || name == "std::panicking::begin_panic" {
			t.Functions = t.Functions[k+1:]
			if t.Reason = "panic"; ok && kind != "panic" && kind != "panic_fmt" {
				t.Reason += ": " + strings.ReplaceAll(strings.TrimPrefix(kind, "panic_"), "_", " ")
			}
			return
		}
	}
}

// goStack reads the functions out of what a Go guest prints as it panics: they come with the author's lines, also where
// the module's own names were stripped. The runtime's are left out.
func goStack(output string) (functions []string) {
	_, trace, ok := strings.Cut(output, "\ngoroutine ")
	if !ok {
		return nil
	}
	_, trace, _ = strings.Cut(trace, "\n")
	function := ""
	for line := range strings.Lines(trace) {
		line = strings.TrimRight(line, "\n")
		file, isPlace := strings.CutPrefix(line, "\t")
		switch {
		case line == "":
			return functions
		case !isPlace:
			function = line[:max(0, strings.LastIndexByte(line, '('))]
		case function != "" && function != "panic" && !strings.HasPrefix(function, "runtime."):
			file, _, _ = strings.Cut(file, " ")
			functions = append(functions, function+" at "+shortPath(file))
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
