package cluster

import (
	"errors"
	"testing"
	"time"
)

// Twins get other selectors, nodes join, leave and come back, while clients call: no call may fail.
func TestSelectorChangesFailNoCall(t *testing.T) {
	var calls, shifted int
	for seed := range uint64(min(30, simSeeds)) {
		w := calm(t, seed, 4)
		w.clients()
		for range 60 {
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			id, to := simTargets[w.rng.IntN(simSlots)], w.rng.IntN(3)
			if to == 0 {
				w.at(0, n.proc, func() { w.change(n.proc, id, 0) })
			} else {
				n.proc.node.makeClass(simSelectors[to-1], func(c Class, err error) {
					if err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
					w.at(0, n.proc, func() { w.change(n.proc, id, c) })
				})
			}
			w.run(w.now+w.between(0, 100*time.Millisecond), nil)
		}
		n := w.nodes[2*w.rng.IntN(2)] // they are not the only ones in their zone
		if err := w.ask(t, "leave", n.proc.node.startLeave); err != nil {
			t.Fatalf("seed %d: %v %s", seed, err, w.fail)
		}
		w.run(w.now+100*time.Millisecond, nil)
		w.crash(n.proc)
		if n.idx == w.leader {
			w.lead((n.idx + 1) % w.voters)
		}
		w.run(w.now+time.Second, nil)
		w.boot(n)
		w.must(t, 20*time.Second, "restart of "+n.id)
		w.healing = true // no more calls
		w.run(w.now+20*time.Second, nil)
		for _, c := range w.calls {
			if (c.err != nil || c.answers != 1) && !c.orphaned && !errors.Is(c.err, ErrDeadline) {
				t.Errorf("seed %d: call %x to twin %d: %d answers, %v", seed, c.id[:4], c.slot, c.answers, c.err)
			}
		}
		calls, shifted = calls+len(w.calls), shifted+w.count.shifted
		if w.fail != "" || t.Failed() {
			t.Fatalf("seed %d: %s", seed, w.fail)
		}
	}
	t.Logf("%d calls, %d changes of the place, none failed", calls, shifted)
}
