package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/pki"
)

// testCluster is an authority and the addresses of nodes.
type testCluster struct {
	t  testing.TB
	ca *pki.Authority
	id string

	mu    sync.Mutex
	addrs map[string]string
}

func newTestCluster(t testing.TB) *testCluster {
	t.Helper()
	ca, err := pki.NewAuthority("ctest")
	if err != nil {
		t.Fatal(err)
	}
	return &testCluster{t: t, ca: ca, id: "ctest", addrs: map[string]string{}}
}

func (c *testCluster) identity(node string) *pki.Identity {
	c.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		c.t.Fatal(err)
	}
	csr, err := pki.NewRequest(key, node)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := c.ca.Sign(csr, node, c.id, pki.NodeTTL)
	if err != nil {
		c.t.Fatal(err)
	}
	i, err := pki.NewIdentity(key, cert, c.ca.PEM())
	if err != nil {
		c.t.Fatal(err)
	}
	return i
}

func (c *testCluster) address(node string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.addrs[node]
	return a, ok
}

func (c *testCluster) setAddress(node, addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs[node] = addr
}

// patience is how long a test waits for what must come, and its nodes for each other: on a machine that is away for
// seconds, too, a link breaks where a test breaks it.
const patience = 2 * time.Minute

// open starts a node; change may alter its options.
func (c *testCluster) open(node string, change func(*Options)) *Peers {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	o := Options{Listener: l, Node: node, Incarnation: 1, ClusterID: c.id, Address: c.address, Calls: echo,
		Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), DialTimeout: patience, ReadIdle: patience, Ping: patience}
	if change != nil {
		change(&o)
	}
	if o.Identity == nil {
		o.Identity = c.identity(node)
	}
	p, err := Open(o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.setAddress(node, o.Listener.Addr().String())
	c.t.Cleanup(func() { p.Close() })
	return p
}

// echo answers with the message itself.
func echo(env *cluster.Envelope, done func(cluster.Reply)) { done(cluster.Reply{Message: env.Message}) }

func text(s string) proto.Message { return wrapperspb.String(s) }

func textOf(m proto.Message) string {
	if s, ok := m.(*wrapperspb.StringValue); ok {
		return s.GetValue()
	}
	return fmt.Sprintf("%v", m)
}

func envelope(target, body string) *cluster.Envelope {
	return &cluster.Envelope{ID: [16]byte{1, 2, 3}, Target: cluster.Target{Kind: "twin", ID: target}, Message: text(body),
		Deadline: time.Now().Add(patience)}
}

// ask sends and waits for the answer.
func ask(t testing.TB, p *Peers, node string, env *cluster.Envelope) cluster.Reply {
	t.Helper()
	answers := make(chan cluster.Reply, 1)
	p.Send(node, env, func(r cluster.Reply) { answers <- r })
	select {
	case r := <-answers:
		return r
	case <-time.After(2 * patience): // its deadline is over by then
		t.Fatal("no answer, not even an error")
		return cluster.Reply{}
	}
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// noLeaks fails where goroutines are left that were not there before.
func noLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
			}
		}
	})
}

func TestCallAndReply(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	var seen cluster.Envelope
	a := c.open("a", nil)
	c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			seen = *env
			done(cluster.Reply{Message: text("hello " + textOf(env.Message))})
		}
	})
	env := &cluster.Envelope{ID: [16]byte{1, 15: 9}, Target: cluster.Target{Kind: "twin", ID: "default/lamp"}, Since: 77, Message: text("lamp"),
		Deadline: time.Now().Add(patience), Chain: []string{"twin:default/x", "", "twin:default/y"}, Principal: "user:ada"}
	began := time.Now()
	r := ask(t, a, "b", env)
	took := time.Since(began)
	if r.Err != nil || textOf(r.Message) != "hello lamp" {
		t.Fatalf("got %v, %v", r.Message, r.Err)
	}
	if seen.ID != env.ID || seen.Target != env.Target || seen.Since != 77 || strings.Join(seen.Chain, "|") != "twin:default/x||twin:default/y" ||
		seen.Principal != "user:ada" || textOf(seen.Message) != "lamp" {
		t.Errorf("the envelope arrived as %+v", seen)
	}
	if d := seen.Deadline.Sub(env.Deadline); d < -50*time.Millisecond || d > took+50*time.Millisecond { // the way's time may be added
		t.Errorf("the deadline moved by %v", d)
	}
}

func TestNoMessageNoDeadline(t *testing.T) {
	c := newTestCluster(t)
	var seen cluster.Envelope
	a := c.open("a", nil)
	c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) { seen = *env; done(cluster.Reply{}) }
	})
	r := ask(t, a, "b", &cluster.Envelope{Target: cluster.Target{Kind: "node", ID: "b"}})
	if r.Err != nil || r.Message != nil || seen.Message != nil || !seen.Deadline.IsZero() {
		t.Errorf("reply %+v, envelope %+v", r, &seen)
	}
	// An empty message is not none.
	if r := ask(t, a, "b", &cluster.Envelope{Message: text("")}); r.Err != nil || seen.Message == nil {
		t.Errorf("reply %+v, envelope %+v", r, &seen)
	}
}

func TestThreeNodesManyCalls(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	names := []string{"a", "b", "c"}
	nodes := map[string]*Peers{}
	for _, n := range names {
		nodes[n] = c.open(n, nil)
	}
	var all sync.WaitGroup
	for _, from := range names {
		for _, to := range names {
			for w := range 4 {
				all.Go(func() {
					for i := range 300 {
						body := fmt.Sprint(from, to, w, i)
						if r := ask(t, nodes[from], to, envelope("default/x", body)); r.Err != nil || textOf(r.Message) != body {
							t.Errorf("%s to %s: %v, %v", from, to, r.Message, r.Err)
							return
						}
					}
				})
			}
		}
	}
	all.Wait()
	if s := nodes["a"].Stats(); s.Links != 3 || s.InFlight != 0 || s.InFlightBytes != 0 || s.Queued != 0 {
		t.Errorf("after all: %+v", s)
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	c := newTestCluster(t)
	own := errors.New("not found")
	answer := error(nil)
	sentinels := func(o *Options) {
		o.Errors = map[string]error{"actors.not_found": own}
		o.Details = ErrorDetails{
			To: func(err error) proto.Message {
				if errors.Is(err, own) {
					return text("detail")
				}
				return nil
			},
			From: func(_ string, m proto.Message) error { return fmt.Errorf("with %s", textOf(m)) },
		}
	}
	a := c.open("a", sentinels)
	c.open("b", func(o *Options) {
		sentinels(o)
		o.Calls = func(_ *cluster.Envelope, done func(cluster.Reply)) { done(cluster.Reply{Err: answer}) }
	})
	for _, want := range []error{own, cluster.ErrCycle, cluster.ErrUnavailable, cluster.ErrDeadline, cluster.ErrOverloaded, cluster.ErrUnknown} {
		answer = fmt.Errorf("twin default/x: %w", want)
		r := ask(t, a, "b", envelope("default/x", ""))
		if !errors.Is(r.Err, want) || r.Err.Error() != answer.Error() {
			t.Errorf("%v came as %v", answer, r.Err)
		}
		for _, other := range []error{own, cluster.ErrCycle, cluster.ErrUnavailable, cluster.ErrDeadline, cluster.ErrOverloaded, cluster.ErrUnknown} {
			if other != want && errors.Is(r.Err, other) {
				t.Errorf("%v came as %v too", answer, other)
			}
		}
	}
	answer = fmt.Errorf("slot 3: %w", &cluster.NotOwnerError{Node: "c", Since: 12})
	r := ask(t, a, "b", envelope("default/x", ""))
	var other *cluster.NotOwnerError
	if !errors.As(r.Err, &other) || other.Node != "c" || other.Since != 12 || !errors.Is(r.Err, cluster.ErrNotOwner) {
		t.Errorf("%v came as %v", answer, r.Err)
	}
	answer = fmt.Errorf("%w: both %w", own, cluster.ErrCycle)
	if r := ask(t, a, "b", envelope("default/x", "")); !errors.Is(r.Err, own) || !errors.Is(r.Err, cluster.ErrCycle) {
		t.Errorf("%v came as %v", answer, r.Err)
	}
	var e *remoteError
	if r := ask(t, a, "b", envelope("default/x", "")); !errors.As(r.Err, &e) || fmt.Sprint(e.wraps) != "[not found call cycle with detail]" &&
		fmt.Sprint(e.wraps) != "[call cycle not found with detail]" {
		t.Errorf("detail: %v", e)
	}
}

func TestPostArrives(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	got := make(chan string, 1000)
	a := c.open("a", nil)
	c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			done(cluster.Reply{Message: text("nobody wants this")})
			got <- textOf(env.Message)
		}
	})
	for i := range 1000 {
		if err := a.Post("b", envelope("default/x", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		select {
		case s := <-got:
			if s != fmt.Sprint(i) {
				t.Fatalf("%s came as number %d: out of order", s, i)
			}
		case <-time.After(patience):
			t.Fatalf("%d of 1000 came", i)
		}
	}
	if s := a.Stats(); s.InFlight != 0 {
		t.Errorf("in flight: %+v", s)
	}
}

func TestUnknownNode(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", nil)
	if r := ask(t, a, "nobody", envelope("x", "")); !errors.Is(r.Err, cluster.ErrUnavailable) || errors.Is(r.Err, cluster.ErrUnknown) {
		t.Errorf("got %v", r.Err)
	}
	// Nobody listens there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c.setAddress("gone", l.Addr().String())
	if r := ask(t, a, "gone", envelope("x", "")); !errors.Is(r.Err, cluster.ErrUnavailable) || errors.Is(r.Err, cluster.ErrUnknown) {
		t.Errorf("got %v", r.Err)
	}
	if _, _, err := a.HTTP("nobody"); err == nil {
		t.Error("a client for nobody")
	}
	if _, err := a.CommitIndex(context.Background(), "gone"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
