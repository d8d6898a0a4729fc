package actors_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// slow is a driver that takes its time over each frame.
type slow struct {
	drivers.Runner
	wait func()
}

func (r slow) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	if c.Event == drivers.EventReceived {
		r.wait()
	}
	return r.Runner.Handle(ctx, c, h)
}

// slowed has a node's drivers wait before each frame.
func slowed(wait func()) option {
	return func(o *actors.Options) {
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			r, err := load(ctx, digest)
			return slow{r, wait}, err
		}
	}
}

// send delivers without waiting; the answer comes by the channel.
func (n *node) send(topic, payload string, qos byte) chan error {
	done := make(chan error, 1)
	n.engine.Deliver(&mqtt.Message{Client: "c", Topic: topic, Payload: []byte(payload), QoS: qos}, func(err error) { done <- err })
	return done
}

func answer(t *testing.T, what string, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("%s: no answer within %s", what, patience)
		return nil
	}
}

// Whatever a turn had in hand when it panicked, everybody who waits gets an answer.
func TestPanicAnswersEverybody(t *testing.T) {
	n, g, blocked := busy(t)
	calls := []chan error{blocked}
	for _, letter := range []string{"a", "b", "c"} {
		calls = append(calls, n.start(n.note(letter, nil)))
	}
	kept, err := n.client.Invoke(ctx(t), n.note("k", &pb.CommandOptions{NoWait: true}), "tester")
	if err != nil || kept.CommandId == "" {
		t.Fatal(kept, err)
	}
	n.engine.Crash("default/a")
	for i, done := range calls {
		err := answer(t, fmt.Sprintf("call %d", i), done)
		if o := outcome(err); i <= 1 && o != pb.Outcome_OUTCOME_UNKNOWN {
			t.Errorf("call %d, which was in hand: %v", i, err)
		} else if i > 1 && !errors.Is(err, cluster.ErrUnavailable) {
			t.Errorf("call %d, which waited: %v", i, err)
		}
	}
	close(g.open)
	n.wait("a", "order", `"k"`) // what was committed goes on in the next life
	if s := n.engine.Stats(); s.Dropped["twin_panic"] != 1 {
		t.Errorf("panics %d", s.Dropped["twin_panic"])
	}
}

// The frames that a panic met are handled in the twin's next life.
func TestPanicLosesNoFrame(t *testing.T) {
	gate := make(chan struct{})
	n := newNode(t, slowed(func() { <-gate }))
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	var all []chan error
	for i := range 5 {
		all = append(all, n.send("dev/a/x", fmt.Sprintf(`{"level":%d}`, i), 1))
	}
	until(t, "the driver has the first", func() bool { return n.state("a").Status.LastSeen != nil })
	n.engine.Crash("default/a")
	close(gate)
	for i, done := range all {
		if err := answer(t, fmt.Sprintf("frame %d", i), done); err != nil {
			t.Errorf("frame %d: %v", i, err)
		}
	}
	n.wait("a", "level", "4")
}

// A frame that crashes the driver is refused; those behind it wait until the driver is tried again.
func TestFramesBehindATrap(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.BackoffMin = 200 * time.Millisecond })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	n.deliver("dev/a/x", `{"level":1}`, 1)
	all := []chan error{n.send("dev/a/x", "panic", 1)}
	for i := range 5 {
		all = append(all, n.send("dev/a/x", fmt.Sprintf(`{"level":%d}`, 2+i), 1))
	}
	for i, done := range all {
		if err := answer(t, fmt.Sprintf("frame %d", i), done); i == 0 && !errors.Is(err, mqtt.ErrRefused) || i > 0 && err != nil {
			t.Errorf("frame %d: %v", i, err)
		}
	}
	n.wait("a", "level", "6")
}

// A driver that fails again and again is left alone for so long that frames do not wait for it.
func TestFramesDoNotWaitForLong(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.BackoffMin, o.BackoffMax = time.Hour, time.Hour })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	n.deliver("dev/a/x", `{"level":1}`, 1)
	first := n.send("dev/a/x", "panic", 1)
	if err := answer(t, "the frame that crashes", first); !errors.Is(err, mqtt.ErrRefused) {
		t.Error(err)
	}
	if err := n.offer("dev/a/x", `{"level":2}`, 1); !errors.Is(err, mqtt.ErrRefused) || !errors.Is(err, actors.ErrFault) {
		t.Errorf("a frame for a twin that is left alone: %v", err)
	}
}

// Under overload nothing overtakes.
func TestOrderUnderOverload(t *testing.T) {
	n := newNode(t, slowed(func() { time.Sleep(200 * time.Microsecond) }), func(o *actors.Options) { o.TwinQueue = 8 })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	const frames = 1500
	var wg sync.WaitGroup
	for i := range frames {
		wg.Add(1)
		n.engine.Deliver(&mqtt.Message{Topic: "dev/a/x", QoS: 1, Payload: fmt.Appendf(nil, `{"level":%d}`, i)}, func(err error) {
			if err != nil {
				t.Errorf("frame %d: %v", i, err)
			}
			wg.Done()
		})
		if i%100 == 99 {
			time.Sleep(5 * time.Millisecond) // some come while others wait, come back, and are offered again
		}
	}
	wg.Wait()
	got := n.samples("default/a", "level")
	if len(got) != frames {
		t.Errorf("%d samples of %d frames", len(got), frames)
	}
	for i, v := range got {
		if v != float64(i) {
			t.Fatalf("sample %d is %v", i, v)
		}
	}
	until(t, "the overload ends", func() bool { return n.engine.Stats().Waiting == 0 })
	if s := n.engine.Stats(); s.Dropped["twin_full"] == 0 {
		t.Error("there was no overload")
	}
}

// While the node takes nothing in, frames wait, and go on in their order; who has waited for too long hears why.
func TestNodeIsFull(t *testing.T) {
	var full atomic.Pointer[error]
	why := errors.New("the cellar is full")
	n := newNode(t, func(o *actors.Options) {
		o.Full = func() error {
			if p := full.Load(); p != nil {
				return *p
			}
			return nil
		}
	})
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	const frames = 2000
	var wg sync.WaitGroup
	for i := range frames {
		switch i % 400 {
		case 100:
			full.Store(&why)
		case 300:
			if n.engine.Stats().Waiting == 0 {
				t.Errorf("frame %d: none waits", i)
			}
			full.Store(nil)
		}
		wg.Add(1)
		n.engine.Deliver(&mqtt.Message{Topic: "dev/a/x", QoS: 1, Payload: fmt.Appendf(nil, `{"level":%d}`, i)}, func(err error) {
			if err != nil {
				t.Errorf("frame %d: %v", i, err)
			}
			wg.Done()
		})
		if i%50 == 49 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	wg.Wait()
	if got := n.samples("default/a", "level"); !slices.IsSorted(got) || len(got) != frames {
		t.Errorf("%d samples of %d frames, or they are not in order", len(got), frames)
	}
	full.Store(&why)
	before := n.engine.Stats().Waiting
	done := make(chan error, 1)
	n.engine.Deliver(&mqtt.Message{Topic: "dev/a/x", QoS: 1, Payload: []byte(`{"level":1}`)}, func(err error) { done <- err })
	if now := n.engine.Stats().Waiting; now != before+1 {
		t.Errorf("%d frames wait, %d before", now, before)
	}
	select {
	case err := <-done:
		if !errors.Is(err, why) || !errors.Is(err, cluster.ErrOverloaded) {
			t.Errorf("a frame that waited for too long: %v", err)
		}
	case <-time.After(patience):
		t.Error("a frame waits for ever")
	}
}

// One twin's frames wait in bounds of their own, by number and by size.
func TestOneTwinDoesNotFillTheNode(t *testing.T) {
	for _, c := range []struct {
		name      string
		size      int
		send, fit int
	}{{"many", 10, 4400, 16 + 4096}, {"large", 12 << 10, 800, 6 + 682}} {
		t.Run(c.name, func(t *testing.T) {
			gate := make(chan struct{})
			n := newNode(t, slowed(func() { <-gate }), func(o *actors.Options) { o.TwinQueue = 16; o.TwinBytes = 64 << 10 })
			n.driver("bus", "1.0.0", mqttTransport)
			n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
			n.twin(`{"id":"b","driver":"bus","settings":{"topic":"b"}}`)
			var refused atomic.Int32
			var wg sync.WaitGroup
			payload := []byte(strings.Repeat("x", c.size))
			for range c.send {
				wg.Add(1)
				n.engine.Deliver(&mqtt.Message{Topic: "dev/a/x", QoS: 1, Payload: payload}, func(err error) {
					if errors.Is(err, cluster.ErrOverloaded) && !errors.Is(err, mqtt.ErrRefused) {
						refused.Add(1)
					} else if err != nil {
						t.Error(err)
					}
					wg.Done()
				})
				for n.engine.Stats().Waiting > 0 && n.engine.Stats().Waiting < 3 {
					time.Sleep(time.Millisecond) // the first ones are being offered
				}
			}
			until(t, "the rest is refused", func() bool { return int(refused.Load()) >= c.send-c.fit-40 })
			if s := n.engine.Stats(); s.Dropped["frame_backlog"] == 0 || s.Waiting == 0 {
				t.Errorf("waiting %d, dropped %v", s.Waiting, s.Dropped)
			}
			close(gate)
			wg.Wait()
			n.deliver("dev/b/x", `{"level":1}`, 1)
			if got := int(refused.Load()); got > c.send-c.fit+40 {
				t.Errorf("%d of %d refused", got, c.send)
			}
		})
	}
}
