package peer

import "github.com/polluxhq/pollux/cluster"

// maxSlots bounds a table: a slot's number has 16 bits in a call's ref.
const maxSlots = 1 << 16

// waiting is a call that waits for its result. One of done and raw is set.
type waiting struct {
	done func(cluster.Reply)
	raw  func(result []byte, index uint64, err error)
	// deadline in microseconds of the link's clock, plus 1; 0: none.
	deadline uint64
	seq      uint64
	size     int
}

// end completes the call with an error.
func (w *waiting) end(err error) {
	if w.done != nil {
		w.done(cluster.Reply{Err: err})
	} else {
		w.raw(nil, 0, err)
	}
}

// table holds the calls that wait for their result. A ref is the slot's number and how often it has been used, so that a
// late result meets nobody.
type table struct {
	slots []slot
	free  []uint32
	count int
	bytes int
}

type slot struct {
	waiting
	uses uint64 // odd: in use
}

func (t *table) add(w waiting) (ref uint64) {
	var n uint32
	if last := len(t.free) - 1; last >= 0 {
		n = t.free[last]
		t.free = t.free[:last]
	} else {
		n = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	s := &t.slots[n]
	s.uses++
	s.waiting = w
	t.count++
	t.bytes += w.size
	return s.uses<<16 | uint64(n)
}

// remove gives the call of a ref and frees its slot; false where nobody waits any more.
func (t *table) remove(ref uint64) (waiting, bool) {
	n := ref & (maxSlots - 1)
	if n >= uint64(len(t.slots)) || t.slots[n].uses != ref>>16 || t.slots[n].uses&1 == 0 {
		return waiting{}, false
	}
	return t.clear(uint32(n)), true
}

func (t *table) clear(n uint32) waiting {
	s := &t.slots[n]
	w := s.waiting
	s.uses++
	s.waiting = waiting{}
	t.free = append(t.free, n)
	t.count--
	t.bytes -= w.size
	return w
}

// each calls fn for every call that waits; fn may clear it.
func (t *table) each(fn func(n uint32, w *waiting)) {
	left := t.count
	for n := range t.slots {
		if left == 0 {
			return
		}
		if t.slots[n].uses&1 == 1 {
			left--
			fn(uint32(n), &t.slots[n].waiting)
		}
	}
}
