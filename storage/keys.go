package storage

import (
	"encoding/binary"
)

// Keys of the state database begin with one byte that says what they are.
const (
	keyData    = 'd' // d table 0 key → uvarint revision, value
	keyChange  = 'c' // c revision (8) number (4) → flags, table, key, value
	keyWindow  = 'w' // w node 0 slot (1) → incarnation, sequence, hash, result
	keyRefused = 'r' // r index (8) → what of the entry at that index was not accepted
	keyMeta    = 'm' // m → meta
)

// Keys of the log database.
const (
	keyLog    = 'l' // l index (8) → entry
	keyStable = 's' // s name → value
	keyLocal  = 'n' // n name → what this node alone knows
)

var metaKey = []byte{keyMeta}

func appendDataKey[T, K ~string | ~[]byte](b []byte, table T, key K) []byte {
	b = append(b, keyData)
	b = append(b, table...)
	b = append(b, 0)
	return append(b, key...)
}

func dataKey(table Table, key string) []byte {
	return appendDataKey(make([]byte, 0, len(table)+len(key)+2), table, key)
}

func indexKey(kind byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, index)
}

// upper is the smallest key behind all keys with the prefix.
func upper(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return b[:i+1]
		}
	}
	return nil
}

// meta is what the state knows of itself; it is written in the batch of the data that it speaks of.
type meta struct {
	// applied is the index of the last entry whose effects are here.
	applied uint64
	// revision of the last accepted transaction.
	revision uint64
	// chain is the running checksum of all effects up to applied.
	chain uint64
	// floor: changes up to this revision are no longer in the change log.
	floor uint64
}

const metaSize = 1 + 4*8

func (m meta) encode(b []byte) {
	b[0] = 1
	binary.LittleEndian.PutUint64(b[1:], m.applied)
	binary.LittleEndian.PutUint64(b[9:], m.revision)
	binary.LittleEndian.PutUint64(b[17:], m.chain)
	binary.LittleEndian.PutUint64(b[25:], m.floor)
}

func decodeMeta(b []byte) (meta, error) {
	if len(b) < metaSize || b[0] != 1 {
		return meta{}, errMalformed("state's own record")
	}
	return meta{
		applied:  binary.LittleEndian.Uint64(b[1:]),
		revision: binary.LittleEndian.Uint64(b[9:]),
		chain:    binary.LittleEndian.Uint64(b[17:]),
		floor:    binary.LittleEndian.Uint64(b[25:]),
	}, nil
}
