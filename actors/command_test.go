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
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// gate is a device that answers the line "block" only when opened, and "n" with how often it was asked.
type gate struct {
	*device
	open  chan struct{}
	asked atomic.Int32
}

func newGate(t *testing.T) *gate {
	g := &gate{open: make(chan struct{})}
	g.device = newDevice(t, func(line string) string {
		switch line {
		case "block":
			<-g.open
			return "go"
		case "n":
			return fmt.Sprint(g.asked.Add(1))
		}
		return ""
	})
	atEnd(t, func() {
		select {
		case <-g.open:
		default:
			close(g.open)
		}
	})
	return g
}

// busy opens a node with a twin whose driver waits for the gate.
func busy(t *testing.T, opts ...option) (*node, *gate, chan error) {
	t.Helper()
	n, g := newNode(t, opts...), newGate(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	n.wait("a", "ups", "1")
	blocked := make(chan error, 1)
	go func() {
		_, err := n.invoke("a", "ask", `{"text":"block","timeout_ms":4000}`)
		blocked <- err
	}()
	until(t, "the driver waits", func() bool { return g.heard("block") == 1 })
	return n, g, blocked
}

// start invokes in the background; the call is in the queue when it returns.
func (n *node) start(req *pb.InvokeRequest) chan error {
	n.t.Helper()
	before := n.engine.Stats().Queued
	done := make(chan error, 1)
	go func() {
		_, err := n.client.Invoke(ctx(n.t), req, "tester")
		done <- err
	}()
	until(n.t, "the command is queued", func() bool { return n.engine.Stats().Queued > before || len(done) > 0 })
	return done
}

func (n *node) note(letter string, o *pb.CommandOptions) *pb.InvokeRequest {
	return &pb.InvokeRequest{Id: "a", Action: "note", Input: value(n.t, fmt.Sprintf(`{"text":%q}`, letter)), Options: o}
}

func outcome(err error) pb.Outcome {
	var e *actors.CommandError
	if errors.As(err, &e) {
		return e.Outcome
	}
	return 0
}

func TestQueueOrder(t *testing.T) {
	n, g, blocked := busy(t)
	var all []chan error
	for _, c := range []struct {
		letter   string
		priority uint32
	}{{"c", 0}, {"e", 10}, {"a", 90}, {"d", 0}, {"b", 90}} {
		all = append(all, n.start(n.note(c.letter, &pb.CommandOptions{Priority: c.priority})))
	}
	if q := n.state("a").Queued; q != 5 {
		t.Errorf("%d commands queued, want 5; reads are answered while a call runs", q)
	}
	close(g.open)
	for _, done := range append(all, blocked) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := n.prop("a", "order"); got != `"abcde"` {
		t.Errorf("order %s, want abcde", got)
	}
}

func TestReplacement(t *testing.T) {
	n, g, blocked := busy(t)
	first := n.start(n.note("x", &pb.CommandOptions{Name: "volume"}))
	other := n.start(n.note("o", &pb.CommandOptions{Name: "other"}))
	second := n.note("y", &pb.CommandOptions{Name: "volume"})
	last := make(chan error, 1)
	go func() {
		_, err := n.client.Invoke(ctx(t), second, "tester")
		last <- err
	}()
	err := <-first
	if outcome(err) != pb.Outcome_OUTCOME_REJECTED || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("the replaced command: %v", err)
	}
	close(g.open)
	for _, done := range []chan error{other, last, blocked} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := n.prop("a", "order"); got != `"oy"` {
		t.Errorf("order %s, want oy", got)
	}
}

func TestRetriesAndTimeouts(t *testing.T) {
	n, g := newNode(t), newGate(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	retries := func(r uint32) *pb.CommandOptions { return &pb.CommandOptions{Retries: &r} }
	flaky := func(times int, o *pb.CommandOptions) error {
		g.asked.Store(0)
		_, err := n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: "a", Action: "flaky",
			Input: value(t, fmt.Sprintf(`{"text":"n","times":%d}`, times)), Options: o}, "tester")
		return err
	}
	if err := flaky(4, nil); err != nil || g.asked.Load() != 4 {
		t.Errorf("three retries by default: %v after %d tries", err, g.asked.Load())
	}
	if err := flaky(3, retries(1)); outcome(err) != pb.Outcome_OUTCOME_REJECTED || g.asked.Load() != 2 {
		t.Errorf("one retry: %v after %d tries", err, g.asked.Load())
	}
	if err := flaky(2, retries(0)); outcome(err) != pb.Outcome_OUTCOME_REJECTED || g.asked.Load() != 1 {
		t.Errorf("no retry: %v after %d tries", err, g.asked.Load())
	}
	began := time.Now()
	_, err := n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: "a", Action: "ask", Input: value(t, `{"text":"silence","timeout_ms":9000}`),
		Options: &pb.CommandOptions{Timeout: durationpb.New(200 * time.Millisecond)}}, "tester")
	if o := outcome(err); o != pb.Outcome_OUTCOME_TIMED_OUT || time.Since(began) > 30*time.Second {
		t.Errorf("a silent device: %v after %s", err, time.Since(began))
	}
	if f := n.state("a").Status.Fault; f != "" {
		t.Errorf("a silent device is the driver's fault: %s", f)
	}
	r, err := n.client.Invoke(ctx(t), n.note("d", &pb.CommandOptions{Delay: durationpb.New(150 * time.Millisecond), NoWait: true}), "tester")
	if err != nil || r.Outcome != pb.Outcome_OUTCOME_QUEUED {
		t.Errorf("no_wait: %v, %v", r, err)
	}
	if _, err := n.client.Invoke(ctx(t), n.note("n", nil), "tester"); err != nil {
		t.Error(err)
	}
	n.wait("a", "order", `"nd"`)
}

func TestPendingAnswers(t *testing.T) {
	g := newDevice(t, func(line string) string {
		switch line {
		case "two":
			return "wait\nready"
		case "bye":
			return ""
		}
		return ""
	})
	n := newNode(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	if got := n.must("a", "later", `{"text":"two"}`); !strings.Contains(got, `"ready"`) {
		t.Errorf("the answer that came later is %s", got)
	}
	_, err := n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: "a", Action: "later", Input: value(t, `{"text":"silence"}`),
		Options: &pb.CommandOptions{Timeout: durationpb.New(100 * time.Millisecond)}}, "tester")
	if outcome(err) != pb.Outcome_OUTCOME_TIMED_OUT {
		t.Errorf("no answer: %v", err)
	}
	done := n.start(&pb.InvokeRequest{Id: "a", Action: "later", Input: value(t, `{"text":"bye"}`)})
	until(t, "the device has it", func() bool { return g.heard("bye") == 1 })
	g.hangUp()
	if err := <-done; outcome(err) != pb.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("a connection lost before the answer: %v", err)
	}
}

func TestBoundsOfTheQueue(t *testing.T) {
	n, g, blocked := busy(t, func(o *actors.Options) { o.CommandQueue = 4 })
	var all []chan error
	for range 4 {
		all = append(all, n.start(n.note("x", nil)))
	}
	if _, err := n.client.Invoke(ctx(t), n.note("y", nil), "tester"); !errors.Is(err, cluster.ErrOverloaded) {
		t.Errorf("the fifth command: %v", err)
	}
	close(g.open)
	for _, done := range append(all, blocked) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	until(t, "the queue is empty", func() bool { return n.engine.Stats().Queued == 0 })
	if s := n.engine.Stats(); s.Dropped["queue_full"] != 1 {
		t.Errorf("dropped %v", s.Dropped)
	}
}

func TestOffline(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, d.uri()))
	n.wait("a", "ups", "1")
	addr := d.l.Addr().String()
	d.close()
	until(t, "the loss is seen", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED })
	if _, err := n.invoke("a", "send", `{"text":"x"}`); outcome(err) != pb.Outcome_OUTCOME_REJECTED {
		t.Errorf("an unnamed command to a device that is not there: %v", err)
	}
	kept := n.start(&pb.InvokeRequest{Id: "a", Action: "send", Input: value(t, `{"text":"kept"}`), Options: &pb.CommandOptions{Name: "k"}})
	again := relisten(t, addr)
	if err := <-kept; err != nil {
		t.Errorf("a named command waits for its device: %v", err)
	}
	until(t, "the device has it", func() bool { return again.heard("kept") == 1 })
	n.wait("a", "downs", "1")
}

// A key runs once: at the same time, afterwards, and across a restart.
func TestIdempotency(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	count := func(n *node) (string, error) {
		r, err := n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: "a", Action: "count", IdempotencyKey: "once"}, "tester")
		return text(r.GetOutput()), err
	}
	results := make(chan string, 8)
	for range 8 {
		go func() {
			out, err := count(n)
			results <- fmt.Sprint(out, err)
		}()
	}
	for range 8 {
		if r := <-results; r != "1<nil>" {
			t.Errorf("one of eight: %s", r)
		}
	}
	n.close()
	n = open(t, fs, 2)
	if out, err := count(n); out != "1" || err != nil {
		t.Errorf("after a restart: %s, %v", out, err)
	}
	if got := n.must("a", "count", ""); got != "2" {
		t.Errorf("the count is %s, want 2", got)
	}
}

// A command that was begun when the node died is never begun again.
func TestStartedWithoutOutcome(t *testing.T) {
	fs := vfs.NewMem()
	n, g := open(t, fs, 1), newGate(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	req := &pb.InvokeRequest{Id: "a", Action: "ask", Input: value(t, `{"text":"block","timeout_ms":4000}`), IdempotencyKey: "k"}
	lost := make(chan error, 1)
	go func() {
		_, err := n.client.Invoke(ctx(t), req, "tester")
		lost <- err
	}()
	until(t, "the device has it", func() bool { return g.heard("block") == 1 })
	n.close()
	if err := <-lost; outcome(err) != pb.Outcome_OUTCOME_UNKNOWN {
		t.Errorf("the caller learns %v, want unknown", err)
	}
	n = open(t, fs, 2)
	n.wait("a", "ups", "1")
	_, err := n.client.Invoke(ctx(t), req, "tester")
	if outcome(err) != pb.Outcome_OUTCOME_UNKNOWN || g.heard("block") != 1 {
		t.Errorf("asked again: %v; the device was told %d times", err, g.heard("block"))
	}
}
