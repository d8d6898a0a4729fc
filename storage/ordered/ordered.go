// Package ordered gathers writes to a Pebble database and puts them into a batch in the order of their keys, of each key the last.
// A memtable takes neighbours several times faster than keys in no order, as it goes on from where it has just been, and what is
// written over before it gets there costs it nothing.
package ordered

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// Writes are gathered until Into. The zero value is empty and ready. It is not for concurrent use.
type Writes struct {
	buf []byte // keys and values, in the order of arrival
	ops []op
	// last finds the newest write that Add took of a key, by the key's hash.
	last map[uint64]int32
}

// op is one write: where its key and its value are in buf.
type op struct {
	key, keyEnd, value, valueEnd int32
	deletes                      bool
}

// keepBytes is the largest buffer that Reset keeps.
const keepBytes = 4 << 20

// Len is how many bytes of keys and values are gathered, those that were written over included.
func (w *Writes) Len() int { return len(w.buf) }

// Set adds a write: fill appends its key and then its value to the buffer, and says how long the key is.
func (w *Writes) Set(fill func(b []byte) (_ []byte, key int)) {
	at := int32(len(w.buf))
	b, key := fill(w.buf)
	w.buf = b
	w.ops = append(w.ops, op{key: at, keyEnd: at + int32(key), value: at + int32(key), valueEnd: int32(len(b))})
}

// Add takes the writes of a batch, which holds nothing but Set and Delete.
func (w *Writes) Add(b *pebble.Batch) error {
	if w.last == nil {
		w.last = map[uint64]int32{}
	}
	for r := b.Reader(); ; {
		kind, key, value, ok, err := r.Next()
		if err != nil {
			return fmt.Errorf("read a batch: %w", err)
		}
		if !ok {
			return nil
		}
		if kind != pebble.InternalKeyKindSet && kind != pebble.InternalKeyKindDelete {
			return fmt.Errorf("read a batch: kind %s", kind)
		}
		o := w.of(key)
		o.deletes = kind == pebble.InternalKeyKindDelete
		o.value = int32(len(w.buf))
		w.buf = append(w.buf, value...)
		o.valueEnd = int32(len(w.buf))
	}
}

// of gives the write of a key, which may be there.
func (w *Writes) of(key []byte) *op {
	hash := xxhash.Sum64(key)
	i, ok := w.last[hash]
	if ok && bytes.Equal(w.keyOf(&w.ops[i]), key) {
		return &w.ops[i]
	}
	w.last[hash] = int32(len(w.ops))
	at := int32(len(w.buf))
	w.buf = append(w.buf, key...)
	w.ops = append(w.ops, op{key: at, keyEnd: int32(len(w.buf))})
	return &w.ops[len(w.ops)-1]
}

// Get gives what Add took last of a key; the value is valid until the next call. known is false where Add took nothing of it.
func (w *Writes) Get(key []byte) (value []byte, deleted, known bool) {
	i, ok := w.last[xxhash.Sum64(key)]
	if !ok {
		return nil, false, false
	}
	for ; i >= 0; i-- { // the first, unless hashes met
		if o := &w.ops[i]; bytes.Equal(w.keyOf(o), key) {
			return w.buf[o.value:o.valueEnd], o.deletes, true
		}
	}
	return nil, false, false
}

func (w *Writes) keyOf(o *op) []byte { return w.buf[o.key:o.keyEnd] }

// Into puts everything into b, which copies it, and forgets it.
func (w *Writes) Into(b *pebble.Batch) error {
	defer w.Reset()
	slices.SortFunc(w.ops, func(x, y op) int {
		if c := bytes.Compare(w.keyOf(&x), w.keyOf(&y)); c != 0 {
			return c
		}
		return cmp.Compare(x.value, y.value) // where hashes met, or the caller says the same thing twice
	})
	for i := range w.ops {
		o := &w.ops[i]
		key := w.keyOf(o)
		if i+1 < len(w.ops) && bytes.Equal(key, w.keyOf(&w.ops[i+1])) {
			continue
		}
		var err error
		if o.deletes {
			err = b.Delete(key, nil)
		} else {
			err = b.Set(key, w.buf[o.value:o.valueEnd], nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Reset forgets what is gathered.
func (w *Writes) Reset() {
	w.buf, w.ops = w.buf[:0], w.ops[:0]
	clear(w.last)
	if cap(w.buf) > keepBytes {
		*w = Writes{}
	}
}
