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
	links  atomic.Int32 // connections: each holds a token of its twin
	parked atomic.Int32 // calls that wait for an answer from outside
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
	var woken atomic.Bool
	e.waits.parked.Add(1)
	return func() {
		if !woken.Swap(true) {
			e.waits.parked.Add(-1)
		}
	}
}

// busy says that something goes on that no token stands for, until done is called, once.
func (e *Engine) busy() (done func()) {
	e.waits.parked.Add(-1)
	return func() { e.waits.parked.Add(1) }
}

// Quiet says whether the twins rest: nothing of theirs runs or is on its way but what waits for the clock, or where Park
// says so, and all changes of configuration were told to them. What is about to come from outside is not known here. It
// waits for every shard's turn. One goroutine at a time may call it.
func (e *Engine) Quiet() bool {
	return e.inFlight() == 0 && e.told() && e.inFlight() == 0
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

// inFlight counts the tokens of all active actors but those of connections and of calls that wait.
func (e *Engine) inFlight() int {
	if e.state.Load() == 2 {
		return 0
	}
	answer := make(chan int, len(e.shards))
	for _, s := range e.shards {
		e.system.Root.Send(s.pid, &shardTokens{answer})
	}
	n := 0
	for range e.shards {
		select {
		case tokens := <-answer:
			n += tokens
		case <-e.ctx.Done():
			return 0
		}
	}
	return n - int(e.waits.links.Load()) - int(e.waits.parked.Load())
}

// shardTokens asks how many tokens the shard's actors have, and how many messages are parked for actors that stop.
type shardTokens struct{ answer chan int }

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
