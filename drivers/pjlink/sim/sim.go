// Package sim simulates PJLink projectors (class 1) on real TCP ports.
//
// Those of class 2 answer the search, by UDP. Each projector has a listener of its own, its power with warm-up and cool-down, inputs, mute, lamp hours and errors. It
// misbehaves to order. It shares no code with the driver, so that one can tell when the other is wrong.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Port is PJLink's registered TCP port.
const Port = 4352

// Options of simulated projectors. The zero value is one projector on 127.0.0.1:4352 without password.
type Options struct {
	// Listen is the address of the first projector, the next ones have the ports after it; port 0 gives each a free one.
	Listen string
	// Count of projectors; 0 means 1.
	Count int
	// Password that a client must know, at most 32 characters; empty means no authentication.
	Password string
	// Name is the first part of each projector's name; its number follows. Empty means "Projector".
	Name string
	// WarmUp and CoolDown are how long the lamp takes; 0 means 5 s and 8 s (real lamps take 30 s and 90 s); negative: none.
	WarmUp, CoolDown time.Duration
	// LampHour is how long the lamp must burn for one hour on its counter; 0 means a real hour.
	LampHour time.Duration
	// Idle is how long a connection may say nothing before the projector closes it; 0 means 30 s, as the specification asks.
	Idle time.Duration
	// Search has each projector answer the search of class 2, by UDP at the port of its listener.
	Search bool
	// Faults from the start; see Sim.SetFaults.
	Faults peer.Faults
	// Seed of the faults and of the projectors' first values.
	Seed uint64
	// Log gets the journal, a line of JSON per entry; nil: none. Journal still has them.
	Log io.Writer
}

func (o *Options) setDefaults() {
	if o.Listen == "" {
		o.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(Port))
	}
	if o.Count == 0 {
		o.Count = 1
	}
	if o.Name == "" {
		o.Name = "Projector"
	}
	if o.WarmUp == 0 {
		o.WarmUp = 5 * time.Second
	}
	if o.CoolDown == 0 {
		o.CoolDown = 8 * time.Second
	}
	if o.LampHour == 0 {
		o.LampHour = time.Hour
	}
	if o.Idle == 0 {
		o.Idle = 30 * time.Second
	}
}

// Sim is a set of simulated projectors.
type Sim struct {
	o          Options
	journal    *peer.Journal
	dice       *peer.Dice
	projectors []*Projector
	listeners  []net.Listener
	searches   []net.PacketConn // as listeners; none where they are not answered

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// New opens all listeners, so that Addrs is complete; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	o.setDefaults()
	if len(o.Password) > 32 {
		return nil, errors.New("simulate pjlink: the password is longer than 32 characters")
	}
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate pjlink: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("simulate pjlink: port of %s: %w", o.Listen, err)
	}
	s := &Sim{
		o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), conns: map[net.Conn]struct{}{},
	}
	for i := range o.Count {
		p := port
		if port != 0 {
			p += uint64(i)
		}
		if err := s.listen(net.JoinHostPort(host, strconv.FormatUint(p, 10))); err != nil {
			s.closeListeners()
			return nil, fmt.Errorf("simulate pjlink: projector %d: %w", i+1, err)
		}
		s.projectors = append(s.projectors, newProjector(&s.o, s.journal, i))
	}
	return s, nil
}

// listen opens the ports of a projector. One that is free by TCP and not by UDP is passed over, where any would do.
func (s *Sim) listen(at string) error {
	for tries := 0; ; tries++ {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		if s.o.Search {
			search, err := net.ListenPacket("udp", l.Addr().String())
			if err != nil {
				_ = l.Close()
				if tries < 10 && strings.HasSuffix(at, ":0") {
					continue
				}
				return err
			}
			s.searches = append(s.searches, search)
		}
		s.listeners = append(s.listeners, l)
		return nil
	}
}

// Addrs gives the address of each projector, in order.
func (s *Sim) Addrs() []string {
	out := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr().String()
	}
	return out
}

// Projectors gives the projectors, in the order of Addrs.
func (s *Sim) Projectors() []*Projector { return s.projectors }

// Journal tells what the projectors were told and what they did.
func (s *Sim) Journal() *peer.Journal { return s.journal }

// SetFaults changes the faults of all projectors from now on.
func (s *Sim) SetFaults(f peer.Faults) { s.dice.Set(f) }

// DropAll cuts every connection that is open now, as a network that fails.
func (s *Sim) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Run answers until ctx ends, then closes all and returns nil. It may be called once.
func (s *Sim) Run(ctx context.Context) error {
	failed := make(chan error, len(s.listeners))
	for i, l := range s.listeners {
		s.wg.Go(func() { failed <- s.accept(ctx, l, s.projectors[i]) })
	}
	for i, c := range s.searches {
		s.wg.Go(func() { s.answerSearch(c, s.projectors[i]) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.closeListeners()
	s.wg.Wait()
	for _, p := range s.projectors {
		p.stop()
	}
	return err
}

func (s *Sim) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
	for _, c := range s.searches {
		c.Close()
	}
}

func (s *Sim) accept(ctx context.Context, l net.Listener, p *Projector) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate pjlink: accept on %s: %w", l.Addr(), err)
		}
		if s.dice.Refused() {
			s.journal.Add(p.name, "fault", "refused")
			c.Close()
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return nil
		}
		s.conns[c] = struct{}{}
		s.wg.Go(func() {
			defer func() {
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
				c.Close()
			}()
			s.serve(ctx, c, p)
		})
		s.mu.Unlock()
	}
}
