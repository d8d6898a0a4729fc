package actors_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/clustertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestRoutesOverALeaseThatComesBack: what is acknowledged reaches its topic, though slots are lost and come back, in the same tenure, while
// its transaction is on its way.
func TestRoutesOverALeaseThatComesBack(t *testing.T) {
	n := newNode(t)
	const twins = 20
	var ids []string
	for i := range twins {
		ids = append(ids, fmt.Sprintf("t%d", i))
	}
	n.sensors(ids...)
	n.stream("default/said")
	n.route(&pb.Route{Id: "all", Topics: []string{"said"}, Properties: []string{"level"}})
	owned, slots := n.slots(clustertest.Slots, ids...)
	stop := make(chan struct{})
	var senders sync.WaitGroup
	acked := make([]int, twins)
	for k, id := range ids {
		senders.Go(func() {
			for v := 1; ; v++ {
				for {
					select {
					case <-stop:
						return
					default:
					}
					r := n.ingest(&actors.Ingest{Twin: id, Payload: fmt.Appendf(nil, `{"level":%d}`, v), ID: fmt.Sprint(id, "-", v)})
					if r.Outcome == stored || r.Outcome == duplicate {
						break
					}
				}
				acked[k] = v
			}
		})
	}
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		n.engine.Lost(slots)
		n.engine.Gained(owned)
	}
	close(stop)
	senders.Wait()
	missing := func() string {
		text, have := "", n.levels("default/said")
		for k, id := range ids {
			there := map[int]bool{}
			for _, v := range have["default/"+id] {
				there[v] = true
			}
			for v := 1; v <= acked[k]; v++ {
				if !there[v] {
					text += fmt.Sprintf(" %s:%d of %d", id, v, acked[k])
				}
			}
		}
		return text
	}
	until(t, "the topic answers", func() bool { _, err := n.client.Topics().State(ctx(t), "default/said"); return err == nil })
	until(t, "the topic has all that was acknowledged", func() bool { return missing() == "" })
}

// TestRoutesOfANodeThatStarts: a node that has its slots before it has read its routes takes no message until it has.
func TestRoutesOfANodeThatStarts(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.sensors("a")
	n.stream("default/said")
	n.route(&pb.Route{Id: "all", Topics: []string{"said"}, Properties: []string{"level"}})
	n.close()

	st, err := storagetest.Open("data", fs)
	if err != nil {
		t.Fatal(err)
	}
	n = prepare(t, st, st.Store, cluster.Options{Self: cluster.Member{ID: "n1", Incarnation: 2}})
	n.settled()
	got := make(chan actors.IngestResult, 1)
	n.engine.Ingest(&actors.Ingest{Door: "http", Project: "default", Twin: "a", Payload: []byte(`{"level":1}`), Commit: true},
		func(r actors.IngestResult) { got <- r })
	select {
	case r := <-got:
		t.Errorf("before the start: %v", r)
	case <-time.After(200 * time.Millisecond):
	}
	n.begin()
	select {
	case r := <-got:
		if r.Outcome != stored {
			t.Fatal(r)
		}
	case <-time.After(patience):
		t.Fatal("no answer after the start")
	}
	until(t, "the topic has it", func() bool { return fmt.Sprint(n.levels("default/said")) == "map[default/a:[1]]" })
}
