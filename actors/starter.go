package actors

import (
	"slices"
	"sync"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// starter activates, at a bounded rate, the twins of gained slots that hold connections, and those that were deleted
// while nobody could remove their state.
type starter struct {
	e    *Engine
	wake chan struct{}

	mu    sync.Mutex
	slots []cluster.Slot
	gains int // counts what gained was told
}

func newStarter(e *Engine) *starter { return &starter{e: e, wake: make(chan struct{}, 1)} }

func (s *starter) gained(slots []cluster.Slot) {
	s.mu.Lock()
	s.slots = append(s.slots, slots...)
	slices.Sort(s.slots)
	s.gains++
	s.mu.Unlock()
	signal(s.wake)
}

func (s *starter) lost(slots []cluster.Slot) {
	gone := make(map[cluster.Slot]bool, len(slots))
	for _, slot := range slots {
		gone[slot] = true
	}
	s.mu.Lock()
	kept := s.slots[:0]
	for _, slot := range s.slots {
		if !gone[slot] {
			kept = append(kept, slot)
		}
	}
	s.slots = kept
	s.mu.Unlock()
}

func (s *starter) take() (slot cluster.Slot, gains int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.slots) == 0 {
		s.slots = nil
		return 0, 0, false
	}
	slot = s.slots[0]
	s.slots = s.slots[1:]
	return slot, s.gains, true
}

func (s *starter) run() {
	// Twins are started in portions of a fiftieth of a second's.
	portion := max(1, s.e.o.StartRate/50)
	pace := time.NewTicker(time.Second * time.Duration(portion) / time.Duration(s.e.o.StartRate))
	defer pace.Stop()
	begun, known := 0, 0
	gaps := map[storage.Table]stretch{} // while nothing was gained or started since they were looked for
	begin := func(ids []string) {
		for _, id := range ids {
			clear(gaps)
			s.e.activate(id, (*nudge)(nil))
			if begun++; begun%portion != 0 {
				continue
			}
			select {
			case <-s.e.ctx.Done():
				return
			case <-pace.C:
			}
		}
	}
	for {
		slot, gains, ok := s.take()
		if !ok {
			select {
			case <-s.e.ctx.Done():
				return
			case <-s.wake:
			}
			continue
		}
		if gains != known {
			known = gains
			clear(gaps)
		}
		for _, table := range []storage.Table{tableGone, tableStart} {
			if gaps[table].has(slot) {
				continue
			}
			ids := s.ids(table, slot)
			if len(ids) == 0 {
				gaps[table] = s.e.gapBehind(table, slot)
			}
			begin(ids)
		}
		// What a twin had to tell its subscribers when its last life ended is told by the next one.
		begin(s.e.followers.in(slot, s.e.slotOf))
		// What a twin computes follows from what others say now, and from nothing that an earlier life kept.
		begin(s.e.derivations.in(slot))
	}
}

func (s *starter) ids(table storage.Table, slot cluster.Slot) []string {
	var ids []string
	for rec, err := range s.e.store.Scan(table, slotKey(slot), "") {
		if err != nil {
			s.e.log.Error("read twins to start", "slot", slot, "err", err)
			break
		}
		ids = append(ids, parseSlotID(rec.Key))
	}
	return ids
}
