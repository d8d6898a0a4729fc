package actors_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// thing makes a Thing Model of its properties.
func thing(title, properties string) string {
	return fmt.Sprintf(`{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":%q,"properties":{%s},
		"actions":{"reset":{}}}`, title, properties)
}

const roomProperties = `"temperature":{"type":"number","unit":"Cel","pollux:unit":"[degF]","pollux:path":"t"},
	"setpoint":{"type":"number","minimum":5,"maximum":30},"scene":{"type":"string","pollux:virtual":true},"door":{"type":"boolean","readOnly":true}`

func (n *node) model(id, text string) *pb.Model {
	n.t.Helper()
	m, err := n.reg.CreateModel(ctx(n.t), &pb.Model{Id: id, ThingJson: text})
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// absorb gives a message that must be committed.
func (n *node) absorb(id, payload string, at int64) actors.Absorbed {
	n.t.Helper()
	r := n.engine.Absorb(id, payload, at, false)
	if r.Err != nil {
		n.t.Fatalf("%s to %s: %v", payload, id, r.Err)
	}
	return r
}

func TestModelRecords(t *testing.T) {
	n := newNode(t)
	m := n.model("room", thing("Room", roomProperties))
	if m.Id != "default/room" || m.Title != "Room" || m.Revision == 0 || m.CreateTime == nil {
		t.Errorf("created: %v", m)
	}
	if _, err := n.reg.CreateModel(ctx(t), &pb.Model{Id: "room", ThingJson: thing("Room", "")}); !errors.Is(err, actors.ErrExists) {
		t.Errorf("the same again: %v", err)
	}
	var field *actors.InvalidError
	_, err := n.reg.CreateModel(ctx(t), &pb.Model{Id: "bad", ThingJson: thing("Bad", `"a":{"type":"number","unit":"flibbles"}`)})
	if !errors.As(err, &field) || field.Path != "/thing_json/properties/a/unit" {
		t.Errorf("a wrong unit: %v", err)
	}
	n.model("hall", thing("Hall", ""))
	n.model("other/room", thing("Elsewhere", ""))
	l, err := n.reg.ListModels(&pb.ListModelsRequest{Project: "default", PageSize: 1}, nil)
	if err != nil || len(l.Models) != 1 || l.Models[0].Id != "default/hall" || l.NextPageToken == "" {
		t.Fatalf("first page: %v, %v", l, err)
	}
	l, err = n.reg.ListModels(&pb.ListModelsRequest{Project: "default", PageSize: 1, PageToken: l.NextPageToken}, nil)
	if err != nil || len(l.Models) != 1 || l.Models[0].Title != "Room" || l.NextPageToken != "" {
		t.Errorf("second page: %v, %v", l, err)
	}

	n.twin(`{"id":"r1","model":"room"}`)
	var used *actors.InUseError
	if err := n.reg.DeleteModel(ctx(t), "room", 0); !errors.As(err, &used) || !slices.Equal(used.Users, []string{"default/r1"}) {
		t.Errorf("delete a model in use: %v", err)
	}
	if m, err = n.reg.GetModel("room"); err != nil || m.Twins != 1 {
		t.Errorf("get: %v, %v", m, err)
	}
	m.ThingJson = thing("Chamber", roomProperties)
	now, err := n.reg.UpdateModel(ctx(t), m)
	if err != nil || now.Title != "Chamber" || now.Revision <= m.Revision || now.CreateTime.AsTime() != m.CreateTime.AsTime() {
		t.Errorf("update: %v, %v", now, err)
	}
	if _, err := n.reg.UpdateModel(ctx(t), m); !errors.Is(err, actors.ErrRevision) {
		t.Errorf("update of what was: %v", err)
	}
	if err := n.reg.DeleteTwin(ctx(t), "r1", 0); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteModel(ctx(t), "room", m.Revision); !errors.Is(err, actors.ErrRevision) {
		t.Errorf("delete at an old revision: %v", err)
	}
	if err := n.reg.DeleteModel(ctx(t), "room", now.Revision); err != nil {
		t.Error(err)
	}
	if _, err := n.reg.GetModel("room"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("after its deletion: %v", err)
	}
}

func TestTwinOfAModelIsChecked(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.model("room", thing("Room", roomProperties))
	n.model("other/room", thing("Room", roomProperties))
	for doc, path := range map[string]string{
		`{"id":"x"}`: "/driver", `{"id":"x","model":"none"}`: "/model", `{"id":"x","model":"room","driver":"probe"}`: "/model",
		`{"id":"x","model":"other/room"}`: "/model", `{"id":"x","model":"room","settings":{"a":1}}`: "/settings", `{"id":"x","model":"room","uri":"tcp://a:1"}`: "/uri",
	} {
		tw := &pb.Twin{}
		unmarshal(t, doc, tw)
		_, err := n.reg.CreateTwin(ctx(t), tw)
		var field *actors.InvalidError
		if !errors.As(err, &field) || !strings.HasPrefix(field.Path, path) {
			t.Errorf("%s: %v, want an error at %s", doc, err, path)
		}
	}
	made := n.twin(`{"id":"x","model":"room","labels":{"floor":"2"}}`)
	if made.Model != "default/room" || made.DriverDigest != "" {
		t.Errorf("made: %v", made)
	}
	made.Model, made.Driver = "", "probe"
	var field *actors.InvalidError
	if _, err := n.reg.UpdateTwin(ctx(t), made); !errors.As(err, &field) || field.Path != "/model" {
		t.Errorf("from a model to a driver: %v", err)
	}
	for _, f := range []*pb.TwinFilter{{Model: "Room"}, {Model: "default/room"}, {Model: "room"}, {Labels: map[string]string{"floor": "2"}, Project: "default"}} {
		l, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: f}, nil)
		if err != nil || len(l.Twins) != 1 {
			t.Errorf("filter %v: %v, %v", f, l, err)
		}
	}
}

func TestTwinWithoutADriver(t *testing.T) {
	n := newNode(t)
	n.model("room", thing("Room", roomProperties))
	n.twin(`{"id":"r1","model":"room"}`)
	w := n.watch(&pb.WatchTwinsRequest{})
	if m := next(t, w); m.GetState() == nil {
		t.Errorf("at first: %v", m)
	}
	if r := n.absorb("r1", `{"t":68,"door":true,"x":1,"setpoint":"warm"}`, 0); r.Taken != 2 || r.Ignored != 1 || !slices.Equal(r.Refused, []string{"wrong_type setpoint"}) {
		t.Errorf("taken: %+v", r)
	}
	for { // it is woken, which tells the whole state again
		if d := next(t, w).GetDelta(); d.GetProperties() != nil {
			if text(d.Properties["temperature"].GetValue()) != "20" || text(d.Properties["door"].GetValue()) != "true" {
				t.Errorf("watched: %v", d)
			}
			break
		}
	}
	st := n.state("r1")
	if st.Filtered["wrong_type"] != 1 || st.Filtered["ignored"] != 1 || st.Properties["door"].Quality != pb.Quality_QUALITY_GOOD ||
		st.Status.Connection != pb.Connection_CONNECTION_NONE || st.Status.Fault != "" {
		t.Errorf("state: %v", st)
	}
	if got := n.samples("default/r1", "temperature"); !slices.Equal(got, []float64{20}) {
		t.Errorf("history %v", got)
	}

	// What is asked for stays asked until it is reported.
	if d, err := n.set("r1", "setpoint", "21", 0); err != nil || d.Progress != pb.Progress_PROGRESS_ASKED {
		t.Fatalf("asked: %v, %v", d, err)
	}
	if d := n.state("r1").Desired["setpoint"]; d.Progress != pb.Progress_PROGRESS_ASKED || !strings.Contains(d.WaitsFor, "no driver") {
		t.Errorf("while it waits: %v", d)
	}
	n.absorb("r1", `{"setpoint":20}`, 0)
	if d := n.state("r1").Desired["setpoint"]; d.Progress != pb.Progress_PROGRESS_ASKED {
		t.Errorf("another value was reported: %v", d)
	}
	n.absorb("r1", `{"setpoint":21}`, 0)
	n.progress("r1", "setpoint", pb.Progress_PROGRESS_CONFIRMED)
	for range 2 { // what it is already, too
		if d, err := n.set("r1", "scene", `"night"`, 0); err != nil || d.Progress != pb.Progress_PROGRESS_CONFIRMED || n.prop("r1", "scene") != `"night"` {
			t.Errorf("a virtual property: %v, %v; it is %s", d, err, n.prop("r1", "scene"))
		}
	}
	for property, v := range map[string]string{"door": "true", "none": "1", "setpoint": "50"} {
		if _, err := n.set("r1", property, v, 0); !errors.Is(err, actors.ErrInvalid) {
			t.Errorf("%s asked to be %s: %v", property, v, err)
		}
	}
	_, err := n.invoke("r1", "reset", "")
	var failed *actors.CommandError
	if !errors.As(err, &failed) || failed.Outcome != pb.Outcome_OUTCOME_REJECTED || !strings.Contains(err.Error(), "no driver") {
		t.Errorf("an action: %v", err)
	}
}

func TestTwinFollowsItsModel(t *testing.T) {
	n := newNode(t)
	m := n.model("room", thing("Room", roomProperties))
	n.twin(`{"id":"r1","model":"room"}`)
	n.absorb("r1", `{"t":68}`, 0)
	m.ThingJson = thing("Room", `"temperature":{"type":"number","unit":"Cel","pollux:path":"celsius"}`)
	if _, err := n.reg.UpdateModel(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	until(t, "the twin reads by the new model", func() bool {
		n.absorb("r1", `{"celsius":25}`, 0)
		return n.prop("r1", "temperature") == "25"
	})
	tw, err := n.reg.GetTwin("r1")
	if err != nil {
		t.Fatal(err)
	}
	tw.Stopped = true
	if tw, err = n.reg.UpdateTwin(ctx(t), tw); err != nil {
		t.Fatal(err)
	}
	until(t, "it is stopped", func() bool { _, err := n.set("r1", "temperature", "1", 0); return errors.Is(err, actors.ErrStopped) })
	tw.Stopped = false
	if _, err = n.reg.UpdateTwin(ctx(t), tw); err != nil {
		t.Fatal(err)
	}
	until(t, "it goes on", func() bool { _, err := n.set("r1", "temperature", "1", 0); return err == nil })
	if err := n.reg.DeleteTwin(ctx(t), "r1", 0); err != nil {
		t.Fatal(err)
	}
	n.twin(`{"id":"r1","model":"room"}`)
	if st := n.state("r1"); len(st.Properties) != 0 {
		t.Errorf("a new twin of the name knows %v", st)
	}
}

func TestTwinOfAModelSurvives(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.model("room", thing("Room", roomProperties))
	n.twin(`{"id":"r1","model":"room"}`)
	n.absorb("r1", `{"t":68}`, 0)
	if _, err := n.set("r1", "setpoint", "21", time.Hour); err != nil {
		t.Fatal(err)
	}
	n.close()
	n = open(t, fs, 2)
	if st := n.state("r1"); text(st.Properties["temperature"].GetValue()) != "20" || st.Properties["temperature"].Quality != pb.Quality_QUALITY_GOOD ||
		st.Desired["setpoint"].GetProgress() != pb.Progress_PROGRESS_ASKED || st.Status.Fault != "" {
		t.Errorf("after a restart: %v", st)
	}
}

func TestFiltersOfAModel(t *testing.T) {
	clock := &handClock{at: time.Now()}
	n := newNode(t, func(o *actors.Options) { o.Clock = clock })
	n.model("meter", thing("Meter", `"power":{"type":"number","pollux:deadband":5},"flow":{"type":"number","pollux:rate":0.1},
		"contact":{"type":"boolean","pollux:flap":{"changes":3,"seconds":60}},"level":{"type":"number","maximum":10}`))
	n.twin(`{"id":"m","model":"meter"}`)
	at := time.Now().UnixMilli() - 120_000
	for i, v := range []int{100, 103, 97, 106, 110, 112} {
		n.absorb("m", fmt.Sprintf(`{"power":%d}`, v), at+int64(i)*1000)
	}
	for i, v := range []int{1, 2, 3, 4} { // every 5 s, and one sample in 10 s is taken
		n.absorb("m", fmt.Sprintf(`{"flow":%d}`, v), at+int64(i)*5000)
	}
	for i := range 8 {
		n.absorb("m", fmt.Sprintf(`{"contact":%v}`, i%2 == 0), at+int64(i)*1000)
	}
	n.absorb("m", `{"level":11}`, at)
	st := n.state("m")
	for _, c := range []struct {
		property, value string
		samples         []float64
		quality         pb.Quality
	}{
		{"power", "112", []float64{100, 106, 112}, pb.Quality_QUALITY_GOOD}, {"flow", "4", []float64{1, 3}, pb.Quality_QUALITY_GOOD},
		{"contact", "false", []float64{1, 0, 1, 0}, pb.Quality_QUALITY_UNCERTAIN}, {"level", "11", []float64{11}, pb.Quality_QUALITY_UNCERTAIN},
	} {
		p := st.Properties[c.property]
		if text(p.GetValue()) != c.value || p.Quality != c.quality || !slices.Equal(n.samples("default/m", c.property), c.samples) {
			t.Errorf("%s is %v with the samples %v, want %s (%v) and %v", c.property, p, n.samples("default/m", c.property), c.value, c.quality, c.samples)
		}
	}
	for why, count := range map[string]uint64{"deadband": 3, "rate": 2, "flap": 4} {
		if st.Filtered[why] != count {
			t.Errorf("%s is counted %d times, want %d", why, st.Filtered[why], count)
		}
	}
	// It comes to rest.
	n.absorb("m", `{"contact":false}`, at+90_000)
	if p := n.state("m").Properties["contact"]; p.Quality != pb.Quality_QUALITY_GOOD {
		t.Errorf("at rest: %v", p)
	}
}

// journaled are the texts that the journal has, and when each was so, after at in seconds.
func (n *node) journaled(at int64) []string {
	n.t.Helper()
	var out []string
	if _, err := n.store.ReadJournal(0, func(_ uint64, all []storage.JournalEntry) error {
		for _, e := range all {
			if e.Kind == "value" {
				out = append(out, fmt.Sprint(string(e.Data), " ", (e.Time-at)/1000))
			}
		}
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return out
}

// A text that a filter kept out of the journal gets there when it is told again: else the journal's last one would not be the twin's.
func TestFilteredTextsGetToTheJournal(t *testing.T) {
	clock := &handClock{at: time.Now()} // or a slow machine would be a silent device
	n := newNode(t, func(o *actors.Options) { o.Clock = clock })
	n.model("meter", thing("Meter", `"mode":{"type":"string","pollux:rate":0.1}`))
	n.twin(`{"id":"m","model":"meter"}`)
	at := time.Now().Truncate(time.Minute).UnixMilli() - 120_000
	for _, x := range []struct {
		after int64
		mode  string
	}{{0, "a"}, {5, "b"}, {15, "b"}, {30, "b"}, {41, "c"}, {45, "d"}, {46, "c"}, {60, "c"}} {
		n.absorb("m", fmt.Sprintf(`{"mode":%q}`, x.mode), at+x.after*1000)
	}
	want, got := []string{`"a" 0`, `"b" 15`, `"c" 41`, `"c" 60`}, []string{}
	until(t, "the journal has them", func() bool {
		got = n.journaled(at)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The last value before a device falls silent, or before its twin leaves memory, gets to history though it came too soon for its rate.
func TestTheLastValueIsInHistory(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.IdleTimeout = 50 * time.Millisecond })
	n.model("meter", thing("Meter", `"power":{"type":"number","pollux:rate":0.001},"mode":{"type":"string","pollux:rate":0.001}`))
	n.twin(`{"id":"m","model":"meter"}`)
	at := time.Now().UnixMilli() - 60_000
	n.absorb("m", `{"power":1,"mode":"a"}`, at)
	n.absorb("m", `{"power":2,"mode":"b"}`, at+1000)
	n.absorb("m", `{"power":3,"mode":"c"}`, at+2000)
	until(t, "history ends with the state", func() bool {
		powers, modes := n.samples("default/m", "power"), n.journaled(at)
		return len(powers) > 1 && powers[len(powers)-1] == 3 && len(modes) > 1 && modes[len(modes)-1] == `"c" 2`
	})
}

func TestLateValuesGoToHistoryAlone(t *testing.T) {
	n := newNode(t)
	n.model("meter", thing("Meter", `"power":{"type":"number"}`))
	n.twin(`{"id":"m","model":"meter"}`)
	at := time.Now().UnixMilli() - 60_000
	n.absorb("m", `{"power":2}`, at)
	n.absorb("m", `{"power":1}`, at-5000)
	if r := n.engine.Absorb("m", `{"power":9}`, at+5000, true); r.Err != nil || r.Taken != 1 {
		t.Errorf("historical: %+v", r)
	}
	st := n.state("m")
	if p := st.Properties["power"]; text(p.Value) != "2" || p.Time.AsTime().UnixMilli() != at || st.Filtered["late"] != 1 {
		t.Errorf("state: %v", st)
	}
	n.absorb("m", `{"power":3}`, at+1)
	if got := n.samples("default/m", "power"); !slices.Equal(got, []float64{2, 1, 9, 3}) || n.prop("m", "power") != "3" {
		t.Errorf("samples %v, power %s", got, n.prop("m", "power"))
	}
	if r := n.absorb("m", `{"power":4}`, at+3600_000); r.Taken != 0 || !slices.Equal(r.Refused, []string{"time_future power"}) {
		t.Errorf("from the future: %+v", r)
	}
}

func TestPropertiesGoStale(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.IdleTimeout = 50 * time.Millisecond })
	n.model("meter", thing("Meter", `"power":{"type":"number","pollux:stale":0.3},"kind":{"type":"string"}`))
	n.twin(`{"id":"m","model":"meter"}`)
	n.absorb("m", `{"power":2,"kind":"a"}`, 0)
	w := n.watch(&pb.WatchTwinsRequest{})
	for {
		m := next(t, w)
		p := m.GetState().GetProperties()["power"]
		if p == nil {
			p = m.GetDelta().GetProperties()["power"]
		}
		if p.GetQuality() == pb.Quality_QUALITY_STALE {
			break
		}
	}
	st := n.state("m")
	heard := st.Properties["power"].Time.AsTime().UnixMilli()
	if p := st.Properties["power"]; text(p.Value) != "2" || p.Quality != pb.Quality_QUALITY_STALE || st.Properties["kind"].Quality != pb.Quality_QUALITY_GOOD {
		t.Errorf("stale: %v", st)
	}
	n.absorb("m", `{"power":2}`, 0)
	if p := n.state("m").Properties["power"]; p.Quality == pb.Quality_QUALITY_UNSPECIFIED || p.Time.AsTime().Before(st.Properties["power"].Time.AsTime()) {
		t.Errorf("heard again: %v", p)
	}
	until(t, "both are in the journal", func() bool {
		var got []string
		_, err := n.store.ReadJournal(0, func(_ uint64, all []storage.JournalEntry) error {
			for _, e := range all {
				if e.Kind == "quality" {
					got = append(got, fmt.Sprintf("%s %s %d", e.Name, e.Data, e.Time-heard))
				}
			}
			return nil
		})
		return err == nil && len(got) >= 2 && got[0] == `power {"quality":"stale"} 300` && strings.HasPrefix(got[1], `power {"quality":"good"}`)
	})
}

func unmarshal(t *testing.T, doc string, m proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(doc), m); err != nil {
		t.Fatal(err)
	}
}

// bring takes a message in through a door, and waits until it is committed.
func (n *node) bring(m *actors.Ingest) actors.IngestResult {
	n.t.Helper()
	done := make(chan actors.IngestResult, 1)
	m.Commit = true
	n.engine.Ingest(m, func(r actors.IngestResult) { done <- r })
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		n.t.Fatalf("%s: no answer within %s", m.Payload, patience)
		return actors.IngestResult{}
	}
}

func TestMessagesOfATwinWithAModel(t *testing.T) {
	n := newNode(t)
	n.model("room", thing("Room", roomProperties))
	n.twin(`{"id":"r1","model":"room","aliases":[{"network":"lora","key":"eui","value":"1"}]}`)
	send := func(payload string) actors.IngestResult {
		return n.bring(&actors.Ingest{Door: "http", Project: "default", Alias: &pb.Alias{Network: "lora", Key: "eui", Value: "1"}, Payload: []byte(payload), JSON: true})
	}
	for _, c := range []struct{ payload, code string }{
		{`{"t":68}`, ""}, {`{"t":77,"door":3}`, ""}, {`{"t":"hot"}`, "wrong_type"}, {`{"humidity":3}`, "unknown_path"}, {`{"t":86,"humidity":3}`, ""},
	} {
		r := send(c.payload)
		want := pb.IngestOutcome_INGEST_OUTCOME_STORED
		if c.code != "" {
			want = pb.IngestOutcome_INGEST_OUTCOME_REFUSED
		}
		if r.Outcome != want || r.Code != c.code || r.Err != nil {
			t.Errorf("%s: %+v, want %v %s", c.payload, r, want, c.code)
		}
	}
	if got := n.prop("r1", "temperature"); got != "30" {
		t.Errorf("temperature %s", got)
	}
	if st := n.state("r1"); st.Status.LastSeen == nil {
		t.Errorf("the device was not seen: %v", st.Status)
	}
	l, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{Project: "default"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, r := range l.Refusals {
		codes = append(codes, r.Code+" "+r.Reason)
	}
	slices.Sort(codes)
	if len(codes) != 3 || !strings.HasPrefix(codes[0], "unknown_path") || !strings.HasPrefix(codes[1], "wrong_type door: ") ||
		!strings.HasPrefix(codes[2], "wrong_type temperature: ") {
		t.Errorf("refusals %q", codes)
	}
}
