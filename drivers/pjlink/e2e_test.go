package main_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/pjlink/sim"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

// These tests run the compiled driver in the real sandbox against simulated projectors on real TCP connections.

func startSim(t *testing.T, o sim.Options) *sim.Sim {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	s, err := sim.New(o)
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

func newTwin(t *testing.T, r drivers.Runner, addr, settings string) *peertest.Twin {
	t.Helper()
	tw := peertest.New(t, r, settings)
	c, err := tcp.Open(transport.Options{
		Binding: drivers.Binding{URI: "tcp://" + addr, Transport: r.Manifest().Transports[0]}, Sink: tw,
		Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return tw
}

func toldCount(s *sim.Sim, p *sim.Projector, text string) int {
	n := 0
	for _, e := range s.Journal().Entries(p.Name()) {
		if e.Event == "told" && e.Text == text {
			n++
		}
	}
	return n
}

func TestInTheSandbox(t *testing.T) {
	r := peertest.Load(t, ".") // takes seconds: once for all
	t.Run("projector", func(t *testing.T) { testProjector(t, r) })
	t.Run("wrong password", func(t *testing.T) { testWrongPassword(t, r) })
	t.Run("bad lines", func(t *testing.T) { testBadLines(t, r) })
	t.Run("traces", func(t *testing.T) { testDigestIsMasked(t, r) })
	t.Run("search", func(t *testing.T) { testSearch(t, r) })
}

func testProjector(t *testing.T, r drivers.Runner) {
	s := startSim(t, sim.Options{Password: "JBMIAProjectorLink", WarmUp: 300 * time.Millisecond, CoolDown: 300 * time.Millisecond, Name: "Hall"})
	p := s.Projectors()[0]
	tw := newTwin(t, r, s.Addrs()[0], `{"password":"JBMIAProjectorLink","poll_s":2,"inputs":{"hdmi1":"31"}}`)
	tw.UntilHas("name", `"Hall"`)
	tw.UntilHas("power_state", `"off"`)
	tw.UntilHas("lamp_hours", strconv.Itoa(p.LampHours()))
	if _, err := tw.Invoke("refresh", "null"); err != nil { // and so its inputs are known
		t.Fatal(err)
	}
	if schema := string(tw.Model().Property("input").Schema); !strings.Contains(schema, `["rgb1","rgb2","video1","hdmi1","digital2","network1"]`) {
		t.Errorf("input is described as %s", schema)
	}

	if err := tw.Set("mute", "true"); err == nil {
		t.Error("muted a projector that is off")
	} else if refusal := new(drivers.DriverError); !errors.As(err, &refusal) || !refusal.Retryable {
		t.Errorf("mute while off: %v", err)
	}
	if err := tw.Set("power", "true"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("power", "true")
	tw.UntilHas("power_state", `"warming"`)
	if p.Power() == sim.Off {
		t.Error("the projector is off")
	}
	tw.UntilHas("power_state", `"on"`)
	tw.UntilHas("input", `"hdmi1"`)
	if err := tw.Set("input", `"rgb1"`); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("input", `"rgb1"`)
	if p.Input() != "11" {
		t.Errorf("input %s", p.Input())
	}
	if err := tw.Set("input", `"betamax"`); err == nil {
		t.Error("an input that the projector has not")
	}
	if _, err := tw.Invoke("mute", "true"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("mute", "true")
	if err := tw.Set("mute_video", "false"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("mute_audio", "true")
	tw.UntilHas("mute", "false")
	p.SetErrors("000120")
	if _, err := tw.Invoke("refresh", "null"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("error_filter", `"error"`)
	tw.UntilHas("healthy", "false")
	// The connection fails; the digest is new, and everything goes on.
	s.DropAll()
	p.Press(false) // somebody at the projector
	tw.UntilHas("power", "false")
	tw.UntilHas("power_state", `"off"`)
	if _, err := tw.Invoke("power", "true"); err != nil {
		t.Fatal(err)
	}
	if n := toldCount(s, p, "%1POWR 1"); n != 2 {
		t.Errorf("told to switch on %d times", n)
	}
}

func testWrongPassword(t *testing.T, r drivers.Runner) {
	s := startSim(t, sim.Options{Password: "right"})
	for settings, want := range map[string]string{`{"password":"wrong"}`: "refuses the password", `{}`: "wants a password"} {
		tw := newTwin(t, r, s.Addrs()[0], settings)
		if err := tw.UntilFault(); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

func testBadLines(t *testing.T, r drivers.Runner) {
	faults := peer.Faults{Latency: time.Millisecond, Jitter: 5 * time.Millisecond, Garbage: .15, Drop: .05, Refuse: .2}
	s := startSim(t, sim.Options{Count: 6, WarmUp: -1, CoolDown: -1, Faults: faults, Seed: 7})
	var twins []*peertest.Twin
	for _, addr := range s.Addrs() {
		twins = append(twins, newTwin(t, r, addr, `{"poll_s":2}`))
	}
	time.Sleep(time.Second) // of trouble; a trap of the driver fails the test
	s.SetFaults(peer.Faults{})
	for i, tw := range twins {
		on := rand.IntN(2) == 0
		tw.UntilHas("manufacturer", `"Castor"`)
		for deadline := time.Now().Add(peertest.Deadline); ; {
			err := tw.Set("power", strconv.FormatBool(on))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("projector %d: %v", i, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		tw.UntilHas("power", strconv.FormatBool(on))
		if got := s.Projectors()[i].Power() == sim.On; got != on {
			t.Errorf("projector %d: power %v, want %v", i, got, on)
		}
	}
}

// testDigestIsMasked: the manifest says how the digest of nonce and password looks in what the driver sends.
func testDigestIsMasked(t *testing.T, r drivers.Runner) {
	s := startSim(t, sim.Options{Password: "secret"})
	tw := peertest.New(t, r, `{"password":"secret"}`)
	sent := make(chan string, 100)
	c, err := tcp.Open(transport.Options{
		Binding: drivers.Binding{URI: "tcp://" + s.Addrs()[0], Transport: r.Manifest().Transports[0]}, Sink: tw,
		Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond},
		Trace: func(d transport.Direction, b []byte) {
			if d == transport.Sent {
				select {
				case sent <- string(b):
				default:
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	select {
	case first := <-sent:
		for _, text := range r.Manifest().Transports[0].TraceSecrets {
			first = regexp.MustCompile(text).ReplaceAllString(first, "***")
		}
		if first != "***%1POWR ?\r" {
			t.Errorf("the first command shows as %q", first)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was sent")
	}
}
