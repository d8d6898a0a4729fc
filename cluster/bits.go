package cluster

import "math/bits"

// slotSet is a set of slots. Walks go in the order of slots.
type slotSet struct {
	words [SlotSpace / 64]uint64
	count int
}

func (b *slotSet) has(s Slot) bool { return b.words[s/64]&(1<<(s%64)) != 0 }

func (b *slotSet) set(s Slot, in bool) {
	if b.has(s) == in {
		return
	}
	b.words[s/64] ^= 1 << (s % 64)
	if in {
		b.count++
	} else {
		b.count--
	}
}

// each calls f with the slots that are in b and not in but (nil: none), until f says false. f may change the sets.
func (b *slotSet) each(but *slotSet, f func(Slot) bool) {
	if b.count == 0 {
		return
	}
	for i, w := range b.words {
		if but != nil {
			w &^= but.words[i]
		}
		for ; w != 0; w &= w - 1 {
			if !f(Slot(i*64 + bits.TrailingZeros64(w))) {
				return
			}
		}
	}
}
