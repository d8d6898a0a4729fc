package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/hashicorp/raft"
)

// gathered is an entry that waits for those on their way (apply).
type gathered struct {
	entry []byte
	done  func(any, error)
}

type pending struct {
	future raft.ApplyFuture
	// term in which the entry was given to raft.
	term uint64
	done func(any, error)
}

// forward is an entry on its way to the leader.
type forward struct {
	leader string
	done   func(any, error)
}

const (
	// maxProposals bounds the entries on their way through the log.
	maxProposals = 1024
	// maxApplies bounds the entries that peers bring at one time, so that ApplyLocal never waits for raft's own queue.
	maxApplies = maxAppend - 16
	// gatherBytes is what waits, in bytes, at most for the entries on their way: more goes at once, beside them.
	gatherBytes = 24 << 10
	// gatherEntries is the same in entries.
	gatherEntries = 64
)

// Propose brings an entry to the log, through the leader wherever that is. It blocks only while maxProposals entries are
// on their way. done is called exactly once and must not block: on the leader from one goroutine, in the order of the
// log; elsewhere in any order. The answer is what the leader's state machine answered; the own one may be behind.
//
// An error wraps ErrUnavailable or ErrOverloaded where the entry certainly did not get into the log, and ErrUnknown
// where it may be there or get there yet.
func (r *Raft) Propose(entry []byte, done func(applied any, err error)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		done(nil, fmt.Errorf("propose: %w: %w", ErrUnavailable, raft.ErrRaftShutdown))
		return
	}
	leader := r.Leader()
	switch {
	case r.IsLeader():
		r.apply(entry, done)
	case leader == "" || leader == string(r.id) || r.o.Forward == nil:
		r.m.noLeader.Inc()
		done(nil, fmt.Errorf("propose: %w: no leader is known: %w", ErrUnavailable, raft.ErrNotLeader))
	default:
		r.forward(leader, entry, done)
	}
}

// ApplyLocal takes an entry that a peer forwarded. It does not block. done is called exactly once, with the state
// machine's answer or an error as Propose gives it; one that is not the leader refuses with ErrUnavailable.
func (r *Raft) ApplyLocal(entry []byte, done func(result []byte, err error)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch {
	case r.closed:
		done(nil, fmt.Errorf("propose: %w: %w", ErrUnavailable, raft.ErrRaftShutdown))
	case !r.IsLeader():
		done(nil, fmt.Errorf("propose: %w: %w", ErrUnavailable, raft.ErrNotLeader))
	case r.flying.Load()+r.waiting.Load() >= maxApplies:
		r.m.overloaded.Inc()
		done(nil, fmt.Errorf("propose: %w: %d entries are on their way", ErrOverloaded, maxApplies))
	default:
		r.apply(entry, func(applied any, err error) {
			switch a := applied.(type) {
			case []byte:
				done(a, err)
			case error:
				done(nil, fmt.Errorf("propose: %w: %w", ErrUnknown, a))
			default:
				if err == nil {
					err = fmt.Errorf("propose: %w: the state machine answered %T", ErrUnknown, applied)
				}
				done(nil, err)
			}
		})
	}
}

// apply gives an entry to the own raft. Small ones wait while others are on their way, and then go together: raft writes what
// it is given at one time with one fsync, and sends it in one message. An entry for which none is on its way goes at once.
// r.mu is read-held.
func (r *Raft) apply(entry []byte, done func(any, error)) {
	r.order.Lock()
	defer r.order.Unlock()
	r.gathered = append(r.gathered, gathered{entry, done})
	r.gatheredBytes += len(entry)
	r.waiting.Store(int64(len(r.gathered)))
	if r.flying.Load() == 0 || r.gatheredBytes >= gatherBytes || len(r.gathered) >= gatherEntries {
		r.launch()
	}
}

// launch gives what has gathered to raft. r.order is held.
func (r *Raft) launch() {
	for _, g := range r.gathered {
		r.flying.Add(1)
		term := r.raft.CurrentTerm()
		r.futures <- pending{r.raft.Apply(g.entry, 0), term, g.done}
	}
	clear(r.gathered)
	r.gathered, r.gatheredBytes = r.gathered[:0], 0
	r.waiting.Store(0)
}

// landed counts an entry out, and launches what has gathered where it was the last. It says whether nothing is on its way now.
func (r *Raft) landed() bool {
	if r.flying.Add(-1) > 0 {
		return false // whoever launches may be waiting for room in futures
	}
	runtime.Gosched() // who was just answered may have more to propose
	r.order.Lock()
	defer r.order.Unlock()
	if r.flying.Load() == 0 {
		r.launch()
	}
	return r.flying.Load() == 0
}

// failGathered ends those that have not been given to raft.
func (r *Raft) failGathered() {
	r.order.Lock()
	left := r.gathered
	r.gathered, r.gatheredBytes = nil, 0
	r.order.Unlock()
	for _, g := range left {
		g.done(nil, fmt.Errorf("propose: %w: %w", ErrUnavailable, raft.ErrRaftShutdown))
	}
}

// forward sends an entry to the leader. r.mu is read-held.
func (r *Raft) forward(leader string, entry []byte, done func(any, error)) {
	f := &forward{leader: leader, done: done}
	r.forwardMu.Lock()
	if len(r.forwards) >= maxProposals {
		r.forwardMu.Unlock()
		r.m.overloaded.Inc()
		done(nil, fmt.Errorf("propose: %w: %d entries are on their way to the leader", ErrOverloaded, maxProposals))
		return
	}
	r.forwards[f] = struct{}{}
	r.forwardMu.Unlock()
	r.m.forwarded.Inc()
	r.o.Forward(leader, entry, func(result []byte, err error) {
		r.forwardMu.Lock()
		_, waiting := r.forwards[f]
		delete(r.forwards, f)
		r.forwardMu.Unlock()
		if !waiting {
			return // told already
		}
		if err != nil {
			done(nil, forwardError(leader, err))
			return
		}
		done(result, nil)
	})
}

// forwardError keeps certainty where the other side gave it.
func forwardError(leader string, err error) error {
	certain := errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOverloaded)
	if certain && !errors.Is(err, ErrUnknown) {
		return fmt.Errorf("propose through %s: %w", leader, err)
	}
	return fmt.Errorf("propose through %s: %w: %w", leader, ErrUnknown, err)
}

// failForwards ends those that wait for a leader who will not answer, or not in time, as unknown.
func (r *Raft) failForwards(which func(*forward) bool, why error) {
	var failed []*forward
	r.forwardMu.Lock()
	for f := range r.forwards {
		if which(f) {
			failed = append(failed, f)
			delete(r.forwards, f)
		}
	}
	r.forwardMu.Unlock()
	for _, f := range failed {
		f.done(nil, fmt.Errorf("propose through %s: %w: %w", f.leader, ErrUnknown, why))
	}
}

// complete hands results back. Futures resolve in the order in which they were made; those that raft leaves without an
// answer when it shuts down end as unknown.
func (r *Raft) complete() {
	defer r.done.Done()
	waiting, answers := make(chan raft.ApplyFuture), make(chan error)
	defer close(waiting)
	go func() {
		for f := range waiting {
			err := f.Error()
			select {
			case answers <- err:
			case <-r.closing:
				// Nobody listens any more; futures that never resolve keep this goroutine, and nothing else.
				return
			}
		}
	}()
	for p := range r.futures {
		ok := r.answer(p, waiting, answers)
		if r.landed() && ok {
			r.tellCommitted(p.future.Index(), p.term)
		}
	}
}

// answer waits for one future and says whether its entry is committed.
func (r *Raft) answer(p pending, waiting chan<- raft.ApplyFuture, answers <-chan error) bool {
	shutdown := func() { p.done(nil, fmt.Errorf("propose: %w: %w", ErrUnknown, raft.ErrRaftShutdown)) }
	select {
	case waiting <- p.future:
	case <-r.closing:
		shutdown()
		return false
	}
	select {
	case err := <-answers:
		if err != nil {
			p.done(nil, proposeError(err))
			return false
		}
		p.done(p.future.Response(), nil)
		return true
	case <-r.closing:
		shutdown()
		return false
	}
}

// proposeError says whether the entry may yet be applied.
func proposeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("propose: %w: %w", ErrUnavailable, err)
	default: // ErrLeadershipLost, ErrRaftShutdown, ErrAbortedByRestore, what the log store said
		return fmt.Errorf("propose: %w: %w", ErrUnknown, err)
	}
}

// Barrier waits until everything committed before the call is applied here, on any node, or ctx ends.
func (r *Raft) Barrier(ctx context.Context) error {
	for {
		err := r.barrierOnce(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, raft.ErrRaftShutdown) {
			return err
		}
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-r.closing:
			return fmt.Errorf("raft barrier: %w", raft.ErrRaftShutdown)
		}
	}
}

func (r *Raft) barrierOnce(ctx context.Context) error {
	leader := r.Leader()
	switch {
	case r.IsLeader():
		return r.barrierHere(ctx)
	case leader == "" || leader == string(r.id):
		return fmt.Errorf("raft barrier: %w: no leader is known", ErrUnavailable)
	case r.o.RemoteIndex == nil:
		return fmt.Errorf("raft barrier: %w: %s leads", ErrUnavailable, leader)
	}
	// A leader that hangs must not keep the caller from the next one.
	asking, cancel := context.WithTimeout(ctx, 2*time.Second)
	index, err := r.o.RemoteIndex(asking, leader)
	cancel()
	if err != nil {
		return fmt.Errorf("raft barrier: ask %s: %w", leader, err)
	}
	return r.waitApplied(ctx, index)
}

// LeaderIndex gives the index that a node must have applied to know everything that is committed now. Only the leader
// can say; others give ErrUnavailable.
func (r *Raft) LeaderIndex(ctx context.Context) (uint64, error) {
	if !r.IsLeader() {
		return 0, fmt.Errorf("leader index: %w: %w", ErrUnavailable, raft.ErrNotLeader)
	}
	if err := r.barrierHere(ctx); err != nil {
		return 0, err
	}
	return r.applied(), nil
}

func (r *Raft) barrierHere(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- r.raft.Barrier(0).Error() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("raft barrier: %w: %w", ErrUnavailable, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("raft barrier: %w", context.Cause(ctx))
	case <-r.closing:
		return fmt.Errorf("raft barrier: %w", raft.ErrRaftShutdown)
	}
}

func (r *Raft) applied() uint64 {
	if r.o.Applied != nil {
		return r.o.Applied()
	}
	return r.raft.AppliedIndex()
}

// waitApplied blocks until the state machine has applied index.
func (r *Raft) waitApplied(ctx context.Context, index uint64) error {
	if index == 0 || r.applied() >= index {
		return nil
	}
	if r.o.WaitApplied != nil {
		if err := r.o.WaitApplied(ctx, index-1); err != nil {
			return fmt.Errorf("wait for entry %d: %w", index, err)
		}
		return nil
	}
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if r.applied() >= index {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("wait for entry %d: %w", index, context.Cause(ctx))
		case <-r.closing:
			tick.Stop()
			return fmt.Errorf("wait for entry %d: %w", index, raft.ErrRaftShutdown)
		}
	}
}
