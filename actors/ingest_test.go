package actors_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	stored    = pb.IngestOutcome_INGEST_OUTCOME_STORED
	refused   = pb.IngestOutcome_INGEST_OUTCOME_REFUSED
	inbox     = pb.IngestOutcome_INGEST_OUTCOME_INBOX
	duplicate = pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE
)

// ingest sends a message and waits for what becomes of it.
func (n *node) ingest(m *actors.Ingest) actors.IngestResult {
	n.t.Helper()
	m.Door, m.Commit, m.JSON = "http", true, true
	if m.Project == "" {
		m.Project = "default"
	}
	got := make(chan actors.IngestResult, 2)
	n.engine.Ingest(m, func(r actors.IngestResult) { got <- r })
	select {
	case r := <-got:
		return r
	case <-time.After(patience):
		n.t.Fatalf("message %s: no answer within %s", m.Payload, patience)
		return actors.IngestResult{}
	}
}

func (n *node) counts(door string) *pb.IngestCount {
	n.t.Helper()
	s, err := n.reg.IngestStatus("", true, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, c := range s.Counts {
		if c.Door == door {
			return c
		}
	}
	return &pb.IngestCount{}
}

func sender(value string) *pb.Alias { return &pb.Alias{Network: "lora", Key: "eui", Value: value} }

func TestIngestByNameAndAlias(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"},"aliases":[{"network":"lora","key":"eui","value":"7"}]}`)
	for i, m := range []*actors.Ingest{
		{Twin: "a", Payload: []byte(`{"level":1}`), ID: "m1"},
		{Alias: sender("7"), Payload: []byte(`{"level":2}`)},
		{Twin: "a", Payload: []byte(`{"level":3}`), Time: time.Now().Add(-time.Hour).UnixMilli()},
	} {
		if r := n.ingest(m); r.Outcome != stored {
			t.Fatalf("message %d: %v", i, r)
		}
	}
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":1}`), ID: "m1"}); r.Outcome != duplicate {
		t.Errorf("the same id again: %v", r)
	}
	long := `{"level":"` + strings.Repeat("x", actors.MaxPayload) + `"}`
	for _, c := range []struct {
		m    *actors.Ingest
		code string
	}{
		{&actors.Ingest{Twin: "a", Payload: []byte(`{"level":`)}, actors.CodeMalformed},
		{&actors.Ingest{Twin: "a", Payload: []byte{}}, actors.CodeMalformed},
		{&actors.Ingest{Twin: "a", Payload: []byte("{\"level\":\"\xff\"}")}, actors.CodeMalformed},
		{&actors.Ingest{Twin: "a", Payload: []byte(long)}, actors.CodeTooLarge},
		{&actors.Ingest{Twin: "a", Payload: []byte(strings.Repeat("[", 40) + strings.Repeat("]", 40))}, actors.CodeTooDeep},
		{&actors.Ingest{Twin: "a", Payload: []byte(`{}`), Time: time.Now().Add(time.Hour).UnixMilli()}, actors.CodeTimeFuture},
		{&actors.Ingest{Twin: "a", Payload: []byte(`{}`), Time: 1000}, actors.CodeTimeAncient},
		{&actors.Ingest{Twin: "nobody", Payload: []byte(`{}`)}, actors.CodeUnknownTwin},
		{&actors.Ingest{Twin: "a", Payload: []byte(`{}`), Device: "default/b"}, actors.CodeForbidden},
		{&actors.Ingest{Alias: &pb.Alias{Network: "x"}, Payload: []byte(`{}`)}, actors.CodeMalformed},
	} {
		if r := n.ingest(c.m); r.Outcome != refused || r.Code != c.code || r.Reason == "" {
			t.Errorf("%.60s: %v, want %s", c.m.Payload, r, c.code)
		}
	}
	check := func() {
		t.Helper()
		c := n.counts("http")
		if c.Stored != 3 || c.Duplicate != 1 || c.Refused != 10 || c.Inbox != 0 || c.InFlight != 0 || c.Received != 14 {
			t.Errorf("counted %v", c)
		}
		list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{}, nil)
		if err != nil || len(list.Refusals) != 10 {
			t.Fatalf("%d lines, %v", len(list.GetRefusals()), err)
		}
		for i, x := range list.Refusals[1:] {
			if x.Time.AsTime().After(list.Refusals[i].Time.AsTime()) || len(x.Payload) > 256 || x.Reason == "" || x.Door != "http" {
				t.Errorf("line %v", x)
			}
		}
	}
	check()
	// All of it is committed: after a crash it is the same.
	n.close()
	n = open(t, fs, 2)
	check()
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":9}`), ID: "m1"}); r.Outcome != duplicate {
		t.Errorf("the same id after a crash: %v", r)
	}
	n.wait("a", "level", "3")
	// What a deleted twin was sent stays counted.
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	until(t, "its counters are inherited", func() bool { c := n.counts("http"); return c.Stored == 3 && c.Duplicate == 2 })
}

func TestHistoricalMessageChangesNoState(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":5}`)})
	at := time.Now().Add(-200 * 24 * time.Hour).UnixMilli()
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":1}`), Time: at, Historical: true}); r.Outcome != stored {
		t.Fatal(r)
	}
	if got := n.samples("default/a", "level"); len(got) != 2 || got[0] != 5 || got[1] != 1 {
		t.Errorf("samples %v", got)
	}
	// What is no sample is in the journal, of a driver's twin too.
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"label":"low"}`), Time: at + 1000, Historical: true}); r.Outcome != stored {
		t.Fatal(r)
	}
	if got := n.journaled(at); !slices.Contains(got, `"low" 1`) {
		t.Errorf("the journal has %v", got)
	}
	n.wait("a", "level", "5")
}

// TestNonsenseIsNoSample: a number that would take the digits of those beside it in history is in the state and in the journal, by
// whichever way it comes.
func TestNonsenseIsNoSample(t *testing.T) {
	n := newNode(t)
	n.model("room", thing("Room", `"level":{"type":"number"}`))
	n.twin(`{"id":"m","model":"room"}`)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"d","driver":"bus","settings":{"topic":"d"}}`)
	at := time.Now().Truncate(time.Second).Add(-time.Hour).UnixMilli()
	for _, id := range []string{"m", "d"} {
		for i, v := range []string{"20.5", "3.4e38", "20.7", "9007199254740992", "-9007199254740994", "20.9"} {
			for _, historical := range []bool{true, false} {
				when := at + int64(i)*1000
				if !historical {
					when += 60_000
				}
				if r := n.ingest(&actors.Ingest{Twin: id, Payload: fmt.Appendf(nil, `{"level":%s}`, v), Time: when, Historical: historical}); r.Outcome != stored {
					t.Fatalf("%s %s: %v", id, v, r)
				}
			}
			if v == "3.4e38" {
				n.wait(id, "level", "3.4e+38")
			}
		}
		got := n.samples("default/"+id, "level")
		slices.Sort(got)
		if want := []float64{20.5, 20.5, 20.7, 20.7, 20.9, 20.9, 1 << 53, 1 << 53}; !slices.Equal(got, want) {
			t.Errorf("%s: samples %v, want %v", id, got, want)
		}
	}
	got := slices.DeleteFunc(n.journaled(at), func(s string) bool { return s[0] == '"' }) // texts that the driver reports
	slices.Sort(got)
	var want []string
	for _, s := range []string{"-9.007199254740994e+15 4", "-9.007199254740994e+15 64", "3.4e+38 1", "3.4e+38 61"} {
		want = append(want, s, s)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the journal has %v, want %v", got, want)
	}
}

func TestUnknownSendersGoToTheInbox(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.Inbox = 3 })
	n.driver("bus", "1.0.0", mqttTransport)
	for i := range 7 {
		if r := n.ingest(&actors.Ingest{Alias: sender("7"), Payload: fmt.Appendf(nil, `{"level":%d}`, i), ID: fmt.Sprint("m", i)}); r.Outcome != inbox {
			t.Fatalf("message %d: %v", i, r)
		}
	}
	if r := n.ingest(&actors.Ingest{Alias: sender("7"), Payload: []byte(`{}`), ID: "m6"}); r.Outcome != duplicate {
		t.Errorf("the same id again: %v", r)
	}
	n.ingest(&actors.Ingest{Alias: sender("8"), Payload: []byte(`{}`)})
	n.ingest(&actors.Ingest{Alias: sender("9"), Payload: []byte(`{}`)})
	if r := n.ingest(&actors.Ingest{Alias: sender("10"), Payload: []byte(`{}`)}); r.Outcome != refused || r.Code != actors.CodeInboxFull {
		t.Errorf("a fourth sender: %v", r)
	}
	list, err := n.reg.ListInbox(&pb.ListInboxRequest{}, nil)
	if err != nil || len(list.Entries) != 3 {
		t.Fatalf("inbox %v, %v", list, err)
	}
	x := list.Entries[0]
	if x.Id != "default/lora/eui/7" || x.Count != 7 || len(x.Samples) != 5 || string(x.Samples[4]) != `{"level":6}` || len(x.MessageIds) > 0 || x.Door != "http" {
		t.Errorf("entry %v", x)
	}
	if _, err := n.reg.IgnoreInbox(ctx(t), "default/lora/eui/8", false); err != nil {
		t.Fatal(err)
	}
	if r := n.ingest(&actors.Ingest{Alias: sender("8"), Payload: []byte(`{}`)}); r.Outcome != inbox {
		t.Errorf("an ignored sender: %v", r)
	}
	if list, err = n.reg.ListInbox(&pb.ListInboxRequest{}, nil); err != nil || len(list.Entries) != 2 {
		t.Errorf("with one ignored: %v, %v", list, err)
	}
	if c := n.counts("http"); c.Inbox != 10 || c.Duplicate != 1 || c.Refused != 1 || c.Received != 12 {
		t.Errorf("counted %v", c)
	}
	tw, err := n.reg.ClaimInbox(ctx(t), "default/lora/eui/7", &pb.Twin{Id: "seven", Driver: "bus"})
	if err != nil || len(tw.Aliases) != 1 {
		t.Fatalf("claimed %v, %v", tw, err)
	}
	if r := n.ingest(&actors.Ingest{Alias: sender("7"), Payload: []byte(`{"level":70}`)}); r.Outcome != stored {
		t.Errorf("after the claim: %v", r)
	}
	n.wait("seven", "level", "70")
	if list, err = n.reg.ListInbox(&pb.ListInboxRequest{Ignored: true}, nil); err != nil || len(list.Entries) != 2 {
		t.Errorf("after the claim: %v, %v", list, err)
	}
}

// TestTwinDeletedUnderLoad: what its messages are told is what is counted, also of those that are on their way when the twin goes.
func TestTwinDeletedUnderLoad(t *testing.T) {
	n := newNode(t)
	n.model("plain", thing("Plain", `"level":{"type":"number"}`))
	var outcomes [8]uint64
	for range 10 {
		n.twin(`{"id":"a","model":"plain"}`)
		results := make(chan actors.IngestResult, 100_000)
		sent, over := 0, make(chan error, 1)
		for deleting := false; ; {
			n.client.Ingest(&actors.Ingest{Door: "http", Project: "default", Twin: "a", Payload: fmt.Appendf(nil, `{"level":%d}`, sent), Commit: true},
				func(r actors.IngestResult) { results <- r })
			if sent++; sent > 50 && !deleting {
				deleting = true
				go func() { over <- n.reg.DeleteTwin(ctx(t), "default/a", 0) }()
			}
			if len(over) > 0 || sent == cap(results) {
				break
			}
		}
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		for range sent {
			outcomes[(<-results).Outcome]++
		}
	}
	var c *pb.IngestCount
	until(t, "all is counted", func() bool { c = n.counts("http"); return c.InFlight == 0 && c.Stored >= outcomes[stored] })
	if c.Stored != outcomes[stored] || c.Refused != outcomes[refused] {
		t.Errorf("told %d stored and %d refused of %v, counted %v", outcomes[stored], outcomes[refused], outcomes, c)
	}
}

// TestInboxOfManySenders: the entries of many senders, each as large as it gets, are more than one transaction takes.
func TestInboxOfManySenders(t *testing.T) {
	n := newNode(t)
	long := strings.Repeat("x", 200)
	for round := range 8 {
		all := make([]*actors.Ingest, 600)
		for i := range all {
			all[i] = &actors.Ingest{Door: "http", Project: "default", Alias: sender(fmt.Sprint(long, i)), Payload: fmt.Appendf(nil, `{"level":"%s%[1]s"}`, long), Commit: true}
		}
		results := make(chan actors.IngestResult, len(all))
		n.client.IngestAll(all, func(_ int, r actors.IngestResult) { results <- r })
		for range all {
			if r := <-results; r.Outcome != inbox {
				t.Fatalf("round %d: %v", round, r)
			}
		}
	}
	if c := n.counts("http"); c.Inbox != 4800 || c.Received != 4800 {
		t.Errorf("counted %v", c)
	}
}

func TestProjectChoosesWhatBecomesOfUnknownSenders(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	put := func(s *pb.ProjectSettings) {
		t.Helper()
		old, err := n.reg.ProjectSettings("default")
		if err != nil {
			t.Fatal(err)
		}
		s.Project, s.Revision = "default", old.Revision
		if _, err := n.reg.PutProjectSettings(ctx(t), s); err != nil {
			t.Fatal(err)
		}
	}
	put(&pb.ProjectSettings{UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE})
	if r := n.ingest(&actors.Ingest{Alias: sender("1"), Payload: []byte(`{}`)}); r.Code != actors.CodeUnknownSender {
		t.Errorf("with refuse: %v", r)
	}
	put(&pb.ProjectSettings{UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION, Rules: []*pb.ProvisionRule{
		{Value: "no*such", Driver: "bus"}, {Network: "lo*", Key: "eui", Driver: "bus", Name: "{network}-{value}", Labels: map[string]string{"made": "rule"}}}})
	// Many at once make one twin, and keep their order.
	const many = 500
	got := make(chan actors.IngestResult, many)
	for i := range many {
		n.engine.Ingest(&actors.Ingest{Door: "http", Project: "default", Alias: sender("AB 1"), Payload: fmt.Appendf(nil, `{"level":%d}`, i), Commit: true},
			func(r actors.IngestResult) { got <- r })
	}
	for range many {
		if r := <-got; r.Outcome != stored {
			t.Fatalf("with a rule: %v", r)
		}
	}
	tw, err := n.reg.GetTwin("lora-ab-1")
	if err != nil || tw.Labels["made"] != "rule" {
		t.Fatalf("made %v, %v", tw, err)
	}
	n.wait("lora-ab-1", "level", fmt.Sprint(many-1))
	// A name that is taken.
	n.twin(`{"id":"lora-x","driver":"bus"}`)
	if r := n.ingest(&actors.Ingest{Alias: sender("x"), Payload: []byte(`{"level":1}`)}); r.Outcome != stored {
		t.Errorf("a name that is taken: %v", r)
	}
	if r := n.ingest(&actors.Ingest{Alias: &pb.Alias{Network: "other", Key: "k", Value: "v"}, Payload: []byte(`{}`)}); r.Outcome != inbox {
		t.Errorf("no rule matches: %v", r)
	}
	for _, bad := range []*pb.ProjectSettings{
		{Project: "default", UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION},
		{Project: "default", Rules: []*pb.ProvisionRule{{Driver: "nobody"}}},
		{Project: "default", Rules: []*pb.ProvisionRule{{}}},
		{Project: "default", Rules: []*pb.ProvisionRule{{Driver: "bus", Zone: "nowhere"}}},
		{Project: "Not A Name"},
	} {
		if _, err := n.reg.PutProjectSettings(ctx(t), bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// A topic that no driver is bound to and that spells an alias goes the way of all messages.
func TestMQTTTopicSpellsAnAlias(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	if err := n.offer("nowhere/lora/eui/7/up", `{"level":1}`, 1); !errors.Is(err, actors.ErrNoTwin) {
		t.Errorf("in a project that is none: %v", err)
	}
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"},"aliases":[{"network":"lora","key":"eui","value":"7"}]}`)
	n.deliver("default/lora/eui/7", `{"level":1}`, 1)
	n.deliver("default/lora/eui/7/up/more", `{"level":2}`, 0)
	n.wait("a", "level", "2")
	n.deliver("default/lora/eui/8", `{"level":3}`, 1)
	if list, err := n.reg.ListInbox(&pb.ListInboxRequest{}, nil); err != nil || len(list.Entries) != 1 || list.Entries[0].Door != "mqtt" {
		t.Errorf("inbox %v, %v", list, err)
	}
	if _, err := n.reg.PutProjectSettings(ctx(t), &pb.ProjectSettings{Project: "default", UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE}); err != nil {
		t.Fatal(err)
	}
	if err := n.offer("default/lora/eui/9", `{}`, 1); !errors.Is(err, mqtt.ErrRefused) {
		t.Errorf("refused by the project: %v", err)
	}
	if c := n.counts("mqtt"); c.Refused != 1 || c.Inbox != 1 || c.Stored < 1 || c.InFlight != 0 {
		t.Errorf("counted %v", c)
	}
	publish, _, err := n.reg.Topics("a")
	if err != nil || !slices.Contains(publish, "default/lora/eui/7/#") {
		t.Errorf("its device may publish to %v, %v", publish, err)
	}
}

// A message that its driver crashes on, or that comes to a stopped twin, is refused, which is committed and listed.
func TestRefusalOfADriverIsCommitted(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CheckpointMin = time.Hour; o.CheckpointMax = time.Hour })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	n.twin(`{"id":"b","driver":"bus","stopped":true}`)
	if err := n.offer("dev/a1/state", "panic", 1); err == nil {
		t.Error("a message that crashes its driver was taken")
	}
	if r := n.ingest(&actors.Ingest{Twin: "b", Payload: []byte(`{}`), ID: "x"}); r.Outcome != refused || r.Code != actors.CodeStopped {
		t.Errorf("a stopped twin: %v", r)
	}
	if r := n.ingest(&actors.Ingest{Twin: "b", Payload: []byte(`{}`), ID: "x"}); r.Outcome != duplicate {
		t.Errorf("a refused message again: %v", r)
	}
	list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{Door: "mqtt"}, nil)
	if err != nil || len(list.Refusals) != 1 || list.Refusals[0].Code != actors.CodeDriver || string(list.Refusals[0].Payload) != "panic" ||
		list.Refusals[0].Twin != "default/a" {
		t.Fatalf("list %v, %v", list, err)
	}
	if c := n.counts("mqtt"); c.Refused != 1 || c.Received != 1 {
		t.Errorf("counted %v", c)
	}
}

// TestMessageTimes: how old a message may be, and how far ahead, is its project's to say; for the present, and for history.
func TestMessageTimes(t *testing.T) {
	n := newNode(t)
	n.model("sensor", thing("Sensor", `"temperature":{"type":"number"}`))
	n.twin(`{"id":"a","model":"sensor"}`)
	const day = 24 * time.Hour
	send := func(age time.Duration, historical bool) string {
		t.Helper()
		r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"temperature":20}`), Time: time.Now().Add(-age).UnixMilli(), Historical: historical})
		if r.Outcome == pb.IngestOutcome_INGEST_OUTCOME_STORED {
			return "stored"
		}
		return r.Code + ": " + r.Reason[strings.LastIndex(r.Reason, "; ")+2:]
	}
	for _, c := range []struct {
		settings *pb.ProjectSettings
		want     map[string]string // by age, h for historical
	}{
		{&pb.ProjectSettings{}, map[string]string{"1h": "stored", "768h": "time_ancient: what is older than 30 days has to be sent as historical", "768h h": "stored",
			"9700h h": "time_ancient: what is older than 403 days is not taken", "-5m": "stored", "-15m": "time_future"}},
		{&pb.ProjectSettings{MaxAge: durationpb.New(90 * time.Minute), MaxAhead: durationpb.New(2 * time.Minute), MaxHistoryAge: durationpb.New(1000 * day)},
			map[string]string{"1h": "stored", "2h": "time_ancient: what is older than 1h30m0s has to be sent as historical", "2h h": "stored", "9700h h": "stored",
				"24001h h": "time_ancient: what is older than 1000 days is not taken", "-1m": "stored", "-5m": "time_future"}},
	} {
		old, err := n.reg.ProjectSettings("default")
		if err != nil {
			t.Fatal(err)
		}
		c.settings.Project, c.settings.Revision = "default", old.Revision
		if _, err := n.reg.PutProjectSettings(ctx(t), c.settings); err != nil {
			t.Fatal(err)
		}
		for what, want := range c.want {
			text, historical := strings.CutSuffix(what, " h")
			age, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := send(age, historical); !strings.HasPrefix(got, want) {
				t.Errorf("%s old with %v: %s, want %s", what, c.settings, got, want)
			}
		}
	}
	if _, err := n.reg.PutProjectSettings(ctx(t), &pb.ProjectSettings{Project: "other", MaxAge: durationpb.New(2000 * day)}); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("older for the present than for history: %v", err)
	}
}

// What is too much for one transaction is listed; the message is stored, and its sender is told so, the first time and the second.
func TestTransactionThatIsTooLarge(t *testing.T) {
	n := newNode(t)
	n.sensors("a")
	n.engine.Stuff("default/a")
	m := func() *actors.Ingest {
		return &actors.Ingest{Door: "http", Twin: "a", Payload: []byte(`{"level":5}`), ID: "m1", Commit: true}
	}
	if r := n.ingest(m()); r.Outcome != stored {
		t.Errorf("the message: %v", r)
	}
	if r := n.ingest(m()); r.Outcome != duplicate {
		t.Errorf("the same again: %v", r)
	}
	n.wait("a", "level", "5")
	if c := n.counts("http"); c.Stored != 1 || c.Duplicate != 1 || c.Refused != 0 {
		t.Errorf("counted %v", c)
	}
	list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{}, nil)
	if err != nil || len(list.Refusals) != 1 || list.Refusals[0].Code != actors.CodeTooLarge || !strings.Contains(list.Refusals[0].Reason, "10001 numbers") {
		t.Errorf("listed %v, %v", list.GetRefusals(), err)
	}
}

// A message that its node brings again, because nobody knows whether the twin took it, counts once, whether the twin has a driver or a model.
func TestBroughtAgainCountsOnce(t *testing.T) {
	n := newNode(t)
	n.model("counter", thing("Counter", `"level":{"type":"integer"}`))
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","model":"counter","aliases":[{"network":"lora","key":"eui","value":"7"}]}`)
	n.twin(`{"id":"b","driver":"bus","settings":{"topic":"b"}}`)
	const rounds, each = 10, 20
	for k, x := range []struct{ twin, topic, will string }{{"default/a", "default/lora/eui/7", ""}, {"default/b", "dev/b/state", "dev/b/lwt"}} {
		for round := range rounds {
			var all []chan error
			for i := range each {
				topic, payload := x.topic, fmt.Sprintf(`{"level":%d}`, round*each+i)
				if i%5 == 4 && x.will != "" { // what it says of its presence comes in its order, too
					topic, payload = x.will, "Online"
				}
				all = append(all, n.send(topic, payload, 1))
				if i == each/2 {
					n.engine.Crash(x.twin)
				}
			}
			for i, done := range all {
				if err := answer(t, fmt.Sprintf("message %d", i), done); err != nil {
					t.Errorf("message %d of round %d to %s: %v", i, round, x.twin, err)
				}
			}
		}
		if c, sent := n.counts("mqtt"), uint64(k+1)*rounds*each; c.Stored != sent || c.Received != sent {
			t.Errorf("%d messages were sent when %s had its own, counted %v", sent, x.twin, c)
		}
		have, want := map[float64]bool{}, rounds*each
		for _, v := range n.samples(x.twin, "level") {
			have[v] = true
		}
		if x.will != "" {
			want -= rounds * each / 5
		}
		if len(have) != want {
			t.Errorf("%s: %d of %d values in history", x.twin, len(have), want)
		}
	}
	if n.engine.Stats().Dropped["twin_panic"] == 0 {
		t.Error("nothing crashed")
	}
}

// TestRefusedWithoutWaiting: what a twin refuses of a sender that does not wait for the commit has its line, too.
func TestRefusedWithoutWaiting(t *testing.T) {
	n := open(t, vfs.NewMem(), 1)
	n.model("room", thing("Room", roomProperties))
	n.twin(`{"id":"r","model":"room"}`)
	answered := make(chan actors.IngestResult, 1)
	n.engine.Ingest(&actors.Ingest{Door: "http", Project: "default", Twin: "r", Payload: []byte(`{"t":"hot"}`)}, func(r actors.IngestResult) { answered <- r })
	select {
	case r := <-answered:
		if r.Outcome != refused || r.Code != "wrong_type" {
			t.Fatalf("%+v", r)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	until(t, "the refusal is counted", func() bool { return n.counts("http").Refused == 1 })
	until(t, "the refusal is listed", func() bool {
		list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{Twin: "default/r"}, nil)
		return err == nil && len(list.Refusals) == 1 && list.Refusals[0].Code == "wrong_type"
	})
}
