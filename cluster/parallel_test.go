package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wire joins nodes in one process.
type wire struct {
	mu    sync.RWMutex
	nodes map[string]*Node
}

func (x *wire) Send(node string, env *Envelope, done func(Reply)) {
	x.mu.RLock()
	n := x.nodes[node]
	x.mu.RUnlock()
	if n == nil {
		done(Reply{Err: ErrUnavailable})
		return
	}
	go n.Receive(env, done)
}

// worker runs calls in goroutines of their own and ends them before it releases a slot. busy is shared by all nodes: it
// tells when two of them work for one slot.
type worker struct {
	mu   sync.Mutex
	own  map[Slot]*sync.WaitGroup
	busy *[SlotCount]atomic.Pointer[worker]
	ran  *atomic.Int64
	t    *testing.T
}

func (h *worker) Handle(env *Envelope, done func(Reply)) {
	s := SlotOf(env.Target.ID)
	h.mu.Lock()
	running := h.own[s]
	if running != nil {
		running.Add(1)
	}
	h.mu.Unlock()
	if running == nil {
		done(Reply{Err: ErrNotOwner})
		return
	}
	go func() {
		if other := h.busy[s].Load(); other != h {
			h.t.Errorf("two nodes have slot %d", s)
		}
		time.Sleep(time.Millisecond)
		h.ran.Add(1)
		running.Done()
		done(Reply{})
	}()
}

func (h *worker) Gained(owned []Ownership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range owned {
		h.own[o.Slot] = new(sync.WaitGroup)
		if !h.busy[o.Slot].CompareAndSwap(nil, h) {
			h.t.Errorf("slot %d is gained while another has it", o.Slot)
		}
	}
}

func (h *worker) take(s Slot) *sync.WaitGroup {
	h.mu.Lock()
	defer h.mu.Unlock()
	running := h.own[s]
	delete(h.own, s)
	return running
}

func (h *worker) Release(slots []Slot, done func()) {
	go func() {
		for _, s := range slots {
			if running := h.take(s); running != nil {
				running.Wait()
				h.busy[s].CompareAndSwap(h, nil)
			}
		}
		done()
	}()
}

func (h *worker) Lost(slots []Slot) {
	for _, s := range slots {
		if h.take(s) != nil {
			h.busy[s].CompareAndSwap(h, nil)
		}
	}
}

// The simulation has one goroutine; here are many, for the race detector: calls from all sides while slots move to and
// fro. None fails.
func TestCallsFromAllSidesWhileSlotsMove(t *testing.T) {
	s, x := newTables(), &wire{nodes: map[string]*Node{}}
	var busy [SlotCount]atomic.Pointer[worker]
	var ran atomic.Int64
	for i := range 3 {
		id := fmt.Sprintf("n%d", i+1)
		n, err := Start(t.Context(), Options{Self: Member{ID: id, Name: id, Incarnation: 1}, Records: s, Transport: x,
			Handler: &worker{own: map[Slot]*sync.WaitGroup{}, busy: &busy, ran: &ran, t: t}, Leader: func() bool { return i == 0 }})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		x.mu.Lock()
		x.nodes[id] = n
		x.mu.Unlock()
	}
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var asked atomic.Int64
	for c := range 12 {
		n := x.nodes[fmt.Sprintf("n%d", c%3+1)]
		callers.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				asked.Add(1)
				got := make(chan Reply, 2)
				n.Call(&Envelope{Target: Target{"twin", fmt.Sprintf("default/t%d", i%500)}}, func(r Reply) { got <- r })
				select {
				case r := <-got:
					if r.Err != nil {
						t.Errorf("call: %v", r.Err)
						return
					}
				case <-time.After(30 * time.Second):
					t.Error("a call has no answer")
					return
				}
			}
		})
	}
	by := x.nodes["n1"]
	for round := range 2 {
		id := fmt.Sprintf("n%d", round%3+1)
		if err := by.Drain(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		await(t, "the drain of "+id, func() bool { return by.SlotsByNode()[id] == 0 })
		if err := by.Undrain(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		await(t, "the return of "+id, func() bool { return len(by.Check(t.Context())) == 0 })
	}
	stop()
	callers.Wait()
	if ran.Load() != asked.Load() || ran.Load() == 0 {
		t.Errorf("%d of %d calls ran", ran.Load(), asked.Load())
	}
	last := x.nodes["n3"]
	if err := last.Leave(t.Context()); err != nil || last.SlotsByNode()["n3"] != 0 {
		t.Errorf("leave: %v, %v", err, last.SlotsByNode())
	}
	if err := last.Drain(t.Context(), "n3"); !errors.Is(err, ErrState) {
		t.Errorf("drain of what has left: %v", err)
	}
	t.Logf("%d calls, %d moves, %+v", ran.Load(), by.Stats().Moves, by.Stats())
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
	}
}
