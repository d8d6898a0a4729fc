package peer

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	peerv1 "github.com/polluxhq/pollux/proto/pollux/peer/v1"
)

// both opens two nodes with a link each way; b keeps what is asked of target "hold".
func both(t *testing.T, c *testCluster) (a, b *Peers, h *holding) {
	t.Helper()
	h = &holding{}
	a = c.open("a", nil)
	b = c.open("b", func(o *Options) {
		pings(o)
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			if env.Target.ID == "hold" {
				h.take(env, done)
				return
			}
			echo(env, done)
		}
	})
	return a, b, h
}

// meet has two nodes call each other, so that links stand both ways.
func meet(t *testing.T, a, b *Peers) {
	t.Helper()
	for _, r := range []cluster.Reply{ask(t, b, "a", envelope("x", "")), ask(t, a, "b", envelope("x", ""))} {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// TestResultsRide: answers of all kinds come among the calls of the other node, each to its own call, and large ones in the
// stream of the call.
func TestResultsRide(t *testing.T) {
	c := newTestCluster(t)
	a, b, _ := both(t, c)
	meet(t, a, b)
	was := b.m.shared.Get()
	large := strings.Repeat("x", maxRide+1)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				body := strings.Repeat("ab", i*200+j)
				if j == 100 {
					body = large
				}
				if r := ask(t, a, "b", envelope("x", body)); r.Err != nil || textOf(r.Message) != body {
					t.Errorf("%d bytes sent: %v", len(body), r)
					return
				}
				if r := ask(t, b, "a", envelope("x", body)); r.Err != nil || textOf(r.Message) != body {
					t.Errorf("%d bytes sent back: %v", len(body), r)
					return
				}
			}
		})
	}
	all.Wait()
	if rode := b.m.shared.Get() - was; rode < 1000 || rode > 8*199 {
		t.Errorf("%d of 1600 answers rode, the large ones must not", rode)
	}
	done := make(chan error, 1)
	a.Propose(t.Context(), "b", []byte("entry"), func(_ []byte, err error) { done <- err })
	if err := <-done; !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("a proposal to a node that takes none: %v", err)
	}
	if a.m.late.Get()+b.m.late.Get() != 0 {
		t.Error("results that nobody waits for")
	}
}

// TestLostCarrier: who waits for an answer that is lost with the link that carries it is told soon, not at its deadline.
func TestLostCarrier(t *testing.T) {
	c := newTestCluster(t)
	a, b, h := both(t, c)
	wire := c.relay("a") // from b to a alone
	meet(t, a, b)
	env := envelope("hold", "")
	env.Deadline = time.Now().Add(time.Hour)
	ended := make(chan error, 1)
	a.Send("b", env, func(r cluster.Reply) { ended <- r.Err })
	eventually(t, "the call", func() bool { return h.count() == 1 })
	wire.to.cut.Store(true)
	wire.from.cut.Store(true)
	h.release()
	select {
	case err := <-ended:
		if !errors.Is(err, cluster.ErrUnknown) {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("nobody told the caller")
	}
	wire.to.cut.Store(false)
	wire.from.cut.Store(false)
	eventually(t, "answers again", func() bool { return ask(t, a, "b", envelope("x", "")).Err == nil })
}

// TestRidersAreForgotten: a link knows the streams whose results it carries for as long as they stand.
func TestRidersAreForgotten(t *testing.T) {
	c := newTestCluster(t)
	a, b, _ := both(t, c)
	meet(t, a, b)
	for range 5 {
		l := a.lane("b", laneCalls)
		was := l.cur.Load()
		l.renew()
		eventually(t, "a fresh link", func() bool { return l.cur.Load() != was })
		eventually(t, "the old one's end", func() bool { return was.ctx.Err() != nil })
		if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	k := b.lane("a", laneCalls).cur.Load()
	eventually(t, "few riders", func() bool {
		if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
			t.Fatal(r.Err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.riders) <= 3
	})
	streams := 0
	a.streams.Range(func(any, any) bool { streams++; return true })
	if streams > 2 {
		t.Errorf("%d streams are known, one stands", streams)
	}
}

// TestRenewalKeepsAnswers: the calls of a link that is replaced get their answers, though its stream ends before they have come.
func TestRenewalKeepsAnswers(t *testing.T) {
	c := newTestCluster(t)
	a, b, _ := both(t, c)
	meet(t, a, b)
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				if r := ask(t, a, "b", envelope("x", "y")); r.Err != nil {
					t.Error(r.Err)
					return
				}
			}
		})
	}
	for range 20 {
		l := a.lane("b", laneCalls)
		was := l.cur.Load()
		l.renew()
		eventually(t, "a fresh link", func() bool { return l.cur.Load() != was })
	}
	stop.Store(true)
	all.Wait()
}

// TestOlderNodesGetTheirResultsBack: a node of version 1 reads no results among calls; one of version 2 that gives its stream does.
func TestOlderNodesGetTheirResultsBack(t *testing.T) {
	for _, v := range []struct {
		version uint32
		stream  uint64
		rides   bool
	}{{1, 7, false}, {2, 0, false}, {2, 7, true}, {9, 7, true}} {
		s, _ := reading(t)
		hello, err := proto.Marshal(&peerv1.Hello{Version: v.version, Node: "y", Stream: v.stream})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.greet(hello); err != nil || (s.back != nil) != v.rides {
			t.Errorf("%+v: %v, %v", v, s.back, err)
		}
		k := newLink(&lane{p: s.p, node: "y"})
		k.takes = v.version >= 2
		wrote := false
		if k.carry(s, 1, func(*outbox, *chunk, resultOf) { wrote = true }) != k.takes || wrote != k.takes {
			t.Errorf("%+v: carried: %v", v, wrote)
		}
	}
}

// TestResultsWithoutAStream: a result among calls that does not say whose it is ends the stream; one of another's is nobody's.
func TestResultsWithoutAStream(t *testing.T) {
	result := func(r *peerv1.Result) []byte {
		b, err := proto.Marshal(&peerv1.ExchangeRequest{Results: []*peerv1.Result{r}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	greeted := func() *session {
		s, _ := reading(t)
		if err := s.consume(request()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := greeted()
	if err := s.consume(result(&peerv1.Result{Ref: 1})); !errors.Is(err, errMalformed) {
		t.Errorf("%v", err)
	}
	s = greeted()
	k := newLink(&lane{p: s.p, node: "z"})
	s.p.streams.Store(k.id, k)
	k.table.add(waiting{done: func(cluster.Reply) { t.Error("y answered a call to z") }})
	for i, id := range []uint64{k.id, k.id + 2} {
		if err := s.consume(result(&peerv1.Result{Ref: 1 << 16, Stream: id})); err != nil || s.p.m.late.Get() != uint64(i+1) {
			t.Errorf("%v, %d results are nobody's", err, s.p.m.late.Get())
		}
	}
}
