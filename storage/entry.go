package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// An entry of the log is
//
//	type (1) incarnation sequence node count length transactions samples
//
// where the transactions are each: length, guards, writes; and samples is the entry's sample section (samples.go), which
// the state machine does not look into. Numbers are uvarints, strings have their length in front. The type is the format
// version too: a format that this version does not know has another number and stops the node.
const entryTxns = 1

const (
	guardRevision = 0
	guardEqual    = 1
)

const (
	writeDelete = 1 << 0
	writeQuiet  = 1 << 1
)

// entry is a decoded entry. Its slices alias the input.
type entry struct {
	incarnation uint64
	sequence    uint64
	node        []byte
	count       int
	txns        []byte
	samples     []byte
	hash        uint64
}

// UnknownEntryError says that the log holds an entry of a newer version.
type UnknownEntryError struct {
	Type byte
}

func (e *UnknownEntryError) Error() string {
	return fmt.Sprintf("log entry of type %d: this version of Pollux does not know it; run the newer version", e.Type)
}

func decodeEntry(data []byte) (entry, error) {
	r := reader{b: data}
	kind := r.byte()
	if r.bad {
		return entry{}, errMalformed("log entry")
	}
	if kind != entryTxns {
		return entry{}, &UnknownEntryError{Type: kind}
	}
	var e entry
	e.incarnation = r.uvarint()
	e.sequence = r.uvarint()
	e.node = r.bytes()
	e.count = r.count(1)
	e.txns = r.bytes()
	if r.bad || e.count > len(e.txns) {
		return entry{}, errMalformed("log entry")
	}
	e.samples = r.b
	e.hash = xxhash.Sum64(data)
	return e, nil
}

// appendEntryHeader begins an entry of count transactions that take size bytes.
func appendEntryHeader(b []byte, node string, incarnation, sequence uint64, count, size int) []byte {
	b = append(b, entryTxns)
	b = binary.AppendUvarint(b, incarnation)
	b = binary.AppendUvarint(b, sequence)
	b = appendBytes(b, node)
	b = binary.AppendUvarint(b, uint64(count))
	return binary.AppendUvarint(b, uint64(size))
}

// appendTxn encodes guards and writes, without the length in front.
func appendTxn(b []byte, t *Txn) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(t.Guards)))
	for i := range t.Guards {
		g := &t.Guards[i]
		if err := checkName(g.Table, g.Key); err != nil {
			return b, fmt.Errorf("guard %d: %w", i, err)
		}
		kind := byte(guardRevision)
		if g.Equal != nil {
			kind = guardEqual
		}
		b = append(b, kind)
		b = appendBytes(b, g.Table)
		b = appendBytes(b, g.Key)
		if kind == guardEqual {
			b = appendBytes(b, g.Equal)
		} else {
			b = binary.AppendUvarint(b, g.Revision)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.Writes)))
	for i := range t.Writes {
		w := &t.Writes[i]
		if err := checkName(w.Table, w.Key); err != nil {
			return b, fmt.Errorf("write %d: %w", i, err)
		}
		var flags byte
		if w.Value == nil {
			flags |= writeDelete
		}
		if w.Quiet {
			flags |= writeQuiet
		}
		b = append(b, flags)
		b = appendBytes(b, w.Table)
		b = appendBytes(b, w.Key)
		if w.Value != nil {
			b = appendBytes(b, w.Value)
		}
	}
	return b, nil
}

func checkName(table Table, key string) error {
	if len(table) == 0 || len(table) > maxTable {
		return fmt.Errorf("table %q: 1 to %d bytes are allowed", table, maxTable)
	}
	for i := range len(table) {
		if table[i] == 0 {
			return fmt.Errorf("table %q: holds a zero byte", table)
		}
	}
	if len(key) == 0 || len(key) > maxKey {
		return fmt.Errorf("table %s: a key of %d bytes, 1 to %d are allowed", table, len(key), maxKey)
	}
	return nil
}

// wireGuard is one guard of an encoded transaction.
type wireGuard struct {
	kind       byte
	table, key []byte
	revision   uint64
	equal      []byte
}

// guard reads the next guard.
func (r *reader) guard() wireGuard {
	g := wireGuard{kind: r.byte(), table: r.bytes(), key: r.bytes()}
	switch g.kind {
	case guardRevision:
		g.revision = r.uvarint()
	case guardEqual:
		g.equal = r.bytes()
	default:
		r.fail()
	}
	return g
}

// wireWrite is one write of an encoded transaction.
type wireWrite struct {
	flags      byte
	table, key []byte
	value      []byte
}

// write reads the next write.
func (r *reader) write() wireWrite {
	w := wireWrite{flags: r.byte(), table: r.bytes(), key: r.bytes()}
	if w.flags&^(writeDelete|writeQuiet) != 0 {
		r.fail()
	}
	if w.flags&writeDelete == 0 {
		w.value = r.bytes()
	}
	return w
}

// guards is the number of guards that follow; each takes at least four bytes.
func (r *reader) guards() int { return r.count(4) }

// writes is the number of writes that follow; each takes at least three bytes.
func (r *reader) writes() int { return r.count(3) }
