// Package sim simulates an air handling unit that speaks BACnet/IP (UDP). It shares no code with the driver, so that one can
// tell when the other is wrong.
package sim

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated device. The zero value listens on 127.0.0.1:47809 and is device 1001.
type Options struct {
	Listen string
	// Device instance; 0: 1001.
	Device uint32
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Object of the device, by type and instance.
type Object struct{ Type, Instance uint32 }

// What the unit has.
var (
	Supply   = Object{0, 1}  // analog-input: temperature of the supply air
	Return   = Object{0, 2}  // analog-input: that of the return air
	Setpoint = Object{2, 1}  // analog-value, commandable
	Fan      = Object{4, 1}  // binary-output, commandable
	Mode     = Object{19, 1} // multi-state-value, commandable: off, heating, cooling
)

// Sim is one device.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	conn    *net.UDPConn

	mu            sync.Mutex
	objects       map[Object]*state
	subscriptions []subscription
	invoke        byte
}

type state struct {
	name  string
	value []byte // encoded, of an input
	// slots are the priority array of what is commandable, fallback its relinquish default.
	slots    [17][]byte
	fallback []byte
}

func (s *state) present() []byte {
	for _, v := range s.slots {
		if v != nil {
			return v
		}
	}
	if s.fallback != nil {
		return s.fallback
	}
	return s.value
}

type subscription struct {
	to        *net.UDPAddr
	process   []byte // as it came: the datum with its tag
	object    Object
	confirmed bool
	until     time.Time
}

// New opens the socket; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:47809"
	}
	if o.Device == 0 {
		o.Device = 1001
	}
	addr, err := net.ResolveUDPAddr("udp4", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate bacnet: %w", err)
	}
	conn, err := net.ListenUDP("udp4", addr)
	if err != nil {
		return nil, fmt.Errorf("simulate bacnet: %w", err)
	}
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), conn: conn, objects: map[Object]*state{
		Supply:   {name: "Supply air", value: real32(18.5)},
		Return:   {name: "Return air", value: real32(22)},
		Setpoint: {name: "Setpoint", fallback: real32(21)},
		Fan:      {name: "Fan", fallback: []byte{0x91, 0}},
		Mode:     {name: "Mode", fallback: []byte{0x21, 1}},
	}}, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.conn.LocalAddr().String() }

// Present is the encoded value of an object: 44 41 a8 00 00 is the real number 21.
func (s *Sim) Present(o Object) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hex.EncodeToString(s.objects[o].present())
}

// Measure changes an analog input, and tells who subscribed to it.
func (s *Sim) Measure(o Object, v float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[o].value = real32(v)
	s.tell(o)
}

// SetFaults changes the faults from now on.
func (s *Sim) SetFaults(f peer.Faults) { s.dice.Set(f) }

// Forget forgets the subscriptions, as a device does that restarts.
func (s *Sim) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions = nil
}

// Run answers until ctx ends. The supply air drifts a little every ten seconds.
func (s *Sim) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.drift(ctx) })
	buf := make([]byte, 2000)
	for {
		n, from, err := s.conn.ReadFromUDP(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate bacnet: %w", err)
		}
		s.datagram(bytes.Clone(buf[:n]), from)
	}
}

func (s *Sim) drift(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.Measure(Supply, 18.5+float32(i%5)/4)
		}
	}
}

// datagram takes one message: BVLC of 4 bytes, NPDU of 2 where it names no network, and the APDU.
func (s *Sim) datagram(d []byte, from *net.UDPAddr) {
	if len(d) < 8 || d[0] != 0x81 || int(d[2])<<8|int(d[3]) != len(d) || d[4] != 1 {
		return
	}
	npdu := d[5]
	apdu := d[6:]
	if npdu&0x20 != 0 { // for the whole world, or for another network
		if len(apdu) < 6 || apdu[0] != 0xff || apdu[1] != 0xff || apdu[2] != 0 {
			return
		}
		apdu = apdu[4:]
	}
	if npdu&0x88 != 0 || len(apdu) < 2 {
		return
	}
	s.journal.Add("bacnet", "told", hex.EncodeToString(apdu))
	outcome, wait := s.dice.Throw()
	if wait > 0 {
		time.Sleep(wait)
	}
	if outcome != peer.Answer {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case apdu[0] == 0x10 && apdu[1] == 8:
		s.whoIs(apdu[2:], from)
	case apdu[0]>>4 == 0 && len(apdu) >= 4:
		s.request(apdu[3], apdu[2], apdu[4:], from)
	}
}

// send sends an APDU.
func (s *Sim) send(to *net.UDPAddr, asks bool, apdu ...byte) {
	control := byte(0)
	if asks {
		control = 4
	}
	n := len(apdu) + 6
	_, _ = s.conn.WriteToUDP(append([]byte{0x81, 0x0a, byte(n >> 8), byte(n), 1, control}, apdu...), to)
}

func (s *Sim) whoIs(limits []byte, from *net.UDPAddr) {
	if len(limits) > 0 {
		low, rest := take(limits)
		high, _ := take(rest)
		if s.o.Device < number(low) || s.o.Device > number(high) {
			return
		}
	}
	id := objectID(Object{8, s.o.Device})
	s.send(from, false, append(append([]byte{0x10, 0, 0xc4}, id...), 0x22, 0x05, 0xc4, 0x91, 3, 0x21, 42)...)
}

// request answers one confirmed request.
func (s *Sim) request(service, invoke byte, body []byte, from *net.UDPAddr) {
	refuse := func(class, code byte) { s.send(from, false, 0x50, invoke, service, 0x91, class, 0x91, code) }
	done := func() { s.send(from, false, 0x20, invoke, service) }
	switch service {
	case 12:
		first, rest := take(body)
		property, rest := take(rest)
		index, _ := take(rest)
		value, class, code := s.read(object(first), number(property), index)
		if value == nil {
			refuse(class, code)
			return
		}
		s.send(from, false, append(append(append(append([]byte{0x30, invoke, service}, body...), 0x3e), value...), 0x3f)...)
	case 15:
		class, code := s.write(body)
		if code != 0 {
			refuse(class, code)
			return
		}
		done()
	case 5:
		if !s.subscribe(body, from) {
			refuse(5, 43)
			return
		}
		done()
		_, rest := take(body)
		o, _ := take(rest)
		s.tell(object(o))
	default:
		s.send(from, false, 0x60, invoke, 9)
	}
}
