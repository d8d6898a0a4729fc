package actors_test

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/clustertest"
)

// slots gives the records of the first slots, and those of some twins.
func (n *node) slots(count int, twins ...string) (owned []cluster.Ownership, slots []cluster.Slot) {
	n.t.Helper()
	all := map[cluster.Slot]bool{}
	for s := range cluster.Slot(count) {
		all[s] = true
	}
	for _, id := range twins {
		all[cluster.SlotOf("default/"+id)] = true
	}
	for s := range all {
		o, ok := n.cluster.Owned(s)
		if !ok {
			n.t.Fatalf("slot %d is not owned", s)
		}
		owned, slots = append(owned, o), append(slots, s)
	}
	return owned, slots
}

// A lease that ends and comes back takes all slots away and gives them back as they were: neither takes long,
// nobody is lost, and no device has two connections.
func TestSlotsLostAndGainedAgain(t *testing.T) {
	var open, most atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for now := open.Add(1); ; {
					was := most.Load()
					if now <= was || most.CompareAndSwap(was, now) {
						break
					}
				}
				b := make([]byte, 1)
				_, _ = c.Read(b) // until it is closed
				open.Add(-1)
				_ = c.Close()
			}()
		}
	}()
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driver("wire", "1.0.0", tcpTransport)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(fmt.Sprintf(`{"id":"w","driver":"wire","uri":"tcp://%s"}`, l.Addr()))
	n.twin(`{"id":"m","driver":"bus","settings":{"topic":"m"}}`)
	n.twin(`{"id":"p","driver":"probe"}`)
	n.deliver("dev/m/lwt", "Online", 1)
	n.must("p", "timer", `{"name":"one","every_ms":100}`)
	n.wait("w", "ups", "1")
	until(t, "both are connected", func() bool { return n.engine.Stats().Connected == 2 })
	until(t, "the timer is committed", func() bool { return n.committed("p", "fired") != "" })
	owned, slots := n.slots(clustertest.Slots, "w", "m", "p")
	var took time.Duration
	for range 50 {
		began := time.Now()
		n.engine.Lost(slots)
		if s := n.engine.Stats(); s.Connected != 0 || s.Faulty != 0 {
			t.Fatalf("after the loss %d are connected, %d faulty", s.Connected, s.Faulty)
		}
		n.engine.Gained(owned)
		n.engine.Gained(owned) // told twice
		took += time.Since(began)
	}
	if took > 50*time.Second { // under the race detector on a busy machine; 5 ms else
		t.Errorf("a loss and a gain of %d slots took %s", len(slots), took/50)
	}
	for _, id := range []string{"w", "m", "p"} {
		until(t, id+" works", func() bool { out, err := n.invoke(id, "echo", `1`); return err == nil && out == "1" })
	}
	until(t, "both are connected again", func() bool { return n.engine.Stats().Connected == 2 })
	until(t, "one connection is left", func() bool { return open.Load() == 1 })
	fired := n.prop("p", "fired")
	until(t, "the timer goes on", func() bool { return n.prop("p", "fired") != fired })
	if most.Load() > 2 {
		// A connection that is being closed may be seen beside the next one.
		t.Errorf("%d connections at a time", most.Load())
	}
	n.engine.Release(slots, func() {})
	n.engine.Gained(owned)
	for _, id := range []string{"w", "m", "p"} {
		until(t, id+" works after a release that was taken back", func() bool { _, err := n.invoke(id, "echo", `1`); return err == nil })
	}
	if s := n.engine.Stats(); s.Dropped["twin_panic"] != 0 {
		t.Errorf("dropped %v", s.Dropped)
	}
}

// A release is done, once, also where the slots are lost meanwhile.
func TestReleaseEndsWithALoss(t *testing.T) {
	n, g, blocked := busy(t)
	_, slots := n.slots(10, "a")
	done := make(chan struct{}, 2)
	n.engine.Release(slots, func() { done <- struct{}{} })
	n.engine.Lost(slots)
	select {
	case <-done:
	case <-time.After(4 * time.Second): // less than a release waits for what runs
		t.Error("the release waits on")
	}
	if err := answer(t, "what ran", blocked); err == nil {
		t.Error("what ran ended well")
	}
	close(g.open)
	if len(done) > 0 {
		t.Error("it is done twice")
	}
}

// Gained twins that hold connections are started at a bounded rate; one that is called comes first.
func TestStartsAreBounded(t *testing.T) {
	d := newDevice(t, nil)
	n := newNode(t, func(o *actors.Options) { o.StartRate = 100 })
	n.driver("wire", "1.0.0", tcpTransport)
	const twins = 200
	var ids []string
	for i := range twins {
		ids = append(ids, fmt.Sprintf("t%03d", i))
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"wire","uri":%q}`, ids[i], d.uri()))
	}
	until(t, "all are there", func() bool { return n.engine.Stats().Connected == twins })
	owned, slots := n.slots(100, ids...)
	gone := make(chan struct{})
	n.engine.Release(slots, func() { close(gone) })
	<-gone
	n.engine.Gained(owned)
	until(t, "one that is called is there", func() bool { _, err := n.invoke("t199", "echo", `1`); return err == nil })
	if a := n.engine.Stats().Active; a > twins/2 {
		t.Errorf("%d are started already", a)
	}
	until(t, "all are there again", func() bool { return n.engine.Stats().Connected == twins })
}
