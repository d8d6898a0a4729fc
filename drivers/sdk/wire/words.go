package wire

import (
	"encoding/binary"
	"math/bits"
)

// Strings are passed eight bytes at a time: in the sandbox each turn of a loop costs as much as twenty additions.

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// zeros marks the zero bytes of w, in their highest bits: exactly up to the first one, and perhaps more behind it.
func zeros(w uint64) uint64 { return (w - ones) &^ w & highs }

// special marks quotes, backslashes and control characters, as zeros does.
func special(w uint64) uint64 {
	return zeros(w^ones*'"') | zeros(w^ones*'\\') | (w-ones*0x20)&^w&highs
}

// skipPlain returns the index of the first quote, backslash or control character from i on, or the length.
func skipPlain(b []byte, i int) int {
	for ; len(b)-i >= 8; i += 8 {
		if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// IndexByte is bytes.IndexByte with fewer turns; -1 where c is not in b.
func IndexByte(b []byte, c byte) int {
	i, pattern := 0, ones*uint64(c)
	for ; len(b)-i >= 8; i += 8 {
		if m := zeros(binary.LittleEndian.Uint64(b[i:]) ^ pattern); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(b); i++ {
		if b[i] == c {
			return i
		}
	}
	return -1
}

// plain says whether s needs no escapes: printable ASCII without quotes and backslashes.
func plain(s string) bool {
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		if special(w)|w&highs != 0 {
			return false
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
