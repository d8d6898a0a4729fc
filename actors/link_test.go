package actors_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// nobody gives an address at which nobody listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A device that cannot be reached shows as such, with the reason, until it is there.
func TestUnreachable(t *testing.T) {
	n := newNode(t)
	addr := nobody(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":"tcp://%s"}`, addr))
	reason := "dial tcp " + addr + ": connect: connection refused"
	until(t, "the reason shows", func() bool { return n.state("a").Status.Fault == reason })
	if c := n.state("a").Status.Connection; c != pb.Connection_CONNECTION_DISCONNECTED {
		t.Errorf("the device is %v", c)
	}
	until(t, "it counts as faulty", func() bool { return n.engine.Stats().Faulty == 1 })
	_, err := n.invoke("a", "echo", "1")
	var refused *actors.CommandError
	if !errors.As(err, &refused) || refused.Outcome != pb.Outcome_OUTCOME_REJECTED || !strings.Contains(refused.Message, reason) {
		t.Errorf("a command: %v", err)
	}
	tr, err := n.client.Trace(ctx(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	note := func(want string) {
		t.Helper()
		for {
			m, err := tr.Next(ctx(t))
			if err != nil {
				t.Fatal(err)
			}
			if m.Direction == pb.TraceTwinResponse_DIRECTION_NOTE && strings.HasPrefix(string(m.Data), want) {
				return
			}
		}
	}
	note("failed: " + reason)
	d := relisten(t, addr)
	n.wait("a", "ups", "1")
	if s := n.state("a").Status; s.Fault != "" || s.Connection != pb.Connection_CONNECTION_CONNECTED {
		t.Errorf("once it is there: %v", s)
	}
	note("connected")
	d.connected()
	d.hangUp()
	note("closed: closed by the device")
	n.wait("a", "ups", "2")
	now, err := n.reg.GetTwin("a")
	if err != nil {
		t.Fatal(err)
	}
	now.Stopped = true
	if _, err := n.reg.UpdateTwin(ctx(t), now); err != nil {
		t.Fatal(err)
	}
	note("closed by the twin")
}

// A twin whose address is corrected, or that is stopped, does not keep the reason.
func TestUnreachableNoMore(t *testing.T) {
	n := newNode(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":"tcp://%s"}`, nobody(t)))
	until(t, "the reason shows", func() bool { return n.state("a").Status.Fault != "" })
	change := func(edit func(t *pb.Twin)) {
		t.Helper()
		now, err := n.reg.GetTwin("a")
		if err != nil {
			t.Fatal(err)
		}
		edit(now)
		if _, err := n.reg.UpdateTwin(ctx(t), now); err != nil {
			t.Fatal(err)
		}
	}
	change(func(t *pb.Twin) { t.Stopped = true })
	until(t, "it is stopped", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_STOPPED })
	if f := n.state("a").Status.Fault; f != "" {
		t.Errorf("a stopped twin shows %q", f)
	}
	change(func(t *pb.Twin) { t.Stopped = false })
	until(t, "the reason shows again", func() bool { return n.state("a").Status.Fault != "" })
	d := newDevice(t, nil)
	change(func(t *pb.Twin) { t.Uri = d.uri() })
	n.wait("a", "ups", "1")
	if f := n.state("a").Status.Fault; f != "" {
		t.Errorf("a corrected twin shows %q", f)
	}
}

// New settings do not wait until the connection tries again by itself.
func TestSettingsReconnect(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.Dialers = map[string]actors.Dialer{"tcp": func(b drivers.Binding, sink drivers.Sink, _ actors.Trace) (drivers.Conn, error) {
			return tcp.Open(transport.Options{Binding: b, Sink: sink, Backoff: transport.Backoff{Min: time.Hour, Max: time.Hour}})
		}}
	})
	addr := nobody(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":"tcp://%s"}`, addr))
	until(t, "the reason shows", func() bool { return n.state("a").Status.Fault != "" })
	relisten(t, addr)
	n.update("a", func(tw *pb.Twin) { tw.Settings = settings(t, `{"topic":"north"}`) })
	n.wait("a", "ups", "1")
	if s := n.state("a").Status; s.Fault != "" || n.prop("a", "topic") != `"north"` {
		t.Errorf("with other settings: %v, topic %s", s, n.prop("a", "topic"))
	}
}

// A command that could not begin in time counts.
func TestLateCommandsCount(t *testing.T) {
	n := newNode(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":"tcp://%s"}`, nobody(t)))
	until(t, "it is away", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_DISCONNECTED })
	soon, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := n.client.Invoke(soon, &pb.InvokeRequest{Id: "a", Action: "count", Options: &pb.CommandOptions{Name: "x"}}, "tester")
	var failed *actors.CommandError
	if !errors.Is(err, cluster.ErrDeadline) && !errors.As(err, &failed) {
		t.Errorf("a late command: %v", err)
	}
	until(t, "it counts", func() bool { return n.engine.Stats().Commands["timed_out"] == 1 })
	until(t, "nothing is queued", func() bool { return n.engine.Stats().Queued == 0 })
}
