package drivertest

import (
	"fmt"
	"os"
	"testing"

	"github.com/polluxhq/pollux/drivers/project"
)

// Missing skips a test for want of a program that this machine does not have. Where POLLUX_PEERS is "all", as in the gate, which
// installs them, it fails instead: nothing is left out there unseen.
func Missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	text := fmt.Sprintf(format, args...)
	if os.Getenv("POLLUX_PEERS") == "all" {
		tb.Fatal("missing: " + text)
	}
	tb.Skip(text)
}

// NeedRust is Missing where there is no compiler for drivers in Rust.
func NeedRust(tb testing.TB) {
	tb.Helper()
	if err := project.HasRust(tb.Context()); err != nil {
		Missing(tb, "%v", err)
	}
}
