package cluster

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// SlotOf gives the slot of an actor by its id: the 64-bit xxHash of the id, mod SlotCount. It never changes: slots are
// in records on disk.
func SlotOf(id string) Slot { return Slot(xxhash.Sum64String(id) % SlotCount) }

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
	best, bestScore := "", math.Inf(-1)
	for _, m := range members {
		score := draw(slot, m)
		if score > bestScore || score == bestScore && m.ID < best {
			best, bestScore = m.ID, score
		}
	}
	return best
}

func draw(slot Slot, m Candidate) float64 {
	h := mix64(xxhash.Sum64String(m.ID) ^ mix64(uint64(slot)+1))
	// 53 bits give a uniform float in (0,1).
	u := (float64(h>>11) + 0.5) / (1 << 53)
	return -float64(max(m.Weight, 1)) / math.Log(u)
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
