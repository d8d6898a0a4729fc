package actors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// gateLogic lets values from 10 on pass, remembers how many it saw of each twin, and refuses 13.
const gateLogic = `export default logic({
  name: 'gate', version: '1.0.0',
  run(message, context) {
    const { memory } = context;
    memory.twin.seen = (memory.twin.seen ?? 0) + 1;
    if (message === 13) throw new Refusal('unlucky');
    if (message < 10) return context.stop();
    console.log('passed', message, 'of', context.twin, 'by', context.by, 'number', memory.twin.seen);
  },
});`

// TestLogicInARule: a rule gives what it is about to a logic; where that says stop, what follows is left out, and where it refuses, the
// rule's run says so.
func TestLogicInARule(t *testing.T) {
	drivertest.NeedEngine(t)
	n, _ := clocked(t, "2026-03-01T07:00:00Z")
	n.source(gateLogic)
	n.twin(`{"id":"gate","driver":"gate"}`)
	n.sensors("a")
	n.rule(`{"id":"r","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 0","each":true,
		"then":[{"logic":{"logic":"gate","expr":"value"},"retry":{"attempts":1}},{"mqtt":{"topic":"said","payload":"${value}"}}]}`)
	for i, level := range []int{5, 12, 7, 20} {
		n.absorb("a", fmt.Sprintf(`{"level":%d}`, level), 0)
		until(t, fmt.Sprintf("value %d has had its run", level), func() bool {
			n.engine.Tick()
			a := n.unit(automation.KindRule, "r")
			return int(a.Rule.Firings) == i+1 && !slices.ContainsFunc(a.Runs, func(r *pb.Run) bool { return r.State == pb.RunState_RUN_STATE_OPEN })
		})
	}
	until(t, "what followed was done for 12 and 20", func() bool { // it is published by way of the outbox
		n.mu.Lock()
		defer n.mu.Unlock()
		return strings.Join(n.published, ", ") == "said 12, said 20"
	})
	until(t, "the logic's log has it", func() bool {
		return strings.Contains(n.logs("default/gate"), "passed 20 of default/a by rule/default/r number 4")
	})
	n.absorb("a", `{"level":13}`, 0)
	until(t, "the rule's run says what the logic said", func() bool {
		n.engine.Tick()
		return strings.Contains(fmt.Sprint(n.unit(automation.KindRule, "r").Runs), "logic default/gate refused it: unlucky")
	})
	n.rule(`{"id":"none","when":[{"property":{"of":{"twins":["a"]},"names":["other"]}}],"if":"value > 0","then":[{"logic":{"logic":"a","expr":"value"},"retry":{"attempts":1}}]}`)
	n.absorb("a", `{"other":1}`, 0)
	until(t, "the rule's run says that it is no logic", func() bool {
		n.engine.Tick()
		return strings.Contains(fmt.Sprint(n.unit(automation.KindRule, "none").Runs), "default/a is no logic")
	})
}

// TestReplayOfWhatALogicFailedAt: dead letters of a route whose logic refused them go through a better version, and on from there.
func TestReplayOfWhatALogicFailedAt(t *testing.T) {
	n := newNode(t)
	n.logic("filter.js")
	n.twin(`{"id":"desk","driver":"filter"}`)
	n.sensors("a")
	n.stream("default/out")
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "desk", Properties: []string{"level"}})
	n.level("a", 668)
	n.level("a", 2)
	until(t, "one is a dead letter, one has gone on", func() bool {
		return len(n.inTopic("default/route.r.dead")) == 1 && len(n.payloads("default/out")) == 1
	})
	if res, err := n.reg.ReplayRoute(ctx(t), "r", 0); err != nil || res.Failed != 1 || res.Published != 0 {
		t.Fatalf("replayed by the same code: %v, %v", res, err)
	}
	n.source(`export default logic({ name: 'filter', version: '1.0.1',
		properties: { notes: 'integer', heard: 'string' }, settings: { limit: { type: 'number', default: 100 } },
		run(message, context) { return context.replace({ ...message, mended: true, seen: context.memory.twin.count }); } });`)
	until(t, "the logic has the version", func() bool { return n.version("desk") == "1.0.1" })
	if res, err := n.reg.ReplayRoute(ctx(t), "r", 0); err != nil || res.Published != 1 || res.Failed != 0 {
		t.Fatalf("replayed by better code: %v, %v", res, err)
	}
	until(t, "it has gone on", func() bool { return len(n.payloads("default/out")) == 2 })
	if got := n.payloads("default/out")[1]; !strings.Contains(got, `"value":668`) || !strings.Contains(got, `"mended":true`) {
		t.Errorf("what went on is %s", got)
	}
	if left := len(n.inTopic("default/route.r.dead")); left != 0 {
		t.Errorf("%d dead letters are left", left)
	}
}

// counter numbers what it sees of each twin.
const counter = `export default logic({ name: 'counter', version: '1.0.0',
	run(message, context) {
		const mine = context.memory.twin;
		mine.count = (mine.count ?? 0) + 1;
		return context.replace({ ...message, count: mine.count });
	} });`

// numbered waits until a topic has the levels 1 to last of each twin, and checks that each was counted once, in its order.
func (n *node) numbered(route, id string, twins, last int) {
	n.t.Helper()
	until(n.t, "all have arrived", func() bool {
		for _, x := range n.inTopic("default/route." + route + ".dead") {
			n.t.Fatalf("a dead letter: %v, %s", x.Value, x.headers[topic.HeaderReason])
		}
		return len(n.payloads(id)) >= twins*last
	})
	n.rising(id, twins, last)
	for _, p := range n.payloads(id) {
		var m struct{ Value, Count int }
		if err := json.Unmarshal([]byte(p), &m); err != nil || m.Value != m.Count {
			n.t.Errorf("%s: %v", p, err)
			return
		}
	}
}

// TestLogicAfterCrash: messages that wait for a logic when their node ends are given to it in the next life; what it keeps counts each once.
func TestLogicAfterCrash(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.source(counter)
	n.twin(`{"id":"counter","driver":"counter"}`)
	n.stream("default/all")
	n.route(&pb.Route{Id: "all", Topics: []string{"all"}, Run: "counter", Properties: []string{"level"}})
	const twins = 4
	for i := range twins {
		n.twin(fmt.Sprintf(`{"id":"t%d","driver":"bus","settings":{"topic":"t%d"}}`, i, i))
	}
	next := 0
	for life := uint64(2); life < 4; life++ {
		for range 20 {
			next++
			for i := range twins {
				n.deliver(fmt.Sprintf("dev/t%d/state", i), fmt.Sprintf(`{"level":%d}`, next), 1)
			}
		}
		n.close()
		n = open(t, fs, life)
	}
	n.numbered("all", "default/all", twins, next)
}

// TestLogicMoves: twins, the logic and the topic go from node to node while messages pass the logic: each has its effect on what the
// logic keeps and on the topic once, in the order of its twin.
func TestLogicMoves(t *testing.T) {
	drivertest.NeedEngine(t)
	a, b := pair(t)
	a.driver("bus", "1.0.0", mqttTransport)
	a.source(counter)
	a.twin(`{"id":"counter","driver":"counter"}`)
	a.stream("default/all")
	a.route(&pb.Route{Id: "all", Topics: []string{"all"}, Run: "counter", Properties: []string{"level"}})
	const twins, last = 8, 40
	for i := range twins {
		a.twin(fmt.Sprintf(`{"id":"t%02d","driver":"bus","settings":{"topic":"t%02d"}}`, i, i))
	}
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("t07"); return err == nil })
	a.numberedWhileMoving(twins, last)
	b.numbered("all", "default/all", twins, last)
}

// TestLogicOfSlotsThatComeBack: a slot goes, and comes back while its node still waits for what it asked the logic before. What the other
// node has had judged meanwhile is judged once.
func TestLogicOfSlotsThatComeBack(t *testing.T) {
	drivertest.NeedEngine(t)
	var asked atomic.Int32
	answer := make(chan struct{})
	host := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 1 {
			<-answer
		}
	}))
	defer host.Close()
	goOn := sync.OnceFunc(func() { close(answer) })
	defer goOn()
	a, b := pair(t, web, func(o *actors.Options) { o.CallTimeout = 5 * time.Minute })
	a.driver("bus", "1.0.0", mqttTransport)
	a.source(`export default logic({ name: 'asker', version: '1.0.0', settings: { base: { type: 'string' } }, http: { hosts: ['{base}'] },
		async run(message, context) {
			await context.fetch(context.settings.base);
			const mine = context.memory.twin;
			mine.count = (mine.count ?? 0) + 1;
			return context.replace({ ...message, count: mine.count });
		} });`)
	a.twin(fmt.Sprintf(`{"id":"asker","driver":"asker","settings":{"base":%q}}`, host.URL))
	a.stream("default/all")
	a.route(&pb.Route{Id: "all", Topics: []string{"all"}, Run: "asker", Properties: []string{"level"}})
	a.twin(`{"id":"t00","driver":"bus","settings":{"topic":"t00"}}`)
	until(t, "b has the twin", func() bool { _, err := b.reg.GetTwin("t00"); return err == nil })
	const before = 5
	for k := range before {
		a.deliver("dev/t00/state", fmt.Sprintf(`{"level":%d}`, k+1), 1)
	}
	until(t, "the logic is asked", func() bool { return asked.Load() > 0 })
	home := a.owner("default/t00")
	a.drain(home)
	until(t, "the other node has had all judged", func() bool { return len(a.payloads("default/all")) == before })
	a.undrain(home)
	until(t, "the twin is back", func() bool { return a.owner("default/t00") == home && b.owner("default/t00") == home })
	goOn()
	a.deliver("dev/t00/state", fmt.Sprintf(`{"level":%d}`, before+1), 1)
	b.numbered("all", "default/all", 1, before+1)
}

// try gives an event to a file, or to a logic that is there where there is none.
func (n *node) try(file string, req *pb.TryLogicRequest) (*pb.TryLogicResponse, error) {
	n.t.Helper()
	if file == "" {
		return n.reg.TryLogic(ctx(n.t), nil, req)
	}
	run, err := sandbox(n.t).Load(context.Background(), []byte(file))
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = run.Close() }()
	return n.reg.TryLogic(ctx(n.t), run, req)
}

// TestTryLogic: a try tells what a logic would say, do, remember and log, and does nothing.
func TestTryLogic(t *testing.T) {
	n := newNode(t)
	n.sensors("a")
	const file = `export default logic({ name: 'porter', version: '1.0.0',
		settings: { limit: { type: 'number', default: 30 }, key: { type: 'string', writeOnly: true, optional: true } },
		http: { hosts: ['api.example.com'] },
		properties: { busy: 'boolean' }, events: { rang: {} }, timers: { idle() {} },
		load(twin) { twin.other('a').subscribe('level'); },
		async changed(twin, { value }) {
			await twin.other('a').set('scene', 'bright');
			const { properties } = await twin.other('a').get();
			const { status } = await twin.fetch('https://api.example.com/ring', { body: { value } });
			twin.report('busy', true); twin.emit('rang', value); twin.after('idle', '10s');
			twin.memory.rings = (twin.memory.rings ?? 0) + 1;
			console.log('level', Object.keys(properties).join(), status, twin.settings.key);
		},
		run(message, context) {
			context.memory.twin.seen = (context.memory.twin.seen ?? 0) + 1;
			if (message.value === 0) return undefined.x;
			if (message.value === 1) throw new Refusal('not one');
			return message.value > context.settings.limit ? context.stop() : context.replace({ n: context.memory.twin.seen });
		} });`
	n.absorb("a", `{"level":3}`, 0)
	n.wait("a", "level", "3")
	said := func(file string, req *pb.TryLogicRequest) string {
		t.Helper()
		r, err := n.try(file, req)
		if err != nil {
			return err.Error()
		}
		out := []string{strings.ToLower(strings.TrimPrefix(r.Verdict.String(), "VERDICT_"))}
		add := func(what, value string) {
			if value != "" && value != "null" {
				out = append(out, what+" "+value)
			}
		}
		add("message", text(r.Message))
		add("would", strings.Join(r.Deeds, "; "))
		add("remembers", text(r.Memory))
		for _, l := range r.Logs {
			add("log", l.Text)
		}
		add("failed", r.Error)
		return strings.Join(out, " | ")
	}
	msg := func(v int) *pb.TryLogicRequest {
		return &pb.TryLogicRequest{Message: value(t, fmt.Sprintf(`{"value":%d}`, v)), Twin: "default/a"}
	}
	for _, c := range []struct{ what, got, want string }{
		{"a run", said(file, msg(5)), `replace | message {"n":1} | remembers {"script":{},"twin":{"seen":1}}`},
		{"one that stops", said(file, msg(50)), `stop | remembers {"script":{},"twin":{"seen":1}}`},
		{"one that refuses", said(file, msg(1)), `unspecified | failed not one`},
		{"a change", said(file, &pb.TryLogicRequest{Event: "subscription", Message: value(t, `{"name":"a","property":"level","value":3}`)}),
			`unspecified | would set default/a scene = "bright"; POST https://api.example.com/ring {"value":3}; report busy = true; announce rang 3; timer idle after 10s | remembers {"rings":1} | log level level 204 undefined`},
		{"a load", said(file, &pb.TryLogicRequest{Event: "load", Message: value(t, `{"reason":"start"}`)}), `unspecified | would subscribe to level of a`},
		{"an event that there is not", said(file, &pb.TryLogicRequest{Event: "frame"}), "/event: \"frame\" is none of run, load, subscription, timer, webhook, command"},
		{"nothing", said("", &pb.TryLogicRequest{}), "/id: neither a file nor a logic is given"},
		{"what is no logic", said("", &pb.TryLogicRequest{Id: "a"}), "default/a is no logic"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %s\nwant %s", c.what, c.got, c.want)
		}
	}
	if got := said(file, msg(0)); !strings.Contains(got, "TypeError") || !strings.Contains(got, "driver.js:") {
		t.Errorf("a crash: %s", got)
	}
	if n.prop("a", "scene") != "" || n.records("logicstate", "") != 0 {
		t.Error("a try did something")
	}

	// In the place of a logic: with what that one has and remembers, but for its secrets.
	n.source(file)
	n.twin(`{"id":"porter","driver":"porter","settings":{"limit":4,"key":"sesame"}}`)
	if _, err := n.client.Logic(ctx(t), &pb.RunLogicRequest{Id: "porter", Twin: "a", Message: value(t, `{"value":2}`)}, "test"); err != nil {
		t.Fatal(err)
	}
	here := func(req *pb.TryLogicRequest) *pb.TryLogicRequest { req.Id = "porter"; return req }
	for _, f := range []string{"", file} {
		if got, want := said(f, here(msg(3))), `replace | message {"n":2} | remembers {"script":{},"twin":{"seen":2}}`; got != want {
			t.Errorf("in its place: %s, want %s", got, want)
		}
		if got := said(f, here(msg(5))); !strings.HasPrefix(got, "stop") {
			t.Errorf("in its place, by its settings: %s", got)
		}
		got := said(f, here(&pb.TryLogicRequest{Event: "subscription", Message: value(t, `{"name":"a","property":"level","value":3}`)}))
		if strings.Contains(got, "sesame") || !strings.Contains(got, "204 ***") {
			t.Errorf("its secret: %s", got)
		}
	}
	if got, err := n.client.Logic(ctx(t), &pb.RunLogicRequest{Id: "porter", Twin: "a", Message: value(t, `{"value":2}`)}, "test"); err != nil || text(got.Message) != `{"n":2}` {
		t.Errorf("after the tries: %v, %v", got, err)
	}
}
