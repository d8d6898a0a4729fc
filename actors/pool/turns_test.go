package pool

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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

// Turns that take long do not keep the others waiting, until as many take long as may run at a time.
func TestTurnsGoPastLongOnes(t *testing.T) {
	var r Turns
	defer r.Close()
	end := make(chan struct{})
	var began atomic.Int32
	var wg sync.WaitGroup
	wait := func() {
		began.Add(1)
		<-end
		wg.Done()
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d have begun", what, began.Load())
			}
		}
	}
	wg.Add(maxTurns + 3)
	for range maxTurns - 1 {
		r.Schedule(wait)
	}
	until("all but one are taken", func() bool { return began.Load() == maxTurns-1 })
	var short sync.WaitGroup
	short.Add(1000)
	for range 1000 {
		r.Schedule(short.Done)
	}
	short.Wait()
	for range 4 {
		r.Schedule(wait)
	}
	until("the last is taken", func() bool { return began.Load() == maxTurns })
	for range 100 {
		runtime.Gosched()
	}
	if n := began.Load(); n != maxTurns {
		t.Errorf("%d at a time, want %d", n, maxTurns)
	}
	close(end)
	wg.Wait()
	if n := began.Load(); n != maxTurns+3 {
		t.Errorf("%d ran, want %d", n, maxTurns+3)
	}
}
