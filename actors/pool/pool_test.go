package pool

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type job func()

func (j job) Run() { j() }

func TestBoundsAndFairness(t *testing.T) {
	p := New(Options{Running: 4, RunningPerKey: 2, StartedPerKey: 8})
	var greedy, modest Key
	release := make(chan struct{})
	var running, most atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Add(1)
		p.Submit(&greedy, job(func() {
			defer wg.Done()
			n := running.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-release
			running.Add(-1)
		}))
	}
	// The greedy key holds its two shares for ever; the modest one gets through all the same.
	done := make(chan struct{})
	for i := range 50 {
		p.Submit(&modest, job(func() {
			if i == 49 {
				close(done)
			}
		}))
	}
	wait(t, done, "the modest key's jobs")
	close(release)
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d jobs of one key ran at a time, want at most 2", most.Load())
	}
	p.Close()
	if p.Submit(&modest, job(func() {})) {
		t.Error("a closed pool took a job")
	}
}

func TestBlockedGiveTheirShareAway(t *testing.T) {
	p := New(Options{Running: 1, RunningPerKey: 1, StartedPerKey: 3})
	var k Key
	answer := make(chan struct{})
	var started atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(1)
		p.Submit(&k, job(func() {
			defer wg.Done()
			started.Add(1)
			p.Block(&k)
			<-answer
			p.Unblock(&k)
			if r, _, _ := p.Load(&k); r != 1 {
				t.Errorf("%d jobs run after Unblock, want 1", r)
			}
		}))
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, blocked, _ := p.Load(&k); blocked < 3; _, blocked, _ = p.Load(&k) {
		if time.Now().After(deadline) {
			t.Fatal("the jobs that wait did not reach 3")
		}
		time.Sleep(time.Millisecond)
	}
	if n := started.Load(); n != 3 {
		t.Fatalf("%d jobs started, want no more than StartedPerKey = 3", n)
	}
	close(answer)
	wg.Wait()
	p.Close()
}

func TestSlowKeyRunsOneAtATime(t *testing.T) {
	p := New(Options{Running: 8, RunningPerKey: 4, StartedPerKey: 100})
	var k Key
	p.Slow(&k, true)
	var running atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Add(1)
		p.Submit(&k, job(func() {
			defer wg.Done()
			if n := running.Add(1); n > 1 {
				t.Errorf("%d slow jobs at a time", n)
			}
			running.Add(-1)
		}))
	}
	wg.Wait()
	p.Close()
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not within 10 s", what)
	}
}

func BenchmarkSubmit(b *testing.B) {
	p := New(Options{Running: 4, RunningPerKey: 2, StartedPerKey: 100})
	var k Key
	done := make(chan struct{}, 1)
	j := job(func() { done <- struct{}{} })
	b.ReportAllocs()
	for b.Loop() {
		p.Submit(&k, j)
		<-done
	}
	p.Close()
}
