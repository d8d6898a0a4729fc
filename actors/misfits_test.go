package actors_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// typed declares what the test driver's events and answers are.
func typed(m map[string]any) {
	model := m["model"].(map[string]any)
	model["events"] = map[string]any{"fired": map[string]any{"data": map[string]any{"type": "object", "required": []string{"k"},
		"properties": map[string]any{"k": map[string]any{"type": "integer", "maximum": 10}}}}}
	model["actions"].(map[string]any)["echo"] = map[string]any{"input": map[string]any{},
		"output": map[string]any{"type": "integer", "minimum": 0}}
}

// refusals gives the list, sorted by what it says.
func (n *node) refusals() (all []string) {
	n.t.Helper()
	list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, x := range list.Refusals {
		all = append(all, strings.Join([]string{x.Door, x.Twin, x.Code, x.Reason, string(x.Payload)}, " | "))
	}
	slices.Sort(all)
	return all
}

// What a driver reports of another type than its model gives is refused alone, with its line; what is only out of range is a fact.
func TestDriverReportsWrongTypes(t *testing.T) {
	n := newNode(t)
	n.driverWith("bus", "1.0.0", mqttTransport, typed)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":"warm","on":true,"count":1.5}`)}); r.Outcome != stored {
		t.Fatalf("%+v", r)
	}
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":180,"count":9007199254740993}`)}); r.Outcome != stored {
		t.Fatalf("%+v", r)
	}
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":1,"on":"yes"}`), Historical: true, Time: time.Now().Add(-time.Hour).UnixMilli()}); r.Outcome != stored {
		t.Fatalf("%+v", r)
	}
	s := n.state("a")
	if text(s.Properties["level"].GetValue()) != "180" || text(s.Properties["on"].GetValue()) != "true" || s.Properties["count"] != nil || s.Filtered["wrong_type"] != 4 {
		t.Errorf("%v, filtered %v", s.Properties, s.Filtered)
	}
	all := n.refusals()
	for i, want := range []string{"count: 1.5 is no integer", "count: 9007199254740993 is a whole number beyond ±9007199254740991", `level: "warm" is no number`, `on: "yes" is no boolean`} {
		if len(all) != 4 || !strings.HasPrefix(all[i], "http | default/a | wrong_type | "+want) || !strings.Contains(all[i], `| {"level":`) {
			t.Fatalf("line %d of\n%s", i, strings.Join(all, "\n"))
		}
	}
	if c := n.counts("http"); c.Stored != 3 || c.Refused != 0 {
		t.Errorf("counted: %v", c)
	}
}

// An event whose data are of other types than the model gives is announced to nobody, and has its line. One that is out of range, lacks
// a member or has no data is a fact.
func TestEventsOfWrongTypes(t *testing.T) {
	n := newNode(t)
	n.driverWith("probe", "1.0.0", "", typed)
	n.twin(`{"id":"a","driver":"probe"}`)
	for i, data := range []string{`{"k":"v"}`, `{"k":700}`, `7`, `{}`, `null`} {
		n.must("a", "timer", `{"name":"one","after_ms":1,"data":`+data+`}`)
		n.wait("a", "fired", string(rune('1'+i)))
	}
	until(t, "the lines are there", func() bool { return len(n.refusals()) >= 2 })
	all := n.refusals()
	if len(all) != 2 || all[0] != `driver | default/a | wrong_type | event fired: /: got number, want object | 7` ||
		all[1] != `driver | default/a | wrong_type | event fired: /k: got string, want integer | {"k":"v"}` {
		t.Errorf("%s", strings.Join(all, "\n"))
	}
	until(t, "the others are in the journal", func() bool { return n.announced() == `{"k":700} {} null` })
	if s := n.state("a"); s.Filtered["wrong_type"] != 2 {
		t.Errorf("filtered %v", s.Filtered)
	}
}

// announced are the data of the events that the journal has.
func (n *node) announced() string {
	n.t.Helper()
	var all []string
	if _, err := n.store.ReadJournal(0, func(_ uint64, entries []storage.JournalEntry) error {
		for _, e := range entries {
			if e.Kind == "event" {
				all = append(all, string(e.Data))
			}
		}
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// An output that is not what the model promises is passed on, for the device has done what it did; the twin's log says so.
func TestOutputThatDoesNotFit(t *testing.T) {
	n := newNode(t)
	n.driverWith("probe", "1.0.0", "", typed)
	n.twin(`{"id":"a","driver":"probe"}`)
	for _, x := range []string{`7`, `"seven"`, `-1`} {
		if got := n.must("a", "echo", x); got != x {
			t.Errorf("echo of %s gave %s", x, got)
		}
	}
	logs := n.logs("a")
	for _, want := range []string{"what it answers is not what the model says: output of echo: /: got string, want integer", "output of echo: /: minimum: got -1, want 0"} {
		if strings.Count(logs, want) != 1 {
			t.Errorf("%q is not once in\n%s", want, logs)
		}
	}
	if s := n.state("a"); s.Filtered["wrong_output"] != 2 {
		t.Errorf("filtered %v", s.Filtered)
	}
}
