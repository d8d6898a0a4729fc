// Package sim simulates a device with ESPHome firmware that has one entity of each kind. It reads and writes messages by
// google.golang.org/protobuf/encoding/protowire and shares no code with the driver, so that one can tell when the other is wrong.
package sim

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/announce"
)

// Options of a simulated device. The zero value listens at 127.0.0.1:6053.
type Options struct {
	Listen string
	// Password that clients must know; empty: none.
	Password string
	// Period of the thermometer; 0: 10 s.
	Period time.Duration
	// Encrypted: clients without encryption are refused, as by firmware that has a key.
	Encrypted bool
	// MDNS is an address of this machine such as 127.0.0.1:5353: the device answers there, and with that port to the
	// multicast group, who looks for it; empty: nowhere.
	MDNS   string
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one device.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener
	found    *announce.Responder // nil: it is not announced

	mu      sync.Mutex
	clients map[*client]bool
	now     states
}

// client is a connection.
type client struct {
	conn              net.Conn
	trusted, follower bool
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:6053"
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate esphome: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l, clients: map[*client]bool{},
		now: states{air: 21.5, mode: "Eco", target: 20.5, level: 42, brightness: 1, red: 1, green: 1, blue: 1, strength: 1, effect: "None"}}
	if o.MDNS != "" {
		if s.found, err = announce.Listen(o.MDNS, announce.MDNSGroup, announce.MDNS(s.service())); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("simulate esphome: %w", err)
		}
	}
	return s, nil
}

// service is what the device announces.
func (s *Sim) service() announce.Service {
	at := s.listener.Addr().(*net.TCPAddr).AddrPort()
	text := []string{"friendly_name=Simulated", "version=2025.5.0", "mac=acbc32890ea9", "platform=ESP32", "board=esp32dev", "network=wifi"}
	if s.o.Encrypted {
		text = append(text, "api_encryption=Noise_NNpsk0_25519_ChaChaPoly_SHA256")
	}
	return announce.Service{Type: "_esphomelib._tcp", Name: "simulated", Host: "simulated", Port: int(at.Port()), Address: at.Addr().Unmap(), Text: text}
}

// MDNSAddr is where it answers those who look for it; empty: nowhere.
func (s *Sim) MDNSAddr() string {
	if s.found == nil {
		return ""
	}
	return s.found.Addr()
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Journal tells what it was told.
func (s *Sim) Journal() *peer.Journal { return s.journal }

// Measure sets the thermometer; NaN: it does not know.
func (s *Sim) Measure(celsius float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.air = celsius
	s.tell(temperature)
}

// Run answers until ctx ends, then closes all and returns nil.
func (s *Sim) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.clients {
			_ = c.conn.Close()
		}
	})
	defer stop()
	defer wg.Wait()
	wg.Go(func() { s.measure(ctx) })
	if s.found != nil {
		wg.Go(func() { s.found.Run(ctx) })
	}
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate esphome: %w", err)
		}
		wg.Go(func() { s.serve(ctx, &client{conn: c}) })
	}
}

func (s *Sim) measure(ctx context.Context) {
	tick := time.NewTicker(s.o.Period)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.Measure(21.5 + float32(n%20)/10)
		}
	}
}

func (s *Sim) serve(ctx context.Context, c *client) {
	defer func() {
		s.mu.Lock()
		delete(s.clients, c)
		s.mu.Unlock()
		_ = c.conn.Close()
	}()
	s.mu.Lock()
	refused := ctx.Err() != nil || s.dice.Refused()
	if !refused {
		s.clients[c] = true
	}
	s.mu.Unlock()
	if refused {
		return
	}
	s.journal.Add("esphome", "connected", c.conn.RemoteAddr().String())
	for r := bufio.NewReader(c.conn); ; {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		if s.o.Encrypted || first != 0 {
			// A frame of the encrypted form, with a reason in words: what such firmware says to who does not encrypt.
			reason := "\x01Bad indicator byte"
			_, _ = c.conn.Write(append([]byte{1, 0, byte(len(reason))}, reason...))
			return
		}
		length, err := binary.ReadUvarint(r)
		if err != nil || length > 1<<16 {
			return
		}
		kind, err := binary.ReadUvarint(r)
		if err != nil {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		if !s.hear(c, int(kind), body) {
			return
		}
	}
}

// hear takes a message, as the dice have it.
func (s *Sim) hear(c *client, kind int, body []byte) (goOn bool) {
	fields, err := read(body)
	if err != nil {
		s.journal.Add("esphome", "nonsense", fmt.Sprintf("type %d: %x", kind, body))
		return false
	}
	outcome, wait := s.dice.Throw()
	if wait > 0 {
		time.Sleep(wait)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch outcome {
	case peer.Drop:
		return false
	case peer.Garbage:
		_, _ = c.conn.Write(s.dice.Noise(16))
	case peer.Answer:
		return s.answer(c, kind, fields)
	}
	return true
}

// answer is called with the lock held.
func (s *Sim) answer(c *client, kind int, f map[protowire.Number]uint64text) bool {
	switch kind {
	case 1:
		s.journal.Add("esphome", "hello", f[1].text)
		c.send(2, put(nil, 1, 1), put(nil, 2, 10), words(nil, 3, "simulated (esphome v2025.7.0)"), words(nil, 4, "simulated"))
		return true
	case 3:
		c.trusted = f[1].text == s.o.Password
		c.send(4, put(nil, 1, truth(!c.trusted)))
		return c.trusted
	case 5:
		c.send(6)
		return false
	case 7:
		c.send(8)
		return true
	case 8:
		return true
	case 9:
		c.send(10, words(nil, 2, "simulated"), words(nil, 3, "AC:BC:32:89:0E:A9"), words(nil, 4, "2025.7.0"), words(nil, 6, "esp32dev"),
			words(nil, 12, "Espressif"), words(nil, 13, "Simulated device"))
		return true
	}
	if !c.trusted {
		s.journal.Add("esphome", "stranger", fmt.Sprint(kind))
		return false
	}
	switch kind {
	case 11:
		for _, e := range entities() {
			c.send(e.lists, append([][]byte{words(nil, 1, e.id), key(nil, 2, e.key), words(nil, 3, e.name)}, e.more...)...)
		}
		c.send(19)
	case 20:
		c.follower = true
		c.send(36) // it wants to know the time
		for _, e := range entities() {
			s.tell(e.key)
		}
	case 37:
		s.journal.Add("esphome", "time", fmt.Sprint(f[1].number))
	default:
		s.command(kind, f)
	}
	return true
}

// tell sends the state of an entity to all that follow; with the lock held.
func (s *Sim) tell(which uint32) {
	kind, fields := s.now.message(which)
	if kind == 0 {
		return
	}
	for c := range s.clients {
		if c.follower {
			c.send(kind, append([][]byte{key(nil, 1, which)}, fields...)...)
		}
	}
}

func (c *client) send(kind int, fields ...[]byte) {
	var body []byte
	for _, f := range fields {
		body = append(body, f...)
	}
	b := binary.AppendUvarint([]byte{0}, uint64(len(body)))
	_ = c.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.conn.Write(append(binary.AppendUvarint(b, uint64(kind)), body...))
}

// uint64text is a field's value: a number or a text.
type uint64text struct {
	number uint64
	text   string
}

func (v uint64text) float() float32 { return math.Float32frombits(uint32(v.number)) }

func read(b []byte) (map[protowire.Number]uint64text, error) {
	all := map[protowire.Number]uint64text{}
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64text
		switch wire {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var x uint32
			x, n = protowire.ConsumeFixed32(b)
			v.number = uint64(x)
		case protowire.BytesType:
			v.text, n = protowire.ConsumeString(b)
		default:
			n = protowire.ConsumeFieldValue(field, wire, b)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		all[field], b = v, b[n:]
	}
	return all, nil
}

func put(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func words(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func key(b []byte, field protowire.Number, v uint32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(b, field, protowire.Fixed32Type), v)
}

func real(b []byte, field protowire.Number, v float32) []byte {
	return key(b, field, math.Float32bits(v))
}

func truth(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}
