package actors_test

import (
	"encoding/json"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// What a twin leaves in the journal is JSON that says what happened, whatever the texts in it.
func TestJournalEntries(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: "level", Value: value(t, "1.5")}, `"the" tester`); err != nil {
		t.Fatal(err)
	}
	until(t, "it is confirmed", func() bool { return n.prop("a", "level") == "1.5" })
	why := "no\n\"good\" \u2028 at all"
	input, _ := json.Marshal(map[string]string{"text": why})
	if _, err := n.invoke("a", "fail", string(input)); err == nil {
		t.Fatal("it did not fail")
	}
	n.must("a", "report", `{"text":"warm"}`)
	type entry struct {
		By, Outcome, Error string
		Revision           uint64
		Value              any
		Sets               bool
		Tries              int
	}
	got := map[string]entry{}
	until(t, "all is in the log", func() bool {
		_, err := n.store.ReadJournal(0, func(_ uint64, all []storage.JournalEntry) error {
			for _, e := range all {
				var x entry
				if err := json.Unmarshal(e.Data, &x); err != nil && e.Kind != "value" {
					t.Errorf("%s %s: %s: %v", e.Kind, e.Name, e.Data, err)
				}
				got[e.Kind+" "+e.Name] = x
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, asked := got["desired level"]
		_, failed := got["command fail"]
		_, set := got["command level"]
		return asked && failed && set
	})
	for key, want := range map[string]entry{
		"desired level": {By: `"the" tester`, Revision: 1, Value: 1.5},
		"command level": {Outcome: "done", Sets: true},
		"command fail":  {Outcome: "rejected", Error: why},
	} {
		if got[key] != want {
			t.Errorf("%s: %+v, want %+v", key, got[key], want)
		}
	}
}
