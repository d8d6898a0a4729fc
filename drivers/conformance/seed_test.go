package conformance_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// What goes by chance is drawn from the seed: a driver that crashes at frames of 13 bytes, which only a mutation has, crashes at the same
// frame again with the same seed, and at another one with another. The report says which seed it was.
func TestTheSameSeedDrawsTheSameFrames(t *testing.T) {
	file := wild(wasmtest.Code(0x20, 0, wasmtest.Const(int32(drivers.EventReceived)), 0x46, // the event is `received`
		0x20, 1, wasmtest.Const(13), 0x46, 0x71, 0x04, 0x40, 0x00, 0x0b, // and has 13 bytes: unreachable
		wasmtest.Const(0))...)
	frame := regexp.MustCompile(`^frame (\d+) of seed (\d+), `)
	crash := func(seed uint64) string {
		r, err := conformance.Run(t.Context(), sandbox(t), file, conformance.Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if want := max(seed, conformance.DefaultSeed); r.Seed != want {
			t.Errorf("the report says seed %d, want %d", r.Seed, want)
		}
		i := slices.IndexFunc(r.Probes, func(p conformance.Probe) bool { return p.Name == "garbage frames" })
		if i < 0 || r.Probes[i].Outcome != conformance.Failed || !frame.MatchString(r.Probes[i].Detail) {
			t.Fatalf("no frame crashed it: %+v", r.Probes)
		}
		return r.Probes[i].Detail
	}
	first := crash(0)
	if again := crash(conformance.DefaultSeed); again != first {
		t.Errorf("the same seed, and another frame:\n%s\n%s", first, again)
	}
	if other := crash(7); other == first {
		t.Errorf("another seed, and the same frame: %s", other)
	}
}
