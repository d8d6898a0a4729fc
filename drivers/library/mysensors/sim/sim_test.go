package sim_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/library/mysensors/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

func open(t *testing.T, settings string) (*sim.Sim, *peertest.Twin) {
	t.Helper()
	r := peertest.Load(t, "..")
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Period: time.Hour})
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

// line waits for one from the controller that begins so.
func line(t *testing.T, s *sim.Sim, begins string) string {
	t.Helper()
	for deadline := time.After(peertest.Deadline); ; {
		select {
		case l := <-s.Heard():
			if strings.HasPrefix(l, begins) {
				return l
			}
		case <-deadline:
			t.Fatalf("no line begins with %s", begins)
		}
	}
}

// TestDriver runs the driver against the simulated gateway over TCP.
func TestDriver(t *testing.T) {
	s, tw := open(t, `{"firmwares":[{"type":7,"version":3,"data":"`+strings.Repeat("QUJD", 50)+`"}]}`)
	tw.UntilHas("version", `"2.3.2"`)
	tw.UntilHas("nodes", "3")
	tw.UntilFound("2")
	if _, err := tw.Invoke("send", `{"node":2,"child":1,"type":2,"value":"1"}`); err != nil || !s.On(sim.Relay) {
		t.Fatalf("switch: %v, on %v", err, s.On(sim.Relay))
	}
	s.Wake(true)
	if _, err := tw.Invoke("send", `{"node":3,"child":1,"type":2,"value":"1"}`); err != nil || !s.On(sim.Sleeper) {
		t.Fatalf("switch the one that sleeps, awake: %v, on %v", err, s.On(sim.Sleeper))
	}
	s.Say("255;255;3;0;3;")
	if l := line(t, s, "255;255;3;0;4;"); l != "255;255;3;0;4;4" {
		t.Errorf("the id of a new node: %s", l)
	}
	if got := update(t, s, 7); got != strings.Repeat("ABC", 50) {
		t.Errorf("the firmware that arrived: %q", got)
	}
}

// update does what a bootloader does, and gives what it would write to flash, without what fills it up.
func update(t *testing.T, s *sim.Sim, kind int) string {
	t.Helper()
	s.Say(fmt.Sprintf("1;255;4;0;0;%02X000100000000000102", kind))
	config, err := hex.DecodeString(strings.TrimPrefix(line(t, s, "1;255;4;0;1;"), "1;255;4;0;1;"))
	if err != nil || len(config) != 8 || int(config[0]) != kind || config[2] != 3 {
		t.Fatalf("the offered firmware: % x, %v", config, err)
	}
	blocks := int(config[4]) | int(config[5])<<8
	flash := make([]byte, 16*blocks)
	for b := blocks - 1; b >= 0; b-- {
		s.Say(fmt.Sprintf("1;255;4;0;2;%02X000300%02X%02X", kind, b&0xFF, b>>8))
		got, err := hex.DecodeString(strings.TrimPrefix(line(t, s, "1;255;4;0;3;"), "1;255;4;0;3;"))
		if err != nil || len(got) != 22 || int(got[4])|int(got[5])<<8 != b {
			t.Fatalf("block %d: % x, %v", b, got, err)
		}
		copy(flash[16*b:], got[6:])
	}
	sum := uint16(0xFFFF)
	for _, x := range flash {
		for bit := range 8 {
			odd := (sum^uint16(x>>bit))&1 == 1
			if sum >>= 1; odd {
				sum ^= 0xA001
			}
		}
	}
	if want := uint16(config[6]) | uint16(config[7])<<8; sum != want {
		t.Errorf("the sum of what arrived is %04x, the offered firmware's %04x", sum, want)
	}
	for len(flash) > 0 && flash[len(flash)-1] == 0xFF {
		flash = flash[:len(flash)-1]
	}
	return string(flash)
}
