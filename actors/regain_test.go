package actors_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// retryGate has a connection that failed be tried again only when the test lets it.
type retryGate struct {
	failed, again chan struct{}
	one, all      sync.Once
}

func holdRetries() *retryGate {
	return &retryGate{failed: make(chan struct{}), again: make(chan struct{})}
}

func (h *retryGate) release() { h.all.Do(func() { close(h.again) }) }

func (h *retryGate) option(o *actors.Options) {
	o.Dialers = map[string]actors.Dialer{"tcp": func(b drivers.Binding, sink drivers.Sink, _ actors.Trace) (drivers.Conn, error) {
		return tcp.Open(transport.Options{Binding: b, Sink: sink, Backoff: transport.Backoff{Min: time.Millisecond, Max: 2 * time.Millisecond,
			Jitter: func() float64 {
				h.one.Do(func() { close(h.failed) })
				<-h.again
				return 0
			}}})
	}}
}

// hangUpOnce hangs up on the next connection, and serves the others.
func (d *device) hangUpOnce() { d.rude.Store(true) }

// A device that takes one connection at a time refuses the next owner's, or hangs up on it, until it has seen that the last owner's
// is gone. A planned move fails no call all the same: they wait, as for any device that is not connected yet.
func TestCallsWaitForADeviceThatIsSlowToLetGo(t *testing.T) {
	for _, how := range []string{"hangs up", "refuses"} {
		t.Run(how, func(t *testing.T) {
			h := holdRetries()
			a, b := pair(t, h.option)
			defer h.release()
			owner, other := on("default/a", a, b)
			d := a.line("a", nil)
			other.seen("a")
			d.connected()
			if how == "refuses" {
				d.l.Close()
			} else {
				d.hangUpOnce()
			}
			a.drain(owner.o.Self.ID)
			select {
			case <-h.failed:
			case <-time.After(patience):
				t.Fatal("the next owner does not connect")
			}
			call := other.queued("a", "send", `{"text":"late"}`, nil)
			until(t, "the call waits", func() bool { return other.state("a").Queued == 1 || len(call) > 0 })
			if s := other.state("a").Status; s.Connection != pb.Connection_CONNECTION_CONNECTING || s.Fault != "" {
				t.Errorf("after the first attempt: %v", s)
			}
			if how == "refuses" {
				d = relisten(t, d.l.Addr().String())
			}
			h.release()
			if err := <-call; err != nil {
				t.Fatalf("the call: %v", err)
			}
			until(t, "it is told", func() bool { return d.heard("late") == 1 })
		})
	}
}

// After that time the device is away, and calls are told why.
func TestADeviceThatDoesNotComeBackIsAway(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	n := open(t, fs, 1, func(o *actors.Options) { o.CheckpointMin = 10 * time.Millisecond })
	d := n.line("a", nil)
	until(t, "it is committed that the device is connected", func() bool {
		s, ok := n.client.Stored("default/a")
		return ok && pb.Connection(s.Connection) == pb.Connection_CONNECTION_CONNECTED
	})
	n.close()
	d.close()
	h, c := holdRetries(), &handClock{at: time.Now()}
	n = open(t, fs, 2, func(o *actors.Options) { o.Clock = c }, h.option)
	defer h.release()
	select {
	case <-h.failed:
	case <-time.After(patience):
		t.Fatal("the next life does not connect")
	}
	call := n.queued("a", "send", `{"text":"never"}`, nil)
	until(t, "the call waits", func() bool { return n.state("a").Queued == 1 || len(call) > 0 })
	if s := n.state("a").Status; s.Connection != pb.Connection_CONNECTION_CONNECTING || s.Fault != "" {
		t.Errorf("after the first attempt: %v", s)
	}
	c.to(t, c.Now().Add(11*time.Second).Format(time.RFC3339), n)
	if err := <-call; err == nil || !strings.Contains(err.Error(), "the device is not connected: ") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the call: %v", err)
	}
	if s := n.state("a").Status; s.Connection != pb.Connection_CONNECTION_DISCONNECTED || !strings.Contains(s.Fault, "refused") {
		t.Errorf("after its time: %v", s)
	}
}

// A call waits for its driver as long as that is being loaded: its time to connect begins when the twin can connect.
func TestCallsWaitForADriverThatIsBeingLoaded(t *testing.T) {
	loading, c := make(chan struct{}), &handClock{at: time.Now()}
	release := sync.OnceFunc(func() { close(loading) })
	n := newNode(t, func(o *actors.Options) {
		o.Clock, o.CommandTimeout = c, 5*time.Second
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			<-loading
			return load(ctx, digest)
		}
	})
	defer release()
	n.driver("line", "1.0.0", tcpTransport)
	d := newDevice(t, nil)
	n.twin(`{"id":"a","driver":"line","uri":"` + d.uri() + `"}`)
	call := n.queued("a", "send", `{"text":"late"}`, nil)
	n.waits("a", 1)
	c.to(t, c.Now().Add(20*time.Second).Format(time.RFC3339), n)
	n.waits("a", 1)
	release()
	if err := <-call; err != nil {
		t.Fatalf("the call: %v", err)
	}
	until(t, "it is told", func() bool { return d.heard("late") == 1 })
}

// What calls are told of a device that was lost in the middle of a life says how it was lost.
func TestCallsAreToldHowADeviceWasLost(t *testing.T) {
	h := holdRetries()
	n := newNode(t, h.option)
	defer h.release()
	d := n.line("a", nil)
	d.connected()
	is := func(c pb.Connection) func() bool { return func() bool { return n.state("a").Status.Connection == c } }
	until(t, "it is connected", is(pb.Connection_CONNECTION_CONNECTED))
	d.close()
	select {
	case <-h.failed:
	case <-time.After(patience):
		t.Fatal("the loss is not noticed")
	}
	until(t, "it is not connected any more", is(pb.Connection_CONNECTION_DISCONNECTED))
	if err := <-n.queued("a", "send", `{"text":"never"}`, nil); err == nil || !strings.Contains(err.Error(), "the device is not connected: ") {
		t.Errorf("the call: %v", err)
	}
}
