package actors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// say publishes to a topic.
func (n *node) say(id, key, payload string) {
	n.t.Helper()
	_, err := n.client.Topics().Publish(ctx(n.t), &pb.PublishRequest{Topic: id, Messages: []*pb.TopicMessage{{Key: key, Payload: []byte(payload),
		Headers: map[string]string{"from": "test"}}}})
	if err != nil {
		n.t.Fatal(err)
	}
}

// keptBy gives what a logic keeps: of a twin, or "" for all.
func (n *node) keptBy(logic, twin string, into any) bool {
	n.t.Helper()
	for rec, err := range n.store.Scan("logicstate", twin+"\x00"+logic+"\x00", "") {
		if err != nil || json.Unmarshal(rec.Value, into) != nil {
			n.t.Fatalf("what %s keeps: %v", logic, err)
		}
		return true
	}
	return false
}

// ledger gives what the logic ledger has seen.
func (n *node) ledger() []string {
	var kept struct{ Seen []string }
	n.keptBy("default/ledger", "", &kept)
	return kept.Seen
}

// quick has a channel give again at once what failed.
func (n *node) quick(id, name string, attempts uint32) {
	n.t.Helper()
	_, err := n.client.Topics().PutChannel(ctx(n.t), &pb.PutChannelRequest{Topic: id, Name: name, Settings: &pb.ChannelSettings{MaxAttempts: attempts,
		BackoffMin: durationpb.New(10 * time.Millisecond), BackoffMax: durationpb.New(50 * time.Millisecond)}})
	if err != nil {
		n.t.Fatal(err)
	}
}

// idle waits until a channel has nothing that is not settled.
func (n *node) idle(id, name string) *pb.Channel {
	n.t.Helper()
	var c *pb.Channel
	until(n.t, "all of "+id+" is settled", func() bool {
		all, err := n.client.Topics().Channels(ctx(n.t), id)
		i := slices.IndexFunc(all, func(c *pb.Channel) bool { return c.Name == name })
		if err != nil || i < 0 || all[i].Lag > 0 || all[i].Position == 0 {
			return false
		}
		c = all[i]
		return true
	})
	return c
}

// once checks that each message was seen once, and those of a key in their order.
func once(t *testing.T, seen []string, keys, each int) {
	t.Helper()
	next := map[string]int{}
	for _, s := range seen {
		key, text, _ := strings.Cut(s, ":")
		if text != fmt.Sprint(next[key]) {
			t.Fatalf("%s has %s where %d comes next: %v", key, text, next[key], seen)
		}
		next[key]++
	}
	if len(seen) != keys*each {
		t.Errorf("it saw %d messages, want %d: %v", len(seen), keys*each, seen)
	}
}

// TestLogicReadsATopic: a logic that is bound to a topic is given its messages, those of a key in their order; what it keeps and their
// settlement go together, what it refuses comes again and is a dead letter in the end, and a crash costs nobody else an attempt.
func TestLogicReadsATopic(t *testing.T) {
	n := newNode(t)
	n.logic("ledger.js")
	n.sensors("a")
	n.stream("default/orders")
	n.say("default/orders", "x", `{"n":"before"}`) // nobody was bound
	n.quick("default/orders", "ledger", 3)
	n.twin(`{"id":"ledger","driver":"ledger","reads":[{"topic":"orders"}]}`)
	if got, err := n.reg.GetTwin("default/ledger"); err != nil || len(got.Reads) != 1 || got.Reads[0].Topic != "default/orders" || got.Reads[0].Channel != "ledger" {
		t.Fatalf("it reads %v: %v", got.GetReads(), err)
	}
	for _, m := range []struct{ key, payload string }{{"x", `{"n":0,"fails":2}`}, {"y", `{"n":0,"note":true}`}, {"x", `{"n":1,"crash":true}`},
		{"y", `{"n":1,"fails":99}`}, {"default/a", `{"n":5}`}, {"x", `{"n":2}`}, {"", `no JSON`}, {"y", `{"n":3}`}} {
		n.say("default/orders", m.key, m.payload)
	}
	c := n.idle("default/orders", "ledger")
	seen := n.ledger()
	of := func(key string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(seen), func(s string) bool { return !strings.HasPrefix(s, key+":") }), " ")
	}
	if of("x") != "x:0 x:1 x:2" || of("y") != "y:0 y:3" || of("") != ":no JSON" || of("default/a") != "default/a:5" || len(seen) != 7 {
		t.Errorf("it saw %v", seen)
	}
	if c.Dead != 1 || c.Acknowledged != 7 {
		t.Errorf("the channel is %v", c)
	}
	letter := n.inTopic("default/orders.dead")
	if len(letter) != 1 || !strings.Contains(letter[0].headers[topic.HeaderReason], "logic default/ledger refused it: not at attempt 3") {
		t.Errorf("dead letters %+v", letter)
	}
	var a struct {
		By, ID  string
		Headers map[string]string
		Attempt int
		N       int
	}
	if !n.keptBy("default/ledger", "default/a", &a) || a.By != "topic/default/orders" || a.ID == "" || a.Headers["from"] != "test" || a.Attempt != 1 || a.N != 5 {
		t.Errorf("of a it keeps %+v", a)
	}
	n.wait("ledger", "notes", "1")
	until(t, "what was settled is forgotten", func() bool { return n.records("settled", "") == 0 })
	list, err := n.reg.ListLogics(&pb.ListLogicsRequest{}, nil)
	if err != nil || len(list.Logics) != 1 || len(list.Logics[0].Reads) != 1 || list.Logics[0].Counts.Failed != 6 {
		t.Errorf("it is listed as %v: %v", list, err)
	}
	// Unbound, it hears nothing.
	got, err := n.reg.GetTwin("default/ledger")
	if err != nil {
		t.Fatal(err)
	}
	got.Reads = nil
	if _, err := n.reg.UpdateTwin(ctx(t), got); err != nil {
		t.Fatal(err)
	}
	if n.records("reading", "") != 0 {
		t.Error("it is still bound")
	}
	for _, bad := range []struct{ twin, path string }{{`{"id":"l2","driver":"ledger","reads":[{"topic":"nowhere"}]}`, "/reads/0/topic"},
		{`{"id":"l2","driver":"ledger","reads":[{"topic":"orders"},{"topic":"default/orders","channel":"two"}]}`, "/reads/1/topic"},
		{`{"id":"l2","driver":"ledger","reads":[{"topic":"other/orders"}]}`, "/reads/0/topic"}, {`{"id":"a2","model":"sensor","reads":[{"topic":"orders"}]}`, "/reads"}} {
		var inv *actors.InvalidError
		m := &pb.Twin{}
		if err := protojson.Unmarshal([]byte(bad.twin), m); err != nil {
			t.Fatal(err)
		}
		if _, err := n.reg.CreateTwin(ctx(t), m); !errors.As(err, &inv) || inv.Path != bad.path {
			t.Errorf("%s: %v, want %s", bad.twin, err, bad.path)
		}
	}
}

// TestLogicReplacesNothing: behind a logic that reads a topic there is nobody for whom it could replace a message. It is told so.
func TestLogicReplacesNothing(t *testing.T) {
	n := newNode(t)
	n.source(`export default logic({ name: 'changes', version: '1.0.0', run(message, context) {
		context.memory.script.seen = (context.memory.script.seen ?? 0) + 1;
		return message.change ? context.replace({ changed: true }) : message.stop ? context.stop() : context.pass();
	} });`)
	n.stream("default/orders")
	n.quick("default/orders", "changes", 2)
	n.twin(`{"id":"changes","driver":"changes","reads":[{"topic":"orders"}]}`)
	for _, payload := range []string{`{"change":true}`, `{"stop":true}`, `{}`} {
		n.say("default/orders", payload, payload)
	}
	if c := n.idle("default/orders", "changes"); c.Dead != 1 || c.Acknowledged != 2 {
		t.Errorf("the channel is %v", c)
	}
	letter := n.inTopic("default/orders.dead")
	if len(letter) != 1 || !strings.Contains(letter[0].headers[topic.HeaderReason], "run replaced a message of topic/default/orders, which goes nowhere from here") {
		t.Errorf("dead letters %+v", letter)
	}
	var kept struct{ Seen int }
	if n.keptBy("default/changes", "", &kept); kept.Seen != 2 {
		t.Errorf("it keeps %+v: what it did with the one that it replaced is to have no effect", kept)
	}
}

// TestLogicReadsAfterCrash: the node's end in the middle of a topic has nothing left out, and nothing count twice.
func TestLogicReadsAfterCrash(t *testing.T) {
	t.Parallel() // the topic waits for the reader that is gone
	const keys, each = 4, 12
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1)
	n.logic("ledger.js")
	n.stream("default/orders")
	n.twin(`{"id":"ledger","driver":"ledger","reads":[{"topic":"orders"}]}`)
	for i := range keys * each {
		n.say("default/orders", fmt.Sprint("k", i%keys), fmt.Sprintf(`{"n":%d}`, i/keys))
	}
	until(t, "some are read", func() bool { return len(n.ledger()) >= 5 })
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, fs, 2)
	until(t, "all are read", func() bool { return len(n.ledger()) >= keys*each })
	n.idle("default/orders", "ledger")
	once(t, n.ledger(), keys, each)
}

// TestLogicReadsAfterAMove: another node goes on where the one that left was, while messages come.
func TestLogicReadsAfterAMove(t *testing.T) {
	const keys, each = 3, 30
	a, b := pair(t)
	a.logic("ledger.js")
	a.stream("default/orders")
	a.twin(`{"id":"ledger","driver":"ledger","reads":[{"topic":"orders"}]}`)
	b.seen("ledger")
	for i := range keys * each {
		a.say("default/orders", fmt.Sprint("k", i%keys), fmt.Sprintf(`{"n":%d}`, i/keys))
		if i%30 == 15 {
			until(t, "some are read", func() bool { return len(a.ledger()) > i/2 })
			owner := a.owner("reader/default/ledger")
			a.drain(owner)
			if a.owner("reader/default/ledger") == owner {
				t.Fatal("it did not move")
			}
			a.undrain(owner)
		}
	}
	until(t, "all are read", func() bool { return len(a.ledger()) >= keys*each })
	a.idle("default/orders", "ledger")
	once(t, a.ledger(), keys, each)
}

// away has the files of drivers not be here until it is told.
func away(here *atomic.Bool) option {
	return func(o *actors.Options) {
		inner := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			if !here.Load() {
				return nil, fmt.Errorf("blob %s: %w", digest, storage.ErrNoSuchBlob)
			}
			return inner(ctx, digest)
		}
	}
}

// TestLogicWaitsForItsFile: messages of a route, of a topic and of a caller wait while the logic's file has not arrived.
func TestLogicWaitsForItsFile(t *testing.T) {
	var here atomic.Bool
	n := newNode(t, away(&here))
	n.logic("ledger.js")
	n.sensors("a")
	n.stream("default/orders")
	n.stream("default/out")
	n.twin(`{"id":"ledger","driver":"ledger","reads":[{"topic":"orders"}]}`)
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "ledger", Properties: []string{"level"}})
	n.say("default/orders", "x", `{"n":0}`)
	n.level("a", 7)
	called := make(chan error, 1)
	go func() {
		_, err := n.client.Logic(context.Background(), &pb.RunLogicRequest{Id: "ledger", Message: value(t, `{"n":1}`)}, "test")
		called <- err
	}()
	until(t, "somebody waits for the file", func() bool {
		list, err := n.reg.ListLogics(&pb.ListLogicsRequest{}, nil)
		return err == nil && strings.Contains(list.Logics[0].Fault, "no such blob")
	})
	here.Store(true)
	if err := <-called; err != nil {
		t.Errorf("a caller: %v", err)
	}
	until(t, "the route's message has passed", func() bool { return len(n.payloads("default/out")) == 1 })
	if c := n.idle("default/orders", "ledger"); c.Redelivered > 0 || c.Dead > 0 {
		t.Errorf("waiting cost attempts: %v", c)
	}
	if dead := n.payloads("default/route.r.dead"); len(dead) > 0 {
		t.Errorf("dead letters %v", dead)
	}
}

// TestLogicWaitsForItsFileNotForEver: after that time they are dead letters, with the reason.
func TestLogicWaitsForItsFileNotForEver(t *testing.T) {
	var here atomic.Bool
	n := newNode(t, away(&here), func(o *actors.Options) { o.FileWait = 300 * time.Millisecond })
	n.logic("ledger.js")
	n.sensors("a")
	n.stream("default/out")
	n.twin(`{"id":"ledger","driver":"ledger"}`)
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "ledger", Properties: []string{"level"}})
	n.level("a", 7)
	until(t, "it is a dead letter", func() bool { return len(n.inTopic("default/route.r.dead")) == 1 })
	if why := n.inTopic("default/route.r.dead")[0].headers[topic.HeaderReason]; !strings.Contains(why, "no such blob") {
		t.Errorf("because of %q", why)
	}
	here.Store(true)
	n.level("a", 8)
	until(t, "the next one passes", func() bool { return len(n.payloads("default/out")) == 1 })
}
