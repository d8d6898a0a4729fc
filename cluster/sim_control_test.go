package cluster

import (
	"strings"
	"testing"
	"time"
)

// Each protection of the protocol is switched off once, and the simulation must find out: an invariant that cannot fail
// says nothing.
func TestSimulationFindsWhatIsSwitchedOff(t *testing.T) {
	for _, control := range []struct {
		name  string
		opt   simOptions
		finds string // the invariant that must fail
	}{
		{"the lease is not checked", simOptions{faults: faults{ignoreLease: true}}, "single writer"},
		{"the dead are declared while their lease may still hold", simOptions{faults: faults{deadAfter: 2800 * time.Millisecond}}, "single writer"},
		{"slots are flipped before the handler has released them", simOptions{faults: faults{dontAwait: true}}, "forced"},
		{"flips carry no guard on the slot's record", simOptions{faults: faults{noSlotGuard: true}}, "order"},
		{"the leader takes slots from the living", simOptions{faults: faults{forceRelease: true}}, "forced"},
		{"the slots of the dead stay", simOptions{faults: faults{neverFlip: true}}, "healing"},
		{"parked calls are forgotten", simOptions{faults: faults{dropParked: true}}, "one answer"},
		{"checkpoints carry no guard on the slot's record", simOptions{noFence: true}, "fence"},
		{"calls are answered before they are committed", simOptions{ackEarly: true}, "acknowledged"},
		{"a change of the selector changes the twin's place at once", simOptions{oneStep: true}, "single writer"},
		{"the handler does not look whether a twin lives in the slot", simOptions{noLook: true}, "single writer"},
		{"twins move to a class that they may not be wanted in any more", simOptions{faults: faults{noShiftGuard: true}}, "healing"},
		{"a call whose answer is lost counts as not sent", simOptions{unsent: true}, "outcome"},
		{"call ids are not remembered", simOptions{noDedupe: true}, "at most once"},
	} {
		t.Run(control.name, func(t *testing.T) {
			t.Parallel()
			const within = 100
			for seed := uint64(1); seed <= within; seed++ {
				w := simulate(seed, control.opt)
				if strings.Contains(w.fail, control.finds+":") {
					t.Logf("found with seed %d: %s", seed, w.fail)
					return
				}
			}
			t.Errorf("not found with %d seeds", within)
		})
	}
}
