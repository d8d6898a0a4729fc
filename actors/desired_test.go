package actors_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (n *node) set(id, property, v string, valid time.Duration) (*pb.Desired, error) {
	n.t.Helper()
	r, err := n.client.SetDesired(ctx(n.t), &pb.SetDesiredRequest{Id: id, Property: property, Value: value(n.t, v),
		ValidFor: durationpb.New(valid)}, "tester")
	return r.GetDesired(), err
}

func (n *node) progress(id, property string, want pb.Progress) *pb.Desired {
	n.t.Helper()
	var d *pb.Desired
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if d = n.state(id).Desired[property]; d.GetProgress() == want {
			return d
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s of %s is %v after %s, want %v", property, id, d, patience, want)
		}
	}
}

func TestDesiredConfirmed(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	d, err := n.set("a", "level", "42", time.Minute)
	if err != nil || d.Progress != pb.Progress_PROGRESS_ASKED || d.Revision != 1 || d.By != "tester" || text(d.Value) != "42" {
		t.Fatalf("asked: %v, %v", d, err)
	}
	n.progress("a", "level", pb.Progress_PROGRESS_CONFIRMED)
	if got := n.prop("a", "level"); got != "42" {
		t.Errorf("the device reports %s", got)
	}
	if d, err := n.set("a", "level", "42", time.Minute); err != nil || d.Revision != 2 {
		t.Errorf("the same again: %v, %v", d, err)
	}
	n.progress("a", "level", pb.Progress_PROGRESS_CONFIRMED) // though no property changes
	if d, err := n.set("a", "level", "43", time.Minute); err != nil || d.Revision != 3 {
		t.Errorf("asked again: %v, %v", d, err)
	}
	for _, c := range []struct{ property, value, path string }{
		{"level", "101", "/value"}, {"level", `"x"`, "/value"}, {"count", "1", "/property"}, {"nope", "1", "/property"},
	} {
		_, err := n.set("a", c.property, c.value, time.Minute)
		var field *actors.InvalidError
		if !errors.As(err, &field) || field.Path != c.path {
			t.Errorf("%s = %s: %v, want path %s", c.property, c.value, err, c.path)
		}
	}
}

// A mute device is told, and confirms when it speaks; one that never does lets the value expire.
func TestDesiredSentThenConfirmedOrExpired(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"mute":true}}`, d.uri()))
	if _, err := n.set("a", "level", "5", time.Minute); err != nil {
		t.Fatal(err)
	}
	n.progress("a", "level", pb.Progress_PROGRESS_SENT)
	until(t, "the device is told", func() bool { return d.heard("level=5") == 1 })
	d.say(`{"level":4}`)
	n.wait("a", "level", "4")
	if p := n.state("a").Desired["level"].Progress; p != pb.Progress_PROGRESS_SENT {
		t.Errorf("another value makes it %v", p)
	}
	d.say(`{"level":5}`)
	n.progress("a", "level", pb.Progress_PROGRESS_CONFIRMED)

	if _, err := n.set("a", "on", "true", 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if e := n.progress("a", "on", pb.Progress_PROGRESS_EXPIRED); e.Error == "" {
		t.Error("an expired value does not say why")
	}
}

// A device that answers later was told as soon as the bytes went out, also where it refuses then.
func TestDesiredSentBeforeTheAnswer(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CommandTimeout = time.Minute })
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"mute":true,"later":true}}`, d.uri()))
	n.wait("a", "ups", "1")
	s := n.watch(&pb.WatchTwinsRequest{})
	next(t, s)
	told := func(want pb.Progress) *pb.Desired {
		t.Helper()
		for {
			if x := next(t, s).GetDelta().GetDesired()["level"]; x != nil {
				if x.Progress != want {
					t.Fatalf("watchers are told %v, want %v", x, want)
				}
				return x
			}
		}
	}
	if _, err := n.set("a", "level", "5", time.Minute); err != nil {
		t.Fatal(err)
	}
	told(pb.Progress_PROGRESS_ASKED)
	told(pb.Progress_PROGRESS_SENT)
	until(t, "it is committed", func() bool {
		list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true}, nil)
		return err == nil && list.Twins[0].State.Desired["level"].GetProgress() == pb.Progress_PROGRESS_SENT
	})
	d.say("no")
	if x := told(pb.Progress_PROGRESS_REJECTED); x.Error != "the device said no" {
		t.Errorf("refused: %v", x)
	}
	if _, err := n.set("a", "level", "6", time.Minute); err != nil {
		t.Fatal(err)
	}
	told(pb.Progress_PROGRESS_ASKED)
	told(pb.Progress_PROGRESS_SENT)
	d.say("yes")
	d.say(`{"level":6}`)
	told(pb.Progress_PROGRESS_CONFIRMED)
}

// Where callers name the place in the queue, the newer one has it, whatever it sets.
func TestDesiredUnderAName(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"mute":true}}`, d.uri()))
	n.wait("a", "ups", "1")
	addr := d.l.Addr().String()
	d.close()
	until(t, "the loss is seen", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED })
	set := func(property, v, name string) {
		t.Helper()
		if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: property, Value: value(t, v),
			ValidFor: durationpb.New(time.Minute), Options: &pb.CommandOptions{Name: name}}, "tester"); err != nil {
			t.Fatal(err)
		}
	}
	set("level", "1", "")
	set("level", "2", "scene")
	if q := n.state("a").Queued; q != 1 {
		t.Errorf("%d commands wait, want the newer one", q)
	}
	set("on", "true", "scene")
	if x := n.progress("a", "level", pb.Progress_PROGRESS_REJECTED); x.Error != "replaced by a newer command scene" {
		t.Errorf("replaced: %v", x)
	}
	again := relisten(t, addr)
	n.progress("a", "on", pb.Progress_PROGRESS_SENT)
	until(t, "the device is told", func() bool { return again.heard("on=true") == 1 })
	if got := again.lines(); len(got) != 1 {
		t.Errorf("the device heard %q", got)
	}
}

func TestUnknownNames(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	_, err := n.set("a", "levle", "1", time.Minute)
	if want := "twin default/a: invalid /property: levle is unknown to the model; did you mean level?"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = n.set("a", "count", "1", time.Minute)
	if want := "twin default/a: invalid /property: count is read only"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = n.invoke("a", "ehco", "")
	if want := "twin default/a: invalid /action: ehco is unknown to the model; did you mean echo?"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// What was asked while the device was away, or before the node died, is asked again when the device is back.
func TestDesiredSurvives(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"mute":true}}`, d.uri()))
	n.wait("a", "ups", "1")
	addr := d.l.Addr().String()
	d.close()
	until(t, "the loss is seen", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED })
	if _, err := n.set("a", "level", "7", time.Minute); err != nil {
		t.Fatal(err)
	}
	if p := n.state("a").Desired["level"].Progress; p != pb.Progress_PROGRESS_ASKED {
		t.Errorf("while the device is away it is %v", p)
	}
	again := relisten(t, addr)
	until(t, "the device is told", func() bool { return again.heard("level=7") == 1 })
	n.progress("a", "level", pb.Progress_PROGRESS_SENT)
	n.close()

	n = open(t, fs, 2)
	until(t, "the device is told again", func() bool { return again.heard("level=7") == 2 })
	again.say(`{"level":7}`)
	n.progress("a", "level", pb.Progress_PROGRESS_CONFIRMED)
}

// Acknowledged is committed: the record in the store has it, whatever the checkpoint's interval is.
func TestDesiredCommitted(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CheckpointMin = time.Hour; o.CheckpointMax = time.Hour })
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	for i := range 20 {
		if _, err := n.set("a", "level", fmt.Sprint(i), time.Minute); err != nil {
			t.Fatal(err)
		}
		list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(list.Twins[0].State.Desired["level"].GetValue()); got != fmt.Sprint(i) {
			t.Fatalf("after the acknowledgement of %d the store has %s", i, got)
		}
	}
}

// What watchers were told is refused stays so: a node that is killed does not tell the device again.
func TestRejectedIsCommitted(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	long := func(o *actors.Options) { o.CheckpointMin, o.CheckpointMax = time.Hour, time.Hour }
	n := open(t, fs, 1, long)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"mute":true,"later":true}}`, d.uri()))
	n.wait("a", "ups", "1")
	s := n.watch(&pb.WatchTwinsRequest{})
	next(t, s)
	if _, err := n.set("a", "level", "5", time.Hour); err != nil {
		t.Fatal(err)
	}
	until(t, "the device is told", func() bool { return d.heard("level=5") == 1 })
	d.say("no")
	for {
		if x := next(t, s).GetDelta().GetDesired()["level"]; x.GetProgress() == pb.Progress_PROGRESS_REJECTED {
			break
		}
	}
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()

	n = open(t, left, 2, long)
	n.wait("a", "ups", "1")
	if x := n.state("a").Desired["level"]; x.GetProgress() != pb.Progress_PROGRESS_REJECTED || x.Error != "the device said no" {
		t.Errorf("after the crash: %v", x)
	}
	n.must("a", "send", `{"text":"after"}`)
	until(t, "the device hears", func() bool { return d.heard("after") == 1 })
	if got := d.heard("level=5"); got != 1 {
		t.Errorf("the device was told %d times", got)
	}
}

// A device that is busy for longer than some tries take is asked until the value expires; where the caller counts the
// tries, until they are used up.
func TestDesiredOfABusyDevice(t *testing.T) {
	n := newNode(t)
	var told, busyFor atomic.Int32
	d := newDevice(t, func(string) string {
		if told.Add(1) <= busyFor.Load() {
			return "busy"
		}
		return "yes"
	})
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"mute":true,"later":true}}`, d.uri()))
	n.wait("a", "ups", "1")
	busyFor.Store(4) // more often than a command is tried again by default
	if _, err := n.set("a", "level", "5", time.Hour); err != nil {
		t.Fatal(err)
	}
	until(t, "the device takes it", func() bool { return told.Load() == 5 })
	d.say(`{"level":5}`)
	n.progress("a", "level", pb.Progress_PROGRESS_CONFIRMED)

	told.Store(0)
	busyFor.Store(1000)
	if _, err := n.set("a", "level", "6", 600*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if x := n.progress("a", "level", pb.Progress_PROGRESS_EXPIRED); x.Error != "not confirmed in time: the device is busy" {
		t.Errorf("expired: %v", x)
	}
	if got := told.Load(); got < 2 {
		t.Errorf("the device was told %d times", got)
	}

	told.Store(0)
	one := uint32(1)
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: "level", Value: value(t, "7"),
		ValidFor: durationpb.New(time.Hour), Options: &pb.CommandOptions{Retries: &one}}, "tester"); err != nil {
		t.Fatal(err)
	}
	if x := n.progress("a", "level", pb.Progress_PROGRESS_REJECTED); x.Error != "the device is busy" || told.Load() != 2 {
		t.Errorf("one retry: %v after %d tries", x, told.Load())
	}
}
