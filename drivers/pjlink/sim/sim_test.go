package sim

import (
	"bufio"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// start runs projectors until the test ends.
func start(t *testing.T, o Options) *Sim {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

type client struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, line+"\r"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) hear(want string) {
	c.t.Helper()
	if got, err := c.r.ReadString('\r'); err != nil || got != want+"\r" {
		c.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

func (c *client) ask(line, want string) {
	c.t.Helper()
	c.say(line)
	c.hear(want)
}

func (c *client) until(line, want string) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		c.say(line)
		got, err := c.r.ReadString('\r')
		if err != nil {
			c.t.Fatal(err)
		}
		if got == want+"\r" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("still %q, want %q", got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *client) ended() {
	c.t.Helper()
	if got, err := io.ReadAll(c.r); err != nil || len(got) > 0 {
		c.t.Fatalf("heard %q, %v; want the end", got, err)
	}
}

func TestOneDay(t *testing.T) {
	s := start(t, Options{WarmUp: 150 * time.Millisecond, CoolDown: 150 * time.Millisecond, Name: "Hall"})
	c := dial(t, s.Addrs()[0])
	c.hear("PJLINK 0")
	c.ask("%1POWR ?", "%1POWR=0")
	c.ask("%1INPT ?", "%1INPT=ERR3")
	c.ask("%1AVMT 31", "%1AVMT=ERR3")
	c.ask("%1POWR 1", "%1POWR=OK")
	c.ask("%1POWR ?", "%1POWR=3")
	c.ask("%1POWR 0", "%1POWR=ERR3")
	c.until("%1POWR ?", "%1POWR=1")
	c.ask("%1POWR 1", "%1POWR=OK")
	c.ask("%1INPT ?", "%1INPT=31")
	c.ask("%1INPT 12", "%1INPT=OK")
	c.ask("%1INPT ?", "%1INPT=12")
	c.ask("%1INPT 99", "%1INPT=ERR2")
	c.ask("%1AVMT ?", "%1AVMT=30")
	c.ask("%1AVMT 11", "%1AVMT=OK")
	c.ask("%1AVMT ?", "%1AVMT=11")
	c.ask("%1AVMT 21", "%1AVMT=OK")
	c.ask("%1AVMT ?", "%1AVMT=31")
	c.ask("%1AVMT 10", "%1AVMT=OK")
	c.ask("%1AVMT ?", "%1AVMT=21")
	c.ask("%1AVMT 41", "%1AVMT=ERR2")
	c.ask("%1ERST ?", "%1ERST=000000")
	s.Projectors()[0].SetErrors("001020")
	c.ask("%1ERST ?", "%1ERST=001020")
	c.ask("%1LAMP ?", "%1LAMP=120 1")
	c.ask("%1INST ?", "%1INST=11 12 21 31 32 51")
	c.ask("%1NAME ?", "%1NAME=Hall")
	c.ask("%1INF1 ?", "%1INF1=Castor")
	c.ask("%1INF2 ?", "%1INF2=CX-4352")
	c.ask("%1INFO ?", "%1INFO=simulated")
	c.ask("%1CLSS ?", "%1CLSS=1")
	c.ask("%1NOPE ?", "%1NOPE=ERR1")
	c.ask("%2POWR ?", "%2POWR=ERR1")
	c.say("hello") // not PJLink: passed over
	s.Projectors()[0].Break(true)
	c.ask("%1POWR 0", "%1POWR=ERR4")
	s.Projectors()[0].Break(false)
	c.ask("%1POWR 0", "%1POWR=OK")
	c.ask("%1POWR ?", "%1POWR=2")
	c.ask("%1POWR 1", "%1POWR=ERR3")
	c.until("%1POWR ?", "%1POWR=0")
	c.ask("%1LAMP ?", "%1LAMP=120 0")
	var told, states []string
	for _, e := range s.Journal().Entries("Hall") {
		switch e.Event {
		case "told":
			told = append(told, e.Text)
		case "state":
			states = append(states, e.Text)
		}
	}
	if told[0] != "%1POWR ?" || told[3] != "%1POWR 1" {
		t.Errorf("told %q", told[:4])
	}
	want := "power warming,power on,input 12,mute 11,mute 31,mute 21,errors 001020,power cooling,power off"
	if got := strings.Join(states, ","); got != want {
		t.Errorf("states %s", got)
	}
}

func TestPassword(t *testing.T) {
	s := start(t, Options{Password: "JBMIAProjectorLink", WarmUp: -1})
	c := dial(t, s.Addrs()[0])
	greeting, err := c.r.ReadString('\r')
	salt, ok := strings.CutPrefix(strings.TrimSuffix(greeting, "\r"), "PJLINK 1 ")
	if err != nil || !ok || len(salt) != 8 {
		t.Fatalf("%q, %v", greeting, err)
	}
	c.ask(fmt.Sprintf("%x", md5.Sum([]byte(salt+"JBMIAProjectorLink")))+"%1POWR 1", "%1POWR=OK")
	c.ask("%1POWR ?", "%1POWR=1") // the digest comes once per connection

	bad := dial(t, s.Addrs()[0])
	if _, err := bad.r.ReadString('\r'); err != nil {
		t.Fatal(err)
	}
	bad.ask(strings.Repeat("0", 32)+"%1POWR 0", "PJLINK ERRA")
	bad.ended()
	none := dial(t, s.Addrs()[0])
	if _, err := none.r.ReadString('\r'); err != nil {
		t.Fatal(err)
	}
	none.ask("%1POWR 0", "PJLINK ERRA")
	if s.Projectors()[0].Power() != On {
		t.Error("obeyed without the password")
	}
	for _, e := range s.Journal().Entries("") {
		if strings.Contains(e.Text, "JBMIA") || len(e.Text) > 36 {
			t.Errorf("the journal holds a secret: %+v", e)
		}
	}
}

// The specification's own example of a digest.
func TestDigestOfTheSpecification(t *testing.T) {
	if got := fmt.Sprintf("%x", md5.Sum([]byte("498e4a67"+"JBMIAProjectorLink"))); got != "5d8409bc1c3fa39749434aa3a5c38682" {
		t.Fatal(got)
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := start(t, Options{Idle: 50 * time.Millisecond})
	c := dial(t, s.Addrs()[0])
	c.hear("PJLINK 0")
	c.ended()
}

func TestLampHoursGrow(t *testing.T) {
	s := start(t, Options{WarmUp: -1, LampHour: 10 * time.Millisecond})
	p := s.Projectors()[0]
	before := p.LampHours()
	p.Press(true)
	for deadline := time.Now().Add(30 * time.Second); p.LampHours() < before+3; {
		if time.Now().After(deadline) {
			t.Fatal("the counter stands")
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.Press(false)
	off := p.LampHours()
	time.Sleep(30 * time.Millisecond)
	if p.LampHours() != off {
		t.Error("the counter goes on with the lamp off")
	}
}

func TestManyAndConsecutivePorts(t *testing.T) {
	s := start(t, Options{Count: 20})
	seen := map[string]bool{}
	for i, a := range s.Addrs() {
		seen[a] = true
		c := dial(t, a)
		c.hear("PJLINK 0")
		c.ask("%1NAME ?", fmt.Sprintf("%%1NAME=Projector %d", i+1))
	}
	if len(seen) != 20 {
		t.Fatalf("%d addresses", len(seen))
	}
	// A port that is taken is an error that says so.
	if _, err := New(Options{Listen: s.Addrs()[0]}); err == nil || !strings.Contains(err.Error(), "projector 1") {
		t.Fatalf("got %v", err)
	}
}

func TestFaults(t *testing.T) {
	s := start(t, Options{Faults: peer.Faults{Silence: 1}})
	c := dial(t, s.Addrs()[0])
	c.hear("PJLINK 0")
	c.say("%1POWR ?")
	if _, err := s.Journal().Wait(t.Context(), func(e peer.Entry) bool { return e.Text == "silent" }); err != nil {
		t.Fatal(err)
	}
	s.SetFaults(peer.Faults{Latency: 60 * time.Millisecond})
	from := time.Now()
	c.ask("%1CLSS ?", "%1CLSS=1") // and no late answer to the first
	if d := time.Since(from); d < 60*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
	s.SetFaults(peer.Faults{Garbage: 1})
	c.say("%1POWR ?")
	if got, err := c.r.ReadString('\r'); err != nil || strings.HasPrefix(got, "%1POWR") {
		t.Errorf("%q, %v", got, err)
	}
	s.SetFaults(peer.Faults{Drop: 1})
	c.say("%1POWR ?")
	io.Copy(io.Discard, c.r) // until the cut
	if _, err := s.Journal().Wait(t.Context(), func(e peer.Entry) bool { return e.Text == "dropped" }); err != nil {
		t.Fatal(err)
	}
	s.SetFaults(peer.Faults{Refuse: 1})
	dial(t, s.Addrs()[0]).ended()
	s.SetFaults(peer.Faults{})
	ok := dial(t, s.Addrs()[0])
	ok.hear("PJLINK 0")
	s.DropAll()
	ok.ended()
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"%1POWR ?", "%1AVMT 31", "%1", "", "%1POWR  ", "%1LAMP 5", "%1INPT \xff"} {
		f.Add(s)
	}
	o := Options{WarmUp: -1, CoolDown: -1}
	o.setDefaults()
	f.Fuzz(func(t *testing.T, line string) {
		p := newProjector(&o, peer.NewJournal(nil), 0)
		a := p.answer(line)
		if a != "" && (len(a) < 8 || a[6] != '=') {
			t.Fatalf("%q gives %q", line, a)
		}
	})
}
