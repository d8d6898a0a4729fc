// Package sim simulates a camera that speaks VISCA over IP (UDP). It shares no code with the driver, so that one can tell
// when the other is wrong.
package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated camera. The zero value listens on 127.0.0.1:52381.
type Options struct {
	Listen string
	// Moves is how long a position takes to be reached; 0: 200 ms.
	Moves  time.Duration
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// place is where the camera looks.
type place struct{ pan, tilt, zoom int }

// Sim is one camera.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	conn    *net.UDPConn

	mu      sync.Mutex
	on      bool
	auto    bool
	at      place
	presets map[byte]place
	wg      sync.WaitGroup
}

// New opens the socket; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:52381"
	}
	if o.Moves == 0 {
		o.Moves = 200 * time.Millisecond
	}
	addr, err := net.ResolveUDPAddr("udp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate visca: %w", err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("simulate visca: %w", err)
	}
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), conn: conn, on: true, auto: true,
		presets: map[byte]place{0: {100, -50, 0x1000}}}, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.conn.LocalAddr().String() }

// On says whether it is switched on.
func (s *Sim) On() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// Run answers until ctx ends.
func (s *Sim) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	defer s.wg.Wait()
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFromUDP(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate visca: %w", err)
		}
		s.datagram(ctx, bytes.Clone(buf[:n]), from)
	}
}

// datagram answers one message: 2 bytes of type, 2 of length, 4 of number, then the payload.
func (s *Sim) datagram(ctx context.Context, d []byte, from *net.UDPAddr) {
	if len(d) < 9 || int(binary.BigEndian.Uint16(d[2:])) != len(d)-8 {
		return
	}
	kind, number, payload := binary.BigEndian.Uint16(d), d[4:8], d[8:]
	s.journal.Add("visca", "told", hex.EncodeToString(payload))
	outcome, wait := s.dice.Throw()
	if wait > 0 {
		time.Sleep(wait)
	}
	if outcome != peer.Answer {
		return
	}
	answer := func(kind uint16, payload ...byte) {
		out := binary.BigEndian.AppendUint16(nil, kind)
		out = binary.BigEndian.AppendUint16(out, uint16(len(payload)))
		out = append(append(out, number...), payload...)
		_, _ = s.conn.WriteToUDP(out, from)
	}
	switch {
	case kind == 0x0200 && payload[0] == 1:
		answer(0x0201, 1)
	case len(payload) < 4 || payload[0] != 0x81 || payload[len(payload)-1] != 0xff:
		answer(0x0111, 0x90, 0x60, 0x02, 0xff)
	case kind == 0x0110:
		answer(0x0111, append([]byte{0x90, 0x50}, append(s.inquire(payload[2:len(payload)-1]), 0xff)...)...)
	case kind == 0x0100:
		took, refused := s.command(payload[2 : len(payload)-1])
		if refused != 0 {
			answer(0x0111, 0x90, 0x61, refused, 0xff)
			return
		}
		answer(0x0111, 0x90, 0x41, 0xff)
		s.wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(took):
				answer(0x0111, 0x90, 0x51, 0xff)
			}
		})
	}
}

// inquire gives what a question is answered with.
func (s *Sim) inquire(what []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	flag := func(on bool) []byte {
		if on {
			return []byte{2}
		}
		return []byte{3}
	}
	switch hex.EncodeToString(what) {
	case "0400":
		return flag(s.on)
	case "0438":
		return flag(s.auto)
	case "0447":
		return quarters(s.at.zoom)
	case "0612":
		return append(quarters(s.at.pan), quarters(s.at.tilt)...)
	}
	return nil
}

// quarters spreads 16 bits over four bytes.
func quarters(n int) []byte {
	v := uint16(n)
	return []byte{byte(v >> 12), byte(v >> 8 & 15), byte(v >> 4 & 15), byte(v & 15)}
}

// command does what it is told and says how long it takes, or why not.
func (s *Sim) command(c []byte) (took time.Duration, refused byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(head ...byte) bool { return bytes.HasPrefix(c, head) }
	switch {
	case is(0x04, 0x00) && len(c) == 3:
		s.on = c[2] == 2
		return s.o.Moves, 0
	case !s.on:
		return 0, 0x41
	case is(0x04, 0x38) && len(c) == 3:
		s.auto = c[2] == 2
	case is(0x04, 0x47) && len(c) == 6:
		s.at.zoom = int(c[2])<<12 | int(c[3])<<8 | int(c[4])<<4 | int(c[5])
		return s.o.Moves, 0
	case is(0x04, 0x3f, 1) && len(c) == 4:
		s.presets[c[3]] = s.at
	case is(0x04, 0x3f, 2) && len(c) == 4:
		to, ok := s.presets[c[3]]
		if !ok {
			return 0, 0x41
		}
		s.at = to
		return s.o.Moves, 0
	case is(0x06, 0x04):
		s.at = place{}
		return s.o.Moves, 0
	case is(0x06, 0x01) && len(c) == 6:
		s.at.pan += map[byte]int{1: -10, 2: 10}[c[4]]
		s.at.tilt += map[byte]int{1: 10, 2: -10}[c[5]]
	case is(0x04, 0x07) && len(c) == 3:
	default:
		return 0, 0x02
	}
	return 0, 0
}
