// Package sim simulates a KNXnet/IP gateway with a small installation behind it. It shares no code with the driver, so that
// one can tell when the other is wrong.
package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Group is an address such as 1/2/3.
type Group uint16

// G makes the address main/middle/sub.
func G(main, middle, sub int) Group { return Group(main<<11 | middle<<8 | sub) }

// The installation: a light, a dimmer that is set at one group and tells its level at another, a sensor and a setpoint.
var (
	Light       = G(1, 2, 3)
	DimmerSet   = G(1, 2, 5)
	DimmerLevel = G(1, 2, 4)
	Temperature = G(3, 0, 1)
	Setpoint    = G(3, 0, 2)
)

// Options of a simulated gateway. The zero value is at 127.0.0.1:3671, with four tunnels.
type Options struct {
	Listen  string
	Tunnels int
	Faults  peer.Faults
	Seed    uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one gateway.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	conn    *net.UDPConn

	mu      sync.Mutex
	values  map[Group][]byte // as in a telegram: the byte of the service with its low bits, then the others
	tunnels map[byte]*tunnel
}

type tunnel struct {
	to           *net.UDPAddr
	sends, hears byte
	seen         time.Time
	// queue of telegrams for the client: the first was sent at the time, and waits for its acknowledgement.
	queue [][]byte
	sent  time.Time
	tries int
}

// own is the individual address of the installation's devices, client the one of the first tunnel.
const (
	own    = 0x1105 // 1.1.5
	client = 0x110a // 1.1.10
)

// New opens the socket; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:3671"
	}
	if o.Tunnels == 0 {
		o.Tunnels = 4
	}
	addr, err := net.ResolveUDPAddr("udp4", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate knx: %w", err)
	}
	conn, err := net.ListenUDP("udp4", addr)
	if err != nil {
		return nil, fmt.Errorf("simulate knx: %w", err)
	}
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), conn: conn, tunnels: map[byte]*tunnel{},
		values: map[Group][]byte{Light: {0}, DimmerLevel: {0, 0}, Temperature: {0, 0x0c, 0x1a}, Setpoint: {0, 0x0c, 0x1a}}}, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.conn.LocalAddr().String() }

// Value gives what a group was told last, as bytes of a telegram.
func (s *Sim) Value(g Group) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.values[g])
}

// Tell says a value on the bus, as a device does.
func (s *Sim) Tell(g Group, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[g] = value
	s.tell(0x29, own, g, 0x80, value, nil)
}

// HangUp ends all tunnels.
func (s *Sim) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for channel, t := range s.tunnels {
		s.send(t.to, 0x0209, []byte{channel, 0}, here)
	}
	clear(s.tunnels)
}

var here = []byte{8, 1, 0, 0, 0, 0, 0, 0}

// Run answers until ctx ends, then closes the socket and returns nil.
func (s *Sim) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.repeat(ctx) })
	defer wg.Wait()
	buf := make([]byte, 2048)
	for {
		n, from, err := s.conn.ReadFromUDP(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate knx: %w", err)
		}
		b := bytes.Clone(buf[:n])
		if n < 8 || b[0] != 6 || b[1] != 0x10 || int(binary.BigEndian.Uint16(b[4:])) != n {
			continue
		}
		s.mu.Lock()
		s.handle(binary.BigEndian.Uint16(b[2:]), b[6:], from)
		s.mu.Unlock()
	}
}

// repeat sends again what is not acknowledged within a second, and gives a tunnel up where that did not help.
func (s *Sim) repeat(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for channel, t := range s.tunnels {
			switch {
			case len(t.queue) == 0 || time.Since(t.sent) < time.Second:
			case t.tries < 2:
				s.push(channel, t)
			default:
				delete(s.tunnels, channel)
				s.send(t.to, 0x0209, []byte{channel, 0}, here)
			}
		}
		s.mu.Unlock()
	}
}

// push sends the first telegram of a tunnel's queue.
func (s *Sim) push(channel byte, t *tunnel) {
	t.tries++
	t.sent = time.Now()
	s.send(t.to, 0x0420, []byte{4, channel, t.sends, 0}, t.queue[0])
}

// send writes a frame, if the dice let it. The caller holds the lock.
func (s *Sim) send(to *net.UDPAddr, service uint16, parts ...[]byte) {
	b := []byte{6, 0x10, byte(service >> 8), byte(service), 0, 0}
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	outcome, wait := s.dice.Throw()
	time.Sleep(wait)
	switch outcome {
	case peer.Drop, peer.Silence:
		return
	case peer.Garbage:
		b = s.dice.Noise(len(b))
	}
	_, _ = s.conn.WriteToUDP(b, to)
}

func (s *Sim) handle(service uint16, b []byte, from *net.UDPAddr) {
	switch service {
	case 0x0201:
		s.search(from)
	case 0x0205:
		s.connect(from)
	case 0x0207:
		if t := s.tunnels[b[0]]; t != nil {
			t.seen = time.Now()
			s.send(from, 0x0208, []byte{b[0], 0})
			return
		}
		s.send(from, 0x0208, []byte{b[0], 0x21})
	case 0x0209:
		delete(s.tunnels, b[0])
		s.send(from, 0x020a, []byte{b[0], 0})
	case 0x0421:
		if t := s.tunnels[b[1]]; t != nil && len(b) >= 4 && b[2] == t.sends && len(t.queue) > 0 {
			t.sends, t.tries, t.queue = t.sends+1, 0, t.queue[1:]
			if len(t.queue) > 0 {
				s.push(b[1], t)
			}
		}
	case 0x0420:
		if len(b) >= 4+11 {
			s.request(b[1], b[2], b[4:])
		}
	}
}

// search answers with what a device says of itself: hardware, then the services that it offers.
func (s *Sim) search(from *net.UDPAddr) {
	at := s.conn.LocalAddr().(*net.UDPAddr)
	endpoint := append([]byte{8, 1}, at.IP.To4()...)
	endpoint = binary.BigEndian.AppendUint16(endpoint, uint16(at.Port))
	device := append(make([]byte, 0, 54), 54, 1, 2, 0, 0x11, 0x00, 0, 0, 0, 0xc5, 1, 2, 3, 4, 224, 0, 23, 12, 2, 0, 0, 0, 0, 1)
	name := make([]byte, 30)
	copy(name, "Simulated gateway")
	s.send(from, 0x0202, endpoint, append(device, name...), []byte{8, 2, 2, 1, 3, 1, 4, 1})
}

func (s *Sim) connect(from *net.UDPAddr) {
	for channel, t := range s.tunnels {
		if time.Since(t.seen) > 2*time.Minute {
			delete(s.tunnels, channel)
		}
	}
	for channel := byte(1); int(channel) <= s.o.Tunnels; channel++ {
		if s.tunnels[channel] != nil {
			continue
		}
		s.tunnels[channel] = &tunnel{to: from, seen: time.Now()}
		address := uint16(client + int(channel) - 1)
		s.journal.Add("knx", "tunnel", from.String())
		s.send(from, 0x0206, []byte{channel, 0}, here, []byte{4, 4, byte(address >> 8), byte(address)})
		return
	}
	s.send(from, 0x0206, []byte{0, 0x24})
}

// request takes a telegram of a client: it is acknowledged, confirmed, told to the other clients, and devices answer.
func (s *Sim) request(channel, number byte, cemi []byte) {
	t := s.tunnels[channel]
	if t == nil || number != t.hears && number != t.hears-1 {
		return
	}
	s.send(t.to, 0x0421, []byte{4, channel, number, 0})
	if number != t.hears {
		return // it came twice: the acknowledgement was lost
	}
	t.hears++
	t.seen = time.Now()
	n := 2 + int(cemi[1])
	if cemi[0] != 0x11 || len(cemi) < n+9 || cemi[n+1]&0x80 == 0 {
		return
	}
	g, service := Group(binary.BigEndian.Uint16(cemi[n+4:])), cemi[n+8]&0xc0
	value := append([]byte{cemi[n+8] & 0x3f}, cemi[n+9:]...)
	address := uint16(client + int(channel) - 1)
	s.journal.Add("knx", "told", fmt.Sprintf("%d/%d/%d %02x %x", g>>11, g>>8&7, g&255, service, value))
	s.tellOne(channel, t, 0x2e, address, g, service, value)
	s.tell(0x29, address, g, service, value, t)
	switch {
	case service == 0 && s.values[g] != nil:
		s.tell(0x29, own, g, 0x40, s.values[g], nil)
	case service == 0x80:
		s.values[g] = value
		if g == DimmerSet {
			s.values[DimmerLevel] = value
			s.tell(0x29, own, DimmerLevel, 0x80, value, nil)
		}
	}
}

// tell says a telegram to all clients but one.
func (s *Sim) tell(code byte, from uint16, to Group, service byte, value []byte, but *tunnel) {
	for channel, t := range s.tunnels {
		if t != but {
			s.tellOne(channel, t, code, from, to, service, value)
		}
	}
}

func (s *Sim) tellOne(channel byte, t *tunnel, code byte, from uint16, to Group, service byte, value []byte) {
	b := []byte{code, 0, 0xbc, 0xe0}
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, uint16(to))
	b = append(b, byte(len(value)), 0, service|value[0])
	b = append(b, value[1:]...)
	if t.queue = append(t.queue, b); len(t.queue) == 1 {
		s.push(channel, t)
	}
}
