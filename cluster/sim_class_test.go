package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Twins that are made, deleted, and given another selector, as package actors does it: by transactions of any node, which
// guard the twin's record and place; the owner of the twin's slot does the rest.

const (
	simTwins = "twin" // id → simRecord
	simGone  = "gone" // SLOT/id of a deleted twin → its last record
)

var errAbsent = errors.New("no such twin")

// simRecord is a twin's record: its revision, of which there is one for ever, and its class.
func simRecord(rev uint64, c Class) string {
	return string(binary.BigEndian.AppendUint64([]byte{byte(c)}, rev))
}

// placeIn is where a twin lives by a state.
func placeIn(state map[string]string, id string) Slot {
	c, _ := DecodeClass([]byte(state[key(TablePlace, id)]))
	return c.SlotOf(id)
}

// look tells whether the twin lives in this slot, as applied here; ErrNotOwner: no; errAbsent: it would, but does not
// exist. What a deleted twin left is removed.
func (t *tenure) look() error {
	id, state := simTargets[twinOf(t.own.Slot)], t.e.p.n.state
	_, exists := state[key(simTwins, id)]
	switch {
	case t.here && exists:
		return nil
	case t.here && (t.running || t.writing > 0):
		return nil // it ends before anything is removed
	case placeIn(state, id) != t.own.Slot && !t.e.w.opt.noLook:
		t.here = false
		return ErrNotOwner
	case exists:
		t.here = true
		return nil
	}
	t.here, t.loaded = false, false
	gone := ShiftKey(t.own.Slot, id)
	// The store tries for longer than a lease lasts before it says that it does not know: what then still comes late is
	// fenced by the slot's next record. Here it says so at once, so the removal waits for what may come.
	settled := t.unsure == 0 || t.e.w.now-t.unsure > 8*time.Second
	if last, there := state[key(simGone, gone)]; there && settled {
		simRecords{t.e.p}.Commit(Txn{
			Guards: []TableRecord{record(t.own.Table, t.own.Key, t.own.Value), record(simGone, gone, []byte(last))},
			Writes: []TableRecord{record("state", t.key(), nil), record(simGone, gone, nil), record(TablePlace, id, nil),
				record(TableShift, gone, nil)},
		}, func(error) {})
	}
	return errAbsent
}

// changes makes, deletes and moves twins until the healing begins.
func (w *world) changes() {
	if w.healing {
		return
	}
	w.at(w.between(20*time.Millisecond, 800*time.Millisecond), nil, w.changes)
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	p, id := n.proc, simTargets[w.rng.IntN(simSlots)]
	if p == nil || !p.begun {
		return
	}
	to := w.rng.IntN(1 + len(simSelectors))
	remove := w.chance(20)
	w.at(0, p, func() {
		if _, exists := n.state[key(simTwins, id)]; exists && remove {
			w.unmake(p, id)
			return
		}
		if to == 0 {
			w.change(p, id, 0)
			return
		}
		p.node.makeClass(simSelectors[to-1], func(c Class, err error) {
			if err == nil {
				w.at(0, p, func() { w.change(p, id, c) })
			}
		})
	})
}

// twinTxn begins a transaction that changes a twin: its record and place must be as they are here.
func twinTxn(p *proc, id string, to []byte) Txn {
	read := func(table, k string) TableRecord {
		value, _ := simRecords{p}.Get(table, k)
		return record(table, k, value)
	}
	return Txn{Guards: []TableRecord{read(simTwins, id), read(TablePlace, id)}, Writes: []TableRecord{record(simTwins, id, to)}}
}

func (w *world) unmake(p *proc, id string) {
	t := twinTxn(p, id, nil)
	at := placeIn(p.n.state, id)
	t.Writes = append(t.Writes, record(simGone, ShiftKey(at, id), t.Guards[0].Value), record(TableShift, ShiftKey(at, id), nil))
	if p.node.unmetBy(at) != nil {
		// Nobody is there to remove what it leaves: that goes home.
		t.Writes[len(t.Writes)-1].Value = EncodeClass(0)
	}
	simRecords{p}.Commit(t, func(error) {})
}

// change gives a twin another selector, or makes it.
func (w *world) change(p *proc, id string, c Class) {
	w.revs++
	t := twinTxn(p, id, []byte(simRecord(w.revs, c)))
	at := placeIn(p.n.state, id)
	switch {
	case t.Guards[0].Value == nil && t.Guards[1].Value == nil:
		t.Guards = append(t.Guards, record(simGone, ShiftKey(at, id), nil))
		if c != 0 {
			t.Writes = append(t.Writes, record(TablePlace, id, EncodeClass(c)))
		}
	case t.Guards[0].Value == nil:
		return // a former twin is being removed
	case w.opt.oneStep:
		t.Writes = append(t.Writes, record(TablePlace, id, EncodeClass(c)))
	default:
		shift := record(TableShift, ShiftKey(at, id), nil)
		if at.Class() != c {
			shift.Value = EncodeClass(c)
		}
		t.Writes = append(t.Writes, shift)
	}
	simRecords{p}.Commit(t, func(error) {})
}

// shiftGone is Options.Shift: the tombstone of a deleted twin moves with it.
func (p *proc) shiftGone(id string, from, to Slot) (guards, writes []TableRecord) {
	was, _ := simRecords{p}.Get(simGone, ShiftKey(from, id))
	guards = []TableRecord{record(simGone, ShiftKey(from, id), was)}
	if was != nil {
		writes = []TableRecord{record(simGone, ShiftKey(from, id), nil), record(simGone, ShiftKey(to, id), was)}
	}
	return guards, writes
}

// follow notes what a committed record means for the twins.
func (w *world) follow(r TableRecord) {
	switch r.Table {
	case TableSlot:
		s, _ := parseSlotKey(r.Key)
		w.place(twinOf(s))
	case TablePlace:
		for d, id := range simTargets {
			if id == r.Key {
				w.place(d)
			}
		}
		w.count.shifted++
	case simTwins:
		if r.Value == nil {
			w.count.removed++
		} else {
			w.count.made++
		}
	case "state":
		if d, _ := parseSlotKey(r.Key); r.Value == nil {
			for _, c := range w.calls {
				c.reborn = c.reborn || c.slot == d
			}
		}
	}
}

// place numbers the owners of a twin.
func (w *world) place(d int) {
	s := placeIn(w.head, simTargets[d])
	slot, err := decodeSlot([]byte(w.head[key(TableSlot, slotKey(s))]))
	if err != nil {
		return
	}
	t, now := &w.twins[d], tenancy{s, slot.since}
	if t.since[now] != t.newest || t.newest == 0 {
		t.newest++
		t.since[now] = t.newest
	}
}

// checkState: a checkpoint is that of the twin's owner, and forgets nothing.
func (w *world) checkState(r TableRecord, was []byte) {
	d, _ := parseSlotKey(r.Key)
	if r.Value == nil {
		return // the twin is deleted
	}
	at := placeIn(w.head, simTargets[d])
	slot, err := decodeSlot([]byte(w.head[key(TableSlot, slotKey(at))]))
	by := binary.BigEndian.Uint64(r.Value)
	if err != nil || by != uint64(at)<<48|slot.since {
		w.violated("fence: a checkpoint of twin %d by owner %d of slot %d was committed, it lives in slot %d, whose owner is at %d",
			d, by&(1<<48-1), by>>48, at, slot.since)
	}
	for i := 8; i < len(was); i += 16 {
		if !hasRun(r.Value, [16]byte(was[i:i+16])) {
			w.violated("acknowledged: a checkpoint of twin %d forgets call %x", d, was[i:i+4])
		}
	}
}

// candidates are the members that may own a class's slots, by the log.
func (w *world) candidates(c Class) (all []Candidate) {
	selector := Selector{}
	if c > 0 {
		text, _ := decodeSelector([]byte(w.head[key(tableClass, fmt.Sprintf("%02x", c))]))
		selector, _ = ParseSelector(text)
	}
	for _, r := range scanState(w.head, TableMember) {
		if m, err := DecodeMember(r.Key, r.Value); err == nil && m.State == StateActive && selector.Matches(&m) {
			all = append(all, Candidate{m.ID, m.Weight})
		}
	}
	return all
}

// unsettledTwins: every twin lives in the class that it should, and nothing is left of those that were deleted.
func (w *world) unsettledTwins() string {
	for k := range w.head {
		if strings.HasPrefix(k, TableShift+"/") {
			return "a twin is to move: " + k
		}
	}
	for _, id := range simTargets {
		rec, exists := w.head[key(simTwins, id)]
		at := placeIn(w.head, id)
		if _, placed := w.head[key(TablePlace, id)]; !exists && placed && w.candidates(at.Class()) != nil {
			return "something is left of deleted twin " + id
		}
		if exists && Class(rec[0]) != at.Class() {
			return fmt.Sprintf("twin %s is in class %d, it should be in %d", id, at.Class(), rec[0])
		}
	}
	return ""
}

// rightly tells whether the answer to a call is the right one after everything has healed.
func (w *world) rightly(c *simCall) bool {
	id := simTargets[c.slot]
	_, exists := w.head[key(simTwins, id)]
	switch nobody := w.candidates(placeIn(w.head, id).Class()) == nil; {
	case errors.Is(c.err, ErrDeadline):
		return true
	case nobody:
		return errors.Is(c.err, ErrSelector)
	case !exists:
		return errors.Is(c.err, errAbsent)
	}
	return c.err == nil
}
