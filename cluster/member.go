package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// State of a member. Its numbers are on disk.
type State uint8

// The states of a member.
const (
	// StateActive members own slots.
	StateActive State = iota + 1
	// StateDraining members hand their slots over and get none.
	StateDraining
	// StateDead members were silent for longer than a lease; their slots go to others. They may come back.
	StateDead
	// StateLeft members have stopped as planned.
	StateLeft
	// StateExpelled members did not release a slot in time; they get no lease any more, and will be dead.
	StateExpelled
)

func (s State) String() string {
	switch s {
	case StateActive:
		return "active"
	case StateDraining:
		return "draining"
	case StateDead:
		return "dead"
	case StateLeft:
		return "left"
	case StateExpelled:
		return "expelled"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Member is a node's record.
type Member struct {
	// ID of the node, for ever; unique in the cluster.
	ID string
	// Name is for operators; no two members have the same.
	Name  string
	State State
	// Incarnation rises with each start of the node, Revival with each return of the same incarnation from dead.
	Incarnation, Revival uint64
	// Weight is the node's share of the slots relative to others; 0 counts as 1.
	Weight                 uint32
	AvailabilityZone, Site string
	Labels                 map[string]string
	// Addresses at which others reach it, HOST:PORT each, HTTP a URL; "": none.
	Peer, Gossip, HTTP, MQTT string
	Version                  string
	// LeaseLeft is the time that its lease still has as seen here, 0 or less: none. It is not in the record.
	LeaseLeft time.Duration

	// wish outlives death and return: who was told to drain still has to.
	wish wish
	// boot is drawn by the process that registered, so that it knows its own record.
	boot uint64
	// features are what the node's program can do that others rely on, a bit each.
	features uint64
	// rest is what a newer version appended; who changes the record keeps it.
	rest []byte
}

// wish is why a member drains.
type wish uint8

const (
	wishNone wish = iota
	wishDrain
	wishLeave
)

const memberV2 = 2

// featureClasses: the node knows selector classes. No selector is used before every member does.
const featureClasses = 1 << 0

// featureBrokers: the node's broker keeps its clients in records and takes what other brokers have for them.
const featureBrokers = 1 << 1

// featureJournal: the node's program reads entries of the journal in the log. None is written before all do.
const featureJournal = 1 << 2

// SharesBroker says whether the node's MQTT broker works with the others' by records. One that does not is to be sent every message.
func (m *Member) SharesBroker() bool { return m.features&featureBrokers != 0 }

func (m *Member) knowsClasses() bool { return m.features&featureClasses != 0 }

// alive members are granted leases.
func (m *Member) alive() bool { return m.State == StateActive || m.State == StateDraining }

func (m *Member) encode() []byte {
	b := []byte{memberV2, byte(m.State), byte(m.wish)}
	b = binary.AppendUvarint(b, m.Incarnation)
	b = binary.AppendUvarint(b, m.Revival)
	b = binary.AppendUvarint(b, m.boot)
	b = binary.AppendUvarint(b, uint64(m.Weight))
	for _, s := range []string{m.Name, m.AvailabilityZone, m.Site, m.Peer, m.Gossip, m.HTTP, m.MQTT, m.Version} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Labels)))
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		b = appendString(appendString(b, k), m.Labels[k])
	}
	if m.features != 0 || len(m.rest) > 0 {
		b = binary.AppendUvarint(b, m.features)
	}
	return append(b, m.rest...)
}

// DecodeMember reads a record of TableMember, whose key is the node's id. LeaseLeft is not in it.
func DecodeMember(id string, value []byte) (Member, error) {
	m := Member{ID: id}
	r := reader{b: value}
	if r.version("member", memberV2) == recordV1 {
		m.State = StateActive
		m.Incarnation, m.Weight, m.Name, m.AvailabilityZone = r.uint(), uint32(r.uint()), r.str(), r.str()
		return m, r.end("member")
	}
	m.State, m.wish = State(r.byte()), wish(r.byte())
	m.Incarnation, m.Revival, m.boot, m.Weight = r.uint(), r.uint(), r.uint(), uint32(r.uint())
	for _, s := range []*string{&m.Name, &m.AvailabilityZone, &m.Site, &m.Peer, &m.Gossip, &m.HTTP, &m.MQTT, &m.Version} {
		*s = r.str()
	}
	if n := r.uint(); n > 0 && r.err == nil {
		if n > uint64(len(r.b)) {
			r.fail()
			n = 0
		}
		m.Labels = make(map[string]string, n)
		for range n {
			k := r.str()
			m.Labels[k] = r.str()
		}
	}
	if r.err == nil && (m.State < StateActive || m.State > StateExpelled) {
		r.err = fmt.Errorf("unknown state %d", m.State)
	}
	if len(r.b) > 0 {
		m.features = r.uint()
	}
	if len(r.b) > 0 {
		m.rest = r.b
	}
	return m, r.end("member")
}
