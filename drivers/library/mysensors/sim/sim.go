// Package sim simulates a MySensors gateway over TCP with nodes behind it: a thermometer, a relay, and a relay that sleeps. It
// shares no code with the driver, so that one can tell when the other is wrong.
package sim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated gateway. The zero value listens at 127.0.0.1:5003.
type Options struct {
	Listen string
	// Period of the thermometer; 0: 10 s.
	Period time.Duration
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// The nodes.
const (
	Thermometer = 1
	Relay       = 2
	Sleeper     = 3
)

// Sim is one gateway.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener

	mu      sync.Mutex
	clients map[net.Conn]bool
	on      map[int]bool
	awake   bool
	heard   chan string // lines that a test waits for
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:5003"
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate mysensors: %w", err)
	}
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l, clients: map[net.Conn]bool{},
		on: map[int]bool{}, heard: make(chan string, 256)}, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Heard gives the controller's lines, as far as somebody reads them.
func (s *Sim) Heard() <-chan string { return s.heard }

// On says whether a relay is on.
func (s *Sim) On(node int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on[node]
}

// Say sends lines to the controller.
func (s *Sim) Say(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		_, _ = io.WriteString(c, strings.Join(lines, "\n")+"\n")
	}
}

// Wake has the sleeping relay listen, or sleep again.
func (s *Sim) Wake(awake bool) {
	s.mu.Lock()
	s.awake = awake
	s.mu.Unlock()
	if awake {
		s.Say("3;255;3;0;32;500")
	} else {
		s.Say("3;255;3;0;33;500")
	}
}

// Run answers until ctx ends, then closes all and returns nil.
func (s *Sim) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.clients {
			_ = c.Close()
		}
	})
	defer stop()
	defer wg.Wait()
	wg.Go(func() { s.measure(ctx) })
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("simulate mysensors: %w", err)
		}
		wg.Go(func() { s.serve(ctx, c) })
	}
}

// measure has the thermometer speak, and the sleeper wake for a moment.
func (s *Sim) measure(ctx context.Context) {
	tick := time.NewTicker(s.o.Period)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.Say(fmt.Sprintf("1;1;1;0;0;%.1f", 20+float64(n%30)/10), fmt.Sprintf("1;255;3;0;0;%d", max(5, 100-n/100)))
		if n%3 == 2 {
			s.Wake(true)
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			s.Wake(false)
		}
	}
}

func (s *Sim) serve(ctx context.Context, c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.clients, c)
		s.mu.Unlock()
		_ = c.Close()
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
	s.journal.Add("mysensors", "connected", c.RemoteAddr().String())
	greeting := []string{"0;255;3;0;14;Gateway startup complete."}
	for node, sketch := range map[int]string{Thermometer: "Thermometer", Relay: "Relay", Sleeper: "Valve"} {
		greeting = append(greeting, fmt.Sprintf("%d;255;0;0;17;2.3.2", node), fmt.Sprintf("%d;255;3;0;11;%s", node, sketch), fmt.Sprintf("%d;255;3;0;12;1.0", node))
	}
	greeting = append(greeting, "1;1;0;0;6;Air", "1;1;1;0;0;20.5", "2;1;0;0;3;Lamp", "2;1;1;0;2;0", "3;1;0;0;3;Valve", "3;1;1;0;2;0", "3;255;3;0;33;500")
	_, _ = io.WriteString(c, strings.Join(greeting, "\n")+"\n")
	for r := bufio.NewScanner(c); r.Scan(); {
		s.journal.Add("mysensors", "received", r.Text())
		select {
		case s.heard <- r.Text():
		default:
		}
		outcome, wait := s.dice.Throw()
		if wait > 0 {
			time.Sleep(wait)
		}
		switch outcome {
		case peer.Drop:
			return
		case peer.Garbage:
			_, _ = c.Write(append(s.dice.Noise(16), '\n'))
		case peer.Answer:
			s.answer(c, r.Text())
		}
	}
}

// answer does what a line asks of the gateway or a node.
func (s *Sim) answer(c net.Conn, line string) {
	var node, child, command, ack, kind int
	head, payload, _ := cutLast(line)
	if _, err := fmt.Sscanf(head, "%d;%d;%d;%d;%d", &node, &child, &command, &ack, &kind); err != nil {
		s.journal.Add("mysensors", "nonsense", line)
		return
	}
	switch {
	case node == 0 && command == 3 && kind == 2:
		_, _ = io.WriteString(c, "0;255;3;0;2;2.3.2\n")
	case command == 1 && (node == Relay || node == Sleeper) && kind == 2:
		s.mu.Lock()
		listens := node == Relay || s.awake
		if listens {
			s.on[node] = payload == "1"
		}
		s.mu.Unlock()
		if listens && ack == 1 {
			_, _ = io.WriteString(c, line+"\n") // the node's echo
		}
	}
}

// cutLast parts a line at its fifth semicolon: a payload may hold more.
func cutLast(line string) (head, payload string, ok bool) {
	parts := strings.SplitN(line, ";", 6)
	if len(parts) < 6 {
		return line, "", false
	}
	return strings.Join(parts[:5], ";"), parts[5], true
}
