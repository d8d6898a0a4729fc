package actors

import "sync/atomic"

// An engine whose clock is moved by hand, such as a driver test's, has to be known to rest before the clock is moved on:
// nothing runs, nothing is on its way, and what waits, waits for that clock or for something outside.

// waits counts what is in flight and waits.
type waits struct {
	links  atomic.Int32 // connections: each holds a token of its twin
	parked atomic.Int32 // calls that wait for an answer from outside
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
// says so. What is about to come from outside is not known here. It waits for every shard's turn.
func (e *Engine) Quiet() bool {
	return e.inFlight() == 0 && e.inFlight() == 0
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
