package tcp

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

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
)

// recorder is a sink that keeps what it hears.
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
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
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

func open(t *testing.T, addr string, r *recorder, change func(*Options)) *Conn {
	t.Helper()
	o := Options{
		Binding: drivers.Binding{
			URI: "tcp://" + addr, Transport: drivers.TransportOptions{Tokenizer: &drivers.Tokenizer{Delimiter: "\r", MaxFrame: 100}},
		},
		Sink: r, Backoff: Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestFramesGoBothWaysAndTheConnectionComesBack(t *testing.T) {
	l, r, set := listen(t), &recorder{}, metrics.NewSet()
	c := open(t, l.Addr().String(), r, func(o *Options) { o.Metrics = set })
	device := accept(t, l)
	r.wait(t, "connected")
	io.WriteString(device, "one\rtw")
	io.WriteString(device, "o\r")
	r.wait(t, "connected", "frame: one", "frame: two")
	if err := c.Send(t.Context(), []byte("hello\r")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(device, got); err != nil || string(got) != "hello\r" {
		t.Fatalf("the device got %q, %v", got, err)
	}
	io.WriteString(device, "half a fra")
	device.Close()
	again := accept(t, l)
	r.wait(t, "connected", "frame: one", "frame: two", "disconnected: closed by the device", "connected")
	io.WriteString(again, "three\r")
	r.wait(t, "connected", "frame: one", "frame: two", "disconnected", "connected", "frame: three")
	s := c.Stats()
	if !s.Connected || s.Reconnects != 1 || s.BytesOut != 6 || s.BytesIn != 24 || s.FramesIn != 3 || s.Errors != 1 ||
		!strings.Contains(s.LastError, "closed by the device") || time.Since(s.LastSeen) > time.Minute {
		t.Fatalf("stats: %+v", s)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("send after close: %v", err)
	}
	if r.broken {
		t.Fatal("two calls of the sink at once")
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	for _, want := range []string{
		"pollux_tcp_connections 0", "pollux_tcp_reconnects_total 1", "pollux_tcp_received_bytes_total 24", "pollux_tcp_sent_bytes_total 6",
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("metrics lack %q:\n%s", want, text.String())
		}
	}
}

func TestSendWhileDisconnectedFailsAtOnceAndSaysWhy(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	l.Close()
	c := open(t, addr, &recorder{}, nil)
	eventually(t, "a failed dial", func() bool { return c.Stats().Errors > 0 })
	began := time.Now()
	err := c.Send(t.Context(), []byte("x"))
	if !errors.Is(err, ErrNotConnected) || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), addr) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(began); took > time.Second {
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
	c := open(t, l.Addr().String(), r, func(o *Options) {
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

func TestTooLongFrameClosesTheConnection(t *testing.T) {
	l, r := listen(t), &recorder{}
	open(t, l.Addr().String(), r, nil)
	device := accept(t, l)
	io.WriteString(device, "ok\r"+strings.Repeat("x", 200))
	r.wait(t, "connected", "frame: ok", "disconnected: frame too long")
	if _, err := device.Read(make([]byte, 1)); err == nil {
		t.Fatal("the device's connection is still open")
	}
	io.WriteString(accept(t, l), "next\r")
	r.wait(t, "connected", "frame: ok", "disconnected", "connected", "frame: next")
}

func TestIdleTimeoutReconnects(t *testing.T) {
	l, r := listen(t), &recorder{}
	open(t, l.Addr().String(), r, func(o *Options) { o.Binding.Transport.IdleTimeoutMS = 30 })
	accept(t, l)
	r.wait(t, "connected", "disconnected: nothing received within the idle timeout")
	accept(t, l)
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
	if in := c.Stats().BytesIn; in > 2*readChunk {
		t.Fatalf("%d bytes were read ahead of the sink", in)
	}
	close(r.gate)
	device.Close()
	eventually(t, "all whole frames", func() bool { return c.Stats().FramesIn == uint64(sent/11) })
}

func TestCloseJoins(t *testing.T) {
	l, r := listen(t), &recorder{gate: make(chan struct{})}
	c := open(t, l.Addr().String(), r, nil)
	io.WriteString(accept(t, l), "a\rb\rc\r")
	eventually(t, "a frame in the sink", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.inside == 1 })
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	eventually(t, "closing", func() bool { return errors.Is(c.Send(context.Background(), nil), ErrClosed) })
	select {
	case <-closed:
		t.Fatal("Close returned while the sink was called")
	case <-time.After(20 * time.Millisecond):
	}
	close(r.gate)
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not return")
	}
	if got := r.all(); strings.Join(got, "|") != "connected|frame: a" {
		t.Fatalf("the sink heard %q", got)
	}
	// Close while dialing and while waiting to dial again returns, too.
	l.Close()
	open(t, "127.0.0.1:1", &recorder{}, func(o *Options) { o.Backoff = Backoff{Min: time.Hour, Max: time.Hour} }).Close()
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
			if took := time.Since(began); took > 5*time.Second {
				t.Fatalf("took %v", took)
			}
			r.wait(t, "connected", "disconnected", "connected") // half a frame was out: a new connection
		})
	}
}

func TestSendsDoNotMix(t *testing.T) {
	l, r := listen(t), &recorder{}
	c := open(t, l.Addr().String(), r, nil)
	device := accept(t, l)
	r.wait(t, "connected")
	const writers, each = 8, 50
	line := strings.Repeat("y", 999) + "\r"
	for range writers {
		go func() {
			for range each {
				if err := c.Send(context.Background(), []byte(line)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	got := make([]byte, writers*each*len(line))
	if _, err := io.ReadFull(device, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != strings.Repeat(line, writers*each) {
		t.Fatal("frames are mixed")
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
	c.SetTrace(func(d Direction, b []byte) {
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

func TestOpenRefusesBadOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"no sink":         func(o *Options) { o.Sink = nil },
		"scheme":          func(o *Options) { o.Binding.URI = "mqtt://x" },
		"length_bytes 7":  func(o *Options) { o.Binding.Transport.Tokenizer = &drivers.Tokenizer{LengthBytes: 7} },
		"idle_timeout_ms": func(o *Options) { o.Binding.Transport.IdleTimeoutMS = -1 },
	} {
		o := Options{Binding: drivers.Binding{URI: "tcp://h:1"}, Sink: &recorder{}}
		change(&o)
		if c, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
			if c != nil {
				c.Close()
			}
		}
	}
}

// hopeful also hears of attempts that failed.
type hopeful struct{ recorder }

func (h *hopeful) Failed(err error) { h.enter(); h.leave("failed: " + err.Error()) }

func TestFailedDialsAreTold(t *testing.T) {
	l, r := listen(t), &hopeful{}
	addr := l.Addr().String()
	l.Close()
	open(t, addr, &r.recorder, func(o *Options) { o.Sink = r })
	refused := "failed: dial tcp " + addr + ": connect: connection refused"
	r.wait(t, refused, refused)
	var again net.Listener
	eventually(t, "the address is free", func() bool {
		var err error
		again, err = net.Listen("tcp", addr)
		return err == nil
	})
	defer again.Close()
	eventually(t, "it connects", func() bool { all := r.all(); return all[len(all)-1] == "connected" })
	device := accept(t, again)
	again.Close()
	device.Close()
	eventually(t, "the loss, then a failure", func() bool {
		all := r.all()
		i := len(all) - 1
		for i > 0 && all[i] != "connected" {
			i--
		}
		return len(all) > i+2 && strings.HasPrefix(all[i+1], "disconnected: ") && all[i+2] == refused
	})
	if r.broken {
		t.Error("two calls at once")
	}
}

// The same reason has the same words, though the resolver's own text has another port each time.
func TestDialReason(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "read udp 127.0.0.1:43543->127.0.0.53:53: i/o timeout", Name: "lamp",
			Server: "127.0.0.53:53", IsTimeout: true}}, "dial tcp: lookup lamp: the name server does not answer"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "lamp", IsNotFound: true}},
			"dial tcp: lookup lamp: no such host"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "server misbehaving", Name: "lamp"}},
			"dial tcp: lookup lamp: the name cannot be looked up"},
		{errors.New("dial tcp 10.0.0.7:1: i/o timeout"), "dial tcp 10.0.0.7:1: i/o timeout"},
	} {
		if got := dialReason(c.err); got.Error() != c.want || !errors.Is(got, c.err) {
			t.Errorf("%v is told as %v", c.err, got)
		}
	}
}
