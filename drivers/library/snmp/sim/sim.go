// Package sim simulates a power supply with an SNMP v2c agent. It shares no code with the driver, so that one can tell when
// the other is wrong; BER is read by encoding/asn1 of the standard library.
package sim

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Objects of the power supply beyond the system group.
var (
	Battery = asn1.ObjectIdentifier{1, 3, 6, 1, 2, 1, 33, 1, 2, 4, 0}                  // upsEstimatedChargeRemaining, %
	Warmth  = asn1.ObjectIdentifier{1, 3, 6, 1, 2, 1, 33, 1, 2, 7, 0}                  // upsBatteryTemperature
	Outlet  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 318, 1, 1, 12, 3, 3, 1, 1, 4, 1} // rPDUOutletControlOutletCommand: 1 on, 2 off
	OnTrap  = asn1.ObjectIdentifier{1, 3, 6, 1, 2, 1, 33, 2, 1}                        // upsTrapOnBattery
	system  = asn1.ObjectIdentifier{1, 3, 6, 1, 2, 1, 1}
	trapOID = asn1.ObjectIdentifier{1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0}
)

// Tags of SNMP that ASN.1 itself does not have.
const (
	tagGauge    = 2 // application
	tagTicks    = 3
	tagGet      = 0 // context: PDUs
	tagNext     = 1
	tagResponse = 2
	tagSet      = 3
	tagBulk     = 5
	tagTrap     = 7
	noSuch      = 1 // context: noSuchInstance
	endOfMIB    = 2
)

// Options of a simulated power supply. The zero value is at 127.0.0.1:1161, with the community public.
type Options struct {
	Listen    string
	Community string
	Faults    peer.Faults
	Seed      uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one power supply.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	conn    *net.UDPConn
	began   time.Time

	mu      sync.Mutex
	objects []object // sorted by oid
}

type object struct {
	oid      asn1.ObjectIdentifier
	value    asn1.RawValue
	writable bool
}

// New opens the socket; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:1161"
	}
	if o.Community == "" {
		o.Community = "public"
	}
	addr, err := net.ResolveUDPAddr("udp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate snmp: %w", err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("simulate snmp: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), conn: conn, began: time.Now()}
	sys := func(n int) asn1.ObjectIdentifier { return append(slices.Clone(system), n, 0) }
	s.objects = []object{
		{sys(1), text("Simulated UPS 3000"), false}, {sys(3), ticks(0), false}, {sys(4), text("facility"), true}, {sys(5), text("ups"), true},
		{sys(6), text("Rack 7"), true}, {Battery, gauge(100), false}, {Warmth, integer(24), false}, {Outlet, integer(1), true},
	}
	return s, nil
}

func text(s string) asn1.RawValue { return asn1.RawValue{Tag: asn1.TagOctetString, Bytes: []byte(s)} }
func ticks(n int) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassApplication, Tag: tagTicks, Bytes: integer(n).Bytes}
}
func gauge(n int) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassApplication, Tag: tagGauge, Bytes: integer(n).Bytes}
}
func integer(n int) asn1.RawValue {
	full, _ := asn1.Marshal(n)
	var v asn1.RawValue
	_, _ = asn1.Unmarshal(full, &v)
	return asn1.RawValue{Tag: asn1.TagInteger, Bytes: v.Bytes}
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.conn.LocalAddr().String() }

// Set changes an object as the device itself does; Battery is a gauge, the others are integers.
func (s *Sim) Set(oid asn1.ObjectIdentifier, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.objects {
		if s.objects[i].oid.Equal(oid) {
			s.objects[i].value.Bytes = integer(n).Bytes
		}
	}
}

// Get gives an object that is a number.
func (s *Sim) Get(oid asn1.ObjectIdentifier) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, o := range s.objects {
		if o.oid.Equal(oid) {
			for _, b := range o.value.Bytes {
				n = n<<8 | int(b)
			}
		}
	}
	return n
}

// message and pdu are SNMP's, as encoding/asn1 reads them.
type message struct {
	Version   int
	Community []byte
	Data      asn1.RawValue
}

type bind struct {
	OID   asn1.ObjectIdentifier
	Value asn1.RawValue
}

type pdu struct {
	ID, Status, Index int
	Binds             []bind
}

func (s *Sim) encode(tag int, p pdu) ([]byte, error) {
	if p.Binds == nil {
		p.Binds = []bind{}
	}
	body, err := asn1.Marshal(p)
	if err != nil {
		return nil, err
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(body, &outer); err != nil {
		return nil, err
	}
	return asn1.Marshal(message{1, []byte(s.o.Community), asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: outer.Bytes}})
}

// Trap tells an address that the device runs on its battery.
func (s *Sim) Trap(to string) error {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err
	}
	oid, err := asn1.Marshal(OnTrap)
	if err != nil {
		return err
	}
	s.mu.Lock()
	battery := s.objects[5].value
	s.mu.Unlock()
	b, err := s.encode(tagTrap, pdu{ID: 1, Binds: []bind{{append(slices.Clone(system), 3, 0), ticks(s.uptime())},
		{trapOID, asn1.RawValue{FullBytes: oid}}, {Battery, battery}}})
	if err != nil {
		return err
	}
	_, err = s.conn.WriteToUDP(b, addr)
	return err
}

func (s *Sim) uptime() int { return int(time.Since(s.began).Milliseconds() / 10) }

// Run answers until ctx ends, then closes the socket and returns nil.
func (s *Sim) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.conn.ReadFromUDP(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate snmp: %w", err)
		}
		answer := s.answer(buf[:n])
		if answer == nil {
			continue // as agents do with what is not for them
		}
		outcome, wait := s.dice.Throw()
		time.Sleep(wait)
		switch outcome {
		case peer.Drop, peer.Silence:
			continue
		case peer.Garbage:
			answer = s.dice.Noise(len(answer))
		}
		_, _ = s.conn.WriteToUDP(answer, from)
	}
}

func (s *Sim) answer(b []byte) []byte {
	var m message
	if rest, err := asn1.Unmarshal(b, &m); err != nil || len(rest) > 0 || m.Version != 1 || string(m.Community) != s.o.Community ||
		m.Data.Class != asn1.ClassContextSpecific {
		return nil
	}
	full, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: m.Data.Bytes})
	if err != nil {
		return nil
	}
	var p pdu
	if _, err := asn1.Unmarshal(full, &p); err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[1].value = ticks(s.uptime())
	out := pdu{ID: p.ID, Binds: p.Binds}
	switch m.Data.Tag {
	case tagGet:
		for i := range out.Binds {
			out.Binds[i].Value = s.value(out.Binds[i].OID)
		}
	case tagNext, tagBulk:
		out.Binds = s.after(p, m.Data.Tag == tagBulk)
	case tagSet:
		out.Status, out.Index = s.set(p.Binds)
	default:
		return nil
	}
	answer, err := s.encode(tagResponse, out)
	if err != nil {
		return nil
	}
	return answer
}

func (s *Sim) value(oid asn1.ObjectIdentifier) asn1.RawValue {
	for _, o := range s.objects {
		if o.oid.Equal(oid) {
			return o.value
		}
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: noSuch}
}

// after gives what follows each object: one, or with bulk as many as are asked for.
func (s *Sim) after(p pdu, bulk bool) []bind {
	times := 1
	if bulk {
		times = min(max(p.Index, 1), 50)
	}
	out := []bind{}
	for _, b := range p.Binds {
		for range times {
			i := slices.IndexFunc(s.objects, func(o object) bool { return slices.Compare(o.oid, b.OID) > 0 })
			if i < 0 {
				out = append(out, bind{b.OID, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: endOfMIB}})
				break
			}
			b = bind{s.objects[i].oid, s.objects[i].value}
			out = append(out, b)
		}
	}
	return out
}

// set changes all or nothing; it gives the error's status and index.
func (s *Sim) set(binds []bind) (status, index int) {
	for i, b := range binds {
		at := slices.IndexFunc(s.objects, func(o object) bool { return o.oid.Equal(b.OID) })
		switch {
		case at < 0:
			return 18, i + 1 // inconsistentName
		case !s.objects[at].writable:
			return 17, i + 1 // notWritable
		case s.objects[at].value.Tag != b.Value.Tag || s.objects[at].value.Class != b.Value.Class:
			return 7, i + 1 // wrongType
		case b.OID.Equal(Outlet) && !bytes.Equal(b.Value.Bytes, []byte{1}) && !bytes.Equal(b.Value.Bytes, []byte{2}):
			return 10, i + 1 // wrongValue
		}
	}
	for _, b := range binds {
		at := slices.IndexFunc(s.objects, func(o object) bool { return o.oid.Equal(b.OID) })
		s.objects[at].value.Bytes = slices.Clone(b.Value.Bytes)
		s.journal.Add("snmp", "told", fmt.Sprintf("%s = %x", b.OID, b.Value.Bytes))
	}
	return 0, 0
}
