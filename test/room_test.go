package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	room "github.com/polluxhq/pollux/drivers/library/room/sim"
	pjlink "github.com/polluxhq/pollux/drivers/pjlink/sim"
	tasmota "github.com/polluxhq/pollux/drivers/tasmota/sim"
	"github.com/polluxhq/pollux/test/harness"
)

// TestTheRoomLive: the room of deploy/examples/room, once with rules and once with a logic, on a real node with simulated devices: a
// PJLink projector and two Tasmota lamps. That both do the same over a week is held by a clock of its own (actors.TestTheRoomTwice).
func TestTheRoomLive(t *testing.T) {
	drivertest.NeedEngine(t)
	for _, way := range []string{"rules", "logic"} {
		t.Run(way, func(t *testing.T) { roomLive(t, way) })
	}
}

func roomLive(t *testing.T, way string) {
	n := harness.Start(t, harness.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	beamer, err := pjlink.New(pjlink.Options{Listen: "127.0.0.1:0", WarmUp: 100 * time.Millisecond, CoolDown: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	lamps, err := tasmota.New(tasmota.Options{Broker: n.MQTT, Topic: "aula", Count: 2, Kinds: []tasmota.Kind{tasmota.Switch1}, Retry: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- beamer.Run(ctx) }()
	go func() { done <- lamps.Run(ctx) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	examples := filepath.Join("..", "deploy", "examples", "room")
	n.Must("driver", "add", "pjlink")
	n.Must("driver", "add", "tasmota")
	text, err := os.ReadFile(filepath.Join(examples, "room.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	room := filepath.Join(t.TempDir(), "room.yaml")
	if err := os.WriteFile(room, []byte(strings.ReplaceAll(string(text), "127.0.0.1:4352", beamer.Addrs()[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("apply", "-f", room)
	open := []string{"twin", "set", "aula-room", "open"}
	if way == "rules" {
		n.Must("apply", "-f", filepath.Join(examples, "rules.yaml"))
	} else {
		n.Must("logic", "push", filepath.Join(examples, "aula.js"), "--system", "aula")
		open[2] = "aula"
		if list := n.Must("logic", "list"); !strings.Contains(list, "aula@1.0.0") {
			t.Errorf("the list of logics:\n%s", list)
		}
	}
	shows := func(what string, projector pjlink.Power, light bool) {
		t.Helper()
		harness.Until(t, 30*time.Second, what, func() bool {
			return beamer.Projectors()[0].Power() == projector && lamps.Devices()[0].Power(1) == light && lamps.Devices()[1].Power(1) == light
		})
	}
	n.Must("ingest", "send", "aula-lux", `{"illuminance":90}`)
	n.Must("ingest", "send", "aula-motion", `{"occupancy":true}`)
	n.Must(append(open, "true")...)
	shows("it is open and somebody is there, in the dark: projector and lamps are on", pjlink.On, true)
	n.Must("ingest", "send", "aula-lux", `{"illuminance":600}`)
	shows("it is bright: the lamps are off", pjlink.On, false)
	n.Must(append(open, "false")...)
	shows("it is closed: all is off", pjlink.Off, false)
}

// TestTheRoomOfTheLibrary: driver room, with a System of simulated devices behind it, each of which speaks its own protocol, as its page has it.
func TestTheRoomOfTheLibrary(t *testing.T) {
	t.Parallel()
	drivertest.NeedEngine(t)
	n := harness.Start(t, harness.Options{})
	s, err := room.New(room.Options{Projector: "127.0.0.1:0", Switcher: "127.0.0.1:0", Lights: "127.0.0.1:0", WarmUp: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, driver := range []string{"pjlink", "extron", "lutron", "room"} {
		n.Must("driver", "add", driver)
	}
	projector, switcher, lights := s.Addrs()
	text, err := os.ReadFile(filepath.Join("..", "drivers", "library", "room", "hall.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	hall := filepath.Join(t.TempDir(), "hall.yaml")
	text = []byte(strings.NewReplacer("127.0.0.1:4352", projector, "127.0.0.1:2323", switcher, "127.0.0.1:2324", lights).Replace(string(text)))
	if err := os.WriteFile(hall, text, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("apply", "-f", hall)
	knows(t, n, "hall-projector", "power", false)
	knows(t, n, "hall-switcher", "output_1", "1")
	knows(t, n, "hall-lights", "hall_on", false)
	n.Must("twin", "create", "hall", "--driver", "room", "--setting", "system=hall", "--setting", "switcher=Switcher_1", "--setting", "sound=Switcher_1",
		"--setting", `lights=["Light_1"]`, "--setting", `sources={"laptop":{"display":"digital1","switcher":"3"}}`)
	shows := func(what string, power pjlink.Power, lit bool) {
		t.Helper()
		harness.Until(t, 30*time.Second, what, func() bool {
			return s.Beamer.Projectors()[0].Power() == power && (s.Lamps.Level(room.Zone) > 0) == lit
		})
	}
	n.Must("twin", "call", "hall", "start", `{"source":"laptop"}`)
	shows("the projector and the lights are on", pjlink.On, true)
	harness.Until(t, 30*time.Second, "the switcher has the laptop on the screen", func() bool { return s.Matrix.Tie(1) == 3 })
	knows(t, n, "hall-projector", "input", "digital1")
	n.Must("twin", "call", "hall", "stop")
	shows("the projector and the lights are off", pjlink.Off, false)
}
