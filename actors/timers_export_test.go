package actors

import (
	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// WakeRecord is what has a unit woken at a time in milliseconds since 1970.
func WakeRecord(address string, due int64) storage.Write {
	return storage.Write{Table: tableWakes, Key: wakeKey(automation.SlotOf(address), address, due), Value: []byte{1}, Quiet: true}
}

// LookAtSlots has the node look at the timers of all its slots, as if it had just gained them.
func (e *Engine) LookAtSlots() {
	var all []cluster.Slot
	for s := range cluster.Slot(cluster.SlotSpace) {
		if e.owned[s].Load() != nil {
			all = append(all, s)
		}
	}
	e.waker.gained(all)
}

// TwinWake is what has a twin woken at a time in milliseconds since 1970.
func TwinWake(id string, due int64) storage.Write {
	return storage.Write{Table: tableWakes, Key: wakeKey(cluster.SlotOf(id), id, due), Value: []byte{1}, Quiet: true}
}
