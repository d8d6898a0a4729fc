package wasm

import (
	"encoding/binary"
	"math/rand/v2"
)

// A Go guest draws its random numbers from a ChaCha8 generator that its runtime seeds as it starts, so copies of one that
// has started would all draw the same. The state lies in the guest's memory as in internal/chacha8rand of Go 1.22 and
// later: a buffer of 32 words, the seed of 4 words, and three counters (next, end, block). It is found by what no other
// data does: the buffer is what that generator gives from that seed.
const (
	chachaBuffer    = 32 * 8
	chachaSeedBytes = 32
	chachaCounters  = chachaBuffer + chachaSeedBytes
	chachaBytes     = chachaCounters + 12
)

// findChaCha8 gives the places of such states. Words lie at multiples of 8.
func findChaCha8(memory []byte) (places []int) {
	for at := 0; at+chachaBytes <= len(memory); at += 8 {
		if isChaCha8(memory[at : at+chachaBytes]) {
			places = append(places, at)
		}
	}
	return places
}

func isChaCha8(state []byte) bool {
	next := binary.LittleEndian.Uint32(state[chachaCounters:])
	end := binary.LittleEndian.Uint32(state[chachaCounters+4:])
	block := binary.LittleEndian.Uint32(state[chachaCounters+8:])
	switch {
	case next > end, block > 12, block%4 != 0, block < 12 && end != 32, block == 12 && end != 28:
		return false
	}
	if zero(state[chachaBuffer:chachaCounters]) {
		return false
	}
	draw := rand.NewChaCha8([chachaSeedBytes]byte(state[chachaBuffer:chachaCounters]))
	for range block / 4 * 32 {
		draw.Uint64()
	}
	for k := 0; k < int(end); k++ {
		if draw.Uint64() != binary.LittleEndian.Uint64(state[k*8:]) {
			return false
		}
	}
	return true
}

// reseedChaCha8 lets a state go on from another seed: its buffer counts as used up.
func reseedChaCha8(state []byte, seed [chachaSeedBytes]byte) {
	copy(state[chachaBuffer:], seed[:])
	binary.LittleEndian.PutUint32(state[chachaCounters:], 32)
	binary.LittleEndian.PutUint32(state[chachaCounters+4:], 32)
	binary.LittleEndian.PutUint32(state[chachaCounters+8:], 0)
}
