package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Tables of the cluster's records.
const (
	TableMember = "member"
	TableSlot   = "slot"
	tableLease  = "lease"
	// tableCluster holds what is one for the whole cluster; here the names of nodes.
	tableCluster = "cluster"
)

// commit waits for a transaction's outcome; where ctx ends first it is unknown.
func commit(ctx context.Context, r Records, t Txn) error {
	done := make(chan error, 1)
	r.Commit(t, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// Record is one of the cluster's records. Value nil: there is none (in a change: it was deleted; in a guard: there must be none).
type Record struct {
	Key   string
	Value []byte
}

// Txn writes its records, all or none, if every guard has exactly the value that it names. Writes with a nil value delete.
// Quiet writes are not watched.
type Txn struct {
	Guards []TableRecord
	Writes []TableRecord
	Quiet  bool
}

// Records is what the cluster needs of the replicated store.
type Records interface {
	// Get reads a record as last applied on this node. Value nil: there is none.
	Get(table, key string) ([]byte, error)
	// Version is a number that changes whenever what is read of a table may have changed: what was read after Version gave a number
	// holds while it gives that number. It is quick and does not block.
	Version(table string) uint64
	// Scan reads all records of a table as last applied on this node, in the order of their keys.
	Scan(table string) ([]Record, error)
	// Commit proposes a transaction. It never blocks; done is called exactly once, from any goroutine. Errors: ErrConflict
	// where a guard does not hold, ErrUnknown where the outcome cannot be told, ErrOverloaded and ErrUnavailable where
	// nothing was proposed. The slices belong to Commit until done.
	Commit(t Txn, done func(error))
	// Watch gives all records of the table, then nil, then every change, in order. A reader that was too slow is given all
	// records again in the same form. fn is called from one goroutine at a time, perhaps before Watch returns; never after
	// stop has returned. stop must not be called from fn.
	Watch(table string, fn func(changes []Record)) (stop func())
}

// TableRecord is a record with its table.
type TableRecord struct {
	Table string
	Record
}

func record(table, key string, value []byte) TableRecord {
	return TableRecord{table, Record{key, value}}
}

// ErrConflict: a guard did not hold, nothing was written.
var ErrConflict = errors.New("record changed meanwhile")

const recordV1 = 1

// slotRecord names the owner of a slot. since rises with every change, so two tenures of one node differ.
type slotRecord struct {
	node        string
	incarnation uint64
	since       uint64
}

func (s slotRecord) encode() []byte {
	b := []byte{recordV1}
	b = binary.AppendUvarint(b, s.incarnation)
	b = binary.AppendUvarint(b, s.since)
	return appendString(b, s.node)
}

func decodeSlot(b []byte) (s slotRecord, err error) {
	r := reader{b: b}
	r.version("slot", recordV1)
	s.incarnation, s.since, s.node = r.uint(), r.uint(), r.str()
	return s, r.end("slot")
}

// grant is a lease's record. It counts, so that each one is a commit of its own.
type grant struct{ incarnation, count uint64 }

func (g grant) encode() []byte {
	return binary.AppendUvarint(binary.AppendUvarint([]byte{recordV1}, g.incarnation), g.count)
}

// slotKey has four hex digits, so that keys are in the order of slots.
func slotKey(s Slot) string { return fmt.Sprintf("%04x", uint16(s)) }

func parseSlotKey(key string) (Slot, error) {
	n, err := strconv.ParseUint(key, 16, 16)
	if err != nil || n >= SlotSpace || len(key) != 4 {
		return 0, fmt.Errorf("slot record has key %q, want four hex digits below %04x", key, SlotSpace)
	}
	return Slot(n), nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader decodes a record; the first fault sticks.
type reader struct {
	b   []byte
	err error
}

// version reads the record's version, from 1 to newest.
func (r *reader) version(kind string, newest byte) byte {
	if len(r.b) == 0 || r.b[0] == 0 || r.b[0] > newest {
		r.err = fmt.Errorf("%s record: unknown version", kind)
		r.b = nil
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) str() string {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) fail() {
	r.b = nil
	if r.err == nil {
		r.err = errors.New("cut short")
	}
}

// end allows bytes that a newer version appended.
func (r *reader) end(kind string) error {
	if r.err != nil {
		return fmt.Errorf("decode %s record: %w", kind, r.err)
	}
	return nil
}

// DecodeSlot reads a record of TableSlot.
func DecodeSlot(key string, value []byte) (Location, error) {
	slot, err := parseSlotKey(key)
	if err != nil {
		return Location{}, err
	}
	s, err := decodeSlot(value)
	return Location{slot, s.node, s.incarnation, s.since}, err
}
