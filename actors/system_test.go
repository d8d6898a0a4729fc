package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestSystemAsOne(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.model("room", thing("Room", roomProperties))
	s := &pb.System{Id: "hall"}
	for i, doc := range []string{`{"id":"d1","driver":"probe"}`, `{"id":"d2","driver":"probe"}`, `{"id":"l1","model":"room"}`} {
		made := n.twin(doc)
		s.Members = append(s.Members, &pb.System_Member{Name: []string{"Display_1", "Display_2", "Light_1"}[i], Twin: made.Id})
	}
	if _, err := n.reg.PutSystem(ctx(t), s); err != nil {
		t.Fatal(err)
	}
	call := func(member string) string {
		t.Helper()
		res, err := n.client.InvokeSystem(ctx(t), &pb.InvokeSystemRequest{Id: "hall", Action: "report", Input: value(t, `{"level":7}`), Member: member}, "tester")
		if err != nil {
			return err.Error()
		}
		var words []string
		for _, r := range res {
			words = append(words, fmt.Sprintf("%s %s %v", r.Name, strings.TrimPrefix(r.Outcome.String(), "OUTCOME_"), r.Error != ""))
		}
		return strings.Join(words, ", ")
	}
	for member, want := range map[string]string{
		"":          "Display_1 DONE false, Display_2 DONE false, Light_1 REJECTED true",
		"Display":   "Display_1 DONE false, Display_2 DONE false",
		"Display_2": "Display_2 DONE false",
	} {
		if got := call(member); got != want {
			t.Errorf("call %q: %s, want %s", member, got, want)
		}
	}
	for _, member := range []string{"Disp", "Display_", "Display_1_2"} {
		if got := call(member); !strings.Contains(got, "has no member") {
			t.Errorf("call %q: %s", member, got)
		}
	}
	if n.prop("d1", "level") != "7" || n.prop("d2", "level") != "7" {
		t.Error("the displays were not called")
	}
	for i, c := range []struct{ stopped, changed bool }{{true, true}, {true, false}, {false, true}} {
		res, err := n.reg.SetSystemStopped(ctx(t), "hall", c.stopped, "tester")
		if err != nil || len(res) != 3 {
			t.Fatalf("%v, %v", res, err)
		}
		for _, r := range res {
			tw, err := n.reg.GetTwin(r.Twin)
			if err != nil || tw.Stopped != c.stopped || r.Changed != c.changed || r.Error != "" || i == 0 && tw.UpdateBy != "tester" {
				t.Errorf("stopped %v: %v, %v", c.stopped, r, tw)
			}
		}
	}
	if _, err := n.reg.SetSystemStopped(ctx(t), "none", true, "tester"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("no such system: %v", err)
	}
	if got, err := n.reg.GetSystem("hall"); err != nil || len(got.Members) != 3 || got.Revision == 0 {
		t.Errorf("get: %v, %v", got, err)
	}
	if _, err := n.reg.GetZone("none"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("no such zone: %v", err)
	}
}
