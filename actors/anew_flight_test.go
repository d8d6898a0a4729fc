package actors_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// While a twin is deleted and made again by one node, messages come to it by another: each is in one of the counters, and what was stored is in the
// topic that its route leads to.
func TestMessagesToATwinMadeAnew(t *testing.T) {
	a, b := pair(t)
	a.model("sensor", thing("Sensor", sensor))
	a.stream("default/out")
	a.route(&pb.Route{Id: "r", Topics: []string{"out"}, Properties: []string{"level"}})
	const doc = `{"id":"x","model":"sensor","aliases":[{"network":"lora","key":"eui","value":"7"}]}`
	a.twin(doc)
	outcomes, kept := map[pb.IngestOutcome]uint64{}, map[int]bool{}
	send := func(i int) {
		m := &actors.Ingest{Door: "http", Project: "default", Payload: fmt.Appendf(nil, `{"level":%d}`, i), Commit: true}
		if i%2 == 0 {
			m.Twin = "x"
		} else {
			m.Alias = sender("7")
		}
		got := make(chan actors.IngestResult, 1)
		b.engine.Ingest(m, func(r actors.IngestResult) { got <- r })
		r := <-got
		outcomes[r.Outcome]++
		kept[i] = r.Outcome == stored
	}
	first := 1
	until(t, "both nodes know the route", func() bool {
		send(-first)
		first++
		return len(b.levels("default/out")["default/x"]) > 0
	})
	clear(kept)
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				send(i)
			}
		}
	})
	for range 40 {
		time.Sleep(5 * time.Millisecond)
		if err := a.reg.DeleteTwin(ctx(t), "x", 0); err != nil {
			t.Error(err)
			break
		}
		a.twin(doc)
	}
	close(stop)
	sending.Wait()
	if outcomes[stored] == 0 || len(outcomes) < 2 {
		t.Fatalf("nothing came meanwhile: %v", outcomes)
	}
	var c *pb.IngestCount
	until(t, "nothing is in flight", func() bool { c = b.counts("http"); return c.InFlight == 0 && b.records("outbox", "") == 0 })
	if c.Stored != outcomes[stored] || c.Refused != outcomes[refused] || c.Inbox != outcomes[pb.IngestOutcome_INGEST_OUTCOME_INBOX] || c.Duplicate != outcomes[duplicate] {
		t.Errorf("counted %v, its sender was told %v", c, outcomes)
	}
	said := map[int]bool{}
	for _, v := range b.levels("default/out")["default/x"] {
		said[v] = true
	}
	for v, yes := range kept {
		if yes && !said[v] {
			t.Errorf("level %d was stored, and is not in the topic", v)
		}
	}
}

// What a twin was told, and nobody waited for, is in the history and on its way to topics also where the twin is deleted before it is committed.
func TestDeletedTwinLeavesItsHistory(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CheckpointMin, o.CheckpointMax = time.Hour, time.Hour })
	n.sensors("x")
	for i := range 10 {
		got := make(chan actors.IngestResult, 1)
		n.engine.Ingest(&actors.Ingest{Door: "http", Project: "default", Twin: "x", Payload: fmt.Appendf(nil, `{"level":%d}`, i)}, func(r actors.IngestResult) { got <- r })
		if r := <-got; r.Outcome != stored {
			t.Fatal(r)
		}
	}
	n.deleteTwin("default/x")
	if c, all := n.counts("http"), n.samples("default/x", "level"); c.Stored != 10 || len(all) != 10 {
		t.Errorf("%d count as stored, and the history has %v", c.Stored, all)
	}
}

// A zone that is changed while it is being deleted stays, and is free for others.
func TestZoneChangedWhileItIsDeleted(t *testing.T) {
	n := newNode(t)
	n.sensors()
	n.zone("room", "")
	err := n.reg.DeleteZoneWhile(ctx(t), "default/room", func() { n.zone("room", "") })
	if !errors.Is(err, actors.ErrRevision) {
		t.Fatalf("deleted: %v", err)
	}
	n.twin(`{"id":"a","model":"sensor","zone":"room"}`)
}
