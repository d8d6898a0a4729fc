package wasm

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// A guest runs for about sliceTime before it asks for more fuel, and is then stopped or given its next slice. What a
// fuel is worth differs by guest and machine, so each instance finds its own size of slice.
const (
	sliceTime  = 500 * time.Microsecond
	sliceFirst = 100_000
	sliceLeast = 20_000
	// sliceMost bounds what a guest gains that earns large slices with cheap instructions and spends one on dear ones.
	sliceMost = 2_000_000
	// hostLook: host functions may take time without any fuel, so every so many calls of them the clock is looked at.
	hostLook = 16
	// heavyAfter is how long a call computes before it needs a lane: of those there is one less than processors, so that
	// what is short finds one free, however many guests loop.
	heavyAfter = 5 * time.Millisecond
	// restAfter is how long a call computes before it rests, after each turn, as long as the turn took.
	restAfter = 50 * time.Millisecond
	// A driver that keeps being stopped or crashing (strikesHeavy times lately, of one tenant) needs a lane from the start,
	// and its calls rest strikesRest times as long as they compute. That concerns only calls longer than a turn.
	strikesHeavy = 2
	strikesRest  = 3
	// longestTurn is what counts of a turn at most: the system may have run something else meanwhile.
	longestTurn = 10 * time.Millisecond
	strikesMost = 8
	// strikeHalves is the time after which half of the strikes are forgotten.
	strikeHalves = 10 * time.Second
	// recountTurns: the memory of a call that computes for long is counted so often.
	recountTurns = 8
	// laneLook is how often a call that waits for a lane looks at its context.
	laneLook = 10 * time.Millisecond
)

// meter is what an instance knows of its fuel. It belongs to the goroutine of the call.
type meter struct {
	slice int64
	began time.Time
	// whole: since began nothing ran but the guest, in one call.
	whole bool
	// used is the time of all whole slices of the call.
	used time.Duration
	// start is when the call first looked at the clock; turn is that, or when others had their turn last.
	start, turn time.Time
	// turns ended in the call.
	turns uint32
	// strikes are those of the pool against the tenant, when the instance was checked out.
	strikes int
	// lane: the call holds one.
	lane      bool
	hostCalls uint32
	stopped   error
}

// refill is the host's function that metered modules call. A call that has run for a slice's time ends its turn here;
// one that is shorter goes on at once: letting others run wakes a second processor, which costs more than the call.
func (in *Instance) refill(reason uint32) int64 {
	if reason == reasonDepth {
		panic(depthError{})
	}
	m := &in.meter
	now := time.Now()
	m.starts(now)
	in.look(now)
	took := now.Sub(m.began)
	m.resize(took)
	if m.whole {
		m.used += took
	}
	if turn := now.Sub(m.turn); turn >= sliceTime/2 {
		now = in.endTurn(turn)
	}
	m.began, m.whole = now, true
	return m.slice
}

// endTurn lets other goroutines run, and makes those wait that compute for long.
func (in *Instance) endTurn(took time.Duration) (now time.Time) {
	m := &in.meter
	in.leaveLane()
	rest := time.Duration(0)
	switch {
	case m.strikes >= strikesHeavy:
		rest = strikesRest * min(took, longestTurn)
	case m.used > restAfter:
		rest = min(took, 2*sliceTime)
	}
	if rest > 0 {
		in.pause(rest)
	} else {
		runtime.Gosched()
	}
	if rest > 0 || m.used > heavyAfter {
		in.takeLane()
	}
	if m.turns++; m.used > heavyAfter && m.turns%recountTurns == 0 && !in.recount() {
		panic(ErrMemory)
	}
	now = time.Now()
	in.look(now)
	m.turn = now
	return now
}

// atone is for a call that crashed: where its driver keeps crashing, it rests for its last turn as it would have for each
// before. What crashes within one turn would never rest otherwise, and a recursion has the engine allocate and copy its
// stack anew, tens of megabytes, in a few milliseconds.
func (in *Instance) atone() {
	if m := &in.meter; m.strikes >= strikesHeavy && !m.start.IsZero() {
		in.pause(strikesRest * min(time.Since(m.turn), longestTurn))
	}
}

// pause waits, at most until the call has to end.
func (in *Instance) pause(d time.Duration) {
	ctx := in.Context()
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline))
	}
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// resize fits the slice to the time that the last one took.
func (m *meter) resize(took time.Duration) {
	switch {
	case m.slice == 0:
		m.slice = sliceFirst
	case !m.whole:
	case took > sliceTime*3/2:
		m.slice = max(sliceLeast, m.slice/8, m.slice*int64(sliceTime)/int64(took))
	case took < sliceTime/2:
		m.slice = min(sliceMost, m.slice*2)
	}
}

// takeLane waits for a lane; those that wait take turns. It gives up when the call has to end.
func (in *Instance) takeLane() {
	lanes := in.pool.module.runtime.lanes
	select {
	case lanes <- struct{}{}:
		in.meter.lane = true
		return
	default:
	}
	tick := time.NewTicker(laneLook)
	defer tick.Stop()
	for !in.meter.lane {
		wait := laneLook
		if deadline, ok := in.Context().Deadline(); ok {
			wait = min(wait, time.Until(deadline))
		}
		tick.Reset(max(wait, time.Microsecond))
		select {
		case lanes <- struct{}{}:
			in.meter.lane = true
		case <-tick.C:
		}
		if err := ended(in.Context(), time.Now()); err != nil {
			return
		}
	}
}

// leaveLane lets the next one have it.
func (in *Instance) leaveLane() {
	if in.meter.lane {
		in.meter.lane = false
		<-in.pool.module.runtime.lanes
	}
}

// starts notes when the call began, nearly: nobody looked at the clock before.
func (m *meter) starts(now time.Time) {
	if m.start.IsZero() {
		m.start, m.turn = now, now
	}
}

// waits is called before a host function that may block.
func (in *Instance) waits() {
	in.meter.starts(time.Now())
	in.meter.whole = false
	in.leaveLane()
}

// Exhaust is for a host function that knows that the guest will not end: it waits for the end of the running call's context
// and ends the call then, as it ends every one; it does not return. Where the context has no deadline it does at once.
func (in *Instance) Exhaust() {
	in.waits()
	for {
		in.look(time.Now())
		if _, ok := in.Context().Deadline(); !ok {
			return
		}
		in.pause(time.Millisecond)
	}
}

// look ends the running call, by a panic, where its context has ended.
func (in *Instance) look(now time.Time) {
	if in.parent == nil {
		return
	}
	if err := ended(in.parent, now); err != nil {
		in.meter.stopped = err
		panic(stoppedError{err})
	}
}

// hostCalled counts calls of host functions.
func (in *Instance) hostCalled() {
	if in.meter.hostCalls++; in.meter.hostCalls%hostLook == 0 {
		now := time.Now()
		in.meter.starts(now)
		in.look(now)
	}
}

// stoppedError is the panic that stops a guest.
type stoppedError struct{ cause error }

func (e stoppedError) Error() string { return e.cause.Error() }

// depthError is the panic that ends a recursion.
type depthError struct{}

func (depthError) Error() string {
	return fmt.Sprintf("recursion deeper than %d MB of stack", stackWords*8>>20)
}

// callContext is what wazero gives back to the host functions: it leads to the instance. It never ends; the context of
// a call is looked at when its fuel is used up.
type callContext struct {
	in *Instance
}

type instanceKey struct{}

// Deadline implements context.Context.
func (*callContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (*callContext) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (*callContext) Err() error { return nil }

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return c.in
	}
	return nil
}

// ended says why a context is over, if it is: one whose deadline has passed is, also where nobody told it.
func ended(ctx context.Context, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !now.Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
