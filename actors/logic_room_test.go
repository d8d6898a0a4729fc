package actors_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"gopkg.in/yaml.v3"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// example gives the records of a file of deploy/examples/room.
func example(t *testing.T, file string) (all []*pb.ConfigRecord) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "deploy", "examples", "room", file))
	if err != nil {
		t.Fatal(err)
	}
	for dec := yaml.NewDecoder(strings.NewReader(string(raw))); ; {
		var doc map[string]any
		if dec.Decode(&doc) != nil {
			return all
		}
		if m, ok := doc["model"].(map[string]any); ok { // as the command line does
			thing, err := json.Marshal(m["thing"])
			if err != nil {
				t.Fatal(err)
			}
			delete(m, "thing")
			m["thing_json"] = string(thing)
		}
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		m := &pb.ConfigRecord{}
		if err := protojson.Unmarshal(text, m); err != nil {
			t.Fatalf("%s: %s: %v", file, text, err)
		}
		all = append(all, m)
	}
}

// standIn is a device that does what it is asked at once, in the place of one with a wire.
const standIn = `export default driver({ name: '%s', version: '1.0.0', settings: { topic: { type: 'string', optional: true } },
  properties: { %s: { type: 'boolean', set(twin, on) { twin.report('%[2]s', on); } } } });`

// TestTheRoomTwice: the room of deploy/examples/room does the same with rules and with a logic, over a day by a clock of its own.
func TestTheRoomTwice(t *testing.T) {
	drivertest.NeedEngine(t)
	for _, way := range []string{"rules.yaml", "logic.yaml"} {
		t.Run(way, func(t *testing.T) { theRoom(t, way) })
	}
}

func theRoom(t *testing.T, way string) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	monday := time.Date(2026, 3, 2, 0, 0, 0, 0, berlin)
	n, clock := clocked(t, monday.Add(7*time.Hour).Format(time.RFC3339))
	over, ticks := make(chan struct{}), sync.WaitGroup{}
	ticks.Go(func() { // what is due by the clock is done; nobody but the test moves it
		for {
			select {
			case <-over:
				return
			case <-time.After(2 * time.Millisecond):
				n.engine.Tick()
			}
		}
	})
	defer func() { close(over); ticks.Wait() }()
	n.source(fmt.Sprintf(standIn, "pjlink", "power"))
	n.source(fmt.Sprintf(standIn, "tasmota", "on"))
	if way == "logic.yaml" {
		text, err := os.ReadFile(filepath.Join("..", "deploy", "examples", "room", "aula.js"))
		if err != nil {
			t.Fatal(err)
		}
		n.source(string(text))
	}
	room := example(t, "room.yaml")
	for _, r := range room {
		if tw := r.GetTwin(); tw.GetDriver() != "" {
			tw.Uri = "" // no wire
		}
	}
	for _, r := range append(room, example(t, way)...) { // the command line sends records of a kind at a time
		if line := n.apply(&pb.ApplyRequest{Records: []*pb.ConfigRecord{r}})[0]; !strings.HasPrefix(line, "created") {
			t.Fatalf("apply: %s", line)
		}
	}

	at := func(day int, clockTime string) {
		t.Helper()
		d, err := time.Parse("15:04", clockTime)
		if err != nil {
			t.Fatal(err)
		}
		to := monday.AddDate(0, 0, day).Add(time.Duration(d.Hour())*time.Hour + time.Duration(d.Minute())*time.Minute)
		for clock.Now().Before(to) { // no farther than to what may be due next
			now := clock.Now().In(berlin)
			next := to
			for _, hour := range []time.Duration{8, 18, 32} {
				if x := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, berlin).Add(hour * time.Hour); x.After(now) && x.Before(next) {
					next = x
				}
			}
			clock.to(t, next.Format(time.RFC3339), n)
			n.calm(clock)
		}
	}
	says := func(twin, payload string) { n.absorb(twin, payload, clock.Now().UnixMilli()); n.calm(clock) }
	shows := func(when, want string) {
		t.Helper()
		look := func() string {
			return fmt.Sprintf("projector %s, lamps %s %s", orOff(n.prop("aula-projector", "power")), orOff(n.prop("aula-lamp-1", "on")), orOff(n.prop("aula-lamp-2", "on")))
		}
		until(t, when+": "+want, func() bool { return look() == want })
	}
	const off, on, beamer = "projector off, lamps off off", "projector on, lamps on on", "projector on, lamps off off"
	says("aula-lux", `{"illuminance":120}`)
	says("aula-motion", `{"occupancy":true}`)
	shows("somebody is there before eight", off)
	at(0, "08:01")
	shows("it is eight", on)
	says("aula-lux", `{"illuminance":300}`)
	shows("brighter, not bright", on)
	says("aula-lux", `{"illuminance":500}`)
	shows("bright", beamer)
	says("aula-lux", `{"illuminance":300}`)
	shows("darker, not dark", beamer)
	says("aula-lux", `{"illuminance":150}`)
	shows("dark", on)
	at(0, "09:00")
	says("aula-motion", `{"occupancy":false}`)
	at(0, "09:08")
	shows("eight minutes without motion", on)
	says("aula-motion", `{"occupancy":true}`)
	says("aula-motion", `{"occupancy":false}`)
	at(0, "09:16")
	shows("eight minutes again", on)
	at(0, "09:19")
	shows("nineteen: nobody is there", off)
	at(0, "17:00")
	says("aula-motion", `{"occupancy":true}`)
	shows("somebody came", on)
	at(0, "18:01")
	shows("it is six", off)
	at(5, "09:00")
	shows("Saturday", off)
	at(7, "08:01")
	shows("Monday, and nobody has left", on)
}

func orOff(v string) string {
	if v == "true" {
		return "on"
	}
	return "off"
}

// calm waits until nothing is under way but what waits for the clock.
func (n *node) calm(clock *handClock) {
	n.t.Helper()
	still := 0
	until(n.t, "the node is calm", func() bool {
		if n.engine.Quiet() && n.records("outbox", "") == 0 && !n.owes(clock.Now()) {
			still++
		} else {
			still = 0
		}
		return still >= 5
	})
}

// owes says whether something is due, or a run is under way.
func (n *node) owes(now time.Time) bool {
	n.t.Helper()
	for rec, err := range n.store.Scan("wake", "", "") {
		if err != nil {
			n.t.Fatal(err)
		}
		// Of a twin that is in memory the record may be of the past.
		unit := strings.Count(rec.Key[19:], "/") == 2
		if due, err := strconv.ParseInt(rec.Key[5:18], 16, 64); err == nil && unit && due <= now.UnixMilli() {
			return true
		}
	}
	for rec, err := range n.store.Scan("run", "", "") {
		if err != nil {
			n.t.Fatal(err)
		}
		r := &pb.Run{}
		if err := proto.Unmarshal(rec.Value, r); err != nil {
			n.t.Fatal(err)
		}
		if r.State == pb.RunState_RUN_STATE_OPEN {
			return true
		}
	}
	return false
}
