package actors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// logic uploads a file of testdata/logic.
func (n *node) logic(file string) *pb.Driver {
	n.t.Helper()
	drivertest.NeedEngine(n.t)
	text, err := os.ReadFile(filepath.Join("testdata", "logic", file))
	if err != nil {
		n.t.Fatal(err)
	}
	return n.source(string(text))
}

// source uploads a driver or a logic that is a file of JavaScript.
func (n *node) source(text string) *pb.Driver {
	n.t.Helper()
	run, err := sandbox(n.t).Verify(n.t.Context(), []byte(text))
	if err != nil {
		n.t.Fatal(err)
	}
	d, _, err := n.reg.PutDriver(context.Background(), run, []byte(text), "test")
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// judged gives what a topic holds, as JSON.
func (n *node) payloads(id string) (all []string) {
	n.t.Helper()
	_ = n.client.Topics().Subscribe(ctx(n.t), &pb.SubscribeRequest{Topic: id, Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}},
		UntilEnd: true}, func(m *pb.SubscribeResponse) error {
		for _, d := range m.Messages {
			all = append(all, string(d.Message.Payload))
		}
		return nil
	})
	return all
}

// finds waits until a search has one hit, a logic, or none.
func (n *node) finds(id string, r *pb.SearchRequest) {
	n.t.Helper()
	until(n.t, fmt.Sprintf("%v finds %q", r, id), func() bool {
		res, err := n.reg.Search(ctx(n.t), r, nil)
		if err != nil || res.Building {
			return false
		}
		return id == "" && len(res.Hits) == 0 || len(res.Hits) == 1 && res.Hits[0].Id == id && res.Hits[0].Kind == "logic"
	})
}

// level gives a sensor's twin a value by message.
func (n *node) level(id string, v int) {
	n.t.Helper()
	n.absorb(id, fmt.Sprintf(`{"level":%d}`, v), 0)
}

func (n *node) counts3(route string) string {
	n.t.Helper()
	list, err := n.reg.ListRoutes(ctx(n.t), &pb.ListRoutesRequest{Project: "default"}, false, func(string) bool { return true })
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range list.Routes {
		if c := r.Counts; r.Id == route {
			return fmt.Sprintf("passed %d replaced %d stopped %d failed %d", c.Passed, c.Replaced, c.Stopped, c.RunFailed)
		}
	}
	return ""
}

// TestRunInRoute: a logic's run lets messages of a route pass, replaces them and stops them, and remembers per twin and in all; what it
// fails at is a dead letter with the error, and a crash has it left alone.
func TestRunInRoute(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.ComputeTimeout = 2 * time.Second; o.BackoffMin = time.Minute })
	n.logic("filter.js")
	n.twin(`{"id":"desk","driver":"filter"}`)
	n.sensors("a", "b")
	n.finds("default/desk", &pb.SearchRequest{Query: "desk", Kinds: []string{"logic"}})
	n.finds("default/desk", &pb.SearchRequest{Query: "desk", Kinds: []string{"twin"}})
	n.finds("", &pb.SearchRequest{Query: "default", Kinds: []string{"logic"}, Facets: []*pb.FacetValue{{Name: "kind", Value: "twin"}}})
	n.stream("default/out")
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "desk", Properties: []string{"level"}})
	for _, v := range []int{2, 3, 200, 5} {
		n.level("a", v)
	}
	n.level("b", 7)
	until(t, "what passes has arrived", func() bool { return len(n.payloads("default/out")) == 4 })
	var values []string
	for _, p := range n.payloads("default/out") {
		var m struct {
			Twin, Of, By      string
			Value, Count, All int
		}
		if err := json.Unmarshal([]byte(p), &m); err != nil {
			t.Fatal(err)
		}
		values = append(values, fmt.Sprintf("%s %d %d %s", m.Twin, m.Value, m.Count, m.Of+m.By))
	}
	if got, want := strings.Join(values, "; "), "default/a 2 0 ; default/a 3 2 default/aroute/default/r; default/a 5 4 default/aroute/default/r; default/b 7 1 default/broute/default/r"; got != want {
		t.Errorf("the topic has %s, want %s", got, want)
	}
	if got, want := n.counts3("default/r"), "passed 1 replaced 3 stopped 1 failed 0"; got != want {
		t.Errorf("the route counts %q, want %q", got, want)
	}
	until(t, "the logic's log has what it said", func() bool { return strings.Contains(n.logs("default/desk"), "info passed 2") })
	// It calls an action of its own twin, as an actor.
	n.level("a", 673)
	n.wait("desk", "notes", "1")

	for i, c := range []struct {
		value int
		why   string
	}{{668, "logic default/desk refused it: no beasts"}, {671, "a message of 40002 bytes"}, {672, "it remembers 20002 bytes"},
		{669, "return context.pass(), context.replace(message) or context.stop()"}, {2, "logic default/desk: it is left alone for"}} {
		n.level("b", c.value)
		until(t, fmt.Sprintf("dead letter %d", i), func() bool { return len(n.inTopic("default/route.r.dead")) > i })
		letter := n.inTopic("default/route.r.dead")[i]
		if why := letter.headers[topic.HeaderReason]; !strings.Contains(why, c.why) || letter.Value.(float64) != float64(c.value) {
			t.Errorf("dead letter of %d: %+v, want %q", c.value, letter, c.why)
		}
	}
	if got, want := n.counts3("default/r"), "passed 1 replaced 3 stopped 2 failed 5"; got != want {
		t.Errorf("the route counts %q, want %q", got, want)
	}
	if got := n.logs("default/desk"); !strings.Contains(got, "error run: the module crashed: TypeError: run returned 5") {
		t.Errorf("the log is %s", got)
	}
}

// TestRouteDeletedBeforeItsLogic: what waits for the logic of a route that is deleted is counted as dropped.
func TestRouteDeletedBeforeItsLogic(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.ComputeTimeout = 3 * time.Second; o.BackoffMin = time.Minute })
	n.logic("filter.js")
	n.twin(`{"id":"desk","driver":"filter"}`)
	n.sensors("a")
	n.stream("default/out")
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "desk", Properties: []string{"level"}})
	n.level("a", 666)                  // takes all the time that it may
	time.Sleep(300 * time.Millisecond) // so that it is given this one alone, as a rule
	const more = 20
	for i := range more {
		n.level("a", 2*i)
	}
	if err := n.reg.DeleteRoute(ctx(t), "default/r"); err != nil {
		t.Fatal(err)
	}
	until(t, "each message is dropped, dead or in the topic", func() bool {
		return int(n.engine.Stats().Dropped["route"])+len(n.inTopic("default/route.r.dead"))+len(n.payloads("default/out")) == more+1
	})
}

// TestRunOfLargeMessages: what a batch writes fits into one transaction, however large its messages are.
func TestRunOfLargeMessages(t *testing.T) {
	n := newNode(t)
	n.logic("bench.js")
	n.twin(`{"id":"bench","driver":"bench-run"}`)
	n.stream("default/out")
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "bench", Properties: []string{"level"}})
	var payloads [][]byte
	for i := range 100 {
		payloads = append(payloads, fmt.Appendf(nil, `{"value":%d,"text":%q}`, i, strings.Repeat("x", 20<<10)))
	}
	if _, err := n.engine.Judge("default/r", payloads); err != nil {
		t.Fatal(err)
	}
	if got, want := n.counts3("default/r"), "passed 0 replaced 100 stopped 0 failed 0"; got != want {
		t.Errorf("the route counts %q, want %q", got, want)
	}
}
