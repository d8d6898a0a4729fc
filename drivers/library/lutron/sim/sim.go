// Package sim simulates a Lutron main repeater or processor that speaks the Lutron integration protocol over TCP. It shares no
// code with the driver, so that one can tell when the other is wrong.
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

// Kinds of what is told unasked, as the protocol numbers them.
const (
	monitorButtons   = 3
	monitorLEDs      = 4
	monitorZones     = 5
	monitorOccupancy = 6
	monitorScenes    = 8
	monitorAll       = 255
)

// Options of a simulated system. The zero value has zones 1 to 4, areas 2 and 5, and keypad 17 with six buttons, on 127.0.0.1:2324,
// and lets lutron with the password integration in.
type Options struct {
	Listen          string
	Login, Password string
	// Prompt is what it says when it has done a command: GNET> of RadioRA 2, QNET> of HomeWorks QS.
	Prompt string
	// Zones, Areas and Keypads are integration ids, each kind for itself.
	Zones, Areas, Keypads []int
	Faults                peer.Faults
	Seed                  uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one system.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener

	mu       sync.Mutex
	levels   map[int]float64
	scenes   map[int]int
	keypads  map[int]bool
	sessions map[*session]bool
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	o.defaults()
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate lutron: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l,
		levels: map[int]float64{}, scenes: map[int]int{}, keypads: map[int]bool{}, sessions: map[*session]bool{}}
	for _, id := range o.Zones {
		s.levels[id] = 0
	}
	for _, id := range o.Areas {
		s.scenes[id] = 0
	}
	for _, id := range o.Keypads {
		s.keypads[id] = true
	}
	return s, nil
}

func (o *Options) defaults() {
	for _, d := range []struct {
		field *string
		text  string
	}{{&o.Listen, "127.0.0.1:2324"}, {&o.Login, "lutron"}, {&o.Password, "integration"}, {&o.Prompt, "GNET> "}} {
		if *d.field == "" {
			*d.field = d.text
		}
	}
	if o.Zones == nil && o.Areas == nil && o.Keypads == nil {
		o.Zones, o.Areas, o.Keypads = []int{1, 2, 3, 4}, []int{2, 5}, []int{17}
	}
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Journal tells what it was told.
func (s *Sim) Journal() *peer.Journal { return s.journal }

// Level gives a zone's level in percent.
func (s *Sim) Level(zone int) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.levels[zone]
}

// Scene gives an area's scene.
func (s *Sim) Scene(area int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scenes[area]
}

// Dim turns a zone by hand: every session that monitors zones is told.
func (s *Sim) Dim(zone int, level float64) {
	s.mu.Lock()
	s.levels[zone] = level
	s.mu.Unlock()
	s.tell(nil, monitorZones, zoneText(zone, level))
}

// Press presses and releases a button by hand.
func (s *Sim) Press(keypad, button int) {
	s.tell(nil, monitorButtons, fmt.Sprintf("~DEVICE,%d,%d,3", keypad, button))
	s.tell(nil, monitorButtons, fmt.Sprintf("~DEVICE,%d,%d,4", keypad, button))
}

// Occupy says that somebody came into an area, or that all have left.
func (s *Sim) Occupy(area int, somebody bool) {
	state := 4
	if somebody {
		state = 3
	}
	s.tell(nil, monitorOccupancy, fmt.Sprintf("~AREA,%d,8,%d", area, state))
}

// tell tells every session that monitors kind, but for one that is told as the answer to its command.
func (s *Sim) tell(but *session, kind int, text string) {
	s.mu.Lock()
	var to []*session
	for c := range s.sessions {
		if c != but && c.monitors(kind) {
			to = append(to, c)
		}
	}
	s.mu.Unlock()
	for _, c := range to {
		c.write(text + "\r\n" + s.o.Prompt)
	}
}

// Run answers until ctx ends, then closes all and returns nil.
func (s *Sim) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = s.listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.sessions {
			_ = c.conn.Close()
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
			return fmt.Errorf("simulate lutron: %w", err)
		}
		wg.Go(func() { s.serve(ctx, c) })
	}
}

func (s *Sim) serve(ctx context.Context, conn net.Conn) {
	c := &session{conn: conn, monitored: map[int]bool{}}
	s.mu.Lock()
	s.sessions[c] = true
	s.mu.Unlock()
	s.journal.Add("lutron", "connected", conn.RemoteAddr().String())
	defer func() {
		s.journal.Add("lutron", "disconnected", conn.RemoteAddr().String())
		s.mu.Lock()
		delete(s.sessions, c)
		s.mu.Unlock()
		_ = conn.Close()
	}()
	if ctx.Err() != nil || s.dice.Refused() {
		return
	}
	in := bufio.NewReaderSize(conn, 1024)
	if !s.login(c, in) {
		return
	}
	c.write("\r\n" + s.o.Prompt)
	for {
		line, err := readLine(in)
		if err != nil || !s.obey(ctx, c, line) {
			return
		}
	}
}

// readLine reads up to the end of a line, of 1,024 bytes at most.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func (s *Sim) login(c *session, in *bufio.Reader) bool {
	for range 3 {
		c.write("login: ")
		name, err := readLine(in)
		if err != nil {
			return false
		}
		if in.Buffered() > 0 { // it forgets what was said before it asked
			_, _ = in.Discard(in.Buffered())
		}
		c.write("password: ")
		word, err := readLine(in)
		if err != nil {
			return false
		}
		if name == s.o.Login && word == s.o.Password {
			s.journal.Add("lutron", "login", name)
			return true
		}
		s.journal.Add("lutron", "refused", name)
		c.write("bad login\r\n")
	}
	return false
}

// obey does one command, and says whether the session goes on.
func (s *Sim) obey(ctx context.Context, c *session, line string) bool {
	s.journal.Add("lutron", "told", line)
	outcome, wait := s.dice.Throw()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
	switch outcome {
	case peer.Drop:
		return false
	case peer.Silence:
		return true
	case peer.Garbage:
		c.write(string(s.dice.Noise(12)))
		return true
	}
	var out strings.Builder
	for _, text := range s.answer(c, line) {
		out.WriteString(text + "\r\n")
	}
	c.write(out.String() + s.o.Prompt)
	return true
}

// session is one connection.
type session struct {
	conn net.Conn

	mu        sync.Mutex
	monitored map[int]bool
}

func (c *session) write(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.WriteString(c.conn, text)
}

func (c *session) monitors(kind int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.monitored[kind]
}

func (c *session) monitor(kind int, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind != monitorAll {
		c.monitored[kind] = on
		return
	}
	for _, k := range []int{monitorButtons, monitorLEDs, monitorZones, monitorOccupancy, monitorScenes} {
		c.monitored[k] = on
	}
}
