package test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const roomModel = `{"@context": ["https://www.w3.org/2022/wot/td/v1.1", {"pollux": "https://pollux.dev/ns#", "saref": "https://w3id.org/saref#"}],
	"@type": "tm:ThingModel", "title": "Room", "saref:measures": {"deep": ["kept", 1.50]},
	"properties": {
		"temperature": {"type": "number", "unit": "Cel", "pollux:path": "/env/temp", "readOnly": true, "saref:kind": "Temperature"},
		"occupied": {"type": "boolean", "readOnly": true},
		"humidity": {"type": "number", "unit": "%", "readOnly": true},
		"position": {"type": "array", "items": [{"type": "number", "unit": "deg"}, {"type": "array", "items": [{"type": "string", "enum": ["N", "S"]}]}], "readOnly": true}
	}}`

const officeScenario = `
project: hotel
name: room-{n}
count: 20
every: 10s
length: 200s
seed: 3
values:
  temperature: {path: /env/temp, keys: {0s: 18, 200s: 22}, interpolate: smooth, spread: 1, round: 0.1}
  occupied: {keys: {0s: false, 100s: true}}
  humidity: {faults: [{kind: dropout, from: 50s, to: 100s}]}
record: {csv: humidity.csv}
`

// scenarioSums are what `pollux sim scenario -o json` prints.
type scenarioSums struct {
	Sent, Stored, Refused, Inbox, Duplicate, Skipped int
}

// files writes the scenario, its record and its model, and gives their directory.
func scenarioFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"office.yaml": officeScenario, "room.json": roomModel, "humidity.csv": "time,humidity\n0,40\n200,60\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A scenario makes its twins, and feeds them the way devices do: every message is stored, and the twins and their history have its
// values.
func TestScenarioFeedsTwins(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	dir := scenarioFiles(t)
	n.Must("model", "create", "hotel/room", "--file", filepath.Join(dir, "room.json"))
	out := n.Must("sim", "scenario", filepath.Join(dir, "office.yaml"), "--create", "hotel/room", "--speed", "max", "--once", "-o", "json")
	var sums scenarioSums
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sums); err != nil || sums != (scenarioSums{Sent: 420, Stored: 420}) {
		t.Fatalf("%+v %v: %s", sums, err, out)
	}
	r, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: "hotel/room-7"}))
	if err != nil {
		t.Fatal(err)
	}
	props := r.Msg.Twin.State.Properties
	if x := props["temperature"].GetValue().GetNumberValue(); x < 21 || x > 23 || !props["occupied"].GetValue().GetBoolValue() || props["humidity"].GetValue().GetNumberValue() != 60 {
		t.Errorf("%v", props)
	}

	// The same a day ago, of three twins: it goes to history, and the state stays.
	from := time.Now().Add(-24 * time.Hour).UTC().Truncate(time.Second)
	n.Must("sim", "scenario", filepath.Join(dir, "office.yaml"), "--count", "3", "--from", from.Format(time.RFC3339), "--speed", "max", "--once")
	harness.Until(t, 30*time.Second, "the scenario in history", func() bool {
		h, err := n.Twins().QueryHistory(t.Context(), connect.NewRequest(&pb.QueryHistoryRequest{Id: "hotel/room-2", Property: "humidity",
			Start: timestamppb.New(from), End: timestamppb.New(from.Add(time.Hour))}))
		if err != nil || len(h.Msg.Samples) != 16 { // 21 without the five that drop out
			return false
		}
		last := h.Msg.Samples[15]
		return last.Value == 60 && last.Time.AsTime().Equal(from.Add(200*time.Second))
	})
	after, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: "hotel/room-2"}))
	if err != nil || after.Msg.Twin.State.Properties["humidity"].Time.AsTime().Before(time.Now().Add(-time.Hour)) {
		t.Errorf("history changed the state: %v %v", err, after)
	}

	// Recorded history plays again, for another twin.
	replay := filepath.Join(dir, "replay.yaml")
	if err := os.WriteFile(replay, []byte("project: hotel\ntwins: [copy]\nevery: 10s\nrecord: {twin: hotel/room-2, properties: [humidity], start: "+
		from.Format(time.RFC3339)+", end: "+from.Add(201*time.Second).Format(time.RFC3339)+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("sim", "scenario", replay, "--create", "hotel/room", "--speed", "max", "--once")
	if out := n.Must("twin", "get", "hotel/copy"); !strings.Contains(out, "60") {
		t.Errorf("the replay: %s", out)
	}

	// The cluster plays both too: the scenario with its file, and what the node reads out of the history itself.
	n.Must("sim", "create", "office", filepath.Join(dir, "office.yaml"), "--model", "room", "--paused")
	n.Must("sim", "speed", "hotel/office", "max")
	n.Must("sim", "start", "hotel/office")
	if err := os.WriteFile(replay, []byte("twins: [twin-of-copy]\nevery: 10s\nrepeat: false\nrecord: {twin: room-2, properties: [humidity, occupied], start: "+
		from.Format(time.RFC3339)+", end: "+from.Add(201*time.Second).Format(time.RFC3339)+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("sim", "create", "hotel/replay", replay, "--model", "room", "--speed", "max")
	harness.Until(t, 30*time.Second, "the simulations", func() bool {
		var all struct {
			Simulations []struct {
				ID    string
				State struct {
					Ended           bool
					Stored, Refused string
				}
			}
		}
		if err := json.Unmarshal([]byte(n.Must("sim", "list", "--project", "hotel", "-o", "json")), &all); err != nil || len(all.Simulations) != 2 {
			t.Fatalf("%v %+v", err, all)
		}
		office, replayed := all.Simulations[0].State, all.Simulations[1].State
		if office.Refused != "" || replayed.Refused != "" {
			t.Fatalf("%+v", all)
		}
		return len(office.Stored) > 2 && replayed.Ended && replayed.Stored == "21" // office goes on
	})
	n.Must("sim", "pause", "--all", "--project", "hotel")
	r, err = n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: "hotel/twin-of-copy"}))
	if err != nil {
		t.Fatal(err)
	}
	if props := r.Msg.Twin.State.Properties; props["humidity"].GetValue().GetNumberValue() != 60 || !props["occupied"].GetValue().GetBoolValue() {
		t.Errorf("replayed: %v", props)
	}
	if out := n.Must("ingest", "status", "--project", "hotel"); !strings.Contains(out, "simulation") {
		t.Errorf("no door: %s", out)
	}
}

// What a model takes from elsewhere in a message, and in another unit, is sent as its devices do: in their unit where the file has the values, and out
// of the property's unit where they were recorded.
func TestScenarioSpeaksAsTheModelSays(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n.Must("model", "create", "hotel/meter", "--file", file("meter.json", `{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", "title": "Meter",
		"properties": {"power": {"type": "number", "unit": "W", "readOnly": true, "pollux:path": "p.kw", "pollux:unit": "kW"},
			"on": {"type": "boolean", "readOnly": true, "pollux:path": "relay[0]"}, "name": {"type": "string", "readOnly": true}}}`))
	n.Must("sim", "scenario", file("first.yaml", `{project: hotel, twins: [first], every: 1s, length: 5s, values: {power: {keys: {0s: 2.5}}, on: {keys: {0s: true}}, name: {keys: {0s: one}}}}`),
		"--create", "hotel/meter", "--speed", "max", "--once")
	harness.Until(t, 30*time.Second, "its history", func() bool {
		for _, name := range []string{"power", "on", "name"} {
			h, err := n.Twins().QueryHistory(t.Context(), connect.NewRequest(&pb.QueryHistoryRequest{Id: "hotel/first", Property: name}))
			if err != nil || len(h.Msg.Samples) == 0 {
				return false
			}
		}
		return true
	})
	record := "every: 1s\nrepeat: false\nrecord: {twin: first, properties: [power, \"on\", name], start: -2h}\n"
	n.Must("sim", "scenario", file("second.yaml", "project: hotel\ntwins: [second]\n"+record), "--create", "hotel/meter", "--speed", "max", "--once")
	n.Must("sim", "create", "third", file("third.yaml", "project: hotel\ntwins: [third]\n"+record), "--model", "meter", "--speed", "max")
	// Another model has them elsewhere and in another unit: its twins are told the same values, beside those of the first model.
	n.Must("model", "create", "hotel/plain", "--file", file("plain.json", `{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", "title": "Plain",
		"properties": {"power": {"type": "number", "unit": "W", "pollux:path": "watts"}, "on": {"type": "boolean"}, "name": {"type": "string", "pollux:path": "id.name"}}}`))
	n.Must("twin", "create", "hotel/fourth", "--model", "plain")
	n.Must("twin", "create", "hotel/fifth", "--model", "meter")
	n.Must("sim", "scenario", file("both.yaml", "project: hotel\ntwins: [fifth, fourth]\n"+record), "--speed", "max", "--once")
	for _, twin := range []string{"first", "second", "third", "fourth", "fifth"} {
		harness.Until(t, 30*time.Second, twin, func() bool {
			r, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: "hotel/" + twin}))
			if err != nil {
				return false
			}
			p := r.Msg.Twin.State.Properties
			return p["power"].GetValue().GetNumberValue() == 2500 && p["on"].GetValue().GetBoolValue() && p["name"].GetValue().GetStringValue() == "one"
		})
	}
	if out := n.Must("ingest", "refusals", "--project", "hotel"); strings.Contains(out, "hotel/") {
		t.Errorf("%s", out)
	}
}

// While it runs a scenario is paused, sped up, begun again and ended by lines of standard input.
func TestScenarioTakesCommands(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	dir := scenarioFiles(t)
	n.Must("model", "create", "hotel/room", "--file", filepath.Join(dir, "room.json"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), "sim", "scenario", filepath.Join(dir, "office.yaml"), "--count", "2", "--create", "hotel/room", "--paused", "-o", "json")
	cmd.Env = append(cmd.Environ(), "POLLUX_URL="+n.URL, "POLLUX_API_KEY="+n.Key)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(out)
	say := func(line string) {
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	status := func() (s scenarioSums) {
		say("status")
		if !answers.Scan() {
			t.Fatal("it ended")
		}
		if err := json.Unmarshal(answers.Bytes(), &s); err != nil {
			t.Fatalf("%v: %s", err, answers.Text())
		}
		return s
	}
	if s := status(); s.Sent != 0 {
		t.Errorf("paused, and sent %+v", s)
	}
	say("start") // the first messages go at once, the next ones in 10 s
	harness.Until(t, 30*time.Second, "the first messages", func() bool { return status().Sent == 2 })
	say("speed max")
	harness.Until(t, 30*time.Second, "the second lap", func() bool { return status().Sent > 2*22 })
	say("pause")
	at := status()
	if again := status(); again != at {
		t.Errorf("paused at %+v, then %+v", at, again)
	}
	say("reset")
	say("start")
	harness.Until(t, 30*time.Second, "more after the reset", func() bool { return status().Sent > at.Sent })
	say("quit")
	if err := cmd.Wait(); err != nil {
		t.Errorf("quit: %v", err)
	}
}
