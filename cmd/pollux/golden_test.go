package main

import (
	"bytes"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/NAME.txt.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./cmd/pollux -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n--- got ---\n%s\n--- want ---\n%s", path, got, want)
	}
}

// noon is now in these tests.
var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(-d)) }

func aTwin() *pb.Twin {
	return &pb.Twin{
		Id: "default/beamer", Driver: "pjlink@1.0.0", Uri: "tcp://10.0.0.7:4352", Zone: "default/aula",
		Labels:   map[string]string{"room": "aula", "floor": "2"},
		Settings: &structpb.Struct{Fields: map[string]*structpb.Value{"password": structpb.NewStringValue("***"), "poll": structpb.NewNumberValue(5)}},
		Revision: 42,
		State: &pb.TwinState{
			Properties: map[string]*pb.Property{
				"power":      {Value: structpb.NewStringValue("on"), Time: before(time.Minute), Quality: pb.Quality_QUALITY_GOOD},
				"lamp_hours": {Value: structpb.NewNumberValue(1234), Time: before(26 * time.Hour), Quality: pb.Quality_QUALITY_STALE},
				"name":       {Value: structpb.NewStringValue("evil\x1b[31mred\nline"), Time: before(0), Quality: pb.Quality_QUALITY_GOOD},
			},
			Desired: map[string]*pb.Desired{
				"power": {Value: structpb.NewStringValue("off"), Progress: pb.Progress_PROGRESS_REJECTED, Error: "ERR3", By: "admin", Time: before(time.Second), Revision: 3},
				"input": {Value: structpb.NewStringValue("hdmi1"), Progress: pb.Progress_PROGRESS_SENT, By: "admin", Time: before(time.Second), Revision: 1},
			},
			Status: &pb.TwinStatus{Connection: pb.Connection_CONNECTION_CONNECTED, LastSeen: before(3 * time.Second), Node: "n1"},
			Queued: 2,
			ModelJson: `{"properties":{"power":{"type":"string","enum":["on","off"]},"lamp_hours":{"type":"integer","unit":"h","readOnly":true}},` +
				`"actions":{"reset":{"title":"Start again","input":{"type":"object","properties":{"hard":{"type":"boolean"}}}}},"events":{"error":{"description":"It failed"}}}`,
		},
	}
}

func table(draw func(io.Writer)) []byte {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	draw(w)
	_ = w.Flush()
	return b.Bytes()
}

func TestTwinTable(t *testing.T) {
	golden(t, "twin_get", table(func(w io.Writer) { describeTwin(w, aTwin(), noon, 200) }))
	if out := table(func(w io.Writer) { describeTwin(w, aTwin(), noon, 200) }); bytes.ContainsRune(out, 0x1b) {
		t.Error("an escape sequence of a device reaches the terminal")
	}
}

func TestTwinList(t *testing.T) {
	m := readModel(`{"model":{"properties":{"lamp_hours":{"type":"integer","unit":"h","readOnly":true},"version":{"readOnly":true},
		"power":{"enum":["on","off"]},"muted":{"type":"boolean"},"input":{"type":"string"}}}}`)
	on := aTwin()
	on.State.Properties = map[string]*pb.Property{
		"version": {Value: structpb.NewStringValue("1.0")}, "lamp_hours": {Value: structpb.NewNumberValue(1234)},
		"muted": {Value: structpb.NewBoolValue(false)}, "power": {Value: structpb.NewStringValue("on")},
		"list": {Value: structpb.NewListValue(&structpb.ListValue{})},
	}
	relay := &pb.Twin{Id: "hotel/relay", Driver: "tasmota@1.0.0", State: &pb.TwinState{Properties: map[string]*pb.Property{
		"temperature": {Value: structpb.NewNumberValue(21.123456789)}, "topic": {Value: structpb.NewStringValue("a long text that fills a line\n")},
		"relay2": {Value: structpb.NewBoolValue(false)}, "relay1": {Value: structpb.NewBoolValue(true)},
	}, Status: &pb.TwinStatus{Connection: pb.Connection_CONNECTION_DISCONNECTED}}}
	word := &pb.Twin{Id: "default/word", Driver: "word@1.0.0", State: &pb.TwinState{Properties: map[string]*pb.Property{
		"topic": {Value: structpb.NewStringValue("a long text that fills a line\n")}}}}
	faulty := aTwin()
	faulty.Id, faulty.State.Status.Fault = "default/old", "no answer\x1b[2J"
	twins := []*pb.Twin{on, relay, word, faulty, {Id: "default/stopped", Driver: "pjlink@1.0.0", Stopped: true}}
	golden(t, "twin_list", table(func(w io.Writer) { listTwins(w, twins, map[string]model{"pjlink@1.0.0": m}, noon) }))
	if got := readModel("damaged").telling(on.State.Properties); got == "" {
		t.Error("a damaged manifest hides the values")
	}
}

func TestOutputForms(t *testing.T) {
	for _, form := range []string{"json", "yaml"} {
		var out bytes.Buffer
		a := &app{out: &out, output: form}
		if err := a.show(aTwin(), nil); err != nil {
			t.Fatal(err)
		}
		golden(t, "twin_get_"+form, out.Bytes())
	}
}

func TestDriverTable(t *testing.T) {
	d := &pb.Driver{Name: "pjlink", Version: "1.0.0", Title: "PJLink projectors", Description: "Class 1", Digest: "abc123", Size: 123456,
		Capabilities: []string{"send", "log"}, Transports: []string{"tcp"}, Twins: 4,
		ManifestJson: `{"model":{"properties":{"power":{"type":"string","enum":["on","off"],"title":"Power"},"lamp_hours":{"type":"integer","unit":"h","readOnly":true}},
			"actions":{"reset":{"description":"Start again"}}},
			"settings":{"properties":{"password":{"type":"string","writeOnly":true},"poll":{"type":"number","default":5,"unit":"s"}},"required":["poll"]}}`}
	golden(t, "driver_get", table(func(w io.Writer) { describeDriver(w, d) }))
	d.ManifestJson = "damaged"
	if out := table(func(w io.Writer) { describeDriver(w, d) }); !bytes.Contains(out, []byte("PJLink")) {
		t.Errorf("a damaged manifest hides the rest: %s", out)
	}
}

func TestStatusTable(t *testing.T) {
	s := &pb.GetStatusResponse{ClusterId: "c1", Version: "v0.1", Node: "n1", NodeName: "alpha", Leader: "n2", LeaderName: "beta",
		FailuresReason: "2 of 3 voters must answer, and 2 do; without an answer: gamma", Nodes: 3, NodesAlive: 2, Voters: 3, VotersAlive: 2, Quorum: 2,
		SlotsMoving: 120, Silent: []string{"gamma"}, Revision: 77, Twins: 16, ActiveTwins: 16,
		ConnectedTwins: 15, FaultyTwins: 1, Drivers: 2, StartTime: before(3 * time.Hour), HistoryLag: 12, CheckpointIntervalMs: 1000,
		DiskWarnings:   []string{"node alpha has 300 MiB of disk left: what arrives waits until there is room"},
		OutboxMessages: 31, OutboxHeld: []*pb.OutboxLane{{To: "default/orders", Node: "alpha", Messages: 30, Since: before(time.Minute), Error: "no\x1bowner"},
			{To: "rule/default/frost", Node: "beta", Messages: 1, Since: before(8 * time.Second)}},
		Addresses: map[string]string{"http": "127.0.0.1:8080", "mqtt": "127.0.0.1:1883"}, Refused: map[string]uint64{"topic": 3, "body": 0, "twins no_state": 1204}}
	golden(t, "status", table(func(w io.Writer) { describeStatus(w, s, threeNodes(), noon) }))
	if got := failures(&pb.GetStatusResponse{FailuresReason: "there is one node"}); got != "none: there is one node" {
		t.Errorf("one node: %s", got)
	}
}

func threeNodes() []*pb.Node {
	return []*pb.Node{
		{Id: "n1", Name: "alpha", State: "alive", Role: "voter", AvailabilityZone: "a", Site: "hq", Slots: 8000, SlotsTarget: 8120, Actors: 16,
			MemoryBytes: 80 << 20, GuestMemoryBytes: 3 << 20, DiskBytes: 1 << 30, DiskFreeBytes: 300 << 20, DiskSizeBytes: 20 << 30, LeaseMs: 3100, StartTime: before(3 * time.Hour),
			RaftContactTime: before(100 * time.Millisecond), Version: "v0.1"},
		{Id: "n2", Name: "beta\x1b[2J", State: "draining", Role: "leader", Slots: 8384, SlotsTarget: 8264, Actors: 9, MemoryBytes: 70 << 20,
			DiskBytes: 1 << 29, StartTime: before(time.Minute), Version: "v0.1"},
		{Id: "n3", Name: "gamma", State: "dead", Role: "voter", AvailabilityZone: "c", Silence: "the node is dead", RaftContactTime: before(5 * time.Second)},
	}
}

func TestClusterTables(t *testing.T) {
	golden(t, "cluster_nodes", table(func(w io.Writer) { listNodes(w, threeNodes(), noon) }))
	golden(t, "cluster_placement", table(func(w io.Writer) {
		listPlacements(w, []*pb.NodePlacement{{Id: "n1", Name: "alpha", State: "alive", AvailabilityZone: "a", Weight: 1, Slots: 8000, SlotsTarget: 8120, Actors: 16},
			{Id: "n2", Name: "beta", State: "draining", Weight: 2, Slots: 8384, SlotsTarget: 8264, Actors: 9}})
	}))
	slots := []*pb.Slot{{Slot: 0, Node: "n1", NodeName: "alpha", Since: 1, Target: "n1", TargetName: "alpha", State: "settled"},
		{Slot: 1, Node: "n2", NodeName: "beta", Since: 4, Target: "n1", TargetName: "alpha", State: "releasing", Awaited: "node beta"},
		{Slot: 2, Target: "n1", TargetName: "alpha", State: "waiting"},
		{Slot: 3, Node: "n1", NodeName: "alpha", Since: 1, Target: "n1", TargetName: "alpha", State: "settled"}}
	golden(t, "cluster_slots", table(func(w io.Writer) { countSlots(w, slots) }))
	golden(t, "cluster_slots_all", table(func(w io.Writer) { eachSlot(w, slots) }))
	golden(t, "cluster_moves", table(func(w io.Writer) {
		listMoves(w, []*pb.Move{{Slot: 1, From: "n2", FromName: "beta", To: "n1", ToName: "alpha", BeginTime: before(2 * time.Second), State: "releasing", Awaited: "node beta"},
			{Slot: 9, From: "n2", FromName: "beta", To: "n1", ToName: "alpha", BeginTime: before(time.Minute), EndTime: before(time.Minute - 130*time.Millisecond), State: "done"}}, noon)
	}))
	golden(t, "cluster_check", table(func(w io.Writer) {
		describeCheck(w, &pb.CheckClusterResponse{AgreedIndex: 2048, Checksums: []*pb.NodeChecksum{
			{Node: "n1", Name: "alpha", AppliedIndex: 3000, Sums: []*pb.Checksum{{Index: 1024, Sum: "aa"}, {Index: 2048, Sum: "bb"}}},
			{Node: "n2", Name: "beta", AppliedIndex: 100}, {Node: "n3", Name: "gamma", Error: "does not answer"}},
			Findings: []*pb.Finding{{Severity: "error", Subject: "slot 2", Text: "nobody owns it", Node: "alpha"}}})
	}))
	if got := drainText(&pb.Node{Name: "beta", Id: "n2", Slots: 25, Actors: 7}, 100, 2500*time.Millisecond); got !=
		"██████████████████████········  75 of 100 slots handed over, 7 twins in memory, 3s" {
		t.Errorf("progress: %s", got)
	}
}

func TestHistoryChart(t *testing.T) {
	start := noon.Add(-time.Hour)
	r := &pb.QueryHistoryResponse{Unit: "°C"}
	for i := range 360 {
		at := start.Add(time.Duration(i) * 10 * time.Second)
		r.Samples = append(r.Samples, &pb.Sample{Time: timestamppb.New(at), Value: 20 + 5*math.Sin(float64(i)/30)})
	}
	golden(t, "history_sine", table(func(w io.Writer) { drawHistory(w, "sensor temperature", r, start, noon) }))
	step := &pb.QueryHistoryResponse{Truncated: true, Samples: []*pb.Sample{
		{Time: timestamppb.New(start.Add(10 * time.Minute)), Value: 0}, {Time: timestamppb.New(start.Add(30 * time.Minute)), Value: 1}}}
	golden(t, "history_step", table(func(w io.Writer) { drawHistory(w, "beamer power", step, start, noon) }))
	flat := &pb.QueryHistoryResponse{Samples: step.Samples[:1]}
	golden(t, "history_one", table(func(w io.Writer) { drawHistory(w, "beamer power", flat, start, noon) }))
	golden(t, "history_none", table(func(w io.Writer) { drawHistory(w, "beamer power", &pb.QueryHistoryResponse{}, start, noon) }))
}

func TestTraceLines(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, zone: time.UTC}
	for _, m := range []*pb.TraceTwinResponse{
		{Direction: pb.TraceTwinResponse_DIRECTION_NOTE, Data: []byte("connected\x07")},
		{Direction: pb.TraceTwinResponse_DIRECTION_SENT, Data: []byte("%1POWR ?\r")},
		{Direction: pb.TraceTwinResponse_DIRECTION_RECEIVED, Data: []byte("%1POWR=1 and more than sixteen\x00\xff"), Missed: 2},
		{Direction: pb.TraceTwinResponse_DIRECTION_RECEIVED, Topic: "stat/lamp/RESULT", Data: []byte(`{"POWER":"ON"}`)},
	} {
		m.Time = before(1500 * time.Millisecond)
		a.printTrace(m)
	}
	golden(t, "trace", out.Bytes())
}

func TestWatchLines(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, zone: time.UTC}
	tw := aTwin()
	for _, m := range []*pb.WatchTwinsResponse{
		{Id: tw.Id, Change: &pb.WatchTwinsResponse_Delta{Delta: &pb.StateDelta{Properties: tw.State.Properties, Desired: tw.State.Desired}}, Missed: 4},
		{Id: tw.Id, Change: &pb.WatchTwinsResponse_Event{Event: &pb.TwinEvent{Name: "error", Data: structpb.NewNumberValue(3), Time: before(0)}}},
		{Id: tw.Id, Change: &pb.WatchTwinsResponse_Log{Log: &pb.LogLine{Level: "warn", Text: "odd\x1b[2J", Time: before(0)}}},
	} {
		if err := a.printChange(m); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "watch", out.Bytes())
}

func TestParseValue(t *testing.T) {
	str, num := structpb.NewStringValue, structpb.NewNumberValue
	for _, tt := range []struct {
		text   string
		schema schema
		want   *structpb.Value
	}{
		{"on", schema{}, str("on")},
		{"40", schema{}, num(40)},
		{"1234", schema{Type: "string"}, str("1234")},
		{`"31"`, schema{Type: "string"}, str("31")},
		{"true", schema{}, structpb.NewBoolValue(true)},
		{"null", schema{}, structpb.NewNullValue()},
		{"-1.5e3", schema{Type: "number"}, num(-1500)},
		{"12:30", schema{}, str("12:30")},
		{"on", schema{Type: "boolean"}, structpb.NewBoolValue(true)},
		{"Off", schema{Type: "boolean"}, structpb.NewBoolValue(false)},
		{"false", schema{Type: "boolean"}, structpb.NewBoolValue(false)},
		{"on", schema{Type: "string"}, str("on")},
	} {
		got, err := parseValue(tt.text, tt.schema)
		if err != nil || !proto.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
	if v, err := parseValue(`{"a":`, schema{}); err == nil {
		t.Errorf("half an object was read as %v", v)
	}
}
