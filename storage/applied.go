package storage

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
)

// applyWaiters are those who wait for an index to be applied here.
type applyWaiters struct {
	mu     sync.Mutex
	calls  []applyCall
	least  atomic.Uint64 // the smallest index waited for; 0: nobody waits
	closed bool
}

type applyCall struct {
	index uint64
	fn    func()
}

// add calls fn when index is applied, or at the store's end.
func (w *applyWaiters) add(s *Store, index uint64, fn func()) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		fn()
		return
	}
	w.calls = append(w.calls, applyCall{index: index, fn: fn})
	w.findLeast()
	w.mu.Unlock()
	// It may have been applied since the caller looked.
	w.reached(s.applied.Load())
}

func (w *applyWaiters) findLeast() {
	least := uint64(math.MaxUint64)
	for _, c := range w.calls {
		least = min(least, c.index)
	}
	if len(w.calls) == 0 {
		least = 0
	}
	w.least.Store(least)
}

// reached calls those who waited for index or less.
func (w *applyWaiters) reached(index uint64) {
	if l := w.least.Load(); l == 0 || l > index {
		return
	}
	w.mu.Lock()
	var due []func()
	keep := w.calls[:0]
	for _, c := range w.calls {
		if c.index <= index {
			due = append(due, c.fn)
		} else {
			keep = append(keep, c)
		}
	}
	clear(w.calls[len(keep):])
	w.calls = keep
	w.findLeast()
	w.mu.Unlock()
	for _, fn := range due {
		fn()
	}
}

func (w *applyWaiters) close() {
	w.mu.Lock()
	calls := w.calls
	w.calls, w.closed = nil, true
	w.least.Store(0)
	w.mu.Unlock()
	for _, c := range calls {
		c.fn()
	}
}

// whenApplied calls fn once index is applied here: at once where it is, else from the state machine's goroutine.
func (s *Store) whenApplied(index uint64, fn func()) {
	if s.applied.Load() >= index {
		fn()
		return
	}
	s.wait.add(s, index, fn)
}

// WaitApplied waits until AppliedIndex is above after. It returns the context's error, or ErrClosed.
func (s *Store) WaitApplied(ctx context.Context, after uint64) error {
	if s.applied.Load() > after {
		return nil
	}
	ch := make(chan struct{})
	s.wait.add(s, after+1, func() { close(ch) })
	select {
	case <-ch:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.applied.Load() <= after {
		return ErrClosed
	}
	return nil
}

// Checksum is the running checksum of all effects on the state up to an index. Nodes that applied the same log have the
// same at the same index.
type Checksum struct {
	Index, Sum uint64
}

// checksums are the last ones.
type checksums struct {
	mu   sync.Mutex
	last []Checksum
}

func (c *checksums) add(x Checksum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) >= 16 {
		c.last = append(c.last[:0], c.last[1:]...)
	}
	c.last = append(c.last, x)
}

// Checksums gives the last few checksums, oldest first: one each 1,024 entries, at the same indexes on every node.
func (s *Store) Checksums() []Checksum {
	s.checksums.mu.Lock()
	defer s.checksums.mu.Unlock()
	return append([]Checksum(nil), s.checksums.last...)
}
