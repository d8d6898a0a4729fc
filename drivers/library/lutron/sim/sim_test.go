package sim_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/library/lutron/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

const settings = `{"zones":{"desk":3,"kitchen":1},"areas":{"lobby":2},"keypads":{"door":17},"scenes":{"talk":4},"zone":"kitchen"}`

func open(t *testing.T, o sim.Options, settings string) (*sim.Sim, *peertest.Twin) {
	t.Helper()
	r := peertest.LoadSource(t, "../lutron.js")
	o.Listen = "127.0.0.1:0"
	s, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw := peertest.New(t, r, settings)
	c, err := tcp.Open(transport.Options{Binding: drivers.Binding{URI: "tcp://" + s.Addr(), Transport: *r.Manifest().TransportFor("tcp")}, Sink: tw,
		Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return s, tw
}

func until(t *testing.T, s *sim.Sim, event, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Journal().Wait(ctx, func(e peer.Entry) bool { return e.Event == event && e.Text == text }); err != nil {
		t.Fatalf("%s %s: %v", event, text, err)
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never came: " + what)
		}
	}
}

// TestDriver runs the driver against the simulated system over TCP.
func TestDriver(t *testing.T) {
	for _, prompt := range []string{"GNET> ", "QNET> "} {
		t.Run(strings.TrimSpace(prompt), func(t *testing.T) {
			s, tw := open(t, sim.Options{Prompt: prompt}, settings)
			tw.UntilHas("kitchen_level", "0")
			tw.UntilHas("lobby_scene", `"0"`)
			if err := tw.Set("brightness", "75"); err != nil || s.Level(1) != 75 {
				t.Fatalf("brightness: %v, level %v", err, s.Level(1))
			}
			tw.UntilHas("kitchen_on", "true")
			if err := tw.Set("desk_level", "12.5"); err != nil || s.Level(3) != 12.5 {
				t.Fatalf("desk: %v, level %v", err, s.Level(3))
			}
			if err := tw.Set("scene", `"talk"`); err != nil || s.Scene(2) != 4 {
				t.Fatalf("scene: %v, %d", err, s.Scene(2))
			}
			tw.UntilHas("lobby_scene", `"talk"`)
			for _, c := range [][2]string{{"dim", `{"zone":"desk","level":20,"seconds":3600}`}, {"dim", `{"zone":"desk","level":30,"seconds":2.5}`},
				{"raise", `{"zone":"desk"}`}, {"stop", `{"zone":"desk"}`}, {"lower", `{"zone":"desk"}`}, {"press", `{"keypad":"door","button":3}`}} {
				if _, err := tw.Invoke(c[0], c[1]); err != nil {
					t.Fatal(c, err)
				}
			}
			tw.UntilHas("scene", `"3"`) // what the button does
			if _, err := tw.Invoke("fade", `{"level":70,"seconds":4}`); err != nil {
				t.Fatal(err)
			}
			tw.UntilHas("desk_level", "70")
			if out, err := tw.Invoke("send", `{"command":"?OUTPUT,4,1"}`); err != nil || out != `"~OUTPUT,4,1,70.00"` {
				t.Fatalf("send: %s, %v", out, err)
			}
		})
	}
}

// TestByHand: what people do at dimmers, keypads and sensors is seen without being asked for.
func TestByHand(t *testing.T) {
	s, tw := open(t, sim.Options{}, settings)
	tw.UntilHas("lobby_scene", `"0"`) // the last that it asks for: it monitors all by then
	s.Dim(3, 45.5)
	tw.UntilHas("desk_level", "45.5")
	s.Occupy(2, true)
	tw.UntilHas("lobby_occupied", "true")
	s.Press(17, 2)
	eventually(t, "a button's events", func() bool { return len(tw.Events()) == 2 })
	for i, action := range []string{"press", "release"} {
		want := `{"keypad":"door","button":2,"action":"` + action + `"}`
		if e := tw.Events()[i]; e.Name != "button" || string(e.Data) != want {
			t.Errorf("%s %s, want button %s", e.Name, e.Data, want)
		}
	}
}

// TestErrors: the system's errors are told in words, and a wrong id does not keep the others from being read.
func TestErrors(t *testing.T) {
	_, tw := open(t, sim.Options{}, `{"zones":{"attic":99,"desk":3}}`)
	tw.UntilHas("desk_level", "0")
	err := tw.Set("attic_level", "10")
	if err == nil || !strings.Contains(err.Error(), "nothing has this id") {
		t.Errorf("attic: %v", err)
	}
	if err := tw.Set("desk_level", "10"); err != nil {
		t.Error(err)
	}
}

// TestLogin: a wrong password is tried once, not again and again.
func TestLogin(t *testing.T) {
	s, tw := open(t, sim.Options{Password: "other"}, settings)
	until(t, s, "refused", "lutron")
	eventually(t, "the refusal", func() bool { return strings.Contains(tw.Memory(), `"refused"`) })
	if err := tw.Set("brightness", "75"); err == nil || !strings.Contains(err.Error(), "neither login nor password") {
		t.Errorf("brightness: %v", err)
	}
	if n := len(s.Journal().Entries("lutron")); n != 2 { // connected, refused
		t.Errorf("%d entries: %v", n, s.Journal().Entries("lutron"))
	}
}

// TestNoise: a system that talks nonsense does not crash the driver.
func TestNoise(t *testing.T) {
	_, tw := open(t, sim.Options{Faults: peer.Faults{Silence: 0.1, Garbage: 0.1, Drop: 0.05}, Seed: 3}, strings.Replace(settings, "{", `{"poll_s":10,`, 1))
	tw.UntilHas("kitchen_level", "0")
}
