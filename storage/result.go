package storage

import (
	"encoding/binary"
	"fmt"
)

// What the state machine answers to an entry, as bytes, so that a leader can send it to the node that proposed:
//
//	status (1) index base count refused…
//
// The accepted transactions have the revisions base+1, base+2 … in their order. A refusal is the number of transactions
// since the last refusal, the guard's number, and the revision that the guarded record has.
const (
	resultApplied = 1
	// resultStale: a newer incarnation of the node, or a sequence too far ahead, has passed the entry; nothing was written.
	resultStale = 2
)

type refusal struct {
	txn      int
	guard    int
	revision uint64
}

type results struct {
	status  byte
	index   uint64
	base    uint64
	count   int
	refused []refusal
}

func (r *results) encode() []byte {
	b := make([]byte, 0, 24+4*len(r.refused))
	b = append(b, r.status)
	b = binary.AppendUvarint(b, r.index)
	b = binary.AppendUvarint(b, r.base)
	b = binary.AppendUvarint(b, uint64(r.count))
	b = binary.AppendUvarint(b, uint64(len(r.refused)))
	last := -1
	for _, f := range r.refused {
		b = binary.AppendUvarint(b, uint64(f.txn-last-1))
		b = binary.AppendUvarint(b, uint64(f.guard))
		b = binary.AppendUvarint(b, f.revision)
		last = f.txn
	}
	return b
}

func decodeResults(b []byte) (results, error) {
	r := reader{b: b}
	out := results{status: r.byte(), index: r.uvarint(), base: r.uvarint(), count: int(r.uvarint() & (1<<31 - 1))}
	n := r.count(3)
	last := -1
	for range n {
		f := refusal{txn: last + 1 + int(r.uvarint()&(1<<31-1)), guard: int(r.uvarint() & (1<<31 - 1)), revision: r.uvarint()}
		if f.txn >= out.count {
			r.fail()
		}
		if r.bad {
			break
		}
		last = f.txn
		out.refused = append(out.refused, f)
	}
	if r.bad || (out.status != resultApplied && out.status != resultStale) {
		return results{}, errMalformed("result")
	}
	return out, nil
}

// GuardError says which guard of a transaction did not hold. It wraps ErrGuard.
type GuardError struct {
	// Guard is the number of the guard in Txn.Guards.
	Guard int
	Table Table
	Key   string
	// Revision that the record has; 0: there is none.
	Revision uint64
}

func (e *GuardError) Error() string {
	if e.Revision == 0 {
		return fmt.Sprintf("guard failed: %s %q does not exist", e.Table, e.Key)
	}
	return fmt.Sprintf("guard failed: %s %q is at revision %d", e.Table, e.Key, e.Revision)
}

// Unwrap gives ErrGuard.
func (e *GuardError) Unwrap() error { return ErrGuard }
