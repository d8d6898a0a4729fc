package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// on gives the node of a pair that owns a twin, and the other.
func on(id string, a, b *node) (owner, other *node) {
	if a.owner(id) == "n1" {
		return a, b
	}
	return b, a
}

// spread waits until both nodes of a pair have slots.
func spread(t *testing.T, a, b *node) {
	t.Helper()
	until(t, "the slots are spread", func() bool {
		return a.cluster.SlotsByNode()["n2"] > many && b.cluster.SlotsByNode()["n2"] > many && len(moving(a)) == 0 && len(moving(b)) == 0
	})
}

// seen waits until the other node has a twin's record.
func (n *node) seen(id string) {
	n.t.Helper()
	until(n.t, "the record of "+id+" is there", func() bool { _, err := n.reg.GetTwin(id); return err == nil })
}

// raw calls a twin by an id of the test's.
func (n *node) raw(call byte, id string, m proto.Message) cluster.Reply {
	n.t.Helper()
	done := make(chan cluster.Reply, 1)
	n.cluster.Call(&cluster.Envelope{ID: [16]byte{call}, Target: cluster.Target{Kind: "twin", ID: "default/" + id}, Message: m}, func(r cluster.Reply) { done <- r })
	select {
	case r := <-done:
		return r
	case <-time.After(patience):
		n.t.Fatalf("call %d: no answer", call)
		return cluster.Reply{}
	}
}

func result(r cluster.Reply) string { return fmt.Sprint(r.Message, r.Err) }

// A call that was answered before the twin moved is answered alike by its next owner, and does not run again.
func TestCallsAreKnownAfterAMove(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	a.twin(`{"id":"a","driver":"probe"}`)
	b.seen("a")
	owner, _ := on("default/a", a, b)
	count := &pb.InvokeRequest{Id: "default/a", Action: "count"}
	set := &pb.SetDesiredRequest{Id: "default/a", Property: "level", Value: value(t, "7")}
	big := &pb.InvokeRequest{Id: "default/a", Action: "echo", Input: value(t, `"`+strings.Repeat("x", 2000)+`"`)}
	first, asked := result(owner.raw(1, "a", count)), result(owner.raw(2, "a", set))
	owner.raw(3, "a", big)
	for range 2 {
		owner, _ := on("default/a", a, b)
		a.drain(owner.o.Self.ID)
		if got := result(b.raw(1, "a", count)); got != first {
			t.Errorf("the first result %s, again %s", first, got)
		}
		if got := result(a.raw(2, "a", set)); got != asked {
			t.Errorf("asked %s, again %s", asked, got)
		}
		if r := b.raw(3, "a", big); !errors.Is(r.Err, cluster.ErrUnknown) {
			t.Errorf("a result that is too long to be kept: %v", r)
		}
		a.undrain(owner.o.Self.ID)
	}
	if c := b.must("a", "count", ""); c != "2" {
		t.Errorf("the count is %s, want 2", c)
	}
	if d := b.state("a").Desired["level"]; d.Revision != 1 {
		t.Errorf("level was asked %d times", d.Revision)
	}
}

// A command whose start is committed and that waits for its turn, here for another try, goes on at the twin's next owner: nobody
// may take it for one that was begun there and never ended.
func TestStartedCommandsGoOnAfterAMove(t *testing.T) {
	a, b := pair(t)
	var tries [2]atomic.Int32
	var ready atomic.Bool
	d := newDevice(t, func(line string) string {
		switch line {
		case "nowait":
			tries[0].Add(1)
		case "keyed":
			tries[1].Add(1)
		}
		if ready.Load() {
			return "1"
		}
		return "0"
	})
	a.driver("wire", "1.0.0", tcpTransport)
	// Two twins of one node, which then leaves.
	waited, left := "a", ""
	for i := 0; left == ""; i++ {
		if id := fmt.Sprint("k", i); a.owner("default/"+id) == a.owner("default/"+waited) {
			left = id
		}
	}
	for _, id := range []string{waited, left} {
		a.twin(fmt.Sprintf(`{"id":%q,"driver":"wire","uri":%q}`, id, d.uri()))
		b.seen(id)
	}
	owner, other := on("default/"+left, a, b)
	often := &pb.CommandOptions{Retries: proto.Uint32(100), ValidFor: durationpb.New(10 * time.Minute)}
	kept := other.queue(left, "flaky", `{"text":"nowait","times":1}`, proto.CloneOf(often))
	keyed := make(chan error, 1)
	go func() {
		r, err := other.client.Invoke(t.Context(), &pb.InvokeRequest{Id: waited, Action: "flaky", Input: value(t, `{"text":"keyed","times":1}`),
			IdempotencyKey: "once", Options: often}, "tester")
		if err == nil && r.Outcome != pb.Outcome_OUTCOME_DONE {
			err = fmt.Errorf("it is %v", r)
		}
		keyed <- err
	}()
	// Behind the fourth try it waits for most of a second.
	until(t, "both were tried", func() bool { return tries[0].Load() >= 4 && tries[1].Load() >= 4 })
	a.drain(owner.o.Self.ID)
	ready.Store(true)
	if c := other.ended(left, kept); c.Outcome != pb.Outcome_OUTCOME_DONE {
		t.Errorf("the command that nobody waits for: %v", c)
	}
	if err := <-keyed; err != nil {
		t.Errorf("the command with a key: %v", err)
	}
}

// What waits in a twin when its slot is released goes on at the next owner; what runs may end, and is cancelled after 5 s.
func TestReleaseIsBounded(t *testing.T) {
	a, b := pair(t)
	g := newGate(t)
	a.driver("wire", "1.0.0", tcpTransport)
	a.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	b.seen("a")
	until(t, "the device is connected", func() bool { return a.prop("a", "ups") != "" })
	owner, other := on("default/a", a, b)
	running := make(chan error, 1)
	go func() {
		_, err := other.invoke("a", "ask", `{"text":"block","timeout_ms":60000}`)
		running <- err
	}()
	until(t, "the device has it", func() bool { return g.heard("block") == 1 })
	kept := other.queue("a", "note", `{"text":"k"}`, nil)
	waiting := make(chan error, 1)
	go func() {
		_, err := other.invoke("a", "note", `{"text":"w"}`)
		waiting <- err
	}()
	until(t, "both wait", func() bool { return owner.engine.Stats().Queued == 3 })
	began := time.Now()
	a.drain(owner.o.Self.ID)
	if took := time.Since(began); took < 4*time.Second || took > 20*time.Second {
		t.Errorf("it took %s, want about 5 s", took)
	}
	if err := <-running; outcome(err) != pb.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("what ran: %v", err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("what waited: %v", err)
	}
	if g.heard("block") != 1 {
		t.Errorf("the device heard it %d times", g.heard("block"))
	}
	if c := a.ended("a", kept); c.Outcome != pb.Outcome_OUTCOME_DONE {
		t.Errorf("what nobody waited for: %v", c)
	}
	if s := b.state("a"); s.Status.Node == owner.o.Self.ID || text(s.Properties["order"].Value) != `"kw"` {
		t.Errorf("on %s, order %v", s.Status.Node, s.Properties["order"])
	}
}

// A command whose device answers over MQTT goes along with the twin, and its caller gets the answer.
func TestAnswersFindTheTwinThatMoved(t *testing.T) {
	a, b := pair(t)
	a.driverWith("late", "1.0.0", mqttTransport, nil)
	a.twin(`{"id":"a","driver":"late","settings":{"topic":"a"}}`)
	b.seen("a")
	a.deliver("dev/a/lwt", "Online", 1)
	owner, other := on("default/a", a, b)
	answered := make(chan string, 1)
	go func() {
		r, err := other.client.Invoke(ctx(t), &pb.InvokeRequest{Id: "a", Action: "tell", Input: value(t, `{"text":"cmd/a/x"}`)}, "x")
		answered <- fmt.Sprint(text(r.GetOutput()), err)
	}()
	until(t, "the device was told", func() bool { return owner.told("cmd/a/x") == 1 })
	time.Sleep(50 * time.Millisecond)
	a.drain(owner.o.Self.ID)
	b.deliver("dev/a/answer", "here", 1)
	select {
	case got := <-answered:
		if !strings.Contains(got, "here") || !strings.HasSuffix(got, "<nil>") {
			t.Errorf("the answer: %s", got)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	if owner.told("cmd/a/x")+other.told("cmd/a/x") != 1 {
		t.Error("the device was told twice")
	}
}

// told counts what was published.
func (n *node) told(topic string) (times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.published {
		if strings.HasPrefix(p, topic) {
			times++
		}
	}
	return times
}

// What a twin's owner says crosses to the node that asks: which field is wrong, that a frame is refused for good.
func TestErrorsBetweenNodes(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	a.driver("bus", "1.0.0", mqttTransport)
	a.twin(`{"id":"p","driver":"probe"}`)
	a.twin(`{"id":"m","driver":"bus","settings":{"topic":"m"}}`)
	b.seen("m")
	_, far := on("default/p", a, b)
	var field *actors.InvalidError
	if _, err := far.invoke("p", "nothing", ""); !errors.As(err, &field) || field.Path != "/action" {
		t.Errorf("an unknown action: %v", err)
	}
	if _, err := far.set("p", "level", "200", 0); !errors.As(err, &field) || field.Path != "/value" || !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("a value out of range: %v", err)
	}
	if _, err := far.invoke("p", "fail", `{"text":"no"}`); outcome(err) != pb.Outcome_OUTCOME_REJECTED {
		t.Errorf("the driver's error: %v", err)
	}
	if _, err := far.client.State(ctx(t), "nobody", false); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("no such twin: %v", err)
	}
	_, far = on("default/m", a, b)
	var err error
	until(t, "the topic's record is there", func() bool {
		err = far.offer("dev/m/x", `{"level":1}`, 1)
		return !errors.Is(err, actors.ErrNoTwin)
	})
	if err != nil {
		t.Errorf("a frame: %v", err)
	}
	var refusal *mqtt.Refusal
	if err := far.offer("dev/m/x", "panic", 1); !errors.As(err, &refusal) || refusal != mqtt.ErrRefused {
		t.Errorf("a frame that crashes the driver: %v", err)
	}
}

// A watcher is given the twins of slots that come, and what they tell from then on.
func TestWatchersFollowSlots(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	for i := range 20 {
		a.twin(fmt.Sprintf(`{"id":"t%02d","driver":"probe"}`, i))
	}
	b.seen("t19")
	watch, err := b.client.Watch(ctx(t), &pb.WatchTwinsRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	read := func(want func() bool) {
		t.Helper()
		wait, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for !want() {
			m, err := watch.Next(wait)
			if err != nil {
				t.Fatalf("%v; it has %v", err, have)
			}
			if m.GetState() != nil {
				have[m.Id]++
			}
		}
	}
	mine := 0
	for i := range 20 {
		if b.owner(fmt.Sprintf("default/t%02d", i)) == "n2" {
			mine++
		}
	}
	read(func() bool { return len(have) == mine })
	a.drain("n1")
	read(func() bool { return len(have) == 20 })
	// What comes from now on comes from here.
	if _, err := a.invoke("t00", "report", `{"level":5}`); err != nil {
		t.Fatal(err)
	}
	wait, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		m, err := watch.Next(wait)
		if err != nil {
			t.Fatal(err)
		}
		if p := m.GetDelta().GetProperties()["level"]; m.Id == "default/t00" && p != nil {
			break
		}
	}
}

func moving(n *node) (all []cluster.Move) {
	for _, m := range n.cluster.Moves() {
		if m.State != cluster.MoveDone {
			all = append(all, m)
		}
	}
	return all
}

// What a node has committed of twins elsewhere reads as it is there: connected is connected.
func TestStateOfTwinsElsewhere(t *testing.T) {
	a, b := pair(t)
	a.driver("bus", "1.0.0", mqttTransport)
	for i := range 6 {
		a.twin(fmt.Sprintf(`{"id":"t%d","driver":"bus","settings":{"topic":"t%d"}}`, i, i))
		a.deliver(fmt.Sprintf("dev/t%d/x", i), `{"level":3}`, 1)
	}
	for _, n := range []*node{a, b} {
		n.seen("t5")
		until(t, "all read as connected", func() bool {
			list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true, Filter: &pb.TwinFilter{Connection: pb.Connection_CONNECTION_CONNECTED}}, nil)
			return err == nil && len(list.Twins) == 6
		})
		nodes := map[string]bool{}
		for i := range 6 {
			id := fmt.Sprintf("t%d", i)
			list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true, Filter: &pb.TwinFilter{Ids: []string{id}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := list.Twins[0].State
			if s.Status.Node != n.owner(fmt.Sprintf("default/t%d", i)) || s.Properties["level"].GetQuality() != pb.Quality_QUALITY_GOOD {
				t.Errorf("committed state of %s: %v", id, s)
			}
			nodes[s.Status.Node] = true
		}
		if len(nodes) != 2 {
			t.Errorf("all twins are on %v", nodes)
		}
	}
}

// A trace ends when its twin moves, and says so.
func TestTraceEndsWithAMove(t *testing.T) {
	a, b := pair(t)
	g := newGate(t)
	a.driver("wire", "1.0.0", tcpTransport)
	a.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	b.seen("a")
	until(t, "the device is connected", func() bool { return a.prop("a", "ups") != "" })
	owner, _ := on("default/a", a, b)
	trace, err := owner.client.Trace(ctx(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	a.drain(owner.o.Self.ID)
	for {
		if _, err = trace.Next(ctx(t)); err != nil {
			break
		}
	}
	if !errors.Is(err, cluster.ErrNotOwner) {
		t.Errorf("the trace ended with %v", err)
	}
}

// A twin can be called as soon as it was created, from the node that created it, wherever it lives.
func TestNewTwinsAnswerAtOnce(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	a.driver("bus", "1.0.0", mqttTransport)
	for i := range 30 {
		n := []*node{a, b}[i%2]
		n.twin(fmt.Sprintf(`{"id":"p%d","driver":"probe"}`, i))
		if _, err := n.invoke(fmt.Sprintf("p%d", i), "echo", "1"); err != nil {
			t.Errorf("call: %v", err)
		}
		n.twin(fmt.Sprintf(`{"id":"m%d","driver":"bus","settings":{"topic":"m%d"}}`, i, i))
		if err := n.offer(fmt.Sprintf("dev/m%d/x", i), `{"level":1}`, 1); err != nil {
			t.Errorf("frame: %v", err)
		}
	}
	if _, err := a.invoke("nobody", "echo", "1"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("no such twin: %v", err)
	}
}

// A node dies. What was acknowledged goes on elsewhere, what had begun is unknown, frames on their way are brought again.
func TestNodeDies(t *testing.T) {
	a, b := pairLeased(t, 0)
	g := newGate(t)
	a.driver("wire", "1.0.0", tcpTransport)
	a.driver("bus", "1.0.0", mqttTransport)
	var wire, bus string
	for i := 0; wire == "" || bus == ""; i++ { // ids that live on the second node
		if id := fmt.Sprintf("w%d", i); wire == "" && a.owner("default/"+id) == "n2" {
			wire = id
		}
		if id := fmt.Sprintf("m%d", i); bus == "" && a.owner("default/"+id) == "n2" {
			bus = id
		}
	}
	a.twin(fmt.Sprintf(`{"id":%q,"driver":"wire","uri":%q}`, wire, g.uri()))
	a.twin(fmt.Sprintf(`{"id":%q,"driver":"bus","settings":{"topic":%q}}`, bus, bus))
	until(t, "the device is connected", func() bool { return a.prop(wire, "ups") != "" })
	begun := a.queue(wire, "ask", `{"text":"block","timeout_ms":60000}`, nil)
	until(t, "the device has it", func() bool { return g.heard("block") == 1 })
	waits := a.queue(wire, "note", `{"text":"w"}`, nil)
	a.deliver("dev/"+bus+"/x", `{"level":1}`, 1)
	b.close()
	frames := []chan error{a.send("dev/"+bus+"/x", `{"level":2}`, 1), a.send("dev/"+bus+"/x", `{"level":3}`, 1)}
	for i, f := range frames {
		if err := answer(t, fmt.Sprintf("frame %d", i), f); err != nil {
			t.Errorf("frame %d: %v", i, err)
		}
	}
	a.wait(bus, "level", "3")
	if c := a.ended(wire, waits); c.Outcome != pb.Outcome_OUTCOME_DONE {
		t.Errorf("what waited: %v", c)
	}
	if c := a.ended(wire, begun); c.Outcome != pb.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("what had begun: %v", c)
	}
	if g.heard("block") != 1 {
		t.Errorf("the device heard it %d times", g.heard("block"))
	}
	if n := a.owner("default/" + wire); n != "n1" {
		t.Errorf("it lives on %s", n)
	}
}
