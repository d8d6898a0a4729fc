// Package contract holds what every transport promises, as tests that each transport's own test runs against a real peer.
package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// wait is how long anything may take.
const wait = 30 * time.Second

// Peer is a device in a test. Its methods fail the test themselves.
type Peer interface {
	// URI of the device. It stays the same when the device goes down and comes back.
	URI() string
	// Send gives a frame to the twin; one that is connected.
	Send(frame []byte)
	// Received gives the next frame that the device gets; it waits for it.
	Received() []byte
	// Drop ends the twin's connection; the device stays there.
	Drop()
	// Down has the device be away; Up brings it back.
	Down()
	Up()
}

// Greeter is a Peer of which the twin knows nothing until it speaks (udp-in). The suite has it speak first, and leaves out what it
// said.
type Greeter interface {
	Greeting() []byte
}

// Kind says what sets a transport apart from a stream that the node dials. It is the word, in the suite's table, for the clauses
// that mean nothing to such a transport.
type Kind string

const (
	// Messages: whole messages go both ways, there is no tokenizer; a frame keeps its end.
	Messages Kind = "messages"
	// Datagrams: nothing tells that the other is away, and nobody is held back.
	Datagrams Kind = "datagrams"
	// Requests: each frame is an exchange of its own (HTTP), so that a connection's end is no loss.
	Requests Kind = "requests"
	// Inbound: the device dials, so that no attempt to reach it can fail, and its own node cuts the frames.
	Inbound Kind = "inbound"
	// Nameless: the address has no host name (serial, and what calls in).
	Nameless Kind = "nameless"
	// Singly: a device is dialled for what is sent, and let go (per_command).
	Singly Kind = "singly"
	// Routed: the twin has no connection of its own, what comes for it is routed like a command (webhook).
	Routed Kind = "routed"
)

// Transport is what the suite needs to know of a transport.
type Transport struct {
	Open transport.Opener
	// Options of the binding, as a manifest with its settings filled in would have them. Frames of the tests are lines
	// that end with "\n": streams have that as their tokenizer's delimiter, and 1,000 bytes as the longest frame.
	Options drivers.TransportOptions
	// NewPeer starts a device.
	NewPeer func(t *testing.T) Peer
	// Is: what of the kinds it is; none: a stream that the node dials.
	Is []Kind
	// Encode makes of a frame what the driver sends, and Decode of what it receives a frame; nil: no difference.
	Encode, Decode func(frame []byte) []byte
	// Metrics writes those of the node, where they are not in the options' set; nil: they are.
	Metrics func(w io.Writer)
	// Named is the URI with a host name in place of 127.0.0.1; nil: by replacement.
	Named func(uri string) string
}

func (tr Transport) is(k Kind) bool { return slices.Contains(tr.Is, k) }

// clause is one promise. It is made by every transport but those that are of a kind to which it means nothing.
type clause struct {
	promise string
	run     func(t *testing.T, tr Transport)
	but     []Kind
}

// clauses are the contract.
var clauses = []clause{
	{"frames go both ways in order", framesGoBothWays, nil},
	{"large frames arrive whole", largeFrames, nil},
	{"sends do not mix", sendsDoNotMix, nil},
	{"a lost connection comes back", lossAndReturn, []Kind{Datagrams, Routed}},
	{"a device that is away is told and dialled again", awayAndBack, []Kind{Datagrams, Routed}},
	{"send while disconnected fails at once", sendWhileAway, []Kind{Datagrams, Routed}},
	{"idle timeout", idle, []Kind{Datagrams, Requests, Inbound, Singly, Routed}},
	{"close joins", closeJoins, []Kind{Routed}},
	{"close while away", closeWhileAway, nil},
	{"reset dials again", reset, []Kind{Datagrams, Routed}},
	{"a slow sink is waited for", slowSink, []Kind{Datagrams, Routed}},
	{"too long frames", tooLong, []Kind{Messages}},
	{"counters and trace", countersAndTrace, nil},
	{"metrics are as the counters", metricsAsCounters, nil},
	{"names that lead inside are refused", namesInside, []Kind{Nameless}},
	{"a wrong address is refused", wrongAddress, nil},
	{"bad options are refused", badOptions, []Kind{Routed}},
}

// Run runs the clauses that apply to a transport.
func Run(t *testing.T, tr Transport) {
	if tr.Options.PerCommand {
		tr.Is = append(slices.Clone(tr.Is), Singly)
	}
	for _, c := range clauses {
		if not := slices.IndexFunc(c.but, tr.is); not >= 0 {
			t.Logf("%s: means nothing to %s", c.promise, c.but[not])
			continue
		}
		t.Run(c.promise, func(t *testing.T) { c.run(t, tr) })
	}
}

func framesGoBothWays(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	var want []string
	for i := range 50 {
		out, in := fmt.Sprintf("to the device %d\n", i), fmt.Sprintf("to the twin %d\n", i)
		b.send(out)
		b.received(out)
		b.peer.Send([]byte(in))
		want = append(want, in)
		if tr.is(Datagrams) {
			b.awaitFrames(want...)
		}
	}
	b.awaitFrames(want...)
	if e := b.sink.Events(); e[0] != "connected" || b.sink.Overlapped() {
		t.Fatalf("the sink heard %q first, calls at once: %v", e[0], b.sink.Overlapped())
	}
}

func largeFrames(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	out, in := strings.Repeat("o", 900)+"\n", strings.Repeat("i", 900)+"\n"
	b.send(out)
	b.received(out)
	b.peer.Send([]byte(in))
	b.awaitFrames(in)
}

func sendsDoNotMix(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	const writers, each = 4, 20
	line := strings.Repeat("y", 500) + "\n"
	errs := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				if err := b.conn.Send(context.Background(), tr.encode(line)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range writers * each {
		b.received(line)
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func lossAndReturn(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	b.peer.Send([]byte("before\n"))
	b.awaitFrames("before\n")
	b.peer.Drop()
	switch {
	case tr.is(Singly):
		eventually(t, "the end of the session", func() bool { return statsOf(b.conn).LastError != "" })
	case !tr.is(Requests): // of a device that is only asked each connection is as good as the last
		b.sink.Await(t, "the loss", func(e []string) bool { return prefixed(e, "disconnected: ") >= 1 })
		b.connected(2)
	}
	if tr.is(Requests) { // the one that finds its connection gone may fail
		eventually(t, "another request", func() bool { return b.conn.Send(context.Background(), tr.encode("after\n")) == nil })
	} else {
		b.send("after\n")
	}
	b.received("after\n")
	b.peer.Send([]byte("again\n"))
	b.awaitFrames("before\n", "again\n")
}

func awayAndBack(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	b.peer.Down()
	if tr.is(Singly) { // notices when it wants to send
		eventually(t, "a send fails", func() bool {
			return b.conn.Send(context.Background(), tr.encode("x\n")) != nil
		})
	}
	b.sink.Await(t, "the loss, and two failures", func(e []string) bool {
		return prefixed(e, "disconnected: ") >= 1 && (tr.is(Inbound) || prefixed(e, "failed: ") >= 2)
	})
	b.peer.Up()
	b.connected(2)
	b.sink.Await(t, "no two connections without a loss between", func(e []string) bool {
		state := ""
		for _, x := range e {
			if x == "connected" && state == "connected" {
				t.Fatalf("connected twice: %q", e)
			}
			if x == "connected" || strings.HasPrefix(x, "disconnected") {
				state, _, _ = strings.Cut(x, ":")
			}
		}
		return true
	})
	b.send("hello\n")
	eventually(t, "the device has the frame", func() bool { return string(b.peer.Received()) == "hello\n" })
	if s := statsOf(b.conn); !s.Connected || s.Errors == 0 || s.LastError == "" {
		t.Fatalf("stats: %+v", s)
	}
}

func sendWhileAway(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	b.peer.Down()
	if !tr.is(Singly) {
		b.sink.Await(t, "the loss", func(e []string) bool { return prefixed(e, "disconnected: ") >= 1 })
	}
	began := time.Now()
	var err error
	eventually(t, "send fails", func() bool {
		err = b.conn.Send(context.Background(), tr.encode("x\n"))
		return err != nil
	})
	if time.Since(began) > wait/2 {
		t.Fatalf("it took %v", time.Since(began))
	}
	eventually(t, "not connected is why", func() bool {
		err = b.conn.Send(context.Background(), tr.encode("x\n"))
		return errors.Is(err, transport.ErrNotConnected)
	})
}

func idle(t *testing.T, tr Transport) {
	b := tr.open(t, func(o *transport.Options) { o.Binding.Transport.IdleTimeoutMS = 50 })
	b.sink.Await(t, "the timeout, and another connection", func(e []string) bool {
		return count(e, "disconnected: "+transport.ErrIdle.Error()) >= 1 && count(e, "connected") >= 2
	})
}

func closeJoins(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	gate := make(chan struct{})
	b.sink.Hold(gate)
	b.peer.Send([]byte("a\n"))
	eventually(t, "a frame in the sink", b.sink.Busy)
	closed := make(chan struct{})
	go func() { b.conn.Close(); close(closed) }()
	eventually(t, "closing", func() bool {
		return errors.Is(b.conn.Send(context.Background(), tr.encode("x\n")), transport.ErrClosed)
	})
	select {
	case <-closed:
		t.Fatal("Close returned while the sink was called")
	case <-time.After(20 * time.Millisecond):
	}
	close(gate)
	select {
	case <-closed:
	case <-time.After(wait):
		t.Fatal("Close does not return")
	}
	if e := b.sink.Events(); strings.Join(e, "|") != "connected" || len(b.frames()) != 1 {
		t.Fatalf("the sink heard %q and %d frames", e, len(b.frames()))
	}
	if err := b.conn.Close(); err != nil {
		t.Fatalf("closing again: %v", err)
	}
}

func closeWhileAway(t *testing.T, tr Transport) {
	peer := tr.NewPeer(t)
	peer.Down()
	o := tr.options(peer.URI(), &Recorder{})
	o.Backoff = transport.Backoff{Min: time.Hour, Max: time.Hour}
	c, err := tr.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { c.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(wait):
		t.Fatal("Close does not return")
	}
}

func reset(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	r, ok := b.conn.(interface{ Reset() })
	if !ok {
		t.Fatal("the connection cannot be reset")
	}
	r.Reset()
	if !tr.is(Singly) {
		b.sink.Await(t, "the loss", func(e []string) bool { return count(e, "disconnected: closed by the driver") == 1 })
		b.connected(2)
	}
	b.send("hello\n")
	b.received("hello\n")
}

func slowSink(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	gate := make(chan struct{})
	b.sink.Hold(gate)
	var want []string
	for i := range 200 {
		line := fmt.Sprintf("%d %s\n", i, strings.Repeat("z", 500))
		want = append(want, line)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, line := range want {
			b.peer.Send([]byte(line))
		}
	}()
	eventually(t, "a frame in the sink", b.sink.Busy)
	if in := statsOf(b.conn).FramesIn; in > 1+uint64(b.greetings) {
		t.Fatalf("%d frames were given to a sink that takes none", in)
	}
	close(gate)
	<-sent
	b.awaitFrames(want...)
}

func tooLong(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	b.peer.Send([]byte("ok\n" + strings.Repeat("x", 3000) + "\n"))
	b.awaitFrames("ok\n")
	if tr.is(Singly) {
		eventually(t, "the error shows", func() bool { return strings.Contains(statsOf(b.conn).LastError, "frame too long") })
	} else {
		b.sink.Await(t, "the loss", func(e []string) bool { return prefixed(e, "disconnected: frame too long") == 1 })
		b.connected(2)
	}
	eventually(t, "it is counted", func() bool { return b.metric("frames_too_long_total") >= 1 })
}

func countersAndTrace(t *testing.T, tr Transport) {
	var mu sync.Mutex
	var out, in bytes.Buffer
	b := tr.open(t, func(o *transport.Options) {
		o.Trace = func(d transport.Direction, data []byte) {
			mu.Lock()
			defer mu.Unlock()
			if d == transport.Sent {
				out.Write(data)
			} else {
				in.Write(data)
			}
		}
	})
	b.connected(1)
	before := statsOf(b.conn)
	b.send("question\n")
	b.received("question\n")
	b.peer.Send([]byte("answer\n"))
	b.awaitFrames("answer\n")
	eventually(t, "trace", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(out.String(), "question") && strings.Contains(in.String(), "answer")
	})
	s := statsOf(b.conn)
	if in, out := s.FramesIn-before.FramesIn, s.FramesOut-before.FramesOut; !tr.is(Requests) && (in != 1 || out != 1) || in < 1 || out < 1 {
		t.Fatalf("%d frames came and %d went", in, out)
	}
	if !s.Connected || s.BytesOut < 9 || s.BytesIn < 6 || time.Since(s.LastSeen) > time.Minute {
		t.Fatalf("stats: %+v", s)
	}
}

func metricsAsCounters(t *testing.T, tr Transport) {
	b := tr.open(t, nil)
	b.connected(1)
	b.send("question\n")
	b.received("question\n")
	b.peer.Send([]byte("answer\n"))
	b.awaitFrames("answer\n")
	eventually(t, "metrics are as the statistics", func() bool { // a driver that polls sends more meanwhile
		o, i, s := b.metric("sent_bytes_total"), b.metric("received_bytes_total"), statsOf(b.conn)
		there := tr.is(Routed) || b.metric("connections") == 1
		return o == float64(s.BytesOut) && i == float64(s.BytesIn) && b.metric("errors_total") == float64(s.Errors) && there && o > 0
	})
	b.conn.Close()
	if n := b.metric("connections"); n != 0 {
		t.Fatalf("%v connections after the end", n)
	}
}

func namesInside(t *testing.T, tr Transport) {
	peer := tr.NewPeer(t)
	uri := strings.Replace(peer.URI(), "127.0.0.1", "device.example", 1)
	if tr.Named != nil {
		uri = tr.Named(uri)
	}
	lookup := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	refused, allowed := &Recorder{}, &Recorder{}
	o := tr.options(uri, refused)
	o.Lookup = lookup
	c, err := tr.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	refused.Await(t, "the refusal", func(e []string) bool { return prefixed(e, "failed: ") >= 1 })
	if e := refused.Events()[0]; !strings.Contains(e, "a loopback address") || !strings.Contains(e, "#private") {
		t.Fatalf("the refusal says %q", e)
	}
	o = tr.options(uri+"#private", allowed)
	o.Lookup = lookup
	c, err = tr.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	allowed.Await(t, "the connection", func(e []string) bool { return count(e, "connected") >= 1 })
}

func wrongAddress(t *testing.T, tr Transport) {
	refused(t, tr, map[string]func(*transport.Options){"scheme": func(o *transport.Options) { o.Binding.URI = "pigeon://x:1" }})
}

func badOptions(t *testing.T, tr Transport) {
	refused(t, tr, map[string]func(*transport.Options){
		"no sink":         func(o *transport.Options) { o.Sink = nil },
		"idle_timeout_ms": func(o *transport.Options) { o.Binding.Transport.IdleTimeoutMS = -1 },
	})
}

// refused holds against a transport what it must not open, by a word of what it says.
func refused(t *testing.T, tr Transport, changes map[string]func(*transport.Options)) {
	t.Helper()
	peer := tr.NewPeer(t)
	for want, change := range changes {
		o := tr.options(peer.URI(), &Recorder{})
		change(&o)
		c, err := tr.Open(o)
		if err == nil {
			c.Close()
			t.Errorf("taken: want something with %q", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
}
