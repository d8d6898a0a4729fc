package actors

import (
	"context"
	"sync/atomic"

	"github.com/polluxhq/pollux/storage"
)

// An engine whose clock is moved by hand, such as a driver test's, has to be known to rest before the clock is moved on:
// nothing runs, nothing is on its way, and what waits, waits for that clock or for something outside.

// waits counts what is in flight and waits.
type waits struct {
	// rests counts the tokens that came to rest, wakes those that rest no longer. A token rests where it is a connection's, or that of a
	// call which waits for an answer from outside.
	rests, wakes atomic.Uint64
	// followed are the tables whose changes running actors are told of; all of them up to the revision caughtUp.
	followed []*followed
	caughtUp uint64
}

// followed is a table whose changes are followed.
type followed struct {
	table storage.Table
	// seen is the revision of the last change that was told.
	seen atomic.Uint64
}

// follows notes that the changes of a table behind a revision are told; before the engine begins to work.
func (w *waits) follows(table storage.Table, after uint64) *followed {
	f := &followed{table: table}
	f.seen.Store(after)
	w.followed = append(w.followed, f)
	return f
}

// Park says that the calling goroutine, which runs a driver's call, waits from now on for something outside. Whoever
// lets it go calls wake before that; wake may be called more than once.
func (e *Engine) Park() (wake func()) {
	p := &parking{w: &e.waits}
	p.rest()
	return p.wake
}

// parking is a goroutine's that waits once for something, which may come before it rests: what it waits for has to be on its way by then. nil: it
// never rests.
type parking struct {
	w     *waits
	state atomic.Uint32 // 0: it works, 1: it rests, 2: it was woken
}

func (p *parking) rest() {
	if p != nil && p.state.CompareAndSwap(0, 1) {
		p.w.rests.Add(1)
	}
}

func (p *parking) wake() {
	if p != nil && p.state.Swap(2) == 1 {
		p.w.wakes.Add(1)
	}
}

// busy says that something goes on that no token stands for, until done is called, once.
func (e *Engine) busy() (done func()) {
	e.waits.wakes.Add(1)
	return func() { e.waits.rests.Add(1) }
}

// Quiet says whether the twins rest: nothing of theirs runs or is on its way but what waits for the clock, or where Park
// says so, and all changes of configuration were told to them. What is about to come from outside is not known here. It
// waits for every shard's turn. One goroutine at a time may call it.
func (e *Engine) Quiet() bool {
	first := e.look()
	return first.busy == 0 && e.told() && e.look() == first
}

// told says whether the watches have given everything that is committed.
func (e *Engine) told() bool {
	now := e.store.Revision()
	if e.waits.caughtUp == now || e.state.Load() == 2 {
		return true
	}
	for _, f := range e.waits.followed {
		if e.lags(f) {
			return false
		}
	}
	e.waits.caughtUp = now
	return true
}

// lags says whether a table has changes that were not told yet.
func (e *Engine) lags(f *followed) bool {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	changes, err := e.store.Watch(ctx, f.table, "", f.seen.Load())
	if err != nil {
		return true
	}
	return len(<-changes) > 0 // an empty batch says that there are no more
}

// look is what a walk over the shards saw. They are not asked at one moment: what went from one to another meanwhile may have been seen
// at neither. Two walks that see the same, and nothing that works, leave no room for that: to begin to work, an actor needs a turn of its
// shard, or a token that wakes.
type look struct {
	// busy tokens: those of all active actors but those that rest.
	busy         int
	turns        uint64
	rests, wakes uint64
}

func (e *Engine) look() look {
	if e.state.Load() == 2 {
		return look{}
	}
	l := look{rests: e.waits.rests.Load(), wakes: e.waits.wakes.Load()}
	answer := make(chan look, len(e.shards))
	for _, s := range e.shards {
		e.system.Root.Send(s.pid, &shardLook{answer})
	}
	for range e.shards {
		select {
		case one := <-answer:
			l.busy += one.busy
			l.turns += one.turns
		case <-e.ctx.Done():
			return look{}
		}
	}
	l.busy -= int(e.waits.rests.Load() - e.waits.wakes.Load())
	return l
}

// shardLook asks how many tokens the shard's actors have, with the messages that are parked for actors that stop, and how many turns the
// shard had.
type shardLook struct{ answer chan look }

func (s *shard) count() int {
	n := 0
	for _, en := range s.entries {
		n += int(en.tokens.Load()) + len(en.parked)
		if en.stopping {
			n++
		}
	}
	return n
}
