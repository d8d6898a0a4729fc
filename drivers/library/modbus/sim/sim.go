// Package sim simulates a heat pump's controller that speaks Modbus TCP. It shares no code with the driver, so that one can
// tell when the other is wrong.
package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Size is how many registers and coils there are, from address 0 on.
const Size = 200

// Options of a simulated controller. The zero value is unit 1 at 127.0.0.1:5020.
type Options struct {
	Listen string
	Unit   byte
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one controller: supply temperature in tenths at register 0, return at 1, energy in kWh at 20 and 21, setpoint in
// tenths at 40, a flow in l/min as a float at 10 and 11; its pump at coil 0, its alarm at discrete input 0.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener

	mu          sync.Mutex
	registers   [Size]uint16
	coils       [Size]bool
	alarm       bool
	connections map[net.Conn]bool
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:5020"
	}
	if o.Unit == 0 {
		o.Unit = 1
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate modbus: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l, connections: map[net.Conn]bool{}}
	s.registers[0], s.registers[1], s.registers[40] = 415, 352, 420
	flow := math.Float32bits(18.5)
	s.registers[10], s.registers[11] = uint16(flow>>16), uint16(flow)
	s.registers[20], s.registers[21] = 1, 34464 // 100,000
	s.coils[0] = true
	return s, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Register gives one.
func (s *Sim) Register(at int) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registers[at]
}

// Coil gives one.
func (s *Sim) Coil(at int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.coils[at]
}

// SetRegister changes one, as the device itself does.
func (s *Sim) SetRegister(at int, value uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registers[at] = value
}

// Run answers until ctx ends, then closes all and returns nil.
func (s *Sim) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.connections {
			_ = c.Close()
		}
	})
	defer stop()
	defer wg.Wait()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate modbus: %w", err)
		}
		wg.Go(func() { s.serve(ctx, c) })
	}
}

func (s *Sim) serve(ctx context.Context, c net.Conn) {
	s.mu.Lock()
	s.connections[c] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.connections, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	if ctx.Err() != nil || s.dice.Refused() {
		return
	}
	head := make([]byte, 7)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(head[4:])) - 1
		if size < 2 || size > 253 || head[2] != 0 || head[3] != 0 {
			return // as the guide says: what is no Modbus loses its connection
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		s.journal.Add("modbus", "told", fmt.Sprintf("%x", body))
		answer := []byte{body[0] | 0x80, 11}
		if head[6] == s.o.Unit {
			answer = s.answer(body)
		}
		outcome, wait := s.dice.Throw()
		time.Sleep(wait)
		reply := append(append([]byte(nil), head[:4]...), byte((len(answer)+1)>>8), byte(len(answer)+1), head[6])
		switch reply = append(reply, answer...); outcome {
		case peer.Drop:
			return
		case peer.Silence:
			continue
		case peer.Garbage:
			reply = s.dice.Noise(len(reply))
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

// answer does what a request says.
func (s *Sim) answer(b []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(code byte) []byte { return []byte{b[0] | 0x80, code} }
	if len(b) < 5 {
		return refuse(3)
	}
	at, n := int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	switch b[0] {
	case 1, 2, 3, 4, 15, 16:
		if n == 0 || n > 125 {
			return refuse(3)
		}
		if at+n > Size {
			return refuse(2)
		}
	case 5, 6:
		if at >= Size {
			return refuse(2)
		}
	default:
		return refuse(1)
	}
	switch b[0] {
	case 1, 2:
		out := append([]byte{b[0], byte((n + 7) / 8)}, make([]byte, (n+7)/8)...)
		for i := range n {
			if b[0] == 1 && s.coils[at+i] || b[0] == 2 && at+i == 0 && s.alarm {
				out[2+i/8] |= 1 << (i % 8)
			}
		}
		return out
	case 3, 4:
		out := []byte{b[0], byte(2 * n)}
		for i := range n {
			out = binary.BigEndian.AppendUint16(out, s.registers[at+i])
		}
		return out
	case 5:
		s.coils[at] = n == 0xff00
		return b[:5]
	case 6:
		s.registers[at] = uint16(n)
		return b[:5]
	}
	return s.writeMany(b, at, n)
}

func (s *Sim) writeMany(b []byte, at, n int) []byte {
	size := 2 * n
	if b[0] == 15 {
		size = (n + 7) / 8
	}
	if len(b) != 6+size {
		return []byte{b[0] | 0x80, 3}
	}
	for i := range n {
		if b[0] == 15 {
			s.coils[at+i] = b[6+i/8]>>(i%8)&1 == 1
		} else {
			s.registers[at+i] = binary.BigEndian.Uint16(b[6+2*i:])
		}
	}
	return b[:5]
}
