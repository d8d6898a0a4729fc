package storage

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/polluxhq/pollux/storage/ordered"
)

// gatherBytes is what waits at most, in bytes, before it is written: some thousand records of twins, which take some milliseconds.
const gatherBytes = 1 << 20

// gathering is what is applied and not yet in the state's database. Who reads one record is given it from here, whoever reads
// more has it written first, so nobody sees the difference. Meanwhile a record that is written again and again goes to the database
// once, beside its neighbours. What waits is lost with the process like what is in the database's memory, and applied again from the
// log.
type gathering struct {
	mu     sync.Mutex
	writes ordered.Writes
	batch  *pebble.Batch
	// waits: there is something. Set before it counts as applied.
	waits atomic.Bool
}

// gather takes the effects of entries, which come whole: with the applied index that they lead to.
func (st *stateDB) gather(b *pebble.Batch) error {
	g := &st.gathering
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.writes.Add(b); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	g.waits.Store(true)
	if g.writes.Len() < gatherBytes {
		return nil
	}
	return st.write()
}

// commit is gather that waits for nothing, and takes any batch.
func (st *stateDB) commit(b *pebble.Batch) error {
	st.gathering.mu.Lock()
	defer st.gathering.mu.Unlock()
	if err := st.write(); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// settle writes what waits. What was applied before the call can be read after it.
func (st *stateDB) settle() error {
	if !st.gathering.waits.Load() {
		return nil
	}
	st.gathering.mu.Lock()
	defer st.gathering.mu.Unlock()
	return st.write()
}

// waiting gives a copy of a key's newest value where it waits; otherwise the database has the newest.
func (st *stateDB) waiting(key []byte) (value []byte, deleted, waits bool) {
	g := &st.gathering
	if !g.waits.Load() {
		return nil, false, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	value, deleted, waits = g.writes.Get(key)
	return bytes.Clone(value), deleted, waits
}

// write puts what waits into the database, as one batch. The gathering is locked.
func (st *stateDB) write() error {
	g := &st.gathering
	if !g.waits.Load() {
		return nil
	}
	if g.batch == nil {
		g.batch = st.db.NewBatch(pebble.WithMaxRetainedSizeBytes(2 * batchBytes))
	}
	defer g.batch.Reset()
	if err := g.writes.Into(g.batch); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	// In memory alone until a flush: the log has it, and what is lost is applied again from there.
	if err := g.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	g.waits.Store(false)
	return nil
}
