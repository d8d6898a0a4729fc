package actors_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// wires are the links between the nodes of a test. Messages and errors go over them as they would between machines: only
// what can be encoded arrives.
type wires struct {
	mu    sync.Mutex
	nodes map[string]*node
	lines map[string]chan func()
	// silent, where set, is a target for which messages wait.
	silent cluster.Target
	held   []func()
}

// silence has messages for a target wait, and those for the one before go on.
func (w *wires) silence(to cluster.Target) {
	w.mu.Lock()
	held := w.held
	w.silent, w.held = to, nil
	w.mu.Unlock()
	for _, send := range held {
		send()
	}
}

func (w *wires) add(id string, n *node) {
	line := make(chan func(), 65536)
	go func() {
		for { // until the process ends: answers may come late
			(<-line)()
		}
	}()
	w.mu.Lock()
	w.nodes[id], w.lines[id] = n, line
	w.mu.Unlock()
}

func (w *wires) Send(id string, env *cluster.Envelope, done func(cluster.Reply)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[id]
	if env.Target == w.silent {
		w.held = append(w.held, func() { w.Send(id, env, done) })
		return
	}
	if n == nil {
		go done(cluster.Reply{Err: cluster.ErrUnavailable})
		return
	}
	out := *env
	out.Message = across(env.Message)
	// In the order in which it was sent.
	w.lines[id] <- func() {
		n.cluster.Receive(&out, func(r cluster.Reply) {
			if r.Err != nil {
				r.Err = afar(r.Err)
			}
			if r.Message != nil {
				r.Message = across(r.Message)
			}
			done(r)
		})
	}
}

// across is what arrives of a message.
func across(m proto.Message) proto.Message {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	got, err := a.UnmarshalNew()
	if err != nil {
		panic(err)
	}
	return got
}

// remote is what arrives of an error: its text, and those of its kinds that are known by name.
type remote struct {
	text  string
	kinds []error
}

func (e *remote) Error() string   { return e.text }
func (e *remote) Unwrap() []error { return e.kinds }

func afar(err error) error {
	e := &remote{text: err.Error()}
	for _, known := range actors.WireErrors() {
		if errors.Is(err, known) {
			e.kinds = append(e.kinds, known)
		}
	}
	var other *cluster.NotOwnerError
	if errors.As(err, &other) {
		e.kinds = append(e.kinds, &cluster.NotOwnerError{Node: other.Node, Since: other.Since})
	}
	return e
}

// pair starts two nodes, each with its own store of one raft group, and waits until the slots are spread over both.
func pair(t *testing.T, opts ...option) (a, b *node) {
	t.Helper()
	// A machine that is busy with other tests may well starve a node for seconds.
	return pairLeased(t, 20*time.Second, opts...)
}

// pairLeased is pair with leases of the given duration; 0: as usual.
func pairLeased(t *testing.T, lease time.Duration, opts ...option) (a, b *node) {
	t.Helper()
	a, b, _ = pairBy(t, lease, opts...)
	return a, b
}

// pairBy is pairLeased that gives the links, too.
func pairBy(t *testing.T, lease time.Duration, opts ...option) (a, b *node, w *wires) {
	t.Helper()
	t.Parallel()
	w = &wires{nodes: map[string]*node{}, lines: map[string]chan func(){}}
	one, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	a = assemble(t, one, one.Store, cluster.Options{Self: cluster.Member{ID: "n1", Incarnation: 1}, Transport: w, Duration: lease}, opts...)
	w.add("n1", a)
	two := storagetest.Join(t, one, "n2", "data", vfs.NewMem())
	b = assemble(t, two, one.Store, cluster.Options{Self: cluster.Member{ID: "n2", Incarnation: 1}, Transport: w, Duration: lease,
		Leader: func() bool { return false }}, opts...)
	w.add("n2", b)
	spread(t, a, b)
	return a, b, w
}

// owner gives the node that owns a twin now, by what n sees.
func (n *node) owner(id string) string {
	l, ok := n.cluster.Where(id)
	if !ok {
		return ""
	}
	return l.Node
}

// drain has a node's slots handed over, and waits until they are.
func (n *node) drain(id string) {
	n.t.Helper()
	if err := n.cluster.Drain(ctx(n.t), id); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, "node "+id+" has no slots", func() bool { return n.cluster.SlotsByNode()[id] == 0 })
}

func (n *node) undrain(id string) {
	n.t.Helper()
	if err := n.cluster.Undrain(ctx(n.t), id); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, "node "+id+" has slots", func() bool { return n.cluster.SlotsByNode()[id] > many })
}

func TestTwoNodes(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		a.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("h"); return err == nil })
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if got := a.must(id, "count", ""); got != "1" {
			t.Errorf("count of %s: %s", id, got)
		}
		if got := b.must(id, "count", ""); got != "2" {
			t.Errorf("count of %s from the other node: %s", id, got)
		}
	}
	a.drain("n2")
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if got := b.must(id, "count", ""); got != "3" {
			t.Errorf("count of %s after the drain: %s", id, got)
		}
	}
}
