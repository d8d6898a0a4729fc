package drivers_test

import (
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

// TestLoadTakesWhatVerifyLeft: an upload, which verifies a file and then loads it, initialises the driver once.
func TestLoadTakesWhatVerifyLeft(t *testing.T) {
	set := metrics.NewSet()
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Metrics: set})
	initialised := set.GetOrCreateCounter("pollux_wasm_instances_initialised_total")
	file := drivertest.Echo(t)
	if _, err := s.Verify(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 2; n++ { // the second one finds nothing left
		r := load(t, s, file)
		if e, err := r.Handle(t.Context(), command("echo", "5"), &host{}); err != nil || string(e.Output) != "5" {
			t.Fatalf("%s, %v", e.Output, err)
		}
		if got := initialised.Get(); got != n {
			t.Errorf("initialised %d times for %d runners", got, n)
		}
	}
	// What nobody loads is closed with the sandbox, and makes room for the next one before.
	for range 3 {
		if _, err := s.Verify(t.Context(), file); err != nil {
			t.Fatal(err)
		}
	}
}
