package storage

import (
	"errors"
	"fmt"
	"time"
)

// proposal is an entry in flight.
type proposal struct {
	sequence uint64
	entry    []byte
	txns     []*waiting
	size     int
	start    time.Time
	deadline time.Time
	backoff  time.Duration
	// unsure: an attempt ended without saying whether the entry is in the log.
	unsure bool
}

func (b *batcher) propose(p *proposal) {
	b.proposer.Propose(p.entry, func(applied any, err error) { b.answered(p, applied, err) })
}

// answered takes what became of a proposal.
func (b *batcher) answered(p *proposal, applied any, err error) {
	var res results
	if err == nil {
		switch a := applied.(type) {
		case []byte:
			res, err = decodeResults(a)
			if err == nil && res.count != len(p.txns) {
				err = errMalformed("result")
			}
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrUnknown, err)
			}
		case error:
			err = fmt.Errorf("%w: %w", ErrUnknown, a)
		default:
			err = fmt.Errorf("%w: the state machine answered %T", ErrUnknown, applied)
		}
	}
	if err == nil {
		if res.status == resultStale {
			b.settle(p, nil, fmt.Errorf("%w: a newer run of this node has taken its place", ErrUnknown))
			return
		}
		b.s.whenApplied(res.index, func() { b.settle(p, &res, nil) })
		return
	}
	p.unsure = p.unsure || errors.Is(err, ErrUnknown)
	if b.again(p) {
		return
	}
	if p.unsure && !errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	b.settle(p, nil, err)
}

// again proposes p once more after a while, unless its time is over. The state machine sees to it that it applies once.
func (b *batcher) again(p *proposal) bool {
	b.mu.Lock()
	over := b.closed
	b.mu.Unlock()
	if over || b.s.fatal.err() != nil {
		return false
	}
	p.backoff = min(max(2*p.backoff, 5*time.Millisecond), 250*time.Millisecond)
	if time.Now().Add(p.backoff).After(p.deadline) {
		return false
	}
	b.s.m.retries.Inc()
	b.rest(+1)
	time.AfterFunc(p.backoff, func() {
		b.rest(-1)
		b.mu.Lock()
		_, ours := b.flying[p.sequence]
		b.mu.Unlock()
		if ours {
			b.propose(p)
		}
	})
	return true
}

// rest counts a proposal that waits, or waits no more: it must not keep the others.
func (b *batcher) rest(n int) {
	b.mu.Lock()
	b.resting += n
	b.mu.Unlock()
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// settle answers the transactions of p and makes room.
func (b *batcher) settle(p *proposal, res *results, err error) {
	now := time.Now()
	b.mu.Lock()
	if _, ok := b.flying[p.sequence]; !ok {
		b.mu.Unlock()
		return
	}
	delete(b.flying, p.sequence)
	b.bytes -= p.size
	b.adapt(now.Sub(p.txns[0].start))
	room := b.room
	b.room = nil
	b.mu.Unlock()
	if room != nil {
		close(room)
	}
	select {
	case b.kick <- struct{}{}:
	default:
	}
	if err != nil {
		b.s.m.unknown.Add(len(p.txns))
	}
	b.answer(p, res, err, now)
}

// adapt moves the bound after a transaction has taken this long.
func (b *batcher) adapt(took time.Duration) {
	switch {
	case took > slowCommit:
		b.limit = max(minLimit, b.limit-b.limit/8)
	case took < quickCommit && b.pressed:
		b.limit = min(b.s.o.MaxInFlightBytes, b.limit+b.limit/16)
	default:
		return
	}
	b.pressed = false
}

func (b *batcher) answer(p *proposal, res *results, err error, now time.Time) {
	// The oldest transaction stands for its entry.
	b.s.m.commit.Update(now.Sub(p.txns[0].start).Seconds())
	refused, revision := []refusal(nil), uint64(0)
	if res != nil {
		refused, revision = res.refused, res.base
	}
	for i, w := range p.txns {
		r := Result{Err: err}
		switch {
		case err != nil:
		case len(refused) > 0 && refused[0].txn == i:
			r.Err = w.refusedBy(refused[0])
			refused = refused[1:]
		default:
			revision++
			r.Revision = revision
		}
		done := w.done
		w.free()
		done(r)
	}
}

// refusedBy names the guard.
func (w *waiting) refusedBy(f refusal) error {
	r := reader{b: w.buf[:w.split]}
	for i := range r.guards() {
		if g := r.guard(); i == f.guard {
			return &GuardError{Guard: i, Table: Table(g.table), Key: string(g.key), Revision: f.revision}
		}
	}
	return ErrGuard
}
