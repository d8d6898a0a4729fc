package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
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
