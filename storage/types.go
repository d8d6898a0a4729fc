// Package storage is the replicated keyspace of Pollux: tables of records with revisions, content-addressed blobs and
// the one committed log that feeds them, on hashicorp/raft and Pebble.
//
// It knows tables, keys, revisions and guards, not what a twin or a rule is. It does not know the network either: a
// Proposer (the cluster's raft) brings entries to the log, and raft hands them back to the state machine. What Commit
// acknowledged survives kill -9 and power loss.
package storage

import (
	"context"
	"errors"
)

// Table names a table. Keys of a table are ordered by their bytes. Names are short, without zero bytes.
type Table string

// Guard is a condition on one record. A transaction applies only if all of its guards hold.
type Guard struct {
	Table Table
	Key   string
	// Revision that the record must have; 0: it must not exist. Not looked at where Equal is set.
	Revision uint64
	// Equal, where not nil, is the value that the record must have, whatever its revision.
	Equal []byte
}

// Write puts or deletes one record.
type Write struct {
	Table Table
	Key   string
	// Value is the new value; nil deletes. The store keeps no reference after the transaction's result.
	Value []byte
	// Quiet writes do not appear in Watch (values of twins, timers, leases).
	Quiet bool
}

// Sample is one point of a twin's property, for history.
type Sample struct {
	Property string
	// Time is in milliseconds since 1970.
	Time  int64
	Value float64
}

// TwinSamples are the samples of one twin, which ride in the transaction that commits their state.
type TwinSamples struct {
	Project, Twin, Model string
	Samples              []Sample
}

// JournalEntry is one thing that happened, for the journal. It rides in the transaction that commits it.
type JournalEntry struct {
	Project string
	// Twin is its name without the project; empty: the project's.
	Twin string
	// Kind, such as event, value or command, and Name within it, such as the event's or the property's.
	Kind, Name string
	// Time is in milliseconds since 1970.
	Time int64
	// Sequence tells entries of one twin and time apart, the same on every node. 0 in a transaction: the place in the log.
	Sequence uint64
	// Data is JSON.
	Data []byte
}

// Txn applies whole or not at all.
type Txn struct {
	Guards  []Guard
	Writes  []Write
	Samples []TwinSamples
	Journal []JournalEntry
}

// Result of a transaction. Revision is the transaction's own; every record that it wrote has it.
type Result struct {
	Revision uint64
	Err      error
}

// Record is a stored value. Value belongs to the caller.
type Record struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Change is one step of a watch.
type Change struct {
	Record
	Table   Table
	Deleted bool
}

var (
	// ErrGuard: a guard did not hold; nothing was written. Results wrap it as *GuardError.
	ErrGuard = errors.New("guard failed")
	// ErrBusy: the bound on proposals in flight is reached. Try again later; nothing was proposed.
	ErrBusy = errors.New("store busy")
	// ErrUnknown: whether the transaction was applied cannot be told.
	ErrUnknown = errors.New("outcome unknown")
	// ErrCompacted: the watch asks for changes older than what is kept. List again.
	ErrCompacted = errors.New("compacted")
	// ErrNoSuchBlob: no blob of that digest is here.
	ErrNoSuchBlob = errors.New("no such blob")
	// ErrTooLarge: a transaction above 448 KiB encoded, or a blob above 32 MiB.
	ErrTooLarge = errors.New("too large")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store closed")
)

// Proposer brings an entry to the replicated log. Propose must not block for long; done is called exactly once, with
// what the state machine's Apply returned for this entry, or with an error: one that wraps ErrUnknown where the entry
// may yet be applied. The entry belongs to the proposer until then.
type Proposer interface {
	Propose(entry []byte, done func(applied any, err error))
	// Barrier waits until everything committed before the call is applied here.
	Barrier(ctx context.Context) error
}
