package actors_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// wide is a message with so many values, each of its own.
func wide(values, number int) []byte {
	var b strings.Builder
	for i := range values {
		fmt.Fprintf(&b, `,"p%02d":%d.%02d`, i, number, i)
	}
	return []byte("{" + b.String()[1:] + "}")
}

// wideModel is a model with so many numbers, and a text.
func (n *node) wideModel(values int) {
	var b strings.Builder
	for i := range values {
		fmt.Fprintf(&b, `"p%02d":{"type":"number"},`, i)
	}
	n.model("wide", thing("Wide", b.String()+`"text":{"type":"string"},"note":{"type":"string"},"memo":{"type":"string"}`))
}

// burst sends messages to a twin all at once, and gives how many were stored.
func (n *node) burst(all []*actors.Ingest, commit bool) (storedOnes int) {
	n.t.Helper()
	got := make(chan actors.IngestResult, len(all))
	for _, m := range all {
		m.Door, m.Project, m.Commit = "http", "default", commit
	}
	n.engine.IngestAll(all, func(_ int, r actors.IngestResult) { got <- r })
	for range all {
		if r := <-got; r.Outcome == stored {
			storedOnes++
		} else {
			n.t.Errorf("a message of the burst: %v", r)
		}
	}
	return storedOnes
}

// texts gives what the journal has of a property.
func (n *node) texts(property string) (all []string) {
	n.t.Helper()
	if _, err := n.store.ReadJournal(0, func(_ uint64, entries []storage.JournalEntry) error {
		for i := range entries {
			if e := &entries[i]; e.Kind == "value" && e.Name == property {
				all = append(all, string(e.Data))
			}
		}
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return all
}

// A message that counts as stored has all of its values in history and its journal, however many come at once.
func TestBurstKeepsEverySample(t *testing.T) {
	const values, messages = 24, 700
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit %v", commit), func(t *testing.T) {
			n := newNode(t)
			n.wideModel(values)
			n.twin(`{"id":"a","model":"wide"}`)
			all := make([]*actors.Ingest, messages)
			for i := range all {
				all[i] = &actors.Ingest{Twin: "a", Payload: wide(values, i+1)}
			}
			n.burst(all, commit)
			if r := n.ingest(&actors.Ingest{Twin: "a", Payload: wide(values, messages+1)}); r.Outcome != stored {
				t.Fatal(r)
			}
			for _, property := range []string{"p00", "p23"} {
				got := n.samples("default/a", property)
				for i, v := range got {
					if int(v) != i+1 {
						t.Fatalf("sample %d of %s is %v", i, property, v)
					}
				}
				if len(got) != messages+1 {
					t.Errorf("%d samples of %s of %d messages", len(got), property, messages+1)
				}
			}
			if d := n.engine.Stats().Dropped; d["samples"] != 0 {
				t.Errorf("dropped %v", d)
			}
			if c := n.counts("http"); c.Stored != messages+1 || c.Refused != 0 {
				t.Errorf("counted %v", c)
			}
		})
	}
}

func TestBurstKeepsEveryText(t *testing.T) {
	n := newNode(t)
	n.wideModel(1)
	n.twin(`{"id":"a","model":"wide"}`)
	all := make([]*actors.Ingest, 200)
	for i := range all {
		all[i] = &actors.Ingest{Twin: "a", Payload: fmt.Appendf(nil, `{"text":"%04d %s"}`, i, strings.Repeat("x", 1000))}
	}
	n.burst(all, true)
	got := n.texts("text")
	if len(got) != len(all) {
		t.Errorf("%d texts of %d messages", len(got), len(all))
	}
	for i, x := range got {
		if !strings.HasPrefix(x, fmt.Sprintf(`"%04d `, i)) {
			t.Fatalf("text %d is %.10s", i, x)
		}
	}
}

func TestBurstKeepsEveryMessageOfARoute(t *testing.T) {
	n := newNode(t)
	n.wideModel(3)
	n.stream("all")
	n.route(&pb.Route{Id: "r", Topics: []string{"all"}})
	n.twin(`{"id":"a","model":"wide"}`)
	all := make([]*actors.Ingest, 300)
	for i := range all {
		all[i] = &actors.Ingest{Twin: "a", Payload: wide(3, i+1)}
	}
	n.burst(all, true)
	if d := n.engine.Stats().Dropped; d["route"] != 0 {
		t.Fatalf("dropped %v", d)
	}
	until(t, "the route's messages", func() bool { return len(n.inTopic("default/all")) == 3*len(all) })
}

// What a driver makes of a burst is kept, too.
func TestBurstToADriver(t *testing.T) {
	const values, messages = 60, 100
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	all := make([]*actors.Ingest, messages)
	for i := range all {
		all[i] = &actors.Ingest{Twin: "a", Topic: "dev/a/x", Payload: wide(values, i+1)}
	}
	n.burst(all, false)
	if r := n.ingest(&actors.Ingest{Twin: "a", Topic: "dev/a/x", Payload: wide(values, messages+1)}); r.Outcome != stored {
		t.Fatal(r)
	}
	if got := n.samples("default/a", "p59"); len(got) != messages+1 {
		t.Errorf("%d samples of %d messages, dropped %v", len(got), messages+1, n.engine.Stats().Dropped)
	}
}

// What one message brings beyond what a transaction can carry is in the list of refusals.
func TestMessageBeyondATransaction(t *testing.T) {
	n := newNode(t)
	n.wideModel(1)
	n.twin(`{"id":"a","model":"wide"}`)
	text := strings.Repeat("x", 15_000)
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: fmt.Appendf(nil, `{"p00":1,"text":%q,"note":%q,"memo":%q}`, text, text, text)}); r.Outcome != stored {
		t.Fatal(r)
	}
	list, err := n.reg.ListRefusals(&pb.ListRefusalsRequest{}, nil)
	if err != nil || len(list.Refusals) != 1 || list.Refusals[0].Code != actors.CodeTooLarge || !strings.HasPrefix(list.Refusals[0].Reason, "1 of its values") {
		t.Errorf("refusals %v, %v", list, err)
	}
	if got := len(n.texts("text")) + len(n.texts("note")) + len(n.texts("memo")); got != 2 {
		t.Errorf("%d texts in the journal", got)
	}
	if got := n.samples("default/a", "p00"); len(got) != 1 {
		t.Errorf("samples %v", got)
	}
}

// What is held when its twin crashes is taken in the next life, and what is held when its twin is deleted is refused.
func TestHeldMessagesAreAnswered(t *testing.T) {
	const values, messages = 24, 700
	for _, end := range []string{"crash", "delete"} {
		t.Run(end, func(t *testing.T) {
			n := newNode(t)
			n.wideModel(values)
			n.twin(`{"id":"a","model":"wide"}`)
			all := make([]*actors.Ingest, messages)
			for i := range all {
				all[i] = &actors.Ingest{Twin: "a", Payload: wide(values, i+1), ID: fmt.Sprint("m", i), Door: "http", Project: "default", Commit: true}
			}
			got := make(chan actors.IngestResult, len(all))
			n.engine.IngestAll(all, func(_ int, r actors.IngestResult) { got <- r })
			if end == "crash" {
				n.engine.Crash("default/a")
			} else if err := n.reg.DeleteTwin(ctx(t), "default/a", 0); err != nil {
				t.Fatal(err)
			}
			outcomes := map[pb.IngestOutcome]int{}
			for range all {
				r := <-got
				outcomes[r.Outcome]++
			}
			if end == "delete" {
				if outcomes[stored]+outcomes[refused] != messages {
					t.Errorf("%v", outcomes)
				}
				return
			}
			if outcomes[stored]+outcomes[duplicate] != messages {
				t.Errorf("%v", outcomes)
			}
			have := map[int]bool{}
			for _, v := range n.samples("default/a", "p07") {
				have[int(v)] = true
			}
			if len(have) != messages {
				t.Errorf("%d of %d messages in history", len(have), messages)
			}
		})
	}
}
