package drivertest

import (
	"testing"

	"github.com/polluxhq/pollux/drivers/js"
)

// NeedEngine skips a test of drivers in JavaScript where the engine was not built.
func NeedEngine(tb testing.TB) {
	tb.Helper()
	if _, err := js.Engine(); err != nil {
		Missing(tb, "%v", err)
	}
}
