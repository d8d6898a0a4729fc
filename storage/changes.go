package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// changeLog knows how much of the change log there is, so that it can be trimmed by whole segments. The changes
// themselves are records of the state's database. What it holds is this node's own affair: nodes may keep different amounts.
type changeLog struct {
	segments       []segment
	changes, bytes int
	floor          uint64

	keepChanges, keepBytes int
}

// segment is a run of changes. A transaction's changes are in one segment.
type segment struct {
	first, last    uint64 // revisions
	changes, bytes int
}

// loadChangeLog counts what is there.
func loadChangeLog(r pebble.Reader, floor uint64, keepChanges, keepBytes int) (*changeLog, error) {
	c := &changeLog{floor: floor, keepChanges: keepChanges, keepBytes: keepBytes}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyChange}, UpperBound: []byte{keyChange + 1}})
	if err != nil {
		return nil, fmt.Errorf("read the change log: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()
		if len(k) != 13 {
			return nil, joinClose(errMalformed("change"), it)
		}
		c.add(binary.BigEndian.Uint64(k[1:]), len(k)+len(it.Value()))
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("read the change log: %w", err)
	}
	return c, nil
}

// add counts a change of size bytes.
func (c *changeLog) add(revision uint64, size int) {
	c.changes++
	c.bytes += size
	if n := len(c.segments); n > 0 {
		s := &c.segments[n-1]
		full := s.changes >= max(1, c.keepChanges/16) || s.bytes >= c.keepBytes/16
		if !full || s.last == revision {
			s.last = revision
			s.changes++
			s.bytes += size
			return
		}
	}
	c.segments = append(c.segments, segment{first: revision, last: revision, changes: 1, bytes: size})
}

// trim forgets the oldest segments while there is too much, always keeping the newest. It gives the new floor and the key
// up to which the records go; nil: nothing goes.
func (c *changeLog) trim() (floor uint64, end []byte) {
	n := 0
	for n < len(c.segments)-1 && (c.changes > c.keepChanges || c.bytes > c.keepBytes) {
		c.changes -= c.segments[n].changes
		c.bytes -= c.segments[n].bytes
		c.floor = c.segments[n].last
		n++
	}
	if n == 0 {
		return c.floor, nil
	}
	c.segments = append(c.segments[:0], c.segments[n:]...)
	return c.floor, indexKey(keyChange, c.floor+1)
}

// decodeChange reads a record of the change log. What it returns is the caller's own.
func decodeChange(k, v []byte) (Change, error) {
	if len(k) != 13 || len(v) == 0 {
		return Change{}, errMalformed("change")
	}
	r := reader{b: v}
	deleted := r.byte()&writeDelete != 0
	c := Change{Table: Table(r.bytes()), Deleted: deleted}
	c.Key = string(r.bytes())
	c.Revision = binary.BigEndian.Uint64(k[1:])
	if r.bad {
		return Change{}, errMalformed("change")
	}
	if !deleted {
		c.Value = append([]byte{}, r.b...)
	}
	return c, nil
}

// changeMatches says whether the record is of the table and the prefix, without decoding it.
func changeMatches(v []byte, table Table, prefix string) bool {
	r := reader{b: v}
	r.byte()
	if string(r.bytes()) != string(table) {
		return false
	}
	k := r.bytes()
	return !r.bad && len(k) >= len(prefix) && string(k[:len(prefix)]) == prefix
}
