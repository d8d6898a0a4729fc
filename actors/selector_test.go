package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// selects gives a twin another selector.
func (n *node) selects(id, selector string) {
	n.t.Helper()
	for {
		tw, err := n.reg.GetTwin(id)
		if err == nil {
			tw.Selector = selector
			_, err = n.reg.UpdateTwin(ctx(n.t), tw)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, actors.ErrRevision) { // this node may be behind
			n.t.Fatal(err)
		}
	}
}

// lives waits until both nodes see a twin on the one that is meant.
func lives(t *testing.T, a, b *node, id, on string) {
	t.Helper()
	until(t, id+" lives on "+on, func() bool { return a.owner("default/"+id) == on && b.owner("default/"+id) == on })
}

// Twins get other selectors under load, and with them other owners: each call is answered, and has run exactly once; what
// was asked, commands that nobody waits for and frames go along, and what was answered is known.
func TestSelectorsMoveTwinsUnderLoad(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	a.driver("bus", "1.0.0", mqttTransport)
	const twins = 6
	id := func(i int) string { return fmt.Sprintf("t%d", i) }
	for i := range twins {
		a.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, id(i)))
		a.twin(fmt.Sprintf(`{"id":"m%d","driver":"bus","settings":{"topic":"m%d"}}`, i, i))
	}
	a.twin(`{"id":"known","driver":"probe"}`)
	b.seen("known")
	count := &pb.InvokeRequest{Id: "default/known", Action: "count"}
	first := result(a.raw(1, "known", count))
	var stop atomic.Bool
	var wg sync.WaitGroup
	var done [twins]atomic.Int64
	for _, n := range []*node{a, b} {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				k := i % twins
				r := &pb.InvokeRequest{Id: id(k), Action: "count"}
				if i%7 == 0 {
					r.Options = &pb.CommandOptions{NoWait: true}
				}
				switch _, err := n.client.Invoke(ctx(t), r, "x"); {
				case errors.Is(err, cluster.ErrOverloaded):
					continue
				case err != nil:
					t.Errorf("call %d on %s: %v", i, id(k), err)
					return
				}
				done[k].Add(1)
			}
		})
	}
	var frames [twins]int
	wg.Go(func() {
		room := make(chan struct{}, 32)
		for i := 0; !stop.Load(); i++ {
			k := i % twins
			room <- struct{}{}
			frames[k]++
			a.engine.Deliver(&mqtt.Message{Topic: fmt.Sprintf("dev/m%d/state", k), QoS: 1, Payload: fmt.Appendf(nil, `{"level":%d}`, frames[k])}, func(err error) {
				if err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
				<-room
			})
		}
		for range cap(room) {
			room <- struct{}{}
		}
	})
	for round, selector := range []string{"zone=n1", "zone=n2", "zone in (n1,n2)", "zone!=n2", ""} {
		for i := range twins {
			n := []*node{a, b}[(round+i)%2]
			n.selects(id(i), selector)
			n.selects(fmt.Sprintf("m%d", i), selector)
		}
		for i := range twins {
			switch selector {
			case "zone=n1", "zone!=n2":
				lives(t, a, b, id(i), "n1")
			case "zone=n2":
				lives(t, a, b, id(i), "n2")
			}
		}
		b.selects("known", selector)
		if again := result(b.raw(1, "known", count)); again != first {
			t.Errorf("the first result %s, again %s", first, again)
		}
	}
	stop.Store(true)
	wg.Wait()
	for i := range twins {
		b.wait(id(i), "count", fmt.Sprint(done[i].Load()))
		m := fmt.Sprintf("default/m%d", i)
		b.wait(m, "level", fmt.Sprint(frames[i]))
		last := 0.0
		for j, got := range a.samples(m, "level") {
			if got < last {
				t.Errorf("%s: sample %d is %v after %v: out of order", m, j, got, last)
				break
			}
			last = got
		}
	}
}

// The timer of a twin that nobody uses goes along: it is woken by its next owner, in slots that this one has had all the
// time.
func TestTimersFollowTheSelector(t *testing.T) {
	a, b := pair(t, func(o *actors.Options) { o.IdleTimeout = 50 * time.Millisecond })
	a.driver("probe", "1.0.0", "")
	a.twin(`{"id":"p","driver":"probe","selector":"zone=n1"}`)
	b.seen("p")
	lives(t, a, b, "p", "n1")
	a.must("p", "timer", `{"name":"one","after_ms":2000}`)
	until(t, "the twin is passive", func() bool { return !a.engine.Active(cluster.Target{Kind: "twin", ID: "default/p"}) })
	b.selects("p", "zone=n2")
	lives(t, a, b, "p", "n2")
	until(t, "the timer fires on n2", func() bool { return a.committed("p", "fired") != "" })
	if s := b.state("p"); s.Status.Node != "n2" {
		t.Errorf("it fired on %s", s.Status.Node)
	}
}

// Twins whose selector nobody satisfies can be made, changed and deleted, and made again.
func TestTwinsThatNobodyMayHave(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	for _, id := range []string{"p", "q"} {
		a.twin(fmt.Sprintf(`{"id":%q,"driver":"probe","selector":"zone=n2"}`, id))
		b.seen(id)
		a.must(id, "count", "")
		a.selects(id, "zone=nowhere")
	}
	for _, n := range []*node{a, b} {
		until(t, "nobody has it", func() bool {
			_, err := n.invoke("p", "echo", "1") // it may still be answered
			return errors.Is(err, cluster.ErrSelector) && strings.Contains(err.Error(), "no node satisfies zone=nowhere")
		})
	}
	b.selects("p", "zone!=n2")
	if got := b.must("p", "count", ""); got != "2" {
		t.Errorf("the count is %s, want 2", got)
	}
	if err := a.reg.DeleteTwin(ctx(t), "q", 0); err != nil {
		t.Fatal(err)
	}
	for _, selector := range []string{"", "zone=n1", "zone=nowhere", ""} {
		a.twin(fmt.Sprintf(`{"id":"q","driver":"probe","selector":%q}`, selector))
		if selector != "zone=nowhere" {
			if got := a.must("q", "count", ""); got != "1" {
				t.Errorf("the count of a new twin is %s", got)
			}
		}
		if err := a.reg.DeleteTwin(ctx(t), "q", 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.reg.CreateTwin(ctx(t), &pb.Twin{Id: "x", Driver: "probe", Selector: "zone in a"}); !errors.Is(err, actors.ErrInvalid) ||
		!strings.Contains(err.Error(), "/selector") {
		t.Errorf("a malformed selector: %v", err)
	}
}
