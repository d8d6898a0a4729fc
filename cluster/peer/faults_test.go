package peer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/pki"
)

// childEnv makes this test binary a node: the directory of its identity.
const childEnv = "POLLUX_PEER_TEST_IDENTITY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child serves until its standard input ends. A call of target "hold" is never answered.
func child(dir string) error {
	id, err := pki.Load(dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p, err := Open(Options{Listener: l, DialTimeout: patience, ReadIdle: patience, Ping: patience, Identity: id, Node: id.Node(), ClusterID: id.ClusterID(), Incarnation: 1,
		Address: func(string) (string, bool) { return "", false },
		Calls: func(env *cluster.Envelope, done func(cluster.Reply)) {
			if env.Target.ID != "hold" {
				done(cluster.Reply{Message: env.Message})
			}
		}})
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	return p.Close()
}

// spawn starts a node in a process of its own.
func (c *testCluster) spawn(node string) *exec.Cmd {
	c.t.Helper()
	dir := filepath.Join(c.t.TempDir(), node)
	if err := c.identity(node).Save(dir); err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	c.setAddress(node, strings.TrimSpace(line))
	return cmd
}

// pings has a node notice silence, in time for a test; its pings are more patient than the program's, for the sake of a busy machine.
func pings(o *Options) {
	o.DialTimeout, o.ReadIdle, o.Ping = 10*time.Second, time.Second, 5*time.Second
}

// outstanding sends calls that will not be answered, and gives the way to wait for their ends, before their deadline.
func outstanding(t *testing.T, p *Peers, node string, n int) (wait func() []error) {
	t.Helper()
	ends := make(chan error, n)
	for range n {
		p.Send(node, envelope("hold", ""), func(r cluster.Reply) { ends <- r.Err })
	}
	if r := ask(t, p, node, envelope("after", "x")); r.Err != nil { // they are there: one stream, in order
		t.Fatal(r.Err)
	}
	return func() (all []error) {
		t.Helper()
		end := time.After(patience / 2)
		for range n {
			select {
			case err := <-ends:
				all = append(all, err)
			case <-end:
				t.Fatalf("%d of %d calls ended within %v", len(all), n, patience/2)
			}
		}
		return all
	}
}

func TestKilledPeer(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	b := c.spawn("b")
	wait := outstanding(t, a, "b", 100)
	if err := b.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for _, err := range wait() {
		if !errors.Is(err, cluster.ErrUnknown) || errors.Is(err, cluster.ErrUnavailable) {
			t.Fatalf("a call that had left ended as %v", err)
		}
		if c := (*connect.Error)(nil); errors.As(err, &c) {
			t.Fatalf("the transport's own error %v shows in %v", c, err)
		}
	}
	t.Logf("100 calls ended %v after kill -9", time.Since(killed))
	// From now on: not sent, before the deadline.
	for range 20 {
		if r := ask(t, a, "b", envelope("x", "")); !errors.Is(r.Err, cluster.ErrUnavailable) {
			t.Fatal(r.Err)
		}
	}
	// It comes back at another address.
	c.spawn("b")
	eventually(t, "the peer that is back", func() bool { return ask(t, a, "b", envelope("x", "")).Err == nil })
	if s := a.Stats(); !s.Nodes["b"].Connected || s.Nodes["b"].Error != "" {
		t.Errorf("%+v", s)
	}
}

func TestStoppedPeer(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", pings)
	b := c.spawn("b")
	wait := outstanding(t, a, "b", 10)
	if err := b.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	for _, err := range wait() {
		if !errors.Is(err, cluster.ErrUnknown) {
			t.Fatal(err)
		}
	}
	t.Logf("a stopped peer was noticed after %v", time.Since(stopped))
	if err := b.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peer that goes on", func() bool { return ask(t, a, "b", envelope("x", "")).Err == nil })
}

// relay is a wire that can be cut or stopped in each direction without either side being told.
type relay struct {
	l        net.Listener
	to, from way
}

// way is one direction of a wire.
type way struct {
	// cut: what comes is swallowed.
	cut atomic.Bool
	// stopped, while it is locked: nothing more is passed on or read, as by a side that does not read.
	stopped sync.Mutex
}

func (c *testCluster) relay(node string) *relay {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	to, _ := c.address(node)
	r := &relay{l: l}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			all.Go(func() { r.to.pump(far, near) })
			all.Go(func() { r.from.pump(near, far) })
		}
	})
	c.t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	c.setAddress(node, l.Addr().String())
	return r
}

// pump passes on what comes; an end only where the wire is whole.
func (w *way) pump(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if w.cut.Load() {
			if err != nil {
				return
			}
			continue
		}
		if err != nil {
			to.Close()
			return
		}
		w.stopped.Lock()
		_, err = to.Write(buf[:n])
		w.stopped.Unlock()
		if err != nil {
			return
		}
	}
}

func TestPartition(t *testing.T) {
	for _, dir := range []string{"to", "from", "both"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t)
			a := c.open("a", pings)
			h := &holding{}
			c.open("b", func(o *Options) {
				o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
					if env.Target.ID == "hold" {
						h.take(env, done)
						return
					}
					done(cluster.Reply{Message: env.Message})
				}
			})
			wire := c.relay("b")
			wait := outstanding(t, a, "b", 10)
			wire.to.cut.Store(dir != "from")
			wire.from.cut.Store(dir != "to")
			cut := time.Now()
			for _, err := range wait() {
				if !errors.Is(err, cluster.ErrUnknown) {
					t.Fatal(err)
				}
			}
			t.Logf("noticed after %v", time.Since(cut))
			// While it is cut: not sent, within the time of a dial.
			if r := ask(t, a, "b", envelope("x", "")); !errors.Is(r.Err, cluster.ErrUnavailable) || errors.Is(r.Err, cluster.ErrUnknown) {
				t.Errorf("during the partition: %v", r.Err)
			}
			wire.to.cut.Store(false)
			wire.from.cut.Store(false)
			eventually(t, "the wire whole again", func() bool { return ask(t, a, "b", envelope("x", "")).Err == nil })
		})
	}
}

func TestClosedPeer(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	b := c.open("b", func(o *Options) { o.Calls = (&holding{}).take })
	got := make(chan error, 2)
	a.Send("b", envelope("x", ""), func(r cluster.Reply) { got <- r.Err })
	eventually(t, "the call there", func() bool { return b.m.calls.Get() == 1 })
	b.Close()
	if err := <-got; !errors.Is(err, cluster.ErrUnknown) {
		t.Errorf("the other side closed: %v", err)
	}
	a.Send("a", envelope("x", ""), func(r cluster.Reply) { got <- r.Err }) // to itself, over the wire
	<-got
	a.Close()
	a.Close()
	if r := ask(t, a, "b", envelope("x", "")); !errors.Is(r.Err, cluster.ErrUnavailable) {
		t.Errorf("after Close: %v", r.Err)
	}
	if err := a.Post("b", envelope("x", "")); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestLostLinksLeaveNothing: a link that is lost again and again costs nothing that stays.
func TestLostLinksLeaveNothing(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	h := &holding{}
	b := c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			if env.Target.ID == "hold" {
				h.take(env, done)
				return
			}
			echo(env, done)
		}
	})
	settled := 0
	for i := range 12 {
		wait := outstanding(t, a, "b", 5)
		b.Disconnect("a")
		for _, err := range wait() {
			if !errors.Is(err, cluster.ErrUnknown) {
				t.Fatal(err)
			}
		}
		eventually(t, "a link again", func() bool { return ask(t, a, "b", envelope("x", "")).Err == nil })
		if i == 1 {
			settled = runtime.NumGoroutine()
		}
	}
	eventually(t, "goroutines of lost links to end", func() bool { return runtime.NumGoroutine() <= settled })
	h.release() // answers to links that are no more
	if s := b.Stats(); s.Sessions != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	a.Disconnect("b")
	if s := a.Stats(); s.Links != 0 {
		t.Errorf("%+v", s)
	}
}

// TestNewAddress: a node that moved is reached at once, the pause after its loss is not waited for.
func TestNewAddress(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", nil)
	b := c.open("b", nil)
	if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
		t.Fatal(r.Err)
	}
	b.Close()
	for range 10 { // the pause grows
		eventually(t, "a refusal", func() bool { return ask(t, a, "b", envelope("x", "")).Err != nil })
		time.Sleep(10 * time.Millisecond)
	}
	c.open("b", nil)
	if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
		t.Error(r.Err)
	}
}

// TestCloseEndsEverything: each call is ended exactly once, whatever it was doing.
func TestCloseEndsEverything(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	b := c.open("b", nil)
	var sent, ended atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var once atomic.Bool
				sent.Add(1)
				a.Send("b", envelope("x", "hello"), func(r cluster.Reply) {
					if !once.CompareAndSwap(false, true) {
						t.Error("done was called twice")
					}
					ended.Add(1)
				})
			}
		})
	}
	eventually(t, "traffic", func() bool { return ended.Load() > 1000 })
	b.Close()
	eventually(t, "refusals", func() bool { return a.m.refusedCalls.Get() > 0 })
	a.Close()
	close(stop)
	all.Wait()
	eventually(t, "all ends", func() bool { return sent.Load() == ended.Load() })
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func logTo(b *syncBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
