package sim_test

import (
	"context"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/library/extron/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

func open(t *testing.T, o sim.Options, settings string) (*sim.Sim, *peertest.Twin) {
	t.Helper()
	r := peertest.LoadSource(t, "../extron.js")
	o.Listen = "127.0.0.1:0"
	s, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw := peertest.New(t, r, settings)
	way, err := r.Manifest().TransportFor("tcp").Resolve([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tcp.Open(transport.Options{Binding: drivers.Binding{URI: "tcp://" + s.Addr(), Transport: *way}, Sink: tw,
		Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return s, tw
}

// TestDriver runs the driver against the simulated switcher over TCP.
func TestDriver(t *testing.T) {
	s, tw := open(t, sim.Options{Password: "extron"}, `{"outputs":4,"password":"extron","inputs":{"laptop":3}}`)
	tw.UntilHas("part_number", `"60-1381-01"`)
	tw.UntilHas("output_4", `"1"`)
	if err := tw.Set("input", `"laptop"`); err != nil || s.Tie(1) != 3 {
		t.Fatalf("input: %v, tied to %d", err, s.Tie(1))
	}
	tw.UntilHas("input", `"laptop"`)
	if _, err := tw.Invoke("route", `{"input":"5","output":2}`); err != nil || s.Tie(2) != 5 {
		t.Fatalf("route: %v, tied to %d", err, s.Tie(2))
	}
	s.Press(7, 4) // somebody at the front panel
	tw.UntilHas("output_4", `"7"`)
	if _, err := tw.Invoke("route", `{"input":"9","output":2}`); err == nil {
		t.Error("tied an input that there is not")
	}
	for _, action := range []string{"save", "preset"} {
		if _, err := tw.Invoke(action, `{"number":2}`); err != nil {
			t.Fatal(action, err)
		}
	}
	if err := tw.Set("mute", "true"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("mute", "true")
}

// TestConnectionPerCommand: the device has one connection only while something is said.
func TestConnectionPerCommand(t *testing.T) {
	s, tw := open(t, sim.Options{}, `{"per_command":true,"outputs":4}`)
	tw.UntilHas("part_number", `"60-1381-01"`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Journal().Wait(ctx, func(e peer.Entry) bool { return e.Event == "disconnected" }); err != nil {
		t.Fatal(err)
	}
	if err := tw.Set("input", `"5"`); err != nil || s.Tie(1) != 5 {
		t.Fatalf("input: %v, tied to %d", err, s.Tie(1))
	}
	tw.UntilHas("input", `"5"`)
	if out, err := tw.Invoke("send", `{"command":"Q"}`); err != nil || out != `"Ver01*1.05"` {
		t.Fatalf("send: %s, %v", out, err)
	}
}

// TestNoise: a device that talks nonsense does not crash the driver.
func TestNoise(t *testing.T) {
	_, tw := open(t, sim.Options{Faults: peer.Faults{Silence: 0.2, Drop: 0.05}, Seed: 3}, `{"poll_s":2}`)
	tw.UntilHas("firmware", `"1.05"`)
}
