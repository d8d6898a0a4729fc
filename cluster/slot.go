package cluster

import (
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/polluxhq/pollux/cluster/internal/slots"
)

// SlotOf gives the slot of an actor of the class "" by its id: the 64-bit xxHash of the id, mod SlotCount. It never
// changes: slots are in records on disk.
func SlotOf(id string) Slot { return Class(0).SlotOf(id) }

// Class is the number of a selector (Node.Class); 0 is the selector "", which every member satisfies. A class has slots
// of its own, whose candidates are the members that satisfy the selector. Numbers are on disk and never change their
// meaning.
type Class uint8

const (
	// ClassSlots is the number of slots of a class other than "".
	ClassSlots = 256
	// MaxClasses is how many selectors a cluster can have had, besides "".
	MaxClasses = 64
	// SlotSpace is above every slot: first come those of the class "", then those of the classes 1, 2 and so on.
	SlotSpace = SlotCount + MaxClasses*ClassSlots
)

// SlotOf gives the slot of an id in the class. The slots of an id in all classes are the same modulo ClassSlots.
func (c Class) SlotOf(id string) Slot {
	h := xxhash.Sum64String(id)
	if c == 0 {
		return Slot(h & slots.Mask)
	}
	return c.first() + Slot(h%ClassSlots)
}

// first is the lowest slot of the class.
func (c Class) first() Slot {
	if c == 0 {
		return 0
	}
	return SlotCount + Slot(c-1)*ClassSlots
}

// Class of the slot.
func (s Slot) Class() Class {
	if s < SlotCount {
		return 0
	}
	return Class((s-SlotCount)/ClassSlots) + 1
}

// Candidate is a member that may own slots.
type Candidate struct {
	ID string
	// Weight is the member's share relative to the others; at least 1.
	Weight uint32
}

// Propose names the member that should own a slot, by weighted rendezvous hashing: each member draws a number from the
// slot and its own id, and the best draw wins. When a member leaves, only its own slots get another owner.
// It returns "" where there is no candidate.
//
// Weights as in "Weighted distributed hash tables" (Schindelhauer, Schomaker 2005): the draw is -weight/ln(u).
func Propose(slot Slot, members []Candidate) string {
	var room [16]uint64
	return propose(slot, members, hashIDs(room[:0], members))
}

// propose is Propose for who has hashed the members' ids already.
func propose(slot Slot, members []Candidate, hashes []uint64) string {
	best, bestScore, at := "", math.Inf(-1), mix64(uint64(slot)+1)
	for i := range members {
		m := &members[i]
		score := draw(mix64(hashes[i]^at), m.Weight)
		if score > bestScore || score == bestScore && m.ID < best {
			best, bestScore = m.ID, score
		}
	}
	return best
}

func hashIDs(to []uint64, members []Candidate) []uint64 {
	for i := range members {
		to = append(to, xxhash.Sum64String(members[i].ID))
	}
	return to
}

func draw(h uint64, weight uint32) float64 {
	// 53 bits give a uniform float in (0,1).
	u := (float64(h>>11) + 0.5) / (1 << 53)
	return -float64(max(weight, 1)) / math.Log(u)
}

// mix64 is the finalizer of MurmurHash3: every input bit reaches every output bit. Without it neighbouring slots lean
// to one member.
func mix64(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
