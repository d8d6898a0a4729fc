package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func ms(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Millisecond) }

// queued runs an action in the background with the options of the queue.
func (n *node) queued(id, action, input string, o *pb.CommandOptions) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := n.client.Invoke(ctx(n.t), &pb.InvokeRequest{Id: id, Action: action, Input: value(n.t, input), Options: o}, "tester")
		done <- err
	}()
	return done
}

// waits polls until so many commands wait.
func (n *node) waits(id string, count int) {
	n.t.Helper()
	until(n.t, fmt.Sprintf("%d commands wait", count), func() bool { return int(n.state(id).Queued) == count })
}

// line is a twin with a device that answers by fn.
func (n *node) line(id string, fn func(string) string) *device {
	n.t.Helper()
	if _, err := n.reg.GetDriver("line", ""); err != nil {
		n.driver("line", "1.0.0", tcpTransport)
	}
	d := newDevice(n.t, fn)
	n.twin(`{"id":"` + id + `","driver":"line","uri":"` + d.uri() + `"}`)
	n.wait(id, "ups", "1")
	return d
}

// busy keeps the twin's driver busy until the device says go.
func (n *node) busy(id string, d *device) (release func()) {
	n.t.Helper()
	was := d.heard("busy")
	done := n.queued(id, "ask", `{"text":"busy","timeout_ms":60000}`, nil)
	until(n.t, "the driver is busy", func() bool { return d.heard("busy") == was+1 })
	return func() {
		d.say("go")
		if err := <-done; err != nil {
			n.t.Errorf("what kept the driver busy: %v", err)
		}
	}
}

// A command that is tried again goes before those of its own priority and of somewhat higher ones.
func TestRetriesHaveABonus(t *testing.T) {
	n := newNode(t)
	var asked atomic.Int32
	d := n.line("a", func(line string) string {
		if line == "try" {
			return fmt.Sprint(asked.Add(1) - 1)
		}
		return ""
	})
	flaky := n.queued("a", "flaky", `{"text":"try","times":1}`, nil)
	until(t, "the first try", func() bool { return asked.Load() == 1 })
	release := n.busy("a", d)
	higher := n.queued("a", "send", `{"text":"higher"}`, &pb.CommandOptions{Priority: 60})
	much := n.queued("a", "send", `{"text":"much higher"}`, &pb.CommandOptions{Priority: 90})
	n.waits("a", 3)
	time.Sleep(150 * time.Millisecond) // the wait before the second try is over
	release()
	for _, done := range []<-chan error{flaky, higher, much} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	until(t, "all was sent", func() bool { return d.heard("higher") == 1 })
	if got := strings.Join(d.lines(), ","); got != "try,busy,much higher,try,higher" {
		t.Errorf("sent in the order %s", got)
	}
}

// The next command begins a pause after the one that wanted it; one that awaits no answer is done when it is sent.
func TestPauseAndNoAnswer(t *testing.T) {
	n := newNode(t)
	d := n.line("a", nil)
	const pause = 120
	if err := <-n.queued("a", "later", `{"text":"one"}`, &pb.CommandOptions{NoAnswer: true, Pause: ms(pause)}); err != nil {
		t.Fatalf("a command without an answer: %v", err)
	}
	began := time.Now()
	if err := <-n.queued("a", "send", `{"text":"two"}`, nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < (pause-20)*time.Millisecond {
		t.Errorf("the next command ended %s after the one that wanted a pause of %d ms", took, pause)
	}
	until(t, "both were sent", func() bool { return d.heard("two") == 1 })
}

func TestQueueIsCleared(t *testing.T) {
	n := newNode(t)
	d := n.line("a", nil)
	rejected := func(done <-chan error, why string) {
		t.Helper()
		var e *actors.CommandError
		if err := <-done; !errors.As(err, &e) || e.Outcome != pb.Outcome_OUTCOME_REJECTED || e.Message != why {
			t.Errorf("%v, want rejected: %s", err, why)
		}
	}
	release := n.busy("a", d)
	one := n.queued("a", "note", `{"text":"1"}`, nil)
	two := n.queued("a", "note", `{"text":"2"}`, &pb.CommandOptions{Priority: 99})
	off := n.queued("a", "send", `{"text":"off"}`, &pb.CommandOptions{Clear: true, Priority: 90})
	n.waits("a", 3)
	release()
	if err := <-off; err != nil {
		t.Error(err)
	}
	if err := <-two; err != nil {
		t.Errorf("what came before: %v", err)
	}
	rejected(one, "cleared by send")
	release = n.busy("a", d)
	one = n.queued("a", "note", `{"text":"3"}`, nil)
	n.waits("a", 1)
	if cleared, err := n.client.ClearCommands(ctx(t), "a", "me"); err != nil || cleared != 1 {
		t.Errorf("cleared %d, %v", cleared, err)
	}
	rejected(one, "cleared by me")
	release()
	if got := n.prop("a", "order"); got != `"2"` {
		t.Errorf("notes %s", got)
	}
}

// A model says how the commands of an action queue; a caller may say otherwise.
func TestQueueOfTheModel(t *testing.T) {
	n := newNode(t)
	d := n.line("a", nil)
	release := n.busy("a", d)
	low := n.queued("a", "send", `{"text":"low"}`, &pb.CommandOptions{Priority: 90})
	n.waits("a", 1)
	first := n.queued("a", "power", `null`, nil)
	n.waits("a", 2)
	second := n.queued("a", "power", `null`, nil) // takes the first one's place
	if err := <-first; err == nil || !strings.Contains(err.Error(), "replaced by a newer command power") {
		t.Errorf("the first of two: %v", err)
	}
	other := n.queued("a", "power", `null`, &pb.CommandOptions{Name: "other", Priority: 1})
	n.waits("a", 3)
	release()
	for _, done := range []<-chan error{low, second, other} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	until(t, "all was sent", func() bool { return len(d.lines()) == 4 })
	if got := strings.Join(d.lines(), ","); got != "busy,power,low,power" {
		t.Errorf("sent in the order %s", got)
	}
}

// What the device does not answer is sent again where the model says that this does no harm, and else not.
func TestUnansweredIsSentAgain(t *testing.T) {
	n := newNode(t)
	var heard atomic.Int32
	d := n.line("a", func(line string) string {
		if line == "again" && heard.Add(1) == 3 {
			return "yes"
		}
		return ""
	})
	if err := <-n.queued("a", "again", `{"text":"again"}`, &pb.CommandOptions{Timeout: ms(300)}); err != nil {
		t.Errorf("answered at the third time: %v", err)
	}
	if got := d.heard("again"); got != 3 {
		t.Errorf("sent %d times", got)
	}
	var e *actors.CommandError
	if err := <-n.queued("a", "later", `{"text":"once"}`, &pb.CommandOptions{Timeout: ms(50)}); !errors.As(err, &e) || e.Outcome != pb.Outcome_OUTCOME_TIMED_OUT {
		t.Errorf("not answered: %v", err)
	}
	if got := d.heard("once"); got != 1 {
		t.Errorf("what may not be sent twice was sent %d times", got)
	}
	none := uint32(0)
	if err := <-n.queued("a", "again", `{"text":"never"}`, &pb.CommandOptions{Timeout: ms(50), Retries: &none}); !errors.As(err, &e) || e.Outcome != pb.Outcome_OUTCOME_TIMED_OUT {
		t.Errorf("not answered, without retries: %v", err)
	}
}

// A command that says how long it is valid waits for a device that is away, with a name or without one.
func TestValidityWhileAway(t *testing.T) {
	n := newNode(t)
	d := n.line("a", nil)
	d.close()
	until(t, "the device is away", func() bool {
		return n.state("a").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED
	})
	if err := <-n.queued("a", "send", `{"text":"lost"}`, nil); err == nil {
		t.Error("an unnamed command waits for a device that is away")
	}
	waiting := n.queued("a", "send", `{"text":"waited"}`, &pb.CommandOptions{ValidFor: ms(60_000)})
	short := n.queued("a", "send", `{"text":"too late"}`, &pb.CommandOptions{ValidFor: ms(50)})
	if err := <-short; err == nil || !strings.Contains(err.Error(), "not begun in time") {
		t.Errorf("a short validity: %v", err)
	}
	back := relisten(t, d.l.Addr().String())
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	until(t, "it is sent", func() bool { return back.heard("waited") == 1 })
	if back.heard("too late")+back.heard("lost") > 0 {
		t.Errorf("the device heard %q", back.lines())
	}
}

// What is asked of a device that sleeps waits until it wakes, also over a restart, and then is done by priority.
func TestSleepingDevices(t *testing.T) {
	fs := vfs.NewMem()
	quick := func(o *actors.Options) { o.CheckpointMin = 10 * time.Millisecond }
	n := open(t, fs, 1, quick)
	n.driver("bus", "1.0.0", `{"scheme":"mqtt","subscribe":["dev/{topic}/+"],"publish":["cmd/{topic}/+"]}`)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	offer := func(text string) {
		t.Helper()
		if err := n.offer("dev/a/x", text, 1); err != nil {
			t.Fatal(err)
		}
	}
	offer(`{"level":5}`)
	offer("asleep")
	until(t, "it sleeps", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_SLEEPING })
	if q := n.state("a").Properties["level"].Quality; q != pb.Quality_QUALITY_GOOD {
		t.Errorf("the value of a device that sleeps is %v", q)
	}
	note := func(text string, o *pb.CommandOptions) {
		t.Helper()
		o.NoWait = true
		if err := <-n.queued("a", "note", `{"text":"`+text+`"}`, o); err != nil {
			t.Fatal(err)
		}
	}
	note("b", &pb.CommandOptions{})
	note("a", &pb.CommandOptions{Priority: 80})
	note("x", &pb.CommandOptions{ValidFor: ms(50)}) // it will not be awake by then
	if _, err := n.set("a", "level", "7", 0); err != nil {
		t.Fatal(err)
	}
	if waits := n.state("a").Desired["level"].WaitsFor; !strings.Contains(waits, "sleeps") {
		t.Errorf("it waits for %q", waits)
	}
	until(t, "the short one is given up", func() bool { return n.state("a").Queued == 3 })
	n.close()
	n = open(t, fs, 2, quick)
	until(t, "it sleeps on, and the commands wait", func() bool {
		s := n.state("a")
		return s.Status.Connection == pb.Connection_CONNECTION_SLEEPING && s.Queued == 3
	})
	offer("hello") // it speaks, and sleeps on, as its driver knows
	if s := n.state("a"); s.Queued != 3 || s.Status.Connection != pb.Connection_CONNECTION_SLEEPING {
		t.Errorf("%d wait, %v", s.Queued, s.Status.Connection)
	}
	offer("awake")
	n.wait("a", "order", `"ab"`)
	n.wait("a", "level", "7")
	if c := n.state("a").Status.Connection; c != pb.Connection_CONNECTION_CONNECTED {
		t.Errorf("awake it is %v", c)
	}
}
