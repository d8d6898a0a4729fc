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
)

// Record is one of the cluster's records. Value nil: there is none (in a change: it was deleted; in a guard: there must be none).
type Record struct {
	Key   string
	Value []byte
}

// Records is what the cluster needs of the replicated store.
type Records interface {
	// Get reads a record as last applied on this node. Value nil: there is none.
	Get(table, key string) ([]byte, error)
	// Commit writes the records, all or none, if every guard has exactly the value it names. Errors: ErrConflict where a
	// guard does not hold, ErrUnknown where the outcome cannot be told. It blocks until the outcome is known or ctx ends.
	// Quiet writes are not watched.
	Commit(ctx context.Context, table string, guards []TableRecord, writes []Record, quiet bool) error
	// Watch gives all records of the table, then nil, then every change, in order, until ctx ends. A reader that was too slow
	// is given all records again in the same form. fn is called from one goroutine.
	Watch(ctx context.Context, table string, fn func([]Record)) error
}

// TableRecord is a record with its table.
type TableRecord struct {
	Table string
	Record
}

// ErrConflict: a guard did not hold, nothing was written.
var ErrConflict = errors.New("record changed meanwhile")

// member is a node's record: it says which incarnation of the node counts.
type member struct {
	incarnation uint64
	weight      uint32
	name        string
	zone        string
}

const recordV1 = 1

func (m member) encode() []byte {
	b := []byte{recordV1}
	b = binary.AppendUvarint(b, m.incarnation)
	b = binary.AppendUvarint(b, uint64(m.weight))
	b = appendString(b, m.name)
	return appendString(b, m.zone)
}

func decodeMember(b []byte) (m member, err error) {
	r := reader{b: b}
	r.version("member")
	m.incarnation, m.weight, m.name, m.zone = r.uint(), uint32(r.uint()), r.str(), r.str()
	return m, r.end("member")
}

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
	r.version("slot")
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
	if err != nil || n >= SlotCount || len(key) != 4 {
		return 0, fmt.Errorf("slot record has key %q, want four hex digits below %04x", key, SlotCount)
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

func (r *reader) version(kind string) {
	if len(r.b) == 0 || r.b[0] != recordV1 {
		r.err = fmt.Errorf("%s record: unknown version", kind)
		return
	}
	r.b = r.b[1:]
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

// Member is a node's record as operators see it.
type Member struct {
	Name, AvailabilityZone string
	Incarnation            uint64
	Weight                 uint32
}

// DecodeMember reads a record of TableMember, whose key is the node's id.
func DecodeMember(value []byte) (Member, error) {
	m, err := decodeMember(value)
	return Member{m.name, m.zone, m.incarnation, m.weight}, err
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
