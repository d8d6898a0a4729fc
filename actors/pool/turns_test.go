package pool

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Turns that ask for turns, many more than may run at a time, all run, and no more of them at a time than may.
func TestTurnsRunEverything(t *testing.T) {
	var r Turns
	var running, most, ran atomic.Int32
	var wg sync.WaitGroup
	turn := func(then func()) func() {
		wg.Add(1)
		return func() {
			defer wg.Done()
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			ran.Add(1)
			if then != nil {
				then()
			}
			running.Add(-1)
		}
	}
	for range 20 {
		wg.Go(func() {
			for range 500 {
				r.Schedule(turn(func() { r.Schedule(turn(nil)) }))
			}
		})
	}
	wg.Wait()
	if ran.Load() != 20_000 || most.Load() > maxTurns {
		t.Errorf("%d ran, %d at a time; want 20000 and at most %d", ran.Load(), most.Load(), maxTurns)
	}
	r.Close()
	var after sync.WaitGroup
	after.Add(1)
	r.Schedule(after.Done)
	after.Wait()
}
