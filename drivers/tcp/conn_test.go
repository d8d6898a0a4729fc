package tcp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

type recorder struct {
	mu     sync.Mutex
	events []string
	gate   chan struct{} // not nil: Received takes one from it first
	inside int           // calls under way
	broken bool          // two calls at once
}

func (r *recorder) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside++
	r.broken = r.broken || r.inside > 1
}

func (r *recorder) leave(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	r.events = append(r.events, event)
}

func (r *recorder) Connected()             { r.enter(); r.leave("connected") }
func (r *recorder) Disconnected(err error) { r.enter(); r.leave("disconnected: " + err.Error()) }
func (r *recorder) Received(frame []byte) {
	r.enter()
	if r.gate != nil {
		<-r.gate
	}
	r.leave("frame: " + string(frame))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func (r *recorder) wait(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("heard: %q", got)
		}
	}()
	eventually(t, "events "+strings.Join(want, ", "), func() bool {
		got = r.all()
		if len(got) < len(want) {
			return false
		}
		for i, w := range want {
			if !strings.HasPrefix(got[i], w) {
				t.Fatalf("event %d is %q, want %q", i, got[i], w)
			}
		}
		return true
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func open(t *testing.T, addr string, r *recorder, change func(*transport.Options)) *transport.Conn {
	t.Helper()
	o := transport.Options{
		Binding: drivers.Binding{
			URI: "tcp://" + addr, Transport: drivers.TransportOptions{Scheme: "tcp", Tokenizer: &drivers.Tokenizer{Delimiter: "\r", MaxFrame: 100}},
		},
		Sink: r, Backoff: transport.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	c, err := tcp.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*transport.Conn)
}

func TestSendWhileDisconnectedFailsAtOnceAndSaysWhy(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	l.Close()
	c := open(t, addr, &recorder{}, nil)
	eventually(t, "a failed dial", func() bool { return c.Stats().Errors > 0 })
	began := time.Now()
	err := c.Send(t.Context(), []byte("x"))
	if !errors.Is(err, transport.ErrNotConnected) || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), addr) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Fatalf("took %v", took)
	}
	if s := c.Stats(); s.Connected || s.LastError == "" {
		t.Fatalf("stats: %+v", s)
	}
}

func TestReconnectBacksOff(t *testing.T) {
	l, r := listen(t), &recorder{}
	var mu sync.Mutex
	var asked int
	c := open(t, l.Addr().String(), r, func(o *transport.Options) {
		o.Backoff.Jitter = func() float64 { mu.Lock(); defer mu.Unlock(); asked++; return 0.5 }
	})
	for range 4 {
		accept(t, l).Close()
	}
	eventually(t, "three reconnects", func() bool { return c.Stats().Reconnects >= 3 })
	mu.Lock()
	defer mu.Unlock()
	if asked < 3 {
		t.Fatalf("the jitter was asked %d times", asked)
	}
}

func TestASlowSinkHoldsTheDeviceBack(t *testing.T) {
	l, r := listen(t), &recorder{gate: make(chan struct{})}
	c := open(t, l.Addr().String(), r, nil)
	device := accept(t, l)
	_ = device.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	chunk := bytes.Repeat([]byte("0123456789\r"), 10_000)
	var sent int
	for range 1000 { // 110 MB, unless held back
		n, err := device.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Fatalf("the device could send %d bytes to a sink that takes none", sent)
	}
	if in := c.Stats().BytesIn; in > 2*transport.ReadChunk {
		t.Fatalf("%d bytes were read ahead of the sink", in)
	}
	close(r.gate)
	device.Close()
	eventually(t, "all whole frames", func() bool { return c.Stats().FramesIn == uint64(sent/11) })
}

func TestSendKeepsToItsContext(t *testing.T) {
	for name, make := range map[string]func() (context.Context, context.CancelFunc){
		"deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 50*time.Millisecond)
		},
		"cancelled": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, r := listen(t), &recorder{}
			c := open(t, l.Addr().String(), r, nil)
			accept(t, l) // reads nothing
			r.wait(t, "connected")
			much := bytes.Repeat([]byte("x"), 64<<20)
			ctx, cancel := make()
			defer cancel()
			began := time.Now()
			err := c.Send(ctx, much)
			<-ctx.Done()
			if !errors.Is(err, ctx.Err()) {
				t.Fatalf("got %v", err)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Fatalf("took %v", took)
			}
			r.wait(t, "connected", "disconnected", "connected") // half a frame was out: a new connection
		})
	}
}

func TestTraceHearsEveryByteWhileSomebodyWatches(t *testing.T) {
	l, r := listen(t), &recorder{}
	c := open(t, l.Addr().String(), r, nil)
	device := accept(t, l)
	r.wait(t, "connected")
	io.WriteString(device, "unwatched\r")
	r.wait(t, "connected", "frame: unwatched")
	var mu sync.Mutex
	var seen strings.Builder
	c.SetTrace(func(d transport.Direction, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		seen.WriteString(d.String() + ":" + string(b) + " ")
	})
	io.WriteString(device, "in\rpart")
	r.wait(t, "connected", "frame: unwatched", "frame: in")
	if err := c.Send(t.Context(), []byte("out\r")); err != nil {
		t.Fatal(err)
	}
	c.SetTrace(nil)
	if err := c.Send(t.Context(), []byte("after\r")); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen.String() != "received:in\rpart sent:out\r " {
		t.Fatalf("trace: %q", seen.String())
	}
}
