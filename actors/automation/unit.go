package automation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// item is what comes to a unit: a call, a wake record that is due, or something of its own.
type item struct {
	env   *cluster.Envelope
	done  func(cluster.Reply)
	woken int64
	fn    func(*turn)
}

func (x item) fail(err error) {
	if x.done != nil {
		x.done(cluster.Reply{Err: err})
	}
}

// logic is what a unit of a kind does. It is called in the unit's turns only, and changes nothing but its own state, the unit's record
// and the turn.
type logic interface {
	// configure reads the configuration; false: there is none.
	configure(t *turn) (bool, error)
	// handle takes a call.
	handle(t *turn, x item)
	// tick does what is due.
	tick(t *turn)
	// stepped: the clock was set by so many milliseconds.
	stepped(t *turn, d int64)
	// due is when it wants the next tick, in milliseconds since 1970; 0: never.
	due() int64
	// actions gives those of a run, as configured now.
	actions(run *pb.Run) []*pb.Action
}

// unit is an actor. What is not said to be shared belongs to its turns, of which there is one at a time.
type unit struct {
	h                 *Host
	address, kind, id string
	slot              cluster.Slot
	own               *cluster.Ownership
	// ctx ends with the unit's effect.
	ctx  context.Context
	stop context.CancelFunc
	// hearing ends when the unit begins to leave, or is to hear something else.
	hearing context.Context
	deafen  context.CancelFunc

	// Shared.
	mu      sync.Mutex
	inbox   []item
	busy    bool
	over    bool
	used    time.Time
	ended   chan struct{}
	leaving atomic.Bool
	lost    atomic.Bool
	running atomic.Int32 // runs under way here, and topics that are read
	earLock sync.Mutex   // of hearing and deafen

	rec   *actorv1.Unit
	value []byte // of rec as it is stored; nil: not yet
	logic logic
	dead  error
	again bool // its next life begins at once
	known bool // there is a configuration
	// configured is its revision, as of when its table had version.
	configured, version uint64
	under               map[uint64]bool
	parked              map[uint64]int64 // runs that wait, and until when
}

func newUnit(h *Host, kind, id string, own *cluster.Ownership) *unit {
	u := &unit{h: h, address: Address(kind, id), kind: kind, id: id, own: own, ended: make(chan struct{}), under: map[uint64]bool{},
		parked: map[uint64]int64{}}
	u.slot = SlotOf(u.address)
	u.ctx, u.stop = context.WithCancel(h.ctx)
	u.hearing, u.deafen = context.WithCancel(u.ctx)
	switch kind {
	case KindSchedule:
		u.logic = &schedule{u: u}
	case KindRule:
		u.logic = newRule(u)
	case KindAlarm:
		u.logic = &alarm{u: u}
	}
	return u
}

// take puts an item into the inbox, and has the unit run. The caller has the host's lock.
func (u *unit) take(x item) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x.fn == nil && len(u.inbox) >= maxInbox {
		return fmt.Errorf("%d messages wait: %w", len(u.inbox), cluster.ErrOverloaded)
	}
	if u.over {
		return fmt.Errorf("it is moving: %w", cluster.ErrOverloaded)
	}
	u.inbox = append(u.inbox, x)
	u.start()
	return nil
}

// post has fn run in a turn; false: the unit is over.
func (u *unit) post(fn func(*turn)) bool { return u.take(item{fn: fn}) == nil }

// start has the unit's goroutine run. The caller has mu.
func (u *unit) start() {
	if !u.busy && !u.over {
		u.busy = true
		u.h.wg.Add(1)
		go u.run()
	}
}

// end has the unit stop; lost: at once, without effect.
func (u *unit) end(lost bool) {
	u.leaving.Store(true)
	u.earLock.Lock()
	u.deafen()
	u.earLock.Unlock()
	if lost {
		u.lost.Store(true)
		u.stop()
	} else {
		time.AfterFunc(releaseWithin, u.stop)
	}
	u.mu.Lock()
	u.start()
	u.mu.Unlock()
}

// deaf ends what the unit hears; what it hears next it hears anew.
func (u *unit) deaf() {
	u.earLock.Lock()
	defer u.earLock.Unlock()
	u.deafen()
	if !u.leaving.Load() {
		u.hearing, u.deafen = context.WithCancel(u.ctx)
	}
}

// left: something that ran beside the turns is at its end.
func (u *unit) left() {
	u.running.Add(-1)
	u.mu.Lock()
	u.start()
	u.mu.Unlock()
}

// idle says whether the unit may leave memory.
func (u *unit) idle(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.busy && len(u.inbox) == 0 && u.running.Load() == 0 && now.Sub(u.used) > idleAfter
}

// run is the unit's goroutine: it ends when there is nothing to do.
func (u *unit) run() {
	defer u.h.wg.Done()
	for {
		u.mu.Lock()
		n := min(len(u.inbox), maxBatch)
		batch := slices.Clone(u.inbox[:n])
		if u.inbox = u.inbox[n:]; len(u.inbox) == 0 {
			u.inbox = nil
		}
		if n == 0 {
			u.busy = false
			u.used = u.h.o.Now()
			leaves := u.leaving.Load() && u.running.Load() == 0 && !u.over || u.dead != nil && !u.over
			if leaves {
				u.over = true
			}
			u.mu.Unlock()
			if leaves {
				u.stop()
				u.h.forget(u)
				close(u.ended)
				if u.again {
					u.h.Wake(u.address, FirstWake)
				}
			}
			return
		}
		u.mu.Unlock()
		u.turn(batch)
	}
}
