package automation

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// turn is one look at what came and at the time. What it changes is one transaction.
type turn struct {
	u     *unit
	now   time.Time
	ms    int64
	dirty bool
	w     []storage.Write
	after []func(err error)
	begun []*pb.Run
	// started are those of them whose first steps are.
	started []uint64
}

func (t *turn) write(table storage.Table, key string, value []byte) {
	t.w = append(t.w, storage.Write{Table: table, Key: key, Value: value, Quiet: true})
	t.dirty = true
}

// since is from when a configuration counts that was put at a time, seen: up to when all that was due is done. A unit may begin long after it was
// put, if its node died meanwhile.
func (t *turn) since(put *timestamppb.Timestamp, seen int64) time.Time {
	if put == nil || put.AsTime().After(t.now) {
		return t.now
	}
	if at := time.UnixMilli(seen); at.After(put.AsTime()) {
		if at.After(t.now) {
			return t.now
		}
		return at
	}
	return put.AsTime()
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
	u.follow(t)
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
		} else if err := u.purge(); err != nil { // what an earlier unit of this address left
			u.rec = nil
			return err
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
	if u.configured = rec.Revision; u.value == nil {
		u.rec.Born = rec.Revision
	}
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
	if r, ok := u.logic.(*rule); ok && r.off() == "" && r.listens() && (at == 0 || at > t.ms) {
		// Whoever gains the slot wakes it at once. A record that is overdue already says that.
		if at = u.rec.Wake; at == 0 || at > t.ms {
			at = t.ms
		}
	}
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
