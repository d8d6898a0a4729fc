package pool

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type fn struct {
	run    func(*Ticket)
	ticket Ticket
}

func (f *fn) Run()            { f.run(&f.ticket) }
func (f *fn) Ticket() *Ticket { return &f.ticket }

func job(run func()) Job { return &fn{run: func(*Ticket) { run() }} }

// kind makes a job of a kind.
func kind(event int32, run func(*Ticket)) Job {
	return &fn{run: run, ticket: Ticket{Kind: Kind{Event: event}}}
}

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
		p.Submit(&k, kind(1, func(own *Ticket) {
			defer wg.Done()
			started.Add(1)
			p.Block(&k, own)
			<-answer
			p.Unblock(&k)
			if r, _, _ := p.Load(&k); r != 1 {
				t.Errorf("%d jobs run after Unblock, want 1", r)
			}
		}))
	}
	deadline := time.Now().Add(30 * time.Second)
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

// Jobs that wait for the outside hold up those of their kind, beyond the bound, and no others of their key. When they do
// not wait any more, they are as the others.
func TestOthersGoPastThoseThatWait(t *testing.T) {
	p := New(Options{Running: 4, RunningPerKey: 2, StartedPerKey: 8})
	var k Key
	answer := make(chan struct{})
	var wg sync.WaitGroup
	const asks, says = 1, 2
	for range 100 {
		wg.Add(1)
		p.Submit(&k, kind(asks, func(own *Ticket) {
			defer wg.Done()
			p.Block(&k, own)
			<-answer
			p.Unblock(&k)
		}))
	}
	var mostBlocked int
	for range 200 {
		done := make(chan struct{})
		p.Submit(&k, kind(says, func(*Ticket) { close(done) }))
		wait(t, done, "a job of another kind")
		_, blocked, _ := p.Load(&k)
		mostBlocked = max(mostBlocked, blocked)
	}
	if mostBlocked < 8 || mostBlocked > 8+2 {
		t.Errorf("%d waited at a time, want 8, and those that ran before it was known that they wait", mostBlocked)
	}
	close(answer)
	wg.Wait()
	for range forgetAfter {
		done := make(chan struct{})
		p.Submit(&k, kind(asks, func(*Ticket) { close(done) }))
		wait(t, done, "a job that does not wait")
	}
	p.Close()
	if len(k.waits) != 0 || k.asking != 0 || k.running != 0 || k.blocked != 0 {
		t.Errorf("left behind: %d kinds that wait, %d asking, %d running, %d blocked", len(k.waits), k.asking, k.running, k.blocked)
	}
}

// However many kinds there are, the jobs that wait are bounded.
func TestAllKindsTogetherAreBounded(t *testing.T) {
	p := New(Options{Running: 4, RunningPerKey: 2, StartedPerKey: 4})
	var k Key
	answer := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Add(1)
		p.Submit(&k, kind(int32(i), func(own *Ticket) {
			defer wg.Done()
			p.Block(&k, own)
			<-answer
			p.Unblock(&k)
		}))
	}
	deadline := time.Now().Add(30 * time.Second)
	for _, blocked, _ := p.Load(&k); blocked < 8; _, blocked, _ = p.Load(&k) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", blocked)
		}
		time.Sleep(time.Millisecond)
	}
	if running, blocked, queued := p.Load(&k); running != 0 || blocked != 8 || queued != 92 {
		t.Errorf("%d run, %d wait, %d are queued; want 0, 8, 92", running, blocked, queued)
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
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: not within 30 s", what)
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
