package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// windowSize is how many of a node's last entries the state machine remembers the results of. A batcher never has entries
// in flight that are further apart.
const windowSize = 64

// window holds the results of a node's last entries, so that an entry that was proposed again applies once. An entry's
// slot is its sequence modulo windowSize; the slot is a record of the state, written over in place.
type window struct {
	incarnation uint64
	slots       [windowSize]windowSlot
}

type windowSlot struct {
	incarnation, sequence uint64
	// hash of the entry: two entries with one sequence are a node's fault, and must not be answered for one another.
	hash   uint64
	result []byte
}

type verdict int

const (
	verdictApply verdict = iota
	verdictDuplicate
	verdictStale
)

// judge says what to do with e, and the earlier result of a duplicate.
func (w *window) judge(e *entry) (verdict, []byte) {
	s := &w.slots[e.sequence%windowSize]
	switch {
	case e.incarnation > w.incarnation:
		return verdictApply, nil
	case e.incarnation < w.incarnation:
		return verdictStale, nil
	case s.incarnation != e.incarnation || s.sequence < e.sequence:
		return verdictApply, nil
	case s.sequence == e.sequence && s.hash == e.hash:
		return verdictDuplicate, s.result
	}
	return verdictStale, nil
}

// remember notes the result of e, which must have been judged verdictApply.
func (w *window) remember(e *entry, result []byte) *windowSlot {
	w.incarnation = e.incarnation
	s := &w.slots[e.sequence%windowSize]
	*s = windowSlot{incarnation: e.incarnation, sequence: e.sequence, hash: e.hash, result: result}
	return s
}

func appendWindowKey(b []byte, node []byte, sequence uint64) []byte {
	b = append(b, keyWindow)
	b = append(b, node...)
	return append(b, 0, byte(sequence%windowSize))
}

func (s *windowSlot) append(b []byte) []byte {
	b = binary.AppendUvarint(b, s.incarnation)
	b = binary.AppendUvarint(b, s.sequence)
	b = binary.LittleEndian.AppendUint64(b, s.hash)
	return append(b, s.result...)
}

// loadWindows reads the windows of all nodes.
func loadWindows(r pebble.Reader) (map[string]*window, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{keyWindow}, UpperBound: []byte{keyWindow + 1}})
	if err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	all := map[string]*window{}
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.Key(), reader{b: it.Value()}
		if len(k) < 3 {
			return nil, joinClose(errMalformed("window"), it)
		}
		node := string(k[1 : len(k)-2])
		s := windowSlot{incarnation: v.uvarint(), sequence: v.uvarint(), hash: v.uint64()}
		s.result = append([]byte(nil), v.b...)
		if v.bad {
			return nil, joinClose(errMalformed("window of "+node), it)
		}
		w := all[node]
		if w == nil {
			w = &window{}
			all[node] = w
		}
		w.incarnation = max(w.incarnation, s.incarnation)
		w.slots[s.sequence%windowSize] = s
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	return all, nil
}
