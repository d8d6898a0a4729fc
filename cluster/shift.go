package cluster

import (
	"fmt"
	"maps"
	"slices"
)

// ShiftKey is the key in TableShift of an actor that lives in the slot.
func ShiftKey(s Slot, id string) string { return slotKey(s) + "/" + id }

func parseShiftKey(key string) (s Slot, id string, err error) {
	if len(key) < 6 || key[4] != '/' {
		return 0, "", fmt.Errorf("shift record has key %q, want SLOT/ID", key)
	}
	s, err = parseSlotKey(key[:4])
	return s, key[5:], err
}

// observeShifts follows who is to move to another class.
func (n *Node) observeShifts(changes []Record) {
	if changes == nil {
		n.shiftsSynced = true
		n.relistShifts()
		n.classifyAll()
		return
	}
	for _, c := range changes {
		s, id, err := parseShiftKey(c.Key)
		if err != nil {
			n.o.Logger.Error("shift record ignored", "error", err)
			continue
		}
		n.noteShift(s, id, c.Value)
		if n.synced() {
			n.classify(s, n.owners[s].Load())
			n.gain(s)
		}
	}
}

// relistShifts forgets those that a new listing did not have.
func (n *Node) relistShifts() {
	all, err := n.o.Records.Scan(TableShift)
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, r := range all {
		there[r.Key] = true
	}
	for s, ids := range n.shifts {
		for id := range ids {
			if !there[ShiftKey(s, id)] {
				n.noteShift(s, id, nil)
			}
		}
	}
}

func (n *Node) noteShift(s Slot, id string, value []byte) {
	ids := n.shifts[s]
	switch {
	case value == nil:
		delete(ids, id)
	case ids == nil:
		n.shifts[s] = map[string][]byte{id: value}
	default:
		ids[id] = value
	}
	if len(ids) == 0 && value == nil {
		delete(n.shifts, s)
	}
	n.shifting.set(s, len(n.shifts[s]) > 0)
}

// maxShifts bounds the actors that change their class in one transaction.
const maxShifts = 128

// shift adds to a transaction that flips a slot what moves its actors to the classes in which they should be, at most as
// many as there is room for.
func (n *Node) shift(t *Txn, s Slot, room int) (moved int) {
	ids := n.shifts[s]
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if moved == room {
			break
		}
		to, err := DecodeClass(ids[id])
		if err != nil {
			n.o.Logger.Error("an actor stays in its class", "id", id, "error", err)
			continue
		}
		place, err := n.o.Records.Get(TablePlace, id)
		if err != nil {
			continue
		}
		if !n.o.faults.noShiftGuard {
			t.Guards = append(t.Guards, record(TableShift, ShiftKey(s, id), ids[id]))
		}
		t.Guards = append(t.Guards, record(TablePlace, id, place))
		t.Writes = append(t.Writes, record(TableShift, ShiftKey(s, id), nil), record(TablePlace, id, EncodeClass(to)))
		if n.o.Shift != nil {
			guards, writes := n.o.Shift(id, s, to.SlotOf(id))
			t.Guards, t.Writes = append(t.Guards, guards...), append(t.Writes, writes...)
		}
		moved++
	}
	return moved
}
