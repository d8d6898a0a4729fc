package storage

import (
	"maps"
	"sync"
	"sync/atomic"
)

// versions counts the batches that wrote to a table, for those tables that somebody has asked for.
type versions struct {
	mu sync.Mutex
	of atomic.Pointer[map[Table]*atomic.Uint64]
}

// Version is a number that changes whenever what is read of a table, quiet writes and deletions included, may have changed. What
// was read after Version gave a number holds while it gives that number, so that it can be kept in memory and is never behind
// what AppliedIndex says. It costs some nanoseconds and does not block.
func (s *Store) Version(table Table) uint64 {
	if all := s.versions.of.Load(); all != nil {
		if n := (*all)[table]; n != nil {
			return n.Load()
		}
	}
	return s.versions.begin(table)
}

func (v *versions) begin(table Table) uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[Table]*atomic.Uint64{}
	if old := v.of.Load(); old != nil {
		all = maps.Clone(*old)
	}
	if all[table] == nil {
		all[table] = new(atomic.Uint64)
		v.of.Store(&all)
	}
	return all[table].Load()
}

// wrote counts a batch, after it can be read and before it counts as applied. Who begins to ask for a table after this has looked
// reads the batch already.
func (v *versions) wrote(tables map[Table]struct{}) {
	all := v.of.Load()
	if all == nil {
		return
	}
	for t := range tables {
		if n := (*all)[t]; n != nil {
			n.Add(1)
		}
	}
}

// replaced counts a state that took another's place.
func (v *versions) replaced() {
	if all := v.of.Load(); all != nil {
		for _, n := range *all {
			n.Add(1)
		}
	}
}
