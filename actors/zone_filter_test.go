package actors_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// inZone lists the twins of a zone by small pages.
func (n *node) inZone(zone string) (ids []string) {
	n.t.Helper()
	req := &pb.ListTwinsRequest{Filter: &pb.TwinFilter{Zone: zone}, PageSize: 2}
	for {
		res, err := n.reg.ListTwins(req, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, t := range res.Twins {
			ids = append(ids, actors.NameOf(t.Id))
		}
		if req.PageToken = res.NextPageToken; req.PageToken == "" {
			return ids
		}
	}
}

// TestZonesBelow: a zone's twins are those in it and in whatever is in it, for lists, watchers and routes alike; a zone that is moved takes its
// twins along.
func TestZonesBelow(t *testing.T) {
	n := newNode(t)
	n.model("sensor", thing("Sensor", sensor))
	n.zone("house", "")
	n.zone("ground", "house")
	n.zone("hall", "ground")
	n.zone("foyer", "ground")
	n.zone("shed", "")
	n.twin(`{"id":"d","model":"sensor","zone":"house"}`)
	n.twin(`{"id":"c","model":"sensor","zone":"ground"}`)
	n.twin(`{"id":"a","model":"sensor","zone":"hall"}`)
	n.twin(`{"id":"e","model":"sensor","zone":"hall"}`)
	n.twin(`{"id":"b","model":"sensor","zone":"foyer"}`)
	n.twin(`{"id":"s","model":"sensor","zone":"shed"}`)
	for zone, want := range map[string][]string{"default/house": {"a", "b", "c", "d", "e"}, "default/ground": {"a", "b", "c", "e"},
		"default/hall": {"a", "e"}, "default/shed": {"s"}, "default/none": nil} {
		if got := n.inZone(zone); !slices.Equal(got, want) {
			t.Errorf("in %s are %v, want %v", zone, got, want)
		}
	}

	n.stream("default/said")
	n.route(&pb.Route{Id: "all", Zone: "house", Topics: []string{"said"}})
	value := 0
	level := func(twin string) {
		value++
		n.ingest(&actors.Ingest{Twin: twin, Payload: fmt.Appendf(nil, `{"level":%d}`, value)})
	}
	for _, twin := range []string{"a", "s"} {
		level(twin)
	}
	until(t, "the hall's twin is heard", func() bool { return len(n.levels("default/said")["default/a"]) == 1 })

	w := n.watch(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Zone: "default/house"}})
	seen := map[string]bool{}
	for len(seen) < 5 {
		seen[actors.NameOf(next(t, w).Id)] = true
	}
	if seen["s"] {
		t.Error("the watcher of the house is given the shed's twin")
	}
	n.zone("shed", "house")
	for { // one of the others may be told once more: it came to life meanwhile
		if m := next(t, w); m.Id == "default/s" {
			if m.GetState() == nil {
				t.Errorf("when the shed is in the house its watcher is told %v", m)
			}
			break
		}
	}
	if got := n.inZone("default/house"); !slices.Contains(got, "s") {
		t.Errorf("in the house are %v", got)
	}
	level("s")
	until(t, "the shed's twin is heard", func() bool { return len(n.levels("default/said")["default/s"]) == 1 })
	only(t, w, "default/s")
	n.zone("ground", "shed")
	n.zone("shed", "")
	if got := n.inZone("default/house"); !slices.Equal(got, []string{"d"}) {
		t.Errorf("left in the house are %v", got)
	}
	until(t, "the watcher of the house hears of nothing but its own twin", func() bool {
		level("a")
		level("d")
		for others := 0; ; others++ {
			if next(t, w).Id == "default/d" {
				return others == 0
			}
		}
	})
}
