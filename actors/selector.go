package actors

import (
	"context"
	"fmt"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Twins with a selector live in slots of its class (package cluster). The record of tablePlace says in which; it is written
// with the twin, and from then on changed by whoever owns the twin's slot, when the slot is let go for it: a record of
// tableShift asks for that. So the owner of a slot knows of each twin whether it has it.
const (
	tablePlace storage.Table = cluster.TablePlace
	tableShift storage.Table = cluster.TableShift
)

// place is where a twin lives, as applied here. A transaction that writes keys with the slot in them has the guard.
type place struct {
	class cluster.Class
	slot  cluster.Slot
	guard storage.Guard
}

// placeOf reads where a twin lives, or would.
func (e *Engine) placeOf(id string) (place, error) {
	p := place{slot: cluster.SlotOf(id), guard: storage.Guard{Table: tablePlace, Key: id}}
	rec, ok, err := e.store.Get(tablePlace, id)
	if err != nil || !ok {
		return p, err
	}
	p.guard.Revision = rec.Revision
	if p.class, err = cluster.DecodeClass(rec.Value); err != nil {
		return p, fmt.Errorf("place of twin %s: %w", id, err)
	}
	p.slot = p.class.SlotOf(id)
	return p, nil
}

// slotOf gives the slot in which a twin lives. It is cheap where no selectors are in use, and may not know of the first one
// for a moment: an actor looks again when it is activated (livesIn).
func (e *Engine) slotOf(id string) cluster.Slot {
	if e.cluster == nil {
		return cluster.SlotOf(id)
	}
	return e.cluster.SlotOf(id)
}

// livesIn says whether a twin is in the slot. What was read of the twin before is not older than that.
func (e *Engine) livesIn(id string, slot cluster.Slot) bool {
	p, err := e.placeOf(id)
	if err != nil {
		e.log.Error("twin not activated", "twin", id, "err", err)
	}
	return err == nil && p.slot == slot
}

// placeChanged: a twin has come to another slot. If it is this node's, the twin's timers and its connection begin here.
func (e *Engine) placeChanged(c storage.Change) {
	if c.Deleted {
		return
	}
	class, err := cluster.DecodeClass(c.Value)
	if err != nil {
		e.log.Error("place of twin", "twin", c.Key, "err", err)
		return
	}
	e.arrived(class.SlotOf(c.Key))
}

// placesLost has all slots looked at to which twins may have come unseen.
func (e *Engine) placesLost() {
	for s := range e.owned {
		e.arrived(cluster.Slot(s))
	}
}

func (e *Engine) arrived(s cluster.Slot) {
	if e.owned[s].Load() == nil {
		return
	}
	slots := []cluster.Slot{s}
	e.waker.gained(slots)
	e.starter.gained(slots)
	e.hub.gained(slots)
}

// Shift gives what else changes when a twin moves from a slot to another: the records that have it started, woken, and
// removed. It is the cluster's Options.Shift. What cannot be read stays, and is found when its slot is next gained.
func (e *Engine) Shift(id string, from, to cluster.Slot) (guards, writes []cluster.TableRecord) {
	at := func(table storage.Table, key string, value []byte) cluster.TableRecord {
		return cluster.TableRecord{Table: string(table), Record: cluster.Record{Key: key, Value: value}}
	}
	for _, table := range []storage.Table{tableStart, tableGone} {
		key := slotIDKey(from, id)
		rec, ok, err := e.store.Get(table, key)
		guards = append(guards, at(table, key, rec.Value))
		if err == nil && ok {
			writes = append(writes, at(table, key, nil), at(table, slotIDKey(to, id), rec.Value))
		}
	}
	for rec, err := range e.store.Scan(tableWakes, slotKey(from), "") {
		if err != nil {
			break
		}
		if due, key, ok := parseWake(rec.Key); ok && key == id {
			guards = append(guards, at(tableWakes, rec.Key, rec.Value))
			writes = append(writes, at(tableWakes, rec.Key, nil), at(tableWakes, wakeKey(to, id, due), rec.Value))
		}
	}
	return guards, writes
}

// settleGone is what becomes of a shift when its twin is deleted: there is none, but where nobody could remove what the
// twin leaves because no node satisfies its selector. That goes to the class where somebody can.
func (r *Registry) settleGone(p place, id string) storage.Write {
	w := storage.Write{Table: tableShift, Key: cluster.ShiftKey(p.slot, id)}
	if r.e.cluster.Unmet(p.slot) != "" {
		w.Value = cluster.EncodeClass(0)
	}
	return w
}

// class gives the class of a twin's selector, which is brought into its one form.
func (r *Registry) class(ctx context.Context, t *pb.Twin) (cluster.Class, error) {
	s, err := cluster.ParseSelector(t.Selector)
	if err != nil {
		return 0, invalid("/selector", "%v", err)
	}
	if t.Selector = s.String(); t.Selector == "" {
		return 0, nil
	}
	return r.e.cluster.Class(ctx, s)
}

// settle adds to a transaction what brings a twin that lives at p to a class.
func (p place) settle(txn *storage.Txn, id string, to cluster.Class) {
	w := storage.Write{Table: tableShift, Key: cluster.ShiftKey(p.slot, id)}
	if to != p.class {
		w.Value = cluster.EncodeClass(to)
	}
	txn.Writes = append(txn.Writes, w)
}
