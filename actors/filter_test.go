package actors_test

import (
	"errors"
	"fmt"
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
