package automation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
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

	// Shared.
	mu      sync.Mutex
	inbox   []item
	busy    bool
	over    bool
	used    time.Time
	ended   chan struct{}
	leaving atomic.Bool
	lost    atomic.Bool
	running atomic.Int32 // runs under way here

	rec   *actorv1.Unit
	value []byte // of rec as it is stored; nil: not yet
	logic logic
	dead  error
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
			}
			return
		}
		u.mu.Unlock()
		u.turn(batch)
	}
}

// turn is one look at what came and at the time. What it changes is one transaction.
type turn struct {
	u     *unit
	now   time.Time
	ms    int64
	dirty bool
	w     []storage.Write
	after []func(err error)
	begun []*pb.Run
}

func (t *turn) write(table storage.Table, key string, value []byte) {
	t.w = append(t.w, storage.Write{Table: table, Key: key, Value: value, Quiet: true})
	t.dirty = true
}

// answer answers a call once all that the turn changes is committed.
func (t *turn) answer(x item, m proto.Message) {
	t.after = append(t.after, func(err error) {
		if x.done != nil {
			x.done(cluster.Reply{Message: m, Err: err})
		}
	})
}

func (u *unit) turn(batch []item) {
	fail := func(err error) {
		for _, x := range batch {
			x.fail(err)
		}
	}
	if u.dead != nil || u.leaving.Load() && !slices.ContainsFunc(batch, func(x item) bool { return x.fn != nil }) {
		fail(u.notOwner())
		return
	}
	t := &turn{u: u, now: u.h.o.Now()}
	t.ms = t.now.UnixMilli()
	if err := u.prepare(t); err != nil {
		u.die(err)
		fail(fmt.Errorf("%s: %w: %w", u.address, cluster.ErrUnavailable, err))
		return
	}
	for _, x := range batch {
		switch {
		case x.fn != nil:
			x.fn(t)
		case x.env == nil:
			if x.woken != u.rec.Wake {
				t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, x.woken), nil)
			}
		case u.leaving.Load():
			x.fail(u.notOwner())
		case !u.known:
			x.fail(fmt.Errorf("%s %s: %w", u.kind, u.id, ErrNotFound))
		default:
			u.logic.handle(t, x)
		}
	}
	if u.known && !u.leaving.Load() {
		u.resume(t)
		u.logic.tick(t)
	}
	u.settle(t)
}

// prepare loads what is not loaded.
func (u *unit) prepare(t *turn) error {
	first := u.rec == nil
	if first {
		u.rec = &actorv1.Unit{}
		rec, ok, err := u.h.o.Store.Get(TableUnits, u.address)
		if err != nil {
			return err
		}
		if ok {
			u.value = rec.Value
			if err := proto.Unmarshal(rec.Value, u.rec); err != nil {
				return fmt.Errorf("record of %s: %w", u.address, err)
			}
		}
	}
	// What this node has applied counts, told of or not: a message may come of what was configured a moment ago.
	version := u.h.o.Store.Version(storage.Table(u.kind))
	if !first && u.version == version {
		return nil
	}
	rec, ok, err := u.h.o.Store.Get(storage.Table(u.kind), u.id)
	if err != nil {
		return err
	}
	if u.version = version; ok && u.known && rec.Revision == u.configured {
		return nil
	}
	u.configured = rec.Revision
	u.known, err = u.logic.configure(t)
	return err
}

// resume begins the runs that an earlier life left, or that have waited long enough.
func (u *unit) resume(t *turn) {
	for _, n := range u.rec.Open {
		if u.under[n] || u.parked[n] > t.ms || slices.ContainsFunc(t.begun, func(r *pb.Run) bool { return r.Number == n }) {
			continue
		}
		delete(u.parked, n)
		rec, ok, err := u.h.o.Store.Get(TableRuns, runKey(u.address, n))
		run := &pb.Run{}
		if err == nil && ok {
			err = proto.Unmarshal(rec.Value, run)
		}
		switch {
		case err != nil:
			u.h.o.Logger.Error("run", "of", u.address, "number", n, "err", err)
		case !ok || run.State != pb.RunState_RUN_STATE_OPEN:
			u.closed(t, n)
		default:
			run.Number = n
			t.begun = append(t.begun, run)
		}
	}
}

// closed takes a run out of the open ones.
func (u *unit) closed(t *turn, n uint64) {
	u.rec.Open = slices.DeleteFunc(u.rec.Open, func(x uint64) bool { return x == n })
	delete(u.under, n)
	delete(u.parked, n)
	t.dirty = true
}

// wake is what the wake record should say.
func (u *unit) wake(t *turn) int64 {
	if !u.known {
		return 0
	}
	at := u.logic.due()
	for _, n := range u.rec.Open {
		due := t.ms
		if until, ok := u.parked[n]; ok {
			due = until
		} else if u.rec.Wake > 0 && u.rec.Wake <= t.ms {
			due = u.rec.Wake // it is overdue already: no need to write it again
		}
		if at == 0 || due < at {
			at = due
		}
	}
	return at
}

// settle commits what the turn changed, answers, and has runs begin.
func (u *unit) settle(t *turn) {
	if !u.known {
		u.removed(t)
	} else if want := u.wake(t); want != u.rec.Wake {
		if u.rec.Wake != 0 {
			t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, u.rec.Wake), nil)
		}
		if want != 0 {
			t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, want), []byte{1})
		}
		u.rec.Wake, t.dirty = want, true
	}
	var err error
	if t.dirty {
		err = u.commit(t)
	}
	for _, f := range t.after {
		f(err)
	}
	if err != nil {
		u.die(err)
		return
	}
	if !u.known {
		u.die(nil)
		return
	}
	// The record may be overdue as long as a run is open, which is for the next owner to see.
	if due := u.logic.due(); due > 0 {
		u.h.o.Note(u.slot, max(due, t.ms+1))
	}
	for _, until := range u.parked {
		u.h.o.Note(u.slot, max(until, t.ms+1))
	}
	for _, run := range t.begun {
		u.begin(run)
	}
}

// removed adds the writes that remove all that is stored of a unit without configuration.
func (u *unit) removed(t *turn) {
	if u.rec.Wake != 0 {
		t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, u.rec.Wake), nil)
	}
	for _, table := range []storage.Table{TableRuns, TableInstances} {
		for rec, err := range u.h.o.Store.Scan(table, u.address+"\x00", "") {
			if err != nil || len(t.w) > 2000 {
				break
			}
			t.write(table, rec.Key, nil)
		}
	}
	t.dirty = t.dirty || u.value != nil
}

// commit makes what the turn changed the unit's state. It waits for room, and finds out what became of a transaction of unknown outcome.
func (u *unit) commit(t *turn) error {
	txn := &storage.Txn{Guards: []storage.Guard{{Table: storage.Table(u.own.Table), Key: u.own.Key, Equal: u.own.Value},
		{Table: TableUnits, Key: u.address, Equal: u.value}}, Writes: t.w}
	var value []byte
	if u.known {
		u.rec.Commits++
		var err error
		if value, err = proto.Marshal(u.rec); err != nil {
			return err
		}
	}
	txn.Writes = append(txn.Writes, storage.Write{Table: TableUnits, Key: u.address, Value: value, Quiet: true})
	err := u.offer(txn, func() bool {
		rec, ok, err := u.h.o.Store.Get(TableUnits, u.address)
		return err == nil && ok == (value != nil) && bytes.Equal(rec.Value, value)
	})
	if err == nil {
		u.value = value
	}
	return err
}

// offer commits a transaction that can be offered again: its guards let it through once. applied says whether it was.
func (u *unit) offer(txn *storage.Txn, applied func() bool) error {
	again := false
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := error(storage.ErrBusy)
		if u.h.o.LeaseValid() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), 30*time.Second)
			_, err = u.h.o.Store.Commit(ctx, txn)
			cancel()
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, storage.ErrGuard):
			if again && applied() {
				return nil
			}
			return fmt.Errorf("%w: %w", u.notOwner(), err)
		case errors.Is(err, storage.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
			again = true
		case !errors.Is(err, storage.ErrBusy):
			return fmt.Errorf("%s: %w: %w", u.address, cluster.ErrUnavailable, err)
		}
		if u.lost.Load() {
			return fmt.Errorf("%s: %w", u.address, cluster.ErrUnknown)
		}
		select {
		case <-time.After(wait):
		case <-u.h.ctx.Done():
			return fmt.Errorf("%s: %w", u.address, cluster.ErrUnknown)
		}
	}
}

func (u *unit) notOwner() error { return fmt.Errorf("%s: %w", u.address, cluster.ErrNotOwner) }

// die ends this life. What comes next begins from what is committed.
func (u *unit) die(err error) {
	if u.dead != nil {
		return
	}
	if u.dead = err; err == nil {
		u.dead = ErrNotFound
	} else if !errors.Is(err, cluster.ErrNotOwner) {
		u.h.o.Logger.Warn("a unit begins anew", "unit", u.address, "err", err)
		// Its timer goes on with its next life.
		u.h.o.Note(u.slot, u.h.o.Now().Add(100*time.Millisecond).UnixMilli())
	}
	u.leaving.Store(true)
	u.stop()
}
