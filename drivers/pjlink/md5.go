package main

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Why not crypto/md5: it brings the whole of Go's certified cryptography along, 400 KB of a guest's code, for 40 bytes
// that PJLink hashes once per connection.

// md5Sum is RFC 1321's message digest.
func md5Sum(message []byte) [16]byte {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	padded := append(append(make([]byte, 0, len(message)+72), message...), 0x80)
	for len(padded)%64 != 56 {
		padded = append(padded, 0)
	}
	padded = binary.LittleEndian.AppendUint64(padded, uint64(len(message))*8)
	for block := padded; len(block) > 0; block = block[64:] {
		md5Block(&state, block[:64])
	}
	var sum [16]byte
	for i, word := range state {
		binary.LittleEndian.PutUint32(sum[4*i:], word)
	}
	return sum
}

// md5Shifts are the rotations of the four rounds.
var md5Shifts = [4][4]int{{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}

func md5Block(state *[4]uint32, block []byte) {
	a, b, c, d := state[0], state[1], state[2], state[3]
	for i := range 64 {
		var f uint32
		word := i
		switch i / 16 {
		case 0:
			f = b&c | ^b&d
		case 1:
			f, word = d&b|^d&c, 5*i+1
		case 2:
			f, word = b^c^d, 3*i+5
		default:
			f, word = c^(b|^d), 7*i
		}
		constant := uint32(math.Floor(math.Abs(math.Sin(float64(i+1))) * (1 << 32)))
		f += a + constant + binary.LittleEndian.Uint32(block[word%16*4:])
		a, d, c, b = d, c, b, b+bits.RotateLeft32(f, md5Shifts[i/16][i%4])
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
