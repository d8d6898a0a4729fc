// Package sim simulates an Extron matrix switcher that speaks SIS over TCP. It shares no code with the driver, so that
// one can tell when the other is wrong.
package sim

import (
	"bufio"
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

// Options of a simulated switcher. The zero value is a matrix of 8 inputs and 4 outputs on 127.0.0.1:2323.
type Options struct {
	Listen          string
	Inputs, Outputs int
	// Password that is asked for; empty: none.
	Password string
	Faults   peer.Faults
	Seed     uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one switcher.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener

	mu          sync.Mutex
	ties        []int
	video       []int
	audio       []int
	volume      int
	presets     map[int][]int
	connections map[net.Conn]bool
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:2323"
	}
	if o.Inputs == 0 {
		o.Inputs, o.Outputs = 8, 4
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate extron: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l, ties: make([]int, o.Outputs+1),
		video: make([]int, o.Outputs+1), audio: make([]int, o.Outputs+1), volume: 50, presets: map[int][]int{}, connections: map[net.Conn]bool{}}
	for i := range s.ties {
		s.ties[i] = 1
	}
	return s, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Journal tells what it was told.
func (s *Sim) Journal() *peer.Journal { return s.journal }

// Tie gives the input at an output.
func (s *Sim) Tie(output int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ties[output]
}

// Press ties at the front panel: every connection is told.
func (s *Sim) Press(input, output int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ties[output] = input
	for c := range s.connections {
		_, _ = fmt.Fprintf(c, "Out%d In%d All\r\n", output, input)
	}
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
			return fmt.Errorf("simulate extron: %w", err)
		}
		wg.Go(func() { s.serve(ctx, c) })
	}
}

func (s *Sim) serve(ctx context.Context, c net.Conn) {
	s.mu.Lock()
	s.connections[c] = true
	s.mu.Unlock()
	s.journal.Add("extron", "connected", c.RemoteAddr().String())
	defer func() {
		s.journal.Add("extron", "disconnected", c.RemoteAddr().String())
		s.mu.Lock()
		delete(s.connections, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	if ctx.Err() != nil || s.dice.Refused() {
		return
	}
	in := bufio.NewReader(c)
	_, _ = fmt.Fprintf(c, "\r\n(c) Copyright 2026, Extron Electronics, DTP CrossPoint 84, V1.05, 60-1381-01\r\n%s\r\n", time.Now().Format("Mon, 02 Jan 2006 15:04:05"))
	if s.o.Password != "" && !s.login(c, in) {
		return
	}
	for tagged := false; ; {
		command, err := next(in)
		if err != nil {
			return
		}
		s.journal.Add("extron", "told", strings.ReplaceAll(command, "\x1b", "ESC "))
		outcome, wait := s.dice.Throw()
		if wait > 0 {
			time.Sleep(wait)
		}
		switch outcome {
		case peer.Drop:
			return
		case peer.Silence:
			continue
		}
		if command == "\x1b3CV" {
			tagged = true
			_, _ = io.WriteString(c, "Vrb3\r\n")
			continue
		}
		_, _ = io.WriteString(c, s.answer(command, tagged)+"\r\n")
	}
}

func (s *Sim) login(c net.Conn, in *bufio.Reader) bool {
	for range 3 {
		_, _ = io.WriteString(c, "\r\nPassword:")
		word, err := in.ReadString('\r')
		if err != nil {
			return false
		}
		if strings.TrimSuffix(word, "\r") == s.o.Password {
			_, _ = io.WriteString(c, "\r\nLogin Administrator\r\n")
			return true
		}
	}
	return false
}

// next reads one command: up to the letter or sign that ends it, or with an escape up to the return.
func next(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		r, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		switch {
		case r == 0x1b:
			rest, err := in.ReadString('\r')
			return "\x1b" + strings.TrimSuffix(rest, "\r"), err
		case r == '\r' || r == '\n':
			continue
		}
		b.WriteByte(r)
		if !(r >= '0' && r <= '9') && r != '*' || b.Len() > 64 {
			return b.String(), nil
		}
	}
}

// answer does what a command says.
func (s *Sim) answer(command string, tagged bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	what := command[len(command)-1]
	first, second, both := strings.Cut(command[:len(command)-1], "*")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	tag := func(text, plain string) string {
		if tagged {
			return text
		}
		return plain
	}
	switch {
	case what == '!' && both && errA == nil:
		return s.tie(a, b, errB == nil)
	case what == '!' && errA == nil:
		if a < 1 || a > s.o.Outputs {
			return "E12"
		}
		return tag(fmt.Sprintf("Out%02d In%02d All", a, s.ties[a]), fmt.Sprintf("%02d", s.ties[a]))
	case what == 'B', what == 'Z':
		return s.mute(what, a, b, both, errA == nil, errB == nil, tagged)
	case what == 'V' && both && errA == nil && errB == nil:
		if b > 100 {
			return "E13"
		}
		s.volume = b
		return fmt.Sprintf("Vol%d*%d", a, b)
	case what == 'V':
		return tag(fmt.Sprintf("Vol%d*%d", max(a, 1), s.volume), strconv.Itoa(s.volume))
	case what == 'N':
		return tag("Pno60-1381-01", "60-1381-01")
	case what == 'Q':
		return tag("Ver01*1.05", "1.05")
	case what == 'I':
		return tag(fmt.Sprintf("Inf00*V%dX%d A%dX%d", s.o.Inputs, s.o.Outputs, s.o.Inputs, s.o.Outputs), fmt.Sprintf("V%dX%d A%dX%d", s.o.Inputs, s.o.Outputs, s.o.Inputs, s.o.Outputs))
	case what == 'X' && errA == nil && a <= 1:
		return fmt.Sprintf("Exe%d", a)
	case what == ',' && errA == nil && a >= 1 && a <= 32:
		s.presets[a] = append([]int(nil), s.ties...)
		return fmt.Sprintf("Spr%02d", a)
	case what == '.' && errA == nil:
		ties, ok := s.presets[a]
		if !ok {
			return "E11"
		}
		copy(s.ties, ties)
		return fmt.Sprintf("Rpr%02d", a)
	}
	return "E10"
}

func (s *Sim) tie(input, output int, one bool) string {
	switch {
	case input < 0 || input > s.o.Inputs:
		return "E01"
	case one && (output < 1 || output > s.o.Outputs):
		return "E12"
	case one:
		s.ties[output] = input
		return fmt.Sprintf("Out%02d In%02d All", output, input)
	}
	for i := range s.ties {
		s.ties[i] = input
	}
	return fmt.Sprintf("In%02d All", input)
}

func (s *Sim) mute(what byte, a, b int, both, hasA, hasB, tagged bool) string {
	name, of := "Vmt", s.video
	if what == 'Z' {
		name, of = "Amt", s.audio
	}
	switch {
	case both && hasA && !hasB && a <= 1: // all outputs
		for i := range of {
			of[i] = a
		}
		return fmt.Sprintf("%s%d", name, a)
	case !hasA || a < 1 || a > s.o.Outputs:
		return "E12"
	case both && hasB && b <= 2:
		of[a] = b
		return fmt.Sprintf("%s%d*%d", name, a, b)
	case both:
		return "E13"
	case tagged:
		return fmt.Sprintf("%s%d*%d", name, a, of[a])
	}
	return strconv.Itoa(of[a])
}
