package inbound_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/inbound"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// cluster joins nodes without a network between them. Each has a hub and an acceptor.
type cluster struct {
	t     *testing.T
	mu    sync.Mutex
	owner string
	dead  string // does not answer
	hubs  map[string]*inbound.Hub
	doors map[string]*inbound.Acceptor
	set   *metrics.Set
}

func newCluster(t *testing.T, nodes ...string) *cluster {
	c := &cluster{t: t, owner: nodes[0], hubs: map[string]*inbound.Hub{}, doors: map[string]*inbound.Acceptor{}, set: metrics.NewSet()}
	for _, node := range nodes {
		c.hubs[node] = inbound.NewHub(node, func(_ context.Context, to string, m *actorv1.LinkWrite) error {
			return c.doors[to].Write(m)
		})
		a := inbound.NewAcceptor(inbound.AcceptorOptions{Node: node, Host: "127.0.0.1", Ports: inbound.Ports{From: 1, To: 65535}, Metrics: c.set,
			Owner: func(string) (string, bool) {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.owner, true
			},
			Deliver: func(ctx context.Context, to string, m *actorv1.Link) (*actorv1.LinkTaken, error) {
				c.mu.Lock()
				dead := c.dead == to
				c.mu.Unlock()
				if dead {
					return nil, errors.New("the node does not answer")
				}
				return c.hubs[to].Take(ctx, m)
			}})
		c.doors[node] = a
		t.Cleanup(func() { a.Close() })
	}
	return c
}

// open opens a connection at the first node, whose metrics are one set.
func (c *cluster) open(o transport.Options) (drivers.Conn, error) {
	o.Metrics = c.set
	return c.hubs["n1"].Open(o)
}

// freePort is one that nobody has now. Whoever connects out is given others.
func freePort(t *testing.T, network string) int {
	t.Helper()
	for range 50 {
		port := 20_000 + rand.IntN(10_000)
		var l io.Closer
		var err error
		if at := fmt.Sprintf("127.0.0.1:%d", port); network == "udp" {
			l, err = net.ListenPacket(network, at)
		} else {
			l, err = net.Listen(network, at)
		}
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var lines = &drivers.Tokenizer{Delimiter: "\n", MaxFrame: 1000}

func twin(id string, port int, from ...string) inbound.Twin {
	t := inbound.Twin{ID: id, Scheme: "tcp-in", Port: port, Options: drivers.TransportOptions{Scheme: "tcp-in", Tokenizer: lines}}
	for _, f := range from {
		t.From = append(t.From, netip.MustParsePrefix(f))
	}
	return t
}

// caller is a device that dials, and dials again.
type caller struct {
	t    *testing.T
	port int
	in   chan []byte

	mu   sync.Mutex
	here *sync.Cond
	up   bool
	conn net.Conn
}

func newCaller(t *testing.T, port int) *caller {
	c := &caller{t: t, port: port, in: make(chan []byte, 1000), up: true}
	c.here = sync.NewCond(&c.mu)
	stop := make(chan struct{})
	done := make(chan struct{})
	go c.run(stop, done)
	t.Cleanup(func() { close(stop); c.Down(); <-done })
	return c
}

func (c *caller) run(stop, done chan struct{}) {
	defer close(done)
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		c.mu.Lock()
		up := c.up
		c.mu.Unlock()
		if !up {
			continue
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
		if err != nil {
			continue
		}
		c.mu.Lock()
		if !c.up {
			c.mu.Unlock()
			conn.Close()
			continue
		}
		c.conn = conn
		c.here.Broadcast()
		c.mu.Unlock()
		in := bufio.NewReader(conn)
		for {
			b, err := in.ReadBytes('\n')
			if err != nil {
				break
			}
			c.in <- b
		}
		c.mu.Lock()
		conn.Close()
		c.conn = nil
		c.mu.Unlock()
	}
}

func (c *caller) URI() string { return fmt.Sprintf("tcp-in://:%d?from=127.0.0.1", c.port) }

func (c *caller) Send(frame []byte) {
	c.mu.Lock()
	for c.conn == nil {
		c.here.Wait()
	}
	conn := c.conn
	c.mu.Unlock()
	if _, err := conn.Write(frame); err != nil {
		c.t.Errorf("the device sends: %v", err)
	}
}

func (c *caller) Received() []byte {
	c.t.Helper()
	select {
	case b := <-c.in:
		return b
	case <-time.After(30 * time.Second):
		c.t.Fatal("the device received nothing")
		return nil
	}
}

func (c *caller) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *caller) Down() {
	c.mu.Lock()
	c.up = false
	c.mu.Unlock()
	c.Drop()
}

func (c *caller) Up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up = true
}

func TestContract(t *testing.T) {
	nodes := newCluster(t, "n1")
	contract.Run(t, contract.Transport{
		Open: nodes.open, Metrics: nodes.set.WritePrometheus, Options: drivers.TransportOptions{Scheme: "tcp-in", Tokenizer: lines}, Is: []contract.Kind{contract.Inbound, contract.Nameless},
		NewPeer: func(t *testing.T) contract.Peer {
			port := freePort(t, "tcp")
			if err := nodes.doors["n1"].Set([]inbound.Twin{twin("default/device", port, "127.0.0.1/32")}); len(err) > 0 {
				t.Fatal(err)
			}
			return newCaller(t, port)
		},
	})
}

func open(t *testing.T, h *inbound.Hub, id string, port int) (drivers.Conn, *contract.Recorder) {
	t.Helper()
	sink := &contract.Recorder{}
	c, err := h.Open(transport.Options{Sink: sink, Binding: drivers.Binding{Twin: id, URI: fmt.Sprintf("tcp-in://:%d?from=127.0.0.1", port),
		Transport: drivers.TransportOptions{Scheme: "tcp-in", Tokenizer: lines}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, sink
}

func connected(e []string) bool { return len(e) > 0 && e[len(e)-1] == "connected" }

// A device is at node two, its twin first at node one, then at three. The connection stays, and no word is lost or told
// twice; the node that had the twin may not write any more.
func TestTheConnectionStaysWhenTheTwinMoves(t *testing.T) {
	nodes := newCluster(t, "n1", "n2", "n3")
	port := freePort(t, "tcp")
	if err := nodes.doors["n2"].Set([]inbound.Twin{twin("p/a", port, "127.0.0.0/8")}); len(err) > 0 {
		t.Fatal(err)
	}
	first, heardFirst := open(t, nodes.hubs["n1"], "p/a", port)
	device, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	heardFirst.Await(t, "the connection", connected)
	io.WriteString(device, "one\n")
	heardFirst.Await(t, "the frame", func([]string) bool { return len(heardFirst.Frames()) == 1 })
	if err := first.Send(t.Context(), []byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(device)
	if line, err := answers.ReadString('\n'); line != "hello\n" {
		t.Fatalf("the device got %q, %v", line, err)
	}
	first.Close()
	for i := range 100 {
		fmt.Fprintf(device, "while it moves %d\n", i)
	}
	nodes.mu.Lock()
	nodes.owner = "n3"
	nodes.mu.Unlock()
	second, heardSecond := open(t, nodes.hubs["n3"], "p/a", port)
	heardSecond.Await(t, "all that was said", func([]string) bool { return len(heardSecond.Frames()) >= 100 })
	for i, f := range heardSecond.Frames() {
		if string(f) != fmt.Sprintf("while it moves %d", i) {
			t.Fatalf("frame %d is %q", i, f)
		}
	}
	if err := second.Send(t.Context(), []byte("from the new node\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := answers.ReadString('\n'); line != "from the new node\n" {
		t.Fatalf("the device got %q, %v", line, err)
	}
	if err := nodes.doors["n2"].Write(&actorv1.LinkWrite{Twin: "p/a", Link: 1, Frame: []byte("x"), Node: "n1"}); !errors.Is(err, drivers.ErrDisconnected) {
		t.Fatalf("the former node writes: %v", err)
	}
	second.(interface{ Reset() }).Reset()
	if _, err := answers.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Fatalf("after a reset the device reads %v", err)
	}
}

// TestCallAtOnce: a device that calls in the moment its port is open is no stranger.
func TestCallAtOnce(t *testing.T) {
	nodes := newCluster(t, "n1")
	for range 100 {
		port := freePort(t, "tcp")
		calls := make(chan net.Conn)
		for range 2 {
			go func() {
				for {
					c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
					if err == nil {
						calls <- c
						return
					}
				}
			}()
		}
		if err := nodes.doors["n1"].Set([]inbound.Twin{twin("p/a", port, "127.0.0.1/32")}); len(err) > 0 {
			t.Fatal(err)
		}
		for range 2 {
			(<-calls).Close()
		}
	}
	if n := transport.Dropped(nodes.set, "tcp-in", "sender").Get(); n != 0 {
		t.Errorf("%d calls were taken for strangers'", n)
	}
}

func TestWhoCallsFromWhere(t *testing.T) {
	nodes := newCluster(t, "n1")
	port := freePort(t, "tcp")
	door := nodes.doors["n1"]
	if err := door.Set([]inbound.Twin{twin("p/wide", port, "127.0.0.0/16"), twin("p/one", port, "127.0.0.1/32", "::1/128")}); len(err) > 0 {
		t.Fatal(err)
	}
	_, wide := open(t, nodes.hubs["n1"], "p/wide", port)
	_, one := open(t, nodes.hubs["n1"], "p/one", port)
	from := func(ip string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	io.WriteString(from("127.0.0.1"), "the one\n")
	io.WriteString(from("127.0.0.9"), "another\n")
	one.Await(t, "its device", func([]string) bool { return len(one.Frames()) == 1 })
	wide.Await(t, "its device", func([]string) bool { return len(wide.Frames()) == 1 })
	if string(one.Frames()[0]) != "the one" || string(wide.Frames()[0]) != "another" {
		t.Fatalf("got %q and %q", one.Frames(), wide.Frames())
	}
	stranger := from("127.1.0.1")
	_ = stranger.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := stranger.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a stranger was let in: %v", err)
	}
	if n := transport.Dropped(nodes.set, "tcp-in", "sender").Get(); n != 1 {
		t.Errorf("%d strangers counted", n)
	}
	again := from("127.0.0.1")
	one.Await(t, "another connection", func(e []string) bool {
		return len(e) >= 3 && strings.Contains(e[1], "the device called in again") && e[2] == "connected"
	})
	io.WriteString(again, strings.Repeat("x", 2000))
	one.Await(t, "the end of one that says too much", func(e []string) bool { return len(e) >= 4 && strings.Contains(e[3], "frame too long") })

	if err := door.Set(nil); len(err) > 0 {
		t.Fatal(err)
	}
	wide.Await(t, "the end", func(e []string) bool { return strings.HasPrefix(e[len(e)-1], "disconnected: ") })
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
	small := inbound.NewAcceptor(inbound.AcceptorOptions{Node: "n", Host: "127.0.0.1", Ports: inbound.Ports{From: 5000, To: 5001}})
	defer small.Close()
	if err := small.Set([]inbound.Twin{twin("p/x", 80, "127.0.0.1/32")}); len(err) > 0 || small.Addr("tcp-in", 80) {
		t.Errorf("a port that is another node's affair: %v", err)
	}
}

// A port that somebody else has shows at the twins that want it.
func TestThePortIsTaken(t *testing.T) {
	nodes := newCluster(t, "n1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	failed := nodes.doors["n1"].Set([]inbound.Twin{twin("p/a", port, "127.0.0.1/32"), twin("p/b", port, "127.0.0.2/32"), twin("p/c", freePort(t, "tcp"), "127.0.0.1/32")})
	for _, id := range []string{"p/a", "p/b"} {
		if err := failed[id]; err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("%s: %v", id, err)
		}
	}
	if len(failed) != 2 {
		t.Errorf("%v", failed)
	}
}

func TestConflicts(t *testing.T) {
	udp := twin("p/udp", 5000, "10.0.0.7/32")
	udp.Scheme = "udp-in"
	got := inbound.Conflicts([]inbound.Twin{twin("p/b", 5000, "10.0.0.7/32", "10.0.0.7/32"), twin("p/a", 5000, "10.0.0.7/32", "10.0.1.0/24"),
		twin("p/wide", 5000, "10.0.0.0/24"), twin("p/elsewhere", 5001, "10.0.0.7/32"), udp, twin("p/c", 5000, "10.0.1.0/24")})
	if len(got) != 3 {
		t.Fatalf("got %v", got)
	}
	for id, want := range map[string]string{"p/b": "the twin p/a has the same port 5000 and ?from=10.0.0.7: what calls from there is taken for the device of p/a",
		"p/a": "the twin p/b has the same port 5000", "p/c": "the twin p/a has the same port 5000 and ?from=10.0.1.0/24"} {
		if !strings.HasPrefix(got[id].Error(), want) {
			t.Errorf("%s: %v, want %s", id, got[id], want)
		}
	}
}

// A port is one project's: another cannot take its devices by naming them more exactly.
func TestAPortIsOfOneProject(t *testing.T) {
	old, own, thief, other := twin("p/old", 5000, "10.0.0.0/8"), twin("p/own", 5000, "10.0.0.7/32"), twin("a/thief", 5000, "10.0.0.9/32"), twin("a/other", 5001, "10.0.0.9/32")
	old.Since, own.Since, thief.Since, other.Since = 10, 30, 20, 40
	udp := thief
	udp.ID, udp.Scheme = "a/udp", "udp-in"
	served, refused := inbound.Share([]inbound.Twin{thief, own, old, other, udp})
	var ids []string
	for _, s := range served {
		ids = append(ids, s.ID)
	}
	if got := strings.Join(ids, " "); got != "p/own p/old a/other a/udp" {
		t.Errorf("served %s", got)
	}
	if err := refused["a/thief"]; len(refused) != 1 || err == nil || !strings.HasPrefix(err.Error(), "port 5000 belongs to another project") {
		t.Errorf("refused %v", refused)
	}
}

// troubled is a sink that hears of trouble.
type troubled struct {
	contract.Recorder
	heard chan string
}

func (s *troubled) Troubled(err error) { s.heard <- fmt.Sprint(err) }

// What keeps a device from calling in is told while it does, taken back once, and not told after the connection is closed.
func TestReview(t *testing.T) {
	nodes := newCluster(t, "n1")
	hub := nodes.hubs["n1"]
	sink := &troubled{heard: make(chan string, 10)}
	c, err := hub.Open(transport.Options{Sink: sink, Binding: drivers.Binding{Twin: "p/a", URI: "tcp-in://:5000?from=127.0.0.1",
		Transport: drivers.TransportOptions{Scheme: "tcp-in", Tokenizer: lines}}})
	if err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("wrong")
	for _, err := range []error{nil, wrong, wrong, nil, nil} {
		hub.Review(func(twin, scheme string, port int) error {
			if twin != "p/a" || scheme != "tcp-in" || port != 5000 {
				t.Errorf("asked for %s at %s:%d", twin, scheme, port)
			}
			return err
		})
	}
	c.Close()
	hub.Review(func(string, string, int) error { return wrong })
	close(sink.heard)
	var all []string
	for text := range sink.heard {
		all = append(all, text)
	}
	if strings.Join(all, " ") != "wrong wrong <nil>" {
		t.Errorf("heard %q", all)
	}
}

// A device that nobody would let in is not waited for.
func TestNobodyMayCallIn(t *testing.T) {
	nodes := newCluster(t, "n1")
	for scheme, want := range map[string]string{"tcp-in": "tcp-in://:5000?from=", "udp-in": "udp-in://:5000?from="} {
		_, err := nodes.hubs["n1"].Open(transport.Options{Binding: drivers.Binding{Twin: "p/t", URI: scheme + "://:5000",
			Transport: drivers.TransportOptions{Scheme: scheme}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a word of %s", scheme, err, want)
		}
	}
}

func TestUDP(t *testing.T) {
	nodes := newCluster(t, "n1")
	for name, peers := range map[string]bool{"plain": false, "with peers": true} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t, "udp")
			o := drivers.TransportOptions{Scheme: "udp-in", UDP: &drivers.UDPOptions{WithPeer: peers}}
			tw := inbound.Twin{ID: "p/u", Scheme: "udp-in", Port: port, From: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Options: o}
			if err := nodes.doors["n1"].Set([]inbound.Twin{tw}); len(err) > 0 {
				t.Fatal(err)
			}
			sink := &contract.Recorder{}
			c, err := nodes.hubs["n1"].Open(transport.Options{Sink: sink, Binding: drivers.Binding{Twin: "p/u", URI: fmt.Sprintf("udp-in://:%d?from=127.0.0.1", port), Transport: o}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			device, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer device.Close()
			for i := range 20 {
				fmt.Fprintf(device, "trap %d", i)
			}
			sink.Await(t, "the datagrams", func([]string) bool { return len(sink.Frames()) == 20 })
			want, answer := "trap 19", "ok"
			if peers {
				want, answer = device.LocalAddr().String()+"\x00trap 19", device.LocalAddr().String()+"\x00ok"
			}
			if got := string(sink.Frames()[19]); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			if err := c.Send(t.Context(), []byte(answer)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 10)
			_ = device.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := device.Read(buf); string(buf[:n]) != "ok" {
				t.Fatalf("the device got %q, %v", buf[:n], err)
			}
			if peers {
				if err := c.Send(t.Context(), []byte("127.0.0.2:9\x00x")); !errors.Is(err, drivers.ErrDenied) {
					t.Errorf("to somebody else: %v", err)
				}
			}
		})
	}
}

// FuzzReader has a device say whatever it likes.
func FuzzReader(f *testing.F) {
	f.Add([]byte("a\nb\n"))
	f.Add([]byte(strings.Repeat("x", 3000)))
	f.Fuzz(func(t *testing.T, in []byte) {
		nodes := newCluster(t, "n1")
		port := freePort(t, "tcp")
		if err := nodes.doors["n1"].Set([]inbound.Twin{twin("p/a", port, "127.0.0.1/32")}); len(err) > 0 {
			t.Fatal(err)
		}
		_, sink := open(t, nodes.hubs["n1"], "p/a", port)
		device, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = device.Write(in)
		device.(*net.TCPConn).CloseWrite()
		sink.Await(t, "the end", func(e []string) bool { return len(e) == 2 })
		device.Close()
		var want []string
		for _, line := range strings.SplitAfter(string(in), "\n") {
			if len(line) > 1001 || !strings.HasSuffix(line, "\n") {
				break
			}
			want = append(want, strings.TrimSuffix(line, "\n"))
		}
		for i, got := range sink.Frames() {
			if i >= len(want) || string(got) != want[i] {
				t.Fatalf("frame %d is %q", i, got)
			}
		}
	})
}
