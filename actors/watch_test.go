package actors_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (n *node) watch(req *pb.WatchTwinsRequest) *actors.Subscription {
	n.t.Helper()
	s, err := n.client.Watch(context.Background(), req, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	atEnd(n.t, s.Close)
	m, err := s.Next(ctx(n.t))
	if err != nil || !m.GetHeartbeat() {
		n.t.Fatalf("first message %v, %v, want a heartbeat", m, err)
	}
	return s
}

// next gives the next message that is no heartbeat.
func next(t *testing.T, s *actors.Subscription) *actors.Told {
	t.Helper()
	for {
		m, err := s.Next(ctx(t))
		if err != nil {
			t.Fatalf("next: %v", err)
		}
		if !m.GetHeartbeat() {
			return m
		}
	}
}

// nothing says that no message comes, by bringing about one that must come after it.
func only(t *testing.T, s *actors.Subscription, want string) {
	t.Helper()
	if m := next(t, s); m.Id != want {
		t.Fatalf("a message of %s, want the next to be of %s: %v", m.Id, want, m)
	}
}

func TestWatchFirstValueThenChanges(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.IdleTimeout = 50 * time.Millisecond
		o.CheckpointMin = 10 * time.Millisecond
	})
	n.driver("probe", "1.0.0", "")
	for _, id := range []string{"active", "passive"} {
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, id))
		n.must(id, "report", `{"level":1}`)
	}
	until(t, "twins are passive", func() bool { return n.engine.Stats().Active == 0 })
	n.must("active", "report", `{"level":2}`)
	s := n.watch(&pb.WatchTwinsRequest{Properties: []string{"level"}})
	got := map[string]string{}
	for range 2 {
		m := next(t, s)
		if m.GetState() == nil {
			t.Fatalf("the first message of %s is no whole state: %v", m.Id, m)
		}
		got[m.Id] = text(m.GetState().Properties["level"].Value)
	}
	if got["default/active"] != "2" || got["default/passive"] != "1" {
		t.Errorf("first values %v", got)
	}
	// In order, without a gap, through activation and passivation.
	last := 0
	go func() {
		for i := 2; i <= 40; i++ {
			_, _ = n.invoke("passive", "report", fmt.Sprintf(`{"level":%d}`, i))
			if i%10 == 0 {
				time.Sleep(120 * time.Millisecond) // long enough to be passivated
			}
		}
	}()
	for last < 40 {
		m := next(t, s)
		p := m.GetDelta().GetProperties()["level"]
		if m.GetState() != nil {
			p = m.GetState().Properties["level"]
		}
		if m.Id != "default/passive" || p == nil {
			continue
		}
		v := number(text(p.Value))
		if v < last || m.GetDelta() != nil && last > 0 && v != last+1 {
			t.Fatalf("value %d after %d", v, last)
		}
		last = v
	}
}

func TestWatchFilters(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driver("other", "1.0.0", "")
	if _, err := n.reg.PutZone(ctx(t), &pb.Zone{Id: "attic"}); err != nil {
		t.Fatal(err)
	}
	n.twin(`{"id":"plain","driver":"probe"}`)
	n.twin(`{"id":"labelled","driver":"probe","labels":{"floor":"2"}}`)
	n.twin(`{"id":"zoned","driver":"other@1.0.0","zone":"attic"}`)
	n.twin(`{"id":"lab/far","driver":"probe"}`)
	for _, c := range []struct {
		filter *pb.TwinFilter
		want   string
	}{
		{&pb.TwinFilter{Labels: map[string]string{"floor": "2"}}, "default/labelled"},
		{&pb.TwinFilter{Zone: "default/attic"}, "default/zoned"},
		{&pb.TwinFilter{Driver: "other"}, "default/zoned"},
		{&pb.TwinFilter{Project: "lab"}, "lab/far"},
		{&pb.TwinFilter{Text: "LAIN"}, "default/plain"},
		{&pb.TwinFilter{Ids: []string{"plain"}}, "default/plain"},
		{&pb.TwinFilter{Model: "Probe", Zone: "default/attic"}, "default/zoned"},
	} {
		s := n.watch(&pb.WatchTwinsRequest{Filter: c.filter, Events: true})
		only(t, s, c.want)
		for _, id := range []string{"plain", "labelled", "zoned", "lab/far"} {
			n.must(id, "timer", `{"name":"one","after_ms":0,"data":"x"}`)
		}
		for {
			m := next(t, s)
			if m.Id != c.want {
				t.Errorf("%v lets %s through", c.filter, m.Id)
			}
			if m.GetEvent() != nil {
				break
			}
		}
		s.Close()
		list, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: c.filter}, nil)
		if err != nil || len(list.Twins) != 1 || list.Twins[0].Id != c.want {
			t.Errorf("list by %v: %v, %v", c.filter, list.GetTwins(), err)
		}
	}
	s, err := n.client.Watch(context.Background(), &pb.WatchTwinsRequest{}, func(p string) bool { return p == "lab" })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	only(t, s, "lab/far")
}

func TestWatchComesAndGoes(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	s := n.watch(&pb.WatchTwinsRequest{Events: true, Logs: true})
	n.twin(`{"id":"a","driver":"probe"}`)
	if m := next(t, s); m.Id != "default/a" || m.GetState() == nil {
		t.Errorf("a new twin: %v", m)
	}
	n.must("a", "log", `{"text":"hello"}`)
	for {
		if l := next(t, s).GetLog(); l != nil {
			if l.Text != "hello" || l.Level != "info" {
				t.Errorf("log line %v", l)
			}
			break
		}
	}
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	for m := next(t, s); !m.GetDeleted(); m = next(t, s) {
	}
	until(t, "one watcher is left", func() bool { return n.engine.Stats().Watchers == 1 })
	s.Close()
	if _, err := s.Next(ctx(t)); !errors.Is(err, actors.ErrClosed) {
		t.Errorf("next of a closed watch: %v", err)
	}
	until(t, "the watcher is gone", func() bool { return n.engine.Stats().Watchers == 0 })
}

// A slow reader loses changes, learns how many, and gets the whole state.
func TestSlowWatcher(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.WatchQueue = 16 })
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	s := n.watch(&pb.WatchTwinsRequest{})
	next(t, s)
	for i := range 200 {
		n.must("a", "report", fmt.Sprintf(`{"level":%d}`, i%100))
	}
	n.must("a", "report", `{"level":77}`)
	if d := n.engine.Stats().Dropped["watcher_slow"]; d == 0 {
		t.Error("drops are not counted")
	}
	var missed uint64
	level := ""
	for missed == 0 || level != "77" {
		m := next(t, s)
		if m.Missed > 0 && m.GetState() == nil {
			t.Fatalf("after a gap comes %v, want the whole state", m)
		}
		missed += m.Missed
		p := m.GetDelta().GetProperties()["level"]
		if m.GetState() != nil {
			p = m.GetState().Properties["level"]
		}
		if p != nil {
			level = text(p.Value)
		}
	}
	if missed < 150 {
		t.Errorf("missed %d of 201 with a queue of 16", missed)
	}
}

func TestManyWatchers(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"b","driver":"probe"}`)
	n.must("a", "report", `{"level":0}`)
	var all []*actors.Subscription
	for i := range 1000 {
		id := "b"
		if i%2 == 0 {
			id = "a"
		}
		all = append(all, n.watch(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{id}}}))
	}
	for i, s := range all {
		if i%2 == 0 {
			next(t, s)
		}
	}
	// The watchers that come count for the twin's load.
	until(t, "the report is taken", func() bool {
		_, err := n.invoke("a", "report", `{"level":5}`)
		return !errors.Is(err, cluster.ErrOverloaded)
	})
	for i := 0; i < len(all); i += 2 {
		for {
			m := next(t, all[i])
			if p := m.GetDelta().GetProperties()["level"]; p != nil {
				if text(p.Value) != "5" {
					t.Fatalf("watcher %d got %v", i, p)
				}
				break
			}
		}
	}
}

func TestTrace(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, func(line string) string { return "echo " + line })
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"secret":"geheim"}}`, d.uri()))
	n.wait("a", "ups", "1")
	if _, err := n.client.Trace(ctx(t), "nobody"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("trace of no twin: %v", err)
	}
	tr, err := n.client.Trace(ctx(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	n.must("a", "ask", `{"text":"my geheim word","timeout_ms":3000}`)
	var sent, received string
	for received == "" {
		m, err := tr.Next(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		if m.Direction == pb.TraceTwinResponse_DIRECTION_SENT {
			sent += string(m.Data)
		} else {
			received += string(m.Data)
		}
	}
	if sent != "my *** word\n" || received != "echo my *** word\n" {
		t.Errorf("sent %q, received %q", sent, received)
	}
	tr.Close()
	until(t, "the trace has ended", func() bool { return n.engine.Stats().Traces == 0 })
}

// A secret that comes in two pieces does not show, nor does its beginning.
func TestTraceMasksAcrossChunks(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"secret":"geheim"}}`, d.uri()))
	n.wait("a", "ups", "1")
	tr, err := n.client.Trace(ctx(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	chunk := func() string {
		t.Helper()
		m, err := tr.Next(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		return string(m.Data)
	}
	d.write("so geh")
	if got := chunk(); got != "so " {
		t.Errorf("the first piece shows as %q", got)
	}
	d.write("eim\n")
	if got := chunk(); got != "***\n" {
		t.Errorf("the second piece shows as %q", got)
	}
}

// Every change has the queue's length, also for those who watch other properties.
func TestWatchQueued(t *testing.T) {
	n := newNode(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":"tcp://%s"}`, nobody(t)))
	until(t, "it is away", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED })
	all := n.watch(&pb.WatchTwinsRequest{})
	other := n.watch(&pb.WatchTwinsRequest{Properties: []string{"on"}})
	next(t, all)
	next(t, other)
	for i := range 3 {
		if _, err := n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: "a", Action: "count",
			Options: &pb.CommandOptions{Name: fmt.Sprint("n", i), NoWait: true}}, "tester"); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*actors.Subscription{all, other} {
		for next(t, s).GetDelta().GetQueued() != 3 {
		}
	}
	if _, err := n.set("a", "level", "1", time.Minute); err != nil {
		t.Fatal(err)
	}
	if d := next(t, all).GetDelta(); d.GetDesired()["level"] == nil || d.Queued != 3 {
		t.Errorf("the change of what is asked says %v", d)
	}
	for _, s := range []*actors.Subscription{all, other} {
		if d := next(t, s).GetDelta(); d.GetQueued() != 4 {
			t.Errorf("with a fourth command: %v", d)
		}
	}
	if q := n.state("a").Queued; q != 4 {
		t.Errorf("%d commands wait", q)
	}
}

// Watchers hear that the device speaks, but not at each of its words.
func TestWatchSeen(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	n.deliver("dev/a1/state", `{"level":1}`, 1)
	s := n.watch(&pb.WatchTwinsRequest{})
	first := next(t, s).GetState().GetStatus().GetLastSeen().AsTime()
	began, sent := time.Now(), 0
	for time.Since(began) < 2500*time.Millisecond {
		n.deliver("dev/a1/state", `{"level":1}`, 1)
		sent++
		time.Sleep(10 * time.Millisecond)
	}
	n.deliver("dev/a1/state", `{"level":2}`, 1)
	told := 0
	for {
		d := next(t, s).GetDelta()
		if st := d.GetStatus(); st != nil {
			at := st.LastSeen.AsTime()
			if at.Sub(first) < time.Second {
				t.Errorf("told after %s", at.Sub(first))
			}
			first = at
			told++
		}
		if p := d.GetProperties()["level"]; p != nil && text(p.Value) == "2" {
			break
		}
	}
	if took := int(time.Since(began).Seconds()); told < 1 || told > took+1 {
		t.Errorf("told %d times in %d s, of %d messages", told, took, sent)
	}
}

// A turn's changes are one message, which those who watch the same share, with what it is on the wire.
func TestWatchersShareMessages(t *testing.T) {
	n := newNode(t)
	n.sensors("a")
	level, echo := []string{"level"}, []string{"echo", "level"}
	var subs []*actors.Subscription
	for _, props := range [][]string{nil, nil, level, level, echo, {"level", "echo"}} {
		subs = append(subs, n.watch(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"a"}}, Properties: props}))
		next(t, subs[len(subs)-1])
	}
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: "echo", Value: structpb.NewNumberValue(7)}, "tester"); err != nil {
		t.Fatal(err)
	}
	n.absorb("a", `{"level":3}`, 0)
	told := func(s *actors.Subscription, property string) *actors.Told {
		for {
			if m := next(t, s); m.GetDelta().GetProperties()[property] != nil {
				return m
			}
		}
	}
	for i := 0; i < len(subs); i += 2 {
		one, other := subs[i], subs[i+1]
		if i != 2 {
			m := told(one, "echo")
			if d := m.GetDelta(); d.Desired["echo"].GetProgress() != pb.Progress_PROGRESS_CONFIRMED {
				t.Errorf("the value came without what was asked: %v", d)
			}
			if told(other, "echo") != m {
				t.Errorf("watchers %d and %d were given two messages", i, i+1)
			}
		}
		m := told(one, "level")
		if told(other, "level") != m {
			t.Errorf("watchers %d and %d were given two messages", i, i+1)
		}
		for range 2 {
			wire, err := m.Binary()
			back := &pb.WatchTwinsResponse{}
			if err != nil || proto.Unmarshal(wire, back) != nil || !proto.Equal(back, m.WatchTwinsResponse) {
				t.Errorf("its binary form is %v, %v, want %v", back, err, m)
			}
			text, err := m.JSON()
			back = &pb.WatchTwinsResponse{}
			if err != nil || protojson.Unmarshal(text, back) != nil || !proto.Equal(back, m.WatchTwinsResponse) {
				t.Errorf("its JSON is %s, %v, want %v", text, err, m)
			}
		}
	}
}

// The version of the driver that runs is news, also to who watches one property.
func TestWatchersLearnTheVersion(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	s := n.watch(&pb.WatchTwinsRequest{Properties: []string{"level"}})
	n.twin(`{"id":"a","driver":"probe"}`)
	learns := func(version string) {
		t.Helper()
		for told := ""; told != version; {
			m := next(t, s)
			told = m.GetDelta().GetDriverVersion() + m.GetState().GetDriverVersion()
			if told != "" && told != version {
				t.Fatalf("told version %s, want %s", told, version)
			}
		}
	}
	n.must("a", "report", `{"level":1}`)
	learns("1.0.0")
	n.driver("probe", "1.1.0", "")
	learns("1.1.0")
}
