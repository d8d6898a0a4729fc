package actors_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestWhere: lists and watches see the twins for which an expression holds, as their values change.
func TestWhere(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for i, room := range []string{"aula", "aula", "lobby"} {
		id := fmt.Sprintf("t%d", i)
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"probe","labels":{"room":%q}}`, id, room))
		n.must(id, "report", fmt.Sprintf(`{"level":%d}`, 10*i))
	}
	list := func(where string) string {
		t.Helper()
		res, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Where: where}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, x := range res.Twins {
			ids = append(ids, strings.TrimPrefix(x.Id, "default/"))
		}
		return strings.Join(ids, " ")
	}
	until(t, "values are committed", func() bool { return list(`twin.properties.level >= 0`) == "t0 t1 t2" })
	for where, want := range map[string]string{
		`twin.labels.room == "aula" && twin.properties.level > 5`: "t1",
		`twin.driver == "probe" && twin.properties.nothing > 5`:   "",
		`twin.model != "" && twin.name.endsWith("2")`:             "t2",
	} {
		if got := list(where); got != want {
			t.Errorf("%s: %s, want %s", where, got, want)
		}
	}
	if _, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Where: "twin.nmae == 1"}}, nil); !errors.Is(err, actors.ErrInvalid) ||
		!strings.Contains(err.Error(), "did you mean name?") {
		t.Error(err)
	}
	s := n.watch(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Where: `twin.properties.level > 15`}})
	if m := next(t, s); m.Id != "default/t2" || m.GetState() == nil {
		t.Fatalf("first %v", m)
	}
	n.must("t0", "report", `{"level":11}`) // it is not in the filter, and nothing comes of it
	n.must("t0", "report", `{"level":30}`)
	if m := next(t, s); m.Id != "default/t0" || text(m.GetState().GetProperties()["level"].GetValue()) != "30" {
		t.Fatalf("comes %v", m)
	}
	n.must("t0", "report", `{"level":1}`)
	n.must("t0", "report", `{"level":2}`)
	n.must("t2", "report", `{"level":22}`)
	if m := next(t, s); m.Id != "default/t0" || text(m.GetDelta().GetProperties()["level"].GetValue()) != "1" {
		t.Fatalf("goes %v", m)
	}
	if m := next(t, s); m.Id != "default/t2" || text(m.GetDelta().GetProperties()["level"].GetValue()) != "22" {
		t.Fatalf("stays %v", m)
	}
}

// A name that is one model's id and another's title is the id: who filters, routes or rules by it means that one. A title that models share is all of
// theirs.
func TestModelIsNamedByItsIDFirst(t *testing.T) {
	n := newNode(t)
	for id, title := range map[string]string{"pump": "Sensor", "valve": "Sensor", "tank": "pump"} {
		n.model(id, thing(title, `"v":{"type":"number"}`))
		n.twin(fmt.Sprintf(`{"id":"of-%s","model":%q}`, id, id))
	}
	for name, want := range map[string]string{"pump": "default/of-pump", "default/pump": "default/of-pump", "Sensor": "default/of-pump default/of-valve", "none": ""} {
		res, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Model: name}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range res.Twins {
			got = append(got, x.Id)
		}
		if slices.Sort(got); strings.Join(got, " ") != want {
			t.Errorf("of model %s are %v, want %s", name, got, want)
		}
	}
}
