package automation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// settle commits what the turn changed, answers, and has runs begin.
func (u *unit) settle(t *turn) {
	var err error
	if !u.known {
		err = u.removed(t)
	} else if want := u.wake(t); want != u.rec.Wake {
		if u.rec.Wake != 0 {
			t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, u.rec.Wake), nil)
		}
		if want != 0 {
			t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, want), []byte{1})
		}
		u.rec.Wake, t.dirty = want, true
	}
	if err == nil && t.dirty {
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
		u.begin(run, slices.Contains(t.started, run.Number))
	}
}

// removed removes all that is stored of a unit without configuration, with the turn what tells of the unit itself.
func (u *unit) removed(t *turn) error {
	if u.rec.Wake != 0 {
		t.write(u.h.o.WakeTable, u.h.o.WakeKey(u.slot, u.address, u.rec.Wake), nil)
	}
	if u.value == nil {
		return nil // what was left went as this life began
	}
	t.dirty = true
	return u.purge()
}

// purge removes the runs and the states of a rule's subjects, of which there may be as many as there are twins.
func (u *unit) purge() error {
	for _, table := range []storage.Table{TableRuns, TableInstances} {
		for {
			txn := &storage.Txn{Guards: u.guards()}
			for rec, err := range u.h.o.Store.Scan(table, u.address+"\x00", "") {
				if err != nil {
					return fmt.Errorf("%s: remove what it left: %w", u.address, err)
				}
				txn.Writes = append(txn.Writes, storage.Write{Table: table, Key: rec.Key, Quiet: true})
				if len(txn.Writes) == purgeBatch {
					break
				}
			}
			if len(txn.Writes) == 0 {
				break
			}
			if err := u.offer(txn, func() bool { return false }); err != nil {
				return err
			}
		}
	}
	return nil
}

// guards let through what the unit's owner writes as long as its record is as this life knows it.
func (u *unit) guards() []storage.Guard {
	return []storage.Guard{{Table: storage.Table(u.own.Table), Key: u.own.Key, Equal: u.own.Value}, {Table: TableUnits, Key: u.address, Equal: u.value}}
}

// commit makes what the turn changed the unit's state. It waits for room, and finds out what became of a transaction of unknown outcome.
func (u *unit) commit(t *turn) error {
	txn := &storage.Txn{Guards: u.guards(), Writes: t.w}
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
	} else if g := (*storage.GuardError)(nil); errors.As(err, &g) && g.Table == TableUnits {
		u.again = true        // it was deleted, and is made again perhaps
		u.h.o.Note(u.slot, 0) // the next life is told of the wake records that this one did not come to remove
	} else if !errors.Is(err, cluster.ErrNotOwner) {
		u.h.o.Logger.Warn("a unit begins anew", "unit", u.address, "err", err)
		// Its timer goes on with its next life.
		u.h.o.Note(u.slot, u.h.o.Now().Add(100*time.Millisecond).UnixMilli())
	}
	u.leaving.Store(true)
	u.stop()
}
