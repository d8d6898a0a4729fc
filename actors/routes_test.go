package actors_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (n *node) stream(id string) {
	n.t.Helper()
	if _, err := n.reg.PutTopic(ctx(n.t), &pb.Topic{Id: id}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) route(r *pb.Route) {
	n.t.Helper()
	if _, err := n.reg.PutRoute(ctx(n.t), r); err != nil {
		n.t.Fatal(err)
	}
}

// told is a message of a route.
type told struct {
	Twin, Kind, Name string
	Value            any
	headers          map[string]string
}

// inTopic gives what a topic holds.
func (n *node) inTopic(id string) (all []told) {
	n.t.Helper()
	err := n.client.Topics().Subscribe(ctx(n.t), &pb.SubscribeRequest{Topic: id, Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}},
		UntilEnd: true}, func(m *pb.SubscribeResponse) error {
		for _, d := range m.Messages {
			x := told{headers: d.Message.Headers}
			if err := json.Unmarshal(d.Message.Payload, &x); err != nil {
				return err
			}
			all = append(all, x)
		}
		return nil
	})
	if err != nil && !errors.Is(err, topic.ErrNotFound) {
		n.t.Fatal(err)
	}
	return all
}

// levels gives the values of level that a topic was told, by twin.
func (n *node) levels(id string) map[string][]int {
	by := map[string][]int{}
	for _, x := range n.inTopic(id) {
		if v, ok := x.Value.(float64); ok && x.Name == "level" {
			by[x.Twin] = append(by[x.Twin], int(v))
		}
	}
	return by
}

// TestRoutes: what twins say goes where their routes lead, by filter and condition; what cannot go there is a dead letter.
func TestRoutes(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"},"labels":{"room":"aula"}}`)
	n.twin(`{"id":"b","driver":"bus","settings":{"topic":"b1"}}`)
	for _, id := range []string{"default/all", "default/hot", "default/aula", "default/last"} {
		n.stream(id)
	}
	n.route(&pb.Route{Id: "1-all", Topics: []string{"all"}})
	n.route(&pb.Route{Id: "2-hot", Topics: []string{"hot"}, Properties: []string{"level"}, When: `value > 30 && previous < 100`, Terminate: true})
	n.route(&pb.Route{Id: "3-aula", Topics: []string{"aula"}, Labels: map[string]string{"room": "aula"}, When: `twin.labels.room == "aula" && twin.properties.level == value`, Properties: []string{"level"}})
	n.route(&pb.Route{Id: "4-odd", Topics: []string{"last"}, Twins: []string{"b"}, Properties: []string{"level"}, When: `value.size() > 1`})
	for i, level := range []int{20, 40, 25} {
		n.deliver("dev/a1/state", fmt.Sprintf(`{"level":%d}`, level), 1)
		n.deliver("dev/b1/state", fmt.Sprintf(`{"level":%d}`, level+i), 1)
	}
	want := func(id, twins string) {
		t.Helper()
		until(t, fmt.Sprintf("%s has %s", id, twins), func() bool { return fmt.Sprint(n.levels(id)) == twins })
	}
	want("default/all", "map[default/a:[20 40 25] default/b:[20 41 27]]")
	want("default/hot", "map[default/a:[40] default/b:[41]]")
	want("default/aula", "map[default/a:[20 25]]") // 40 went no further than hot
	want("default/last", "map[]")
	const dead = "default/route.4-odd.dead"
	want(dead, "map[default/b:[20 27]]")
	if x := n.inTopic(dead)[0]; x.headers[topic.HeaderReason] == "" || x.headers[topic.HeaderRoute] != "default/4-odd" || x.headers[topic.HeaderTopic] != "default/last" {
		t.Errorf("dead letter %+v", x)
	}
	list, err := n.reg.ListRoutes(ctx(t), &pb.ListRoutesRequest{Project: "default"}, true, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]string{}
	for _, r := range list.Routes {
		counts[r.Id] = fmt.Sprintln(r.Counts.Seen, r.Counts.Matched, r.Counts.Failed, r.Counts.Dead, r.Counts.DeadLetters)
	}
	// The routes behind 2-hot see what it let pass: 40 and 41 went no further.
	for id, want := range map[string]string{"default/2-hot": "6 2 0 0 \n", "default/3-aula": "2 2 0 0 \n", "default/4-odd": "2 0 2 2 " + dead + "\n"} {
		if counts[id] != want {
			t.Errorf("route %s saw, matched and failed %s, want %s", id, counts[id], want)
		}
	}
	if err := n.reg.DeleteRoute(ctx(t), "default/1-all"); err != nil {
		t.Fatal(err)
	}
	n.deliver("dev/a1/state", `{"level":50}`, 1)
	want("default/hot", "map[default/a:[40 50] default/b:[41]]")
	want("default/all", "map[default/a:[20 40 25] default/b:[20 41 27]]")
	for _, bad := range []*pb.Route{{Id: "x", Topics: []string{"none"}}, {Id: "x", Topics: []string{"all"}, When: "value >"},
		{Id: "x", Topics: []string{"all"}, When: "1 + 1"}, {Id: "x", Topics: []string{"other/all"}}} {
		if _, err := n.reg.PutRoute(ctx(t), bad); !errors.Is(err, actors.ErrInvalid) {
			t.Errorf("route %v: %v", bad, err)
		}
	}
}

// TestRouteOfModel: a bare name of a model is one of the route's project, whichever that is.
func TestRouteOfModel(t *testing.T) {
	n := newNode(t)
	const level = `"level":{"type":"integer","readOnly":true}`
	for _, project := range []string{"default", "plant"} {
		n.model(project+"/gauge", thing("Gauge", level))
		n.model(project+"/other", thing("Other", level))
		n.twin(fmt.Sprintf(`{"id":"%s/a","model":"%[1]s/gauge"}`, project))
		n.twin(fmt.Sprintf(`{"id":"%s/b","model":"%[1]s/other"}`, project))
		n.stream(project + "/levels")
		n.route(&pb.Route{Id: project + "/gauges", Topics: []string{"levels"}, Model: "gauge"})
		n.absorb(project+"/b", `{"level":1}`, 0)
		n.absorb(project+"/a", `{"level":2}`, 0)
		want := fmt.Sprintf("map[%s/a:[2]]", project)
		until(t, "the gauge's message is in "+project, func() bool { return fmt.Sprint(n.levels(project+"/levels")) == want })
	}
}

// TestRouteReplay: dead letters of a route go through it again as it is then: told, passed over, or dead letters again.
func TestRouteReplay(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"},"labels":{"room":"aula"}}`)
	n.stream("default/to")
	odd := &pb.Route{Id: "odd", Topics: []string{"to"}, Properties: []string{"level"}, When: "value.size() > 1"}
	n.route(odd)
	for _, level := range []int{20, 30, 40} {
		n.deliver("dev/a1/state", fmt.Sprintf(`{"level":%d}`, level), 1)
	}
	const dead = "default/route.odd.dead"
	want := func(id, levels string) {
		t.Helper()
		until(t, fmt.Sprintf("%s has %s", id, levels), func() bool { return fmt.Sprint(n.levels(id)["default/a"]) == levels })
	}
	replay := func(limit int, want string) {
		t.Helper()
		r, err := n.reg.ReplayRoute(ctx(t), "odd", limit)
		if got := fmt.Sprint(r.GetPublished(), r.GetPassedOver(), r.GetFailed()); err != nil || got != want {
			t.Fatalf("published, passed over, failed: %s, %v; want %s", got, err, want)
		}
	}
	want(dead, "[20 30 40]")
	replay(1, "0 0 1") // the condition is as it was
	want(dead, "[30 40 20]")
	odd.When, odd.Revision = `value > 25.0 && twin.labels.room == "aula"`, n.revision("odd")
	n.route(odd)
	replay(0, "2 1 0")
	want(dead, "[]")
	want("default/to", "[30 40]")
	replay(0, "0 0 0")
	// What has no topic to go to is a dead letter, too, and goes when there is one.
	if err := n.reg.DeleteTopic(ctx(t), "to"); err != nil {
		t.Fatal(err)
	}
	n.deliver("dev/a1/state", `{"level":50}`, 1)
	want(dead, "[50]")
	replay(0, "0 0 1")
	n.stream("default/to")
	replay(0, "1 0 0")
	want("default/to", "[50]")
	if _, err := n.reg.ReplayRoute(ctx(t), "none", 0); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("a route that is not there: %v", err)
	}
	if _, err := n.reg.PutTopic(ctx(t), &pb.Topic{Id: "route.odd"}); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("a topic whose dead letters are the route's: %v", err)
	}
}

// revision of a route.
func (n *node) revision(route string) uint64 {
	n.t.Helper()
	list, err := n.reg.ListRoutes(ctx(n.t), &pb.ListRoutesRequest{Project: "default"}, false, func(string) bool { return true })
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range list.Routes {
		if r.Id == "default/"+route {
			return r.Revision
		}
	}
	n.t.Fatalf("there is no route %s", route)
	return 0
}

// TestRoutesAfterCrash: what was committed with a change reaches its topic in the next life.
func TestRoutesAfterCrash(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.stream("default/all")
	n.route(&pb.Route{Id: "all", Topics: []string{"all"}, Properties: []string{"level"}})
	const twins = 5
	for i := range twins {
		n.twin(fmt.Sprintf(`{"id":"t%d","driver":"bus","settings":{"topic":"t%d"}}`, i, i))
	}
	next := 0
	for life := uint64(2); life < 5; life++ {
		for range 30 {
			next++
			for i := range twins {
				n.deliver(fmt.Sprintf("dev/t%d/state", i), fmt.Sprintf(`{"level":%d}`, next), 1)
			}
		}
		n.close()
		n = open(t, fs, life)
	}
	n.rising("default/all", twins, next)
}

// rising waits until a topic has the levels 1 to last of each twin, and checks their order.
func (n *node) rising(id string, twins, last int) {
	n.t.Helper()
	until(n.t, "all have arrived", func() bool {
		count := 0
		for _, levels := range n.levels(id) {
			count += len(levels)
		}
		return count >= twins*last
	})
	for twin, levels := range n.levels(id) {
		for i, level := range levels {
			if level != i+1 {
				n.t.Errorf("%s: %d. is %d, of %v", twin, i+1, level, levels)
				break
			}
		}
	}
}

// TestRoutesMove: twins and topics go from node to node while twins talk; nothing is lost, doubled or out of order.
func TestRoutesMove(t *testing.T) {
	a, b := pair(t)
	a.driver("bus", "1.0.0", mqttTransport)
	a.stream("default/all")
	a.route(&pb.Route{Id: "all", Topics: []string{"all"}, Properties: []string{"level"}})
	const twins, last = 12, 60
	for i := range twins {
		a.twin(fmt.Sprintf(`{"id":"t%02d","driver":"bus","settings":{"topic":"t%02d"}}`, i, i))
	}
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("t11"); return err == nil })
	a.numberedWhileMoving(twins, last)
	b.rising("default/all", twins, last)
}

// numberedWhileMoving has as many twins of the driver bus told the numbers up to last, each in order, while their slots go to and fro.
func (n *node) numberedWhileMoving(twins, last int) {
	n.t.Helper()
	var wg sync.WaitGroup
	for i := range twins {
		wg.Go(func() {
			for k := 1; k <= last; k++ {
				done := make(chan error, 1)
				n.engine.Deliver(&mqtt.Message{Topic: fmt.Sprintf("dev/t%02d/state", i), QoS: 1, Payload: fmt.Appendf(nil, `{"level":%d}`, k)}, func(err error) { done <- err })
				if err := <-done; err != nil {
					n.t.Errorf("frame %d of %d: %v", k, i, err)
					return
				}
			}
		})
	}
	n.drain("n2")
	n.undrain("n2")
	n.drain("n1")
	n.undrain("n1")
	wg.Wait()
}

// TestRoutesOfATwinMadeAnew: what a twin says is no repetition of what an earlier twin of its name said.
func TestRoutesOfATwinMadeAnew(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.stream("default/all")
	n.route(&pb.Route{Id: "all", Topics: []string{"all"}, Properties: []string{"level"}})
	var want []int
	for life := range 3 {
		n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
		for i := range 3 {
			want = append(want, 10*life+i)
			n.deliver("dev/a1/state", fmt.Sprintf(`{"level":%d}`, 10*life+i), 1)
		}
		until(t, "the topic has it all", func() bool { return fmt.Sprint(n.levels("default/all")["default/a"]) == fmt.Sprint(want) })
		if err := n.reg.DeleteTwin(ctx(t), "default/a", 0); err != nil {
			t.Fatal(err)
		}
	}
}

// What was put is there from then on, however many come one after the other: a route sees what is said next.
func TestRoutesPutOneAfterTheOther(t *testing.T) {
	n := newNode(t)
	sensors(n, "a")
	n.stream("default/out")
	for i := range 150 {
		ids := []string{fmt.Sprintf("default/x%d", i), fmt.Sprintf("default/y%d", i)}
		for _, id := range ids {
			n.route(&pb.Route{Id: id, Topics: []string{"out"}, When: "value < 0"})
		}
		n.absorb("a", fmt.Sprintf(`{"t":%d}`, i), 0)
		list, err := n.reg.ListRoutes(ctx(t), &pb.ListRoutesRequest{Project: "default", PageSize: 1000}, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.Routes {
			if slices.Contains(ids, r.Id) && r.Counts.Seen == 0 {
				t.Fatalf("route %s was put, and has not seen what was said then", r.Id)
			}
		}
		for _, id := range ids {
			if err := n.reg.DeleteRoute(ctx(t), id); err != nil {
				t.Fatal(err)
			}
		}
	}
}
