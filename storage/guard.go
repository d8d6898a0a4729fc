package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// guarded is the newest state of a record that a guard has asked for, the effects of the batch being applied included.
type guarded struct {
	revision uint64 // 0: does not exist
	// value is held where a guard compared it.
	value    []byte
	hasValue bool
}

// guardCache holds the records that guards asked for lately: an owner's fence is the same record in each of its
// transactions. It is the one place where the state machine looks at records, so that a guard also sees the writes of its
// own batch: all records that a batch's guards name are loaded before the batch's first write, and each write
// refreshes what is loaded. Between batches it is emptied when it is full.
type guardCache struct {
	records map[string]*guarded
	// asked are the records of the batch's guards, one for each, in their order; next is the first not yet judged.
	asked []*guarded
	next  int
	// large are keys of values above guardValue, which leave after the batch.
	large []string
	key   []byte
	// last is the record of key.
	last *guarded
}

const (
	// guardRecords is how many records are held, beside those of the batch at hand.
	guardRecords = 65536
	// guardValue is the largest value that stays after its batch, in bytes.
	guardValue = 1024
)

func newGuardCache() *guardCache { return &guardCache{records: map[string]*guarded{}} }

// turn begins a batch.
func (c *guardCache) turn() {
	c.asked, c.next = c.asked[:0], 0
	c.key, c.last = c.key[:0], nil
	if len(c.records) >= guardRecords {
		c.records = map[string]*guarded{}
	}
}

// ask loads the record that the batch's next guard names, unless it is held already. It may only be called before the
// batch's first write.
func (c *guardCache) ask(st *stateDB, g *wireGuard) error {
	want := g.kind == guardEqual
	// Neighbours often have the same fence.
	if c.last != nil && sameRecord(c.key, g) && (c.last.hasValue || !want) {
		c.asked = append(c.asked, c.last)
		return nil
	}
	c.key = appendDataKey(c.key[:0], g.table, g.key)
	held := c.records[string(c.key)]
	if held == nil || (want && !held.hasValue) {
		fresh, err := c.load(st, g, want)
		if err != nil {
			return err
		}
		if held == nil {
			held = fresh
			c.records[string(c.key)] = held
		} else {
			*held = *fresh
		}
		if len(held.value) > guardValue {
			c.large = append(c.large, string(c.key))
		}
	}
	c.last = held
	c.asked = append(c.asked, held)
	return nil
}

func sameRecord(key []byte, g *wireGuard) bool {
	n := len(g.table)
	return len(key) == 2+n+len(g.key) && string(key[1:1+n]) == string(g.table) && string(key[2+n:]) == string(g.key) && key[1+n] == 0
}

func (c *guardCache) load(st *stateDB, g *wireGuard, want bool) (*guarded, error) {
	v, deleted, waits := st.waiting(c.key)
	if !deleted && !waits {
		stored, closer, err := st.db.Get(c.key)
		if err == nil {
			defer closer.Close()
		} else if !errors.Is(err, pebble.ErrNotFound) {
			return nil, fmt.Errorf("read guarded record %s %q: %w", g.table, g.key, err)
		}
		v, deleted = stored, err != nil
	}
	if deleted {
		return &guarded{hasValue: true}, nil
	}
	revision, n := binary.Uvarint(v)
	if n <= 0 {
		return nil, errMalformed(fmt.Sprintf("record %s %q", g.table, g.key))
	}
	r := &guarded{revision: revision}
	if want {
		r.value, r.hasValue = append([]byte(nil), v[n:]...), true
	}
	return r, nil
}

// holds says whether the batch's next guard, which is g, holds now, and the revision that its record has.
func (c *guardCache) holds(g *wireGuard) (bool, uint64) {
	held := c.asked[c.next]
	c.next++
	if g.kind == guardRevision {
		return held.revision == g.revision, held.revision
	}
	return held.revision > 0 && bytes.Equal(held.value, g.equal), held.revision
}

// wrote refreshes a record that is held. key is a data key; revision 0 says deleted.
func (c *guardCache) wrote(key []byte, revision uint64, value []byte) {
	g := c.records[string(key)]
	if g == nil {
		return
	}
	g.revision = revision
	if g.hasValue {
		g.value = append(g.value[:0], value...)
		if len(value) > guardValue {
			c.large = append(c.large, string(key))
		}
	}
}

// shrink forgets the large values after their batch.
func (c *guardCache) shrink() {
	for _, k := range c.large {
		delete(c.records, k)
	}
	c.large = c.large[:0]
}
