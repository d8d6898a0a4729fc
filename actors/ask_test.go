package actors_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/storagetest"
)

func (n *node) system(id string, members ...string) {
	n.t.Helper()
	s := &pb.System{Id: id}
	if list, err := n.reg.ListSystems(&pb.ListSystemsRequest{}, nil); err == nil {
		for _, old := range list.Systems {
			if old.Id == "default/"+id {
				s.Revision = old.Revision
			}
		}
	}
	for _, m := range members {
		name, twin, _ := strings.Cut(m, "=")
		s.Members = append(s.Members, &pb.System_Member{Name: name, Twin: twin})
	}
	if _, err := n.reg.PutSystem(ctx(n.t), s); err != nil {
		n.t.Fatal(err)
	}
}

// What a driver asks of another twin it gets, or a code that says why not.
func TestTwinsCallEachOther(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driver("line", "1.0.0", tcpTransport)
	for _, id := range []string{"a", "b", "c"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	gone := newDevice(t, nil)
	n.twin(`{"id":"away","driver":"line","uri":"` + gone.uri() + `"}`)
	gone.close()
	until(t, "the device is away", func() bool {
		return n.state("away").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED
	})
	n.twin(`{"id":"other/x","driver":"probe"}`)
	n.system("room", "Display_1=b")
	for _, c := range []struct{ name, action, in, want string }{
		{"an action", "call", `{"twin":"b","action":"echo","input":{"k":[1,2]}}`, `{"output":{"k":[1,2]}}`},
		{"by its id", "call", `{"twin":"default/b","action":"echo","input":1}`, `{"output":1}`},
		{"a name in a system", "call", `{"system":"room","twin":"Display_1","action":"echo","input":2}`, `{"output":2}`},
		{"no such name", "call", `{"system":"room","twin":"Display_2","action":"echo"}`, `{"code":"not_found"}`},
		{"no such system", "call", `{"system":"hall","twin":"Display_1","action":"echo"}`, `{"code":"not_found"}`},
		{"no such twin", "call", `{"twin":"nobody","action":"echo"}`, `{"code":"not_found"}`},
		{"no such action", "call", `{"twin":"b","action":"fly"}`, `{"code":"not_found"}`},
		{"another project", "call", `{"twin":"other/x","action":"echo"}`, `{"code":"denied"}`},
		{"wrong input", "call", `{"twin":"b","action":"note","input":1}`, `{"code":"invalid"}`},
		{"a refusal", "call", `{"twin":"b","action":"fail","input":{"text":"no"}}`, `{"code":"refused"}`},
		{"itself", "call", `{"twin":"a","action":"echo"}`, `{"code":"loop"}`},
		{"in a circle", "call", `{"twin":"b","action":"call","input":{"twin":"a","action":"echo"}}`, `{"output":{"code":"loop"}}`},
		{"a chain", "call", `{"twin":"b","action":"call","input":{"twin":"c","action":"echo","input":3}}`, `{"output":{"output":3}}`},
		{"a device that is away", "call", `{"twin":"away","action":"echo"}`, `{"code":"unavailable"}`},
		{"a property", "put", `{"twin":"b","property":"level","input":7}`, `{}`},
		{"a property that does not fit", "put", `{"twin":"b","property":"level","input":700}`, `{"code":"invalid"}`},
		{"a property that is read only", "put", `{"twin":"b","property":"count","input":7}`, `{"code":"invalid"}`},
		{"a look at one that is away", "peek", `{"twin":"away"}`, `{"output":{"connected":false,"properties":{}}}`},
	} {
		if got := n.must("a", c.action, c.in); got != c.want && !(c.name == "a look at one that is away" && strings.Contains(got, `"connected":false`)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	n.wait("b", "level", "7")
	if by := n.state("b").Desired["level"].By; by != "twin:default/a" {
		t.Errorf("asked by %q", by)
	}
	if got := n.must("a", "peek", `{"twin":"b"}`); !strings.Contains(got, `"level":7`) || !strings.Contains(got, `"connected":true`) {
		t.Errorf("a look at b gives %s", got)
	}
}

// A twin that does not answer in time is given up; the caller's own command goes on.
func TestCallOfASilentTwinEnds(t *testing.T) {
	n := newNode(t)
	n.driver("line", "1.0.0", tcpTransport)
	n.driver("probe", "1.0.0", "")
	d := newDevice(t, nil)
	n.twin(`{"id":"slow","driver":"line","uri":"` + d.uri() + `"}`)
	n.twin(`{"id":"a","driver":"probe"}`)
	n.wait("slow", "ups", "1")
	if got := n.must("a", "call", `{"twin":"slow","action":"later","input":{"text":"x"},"timeout_ms":50}`); got != `{"code":"timeout"}` {
		t.Errorf("a silent twin: %s", got)
	}
}

// slowWay is a cluster in which a call of a twin takes its time to be on its way.
type slowWay struct {
	actors.Cluster
	from string
	then func()
}

func (w *slowWay) Call(env *cluster.Envelope, done func(cluster.Reply)) {
	if env.Principal == w.from {
		w.then()
	}
	w.Cluster.Call(env, done)
}

// A twin that is about to ask another is not at rest: a driver's test would go on before the question is there.
func TestAQuestionOnItsWayIsNoRest(t *testing.T) {
	t.Parallel()
	st, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	n := prepare(t, st, st.Store, cluster.Options{Self: cluster.Member{ID: "n1", Incarnation: 1}})
	looked, rested := 0, 0
	n.engine.SetCluster(&slowWay{n.cluster, "twin:default/a", func() {
		for range 50 {
			looked++
			if n.engine.Quiet() {
				rested++
			}
		}
	}})
	n.begin()
	n.settled()
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"b","driver":"probe"}`)
	n.must("b", "echo", "")
	until(t, "all is at rest", n.engine.Quiet)
	n.must("a", "call", `{"twin":"b","action":"echo"}`)
	if looked != 50 || rested != 0 {
		t.Errorf("it rested %d times of %d", rested, looked)
	}
}

// Twins of one driver that all call another of that driver do not wait for each other for ever: some are refused.
func TestCallsOfOneDriverDoNotLockUp(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.Waiting, o.Running = 4, 4 })
	n.driver("probe", "1.0.0", "")
	const callers = 12
	n.twin(`{"id":"hub","driver":"probe"}`)
	for i := range callers {
		n.twin(`{"id":"t` + string(rune('a'+i)) + `","driver":"probe"}`)
	}
	done := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := n.invoke("t"+string(rune('a'+i)), "call", `{"twin":"hub","action":"count","timeout_ms":30000}`)
			done <- err
		}()
	}
	answered := 0
	for range callers {
		select {
		case err := <-done:
			if err == nil {
				answered++
			}
		case <-time.After(patience):
			t.Fatal("the calls wait for each other")
		}
	}
	if answered == 0 {
		t.Error("no call was answered")
	}
	if got := n.prop("hub", "count"); number(got) != answered {
		t.Errorf("the hub counted %s, %d were answered", got, answered)
	}
}

// Calls go to whichever node has the other twin, and a circle is found across nodes.
func TestTwinsCallAcrossNodes(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for _, id := range ids {
		a.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("h"); return err == nil })
	var here, there string
	for _, id := range ids {
		if _, ok := a.cluster.Owned(cluster.SlotOf("default/" + id)); ok {
			here = id
		} else {
			there = id
		}
	}
	if here == "" || there == "" {
		t.Fatalf("all twins live on one node: %q, %q", here, there)
	}
	if got := a.must(here, "call", `{"twin":"`+there+`","action":"echo","input":5}`); got != `{"output":5}` {
		t.Errorf("across: %s", got)
	}
	if got := a.must(here, "call", `{"twin":"`+there+`","action":"call","input":{"twin":"`+here+`","action":"echo"}}`); got != `{"output":{"code":"loop"}}` {
		t.Errorf("a circle across: %s", got)
	}
}

// A webhook is the driver's to answer.
func TestWebhooks(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	out, err := n.client.Webhook(ctx(t), "a", drivers.WebhookInput{Method: "POST", Path: "/up", Query: map[string]string{"q": "1"}, Body: "hello"})
	if err != nil || out.Status != 201 || out.Body != "POST /up 1" || out.Headers["x-probe"] != "1" {
		t.Errorf("answer %+v, %v", out, err)
	}
	if got := n.prop("a", "last"); got != `"hello"` {
		t.Errorf("the driver saw %s", got)
	}
	if _, err = n.client.Webhook(ctx(t), "a", drivers.WebhookInput{Path: "/no"}); err == nil || !strings.Contains(err.Error(), "not here") {
		t.Errorf("a refusal: %v", err)
	}
	if tr := n.state("a").Status.Traffic; tr.GetReceivedFrames() != 2 || tr.GetErrors() != 1 || tr.GetReceivedBytes() == 0 {
		t.Errorf("traffic of one without a device: %v", tr)
	}
	n.driver("dials", "1.0.0", tcpTransport)
	n.twin(`{"id":"d","driver":"dials","uri":"` + newDevice(t, func(string) string { return "" }).uri() + `"}`)
	until(t, "it is connected", func() bool { return n.state("d").Status.Connection == pb.Connection_CONNECTION_CONNECTED })
	before := n.state("d").Status.Traffic
	if _, err = n.client.Webhook(ctx(t), "d", drivers.WebhookInput{Path: "/", Body: "x"}); err != nil {
		t.Error(err)
	}
	if tr := n.state("d").Status.Traffic; tr.GetReceivedFrames() != before.GetReceivedFrames()+1 {
		t.Errorf("traffic of one whose device it dials: %v, then %v", before, tr)
	}
	n.driver("hook", "1.0.0", `{"scheme":"webhook"}`)
	n.twin(`{"id":"h","driver":"hook","uri":"webhook:?from=10.0.0.7"}`)
	if c := n.state("h").Status.Connection; c == pb.Connection_CONNECTION_CONNECTED {
		t.Errorf("a device that has not spoken is %v", c)
	}
	if _, err = n.client.Webhook(ctx(t), "h", drivers.WebhookInput{Path: "/", Body: "x"}); err != nil {
		t.Error(err)
	}
	if s := n.state("h"); s.Status.Connection != pb.Connection_CONNECTION_CONNECTED || s.Properties["last"].GetQuality() != pb.Quality_QUALITY_GOOD {
		t.Errorf("a device that spoke is %v, its value %v", s.Status.Connection, s.Properties["last"])
	}
	if _, err = n.client.Webhook(ctx(t), "nobody", drivers.WebhookInput{Path: "/"}); err == nil {
		t.Error("nobody answered")
	}
}
