package sim_test

import (
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/library/visca/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
)

// TestDriver runs the driver against the simulated camera over UDP.
func TestDriver(t *testing.T) {
	r := peertest.LoadSource(t, "../visca.js")
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Moves: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw := peertest.New(t, r, `{"presets":{"speaker":0,"board":3},"poll_s":2}`)
	c, err := udp.Open(transport.Options{Binding: drivers.Binding{URI: "udp://" + s.Addr(), Transport: *r.Manifest().TransportFor("udp")}, Sink: tw})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	tw.UntilHas("power", "true")
	if _, err := tw.Invoke("recall", `{"preset":"speaker"}`); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("preset", `"speaker"`)
	tw.UntilHas("pan", "100")
	tw.UntilHas("tilt", "-50")
	tw.UntilHas("zoom", "25")
	if err := tw.Set("zoom", "50"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("zoom", "50")
	for _, c := range [][2]string{{"move", `{"pan":0.5,"zoom":-1}`}, {"stop", "null"}, {"save", `{"preset":"board"}`}} {
		if _, err := tw.Invoke(c[0], c[1]); err != nil {
			t.Fatal(c, err)
		}
	}
	if err := tw.Set("power", "false"); err != nil || s.On() {
		t.Fatalf("off: %v, on: %v", err, s.On())
	}
	tw.UntilHas("power", "false")
	if _, err := tw.Invoke("home", "null"); err == nil {
		t.Error("moved a camera that is off")
	}
}
