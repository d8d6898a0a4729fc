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
// refreshes what is loaded. Two generations bound it; the older one goes when the younger is full.
type guardCache struct {
	young, old map[string]*guarded
	// large are keys of values above guardValue, which leave after the batch.
	large []string
	key   []byte
}

const (
	// guardGeneration is the size of a generation, in records.
	guardGeneration = 32768
	// guardValue is the largest value that stays after its batch, in bytes.
	guardValue = 1024
)

func newGuardCache() *guardCache {
	return &guardCache{young: map[string]*guarded{}, old: map[string]*guarded{}}
}

func (c *guardCache) find(key []byte) *guarded {
	if g := c.young[string(key)]; g != nil {
		return g
	}
	g := c.old[string(key)]
	if g != nil {
		c.young[string(key)] = g
		delete(c.old, string(key))
	}
	return g
}

// turn makes room. It may only be called between batches.
func (c *guardCache) turn() {
	if len(c.young) >= guardGeneration {
		c.old = c.young
		c.young = map[string]*guarded{}
	}
}

// load reads the record that g names from db, unless it is held already. It may only be called before a batch's first write.
func (c *guardCache) load(db *pebble.DB, g *wireGuard) error {
	c.key = appendDataKey(c.key[:0], g.table, g.key)
	held := c.find(c.key)
	want := g.kind == guardEqual
	if held != nil && (held.hasValue || !want) {
		return nil
	}
	v, closer, err := db.Get(c.key)
	if errors.Is(err, pebble.ErrNotFound) {
		c.young[string(c.key)] = &guarded{hasValue: true}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read guarded record %s %q: %w", g.table, g.key, err)
	}
	defer closer.Close()
	revision, n := binary.Uvarint(v)
	if n <= 0 {
		return errMalformed(fmt.Sprintf("record %s %q", g.table, g.key))
	}
	n2 := &guarded{revision: revision}
	if want {
		n2.value, n2.hasValue = append([]byte(nil), v[n:]...), true
		if len(n2.value) > guardValue {
			c.large = append(c.large, string(c.key))
		}
	}
	c.young[string(c.key)] = n2
	return nil
}

// holds says whether g holds now, and the revision that its record has.
func (c *guardCache) holds(g *wireGuard) (bool, uint64, error) {
	c.key = appendDataKey(c.key[:0], g.table, g.key)
	held := c.find(c.key)
	if held == nil {
		return false, 0, fmt.Errorf("guarded record %s %q was not loaded", g.table, g.key)
	}
	if g.kind == guardRevision {
		return held.revision == g.revision, held.revision, nil
	}
	if held.revision == 0 {
		return false, 0, nil
	}
	if !held.hasValue {
		return false, 0, fmt.Errorf("guarded record %s %q was loaded without its value", g.table, g.key)
	}
	return bytes.Equal(held.value, g.equal), held.revision, nil
}

// wrote refreshes a record that is held. key is a data key; revision 0 says deleted.
func (c *guardCache) wrote(key []byte, revision uint64, value []byte) {
	g := c.find(key)
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
		delete(c.young, k)
		delete(c.old, k)
	}
	c.large = c.large[:0]
}
