package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

func TestEveryNodeProposesAndReads(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	all := g.found(3)
	for i, n := range all {
		key := fmt.Sprint("k", i)
		n.mustPut(key, "v")
		if !n.has(key) {
			t.Errorf("%s does not see what it was told is committed", n.id)
		}
		for _, o := range all {
			o.barrier()
			if !o.has(key) {
				t.Errorf("%s does not see %s after a barrier", o.id, key)
			}
		}
		if err := n.put(key, "again"); !errors.Is(err, storage.ErrGuard) {
			t.Errorf("the guard's answer does not come back: %v", err)
		}
	}
	if s := g.leader().raft.Status(); s.Tolerated != 1 || s.Voters != 3 || s.Role != "leader" {
		t.Errorf("status %+v", s)
	}
	old := g.leader()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := old.raft.TransferLeadership(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if now := g.leader(); now == old {
		t.Error("the old leader still leads")
	}
}

// Leaders are lost, replies too; what was acknowledged is there, and nothing twice: each write is guarded by its own
// absence, so a second application would be a failed guard.
func TestNothingIsLostOrTwiceWhenLeadersChange(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.found(3)
	g.loseReplies.Store(7)
	var acked sync.Map
	var count, unknown atomic.Int64
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 6 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := g.get(fmt.Sprintf("n%d", 1+(w+i)%3))
				if n == nil {
					time.Sleep(time.Millisecond)
					continue
				}
				key := fmt.Sprintf("w%d-%06d", w, i)
				switch err := n.put(key, "x"); {
				case err == nil:
					acked.Store(key, n.id)
					count.Add(1)
				case errors.Is(err, storage.ErrGuard):
					t.Errorf("%s was applied twice: %v", key, err)
				default: // unknown, busy, closed
					unknown.Add(1)
				}
			}
		}()
	}
	for round := range 4 {
		target := count.Load() + 150
		until(t, text("writes go on"), func() bool { return count.Load() >= target })
		l := g.leader()
		if round == 1 {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if err := l.raft.TransferLeadership(ctx, ""); err != nil {
				t.Error(err)
			}
			cancel()
			continue
		}
		l.stop()
		until(t, text("another leads"), func() bool { return slices.ContainsFunc(g.all(), func(n *member) bool { return n.raft.IsLeader() }) })
		g.start(l.id, l.zone)
	}
	target := count.Load() + 150
	until(t, text("writes go on"), func() bool { return count.Load() >= target })
	close(stop)
	writers.Wait()
	for _, n := range g.all() {
		n.barrier()
		acked.Range(func(key, at any) bool {
			if !n.has(key.(string)) {
				t.Errorf("%s was acknowledged by %s and is not at %s", key, at, n.id)
			}
			return true
		})
	}
	t.Logf("%d acknowledged, %d without an answer", count.Load(), unknown.Load())
}

func TestJoinersBecomeVotersOfAllZones(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.rec = func(o *cluster.ReconcileOptions) { o.MaxVoters, o.StableAfter = 3, time.Second }
	first := g.begin("n1", "a")
	first.enter([]raft.Server{{ID: "n1", Address: raft.ServerAddress(first.layer.Addr().String())}})
	for _, x := range []string{"n4 b", "n5 c", "n2 a", "n3 a"} {
		id, zone, _ := strings.Cut(x, " ")
		g.start(id, zone)
	}
	g.untilShape("n1 n4 n5 - n2 n3")
	first.mustPut("k", "v")
	g.get("n3").barrier()
	if !g.get("n3").has("k") {
		t.Error("a non-voter has not got the data")
	}
	// A voter dies: another takes its place, and it keeps a place itself.
	g.get("n4").stop()
	g.untilShape("n1 n2 n5 - n3 n4")
	// It comes back and waits for the next chance, which is here.
	g.start("n4", "b")
	g.get("n2").stop()
	g.untilShape("n1 n4 n5 - n2 n3")
	// Two of three die at once: no leader, no change.
	g.get("n4").stop()
	g.get("n5").stop()
	until(t, text("the leader steps down"), func() bool { return !slices.ContainsFunc(g.all(), func(n *member) bool { return n.raft.IsLeader() }) })
	if got := g.get("n1").shape(); got != "n1 n4 n5 - n2 n3" {
		t.Errorf("without a quorum the group became %q", got)
	}
	g.start("n5", "c")
	g.untilShape("n1 n3 n5 - n2 n4")
}

func TestGroupFollowsAddresses(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	all := g.found(3)
	all[0].mustPut("before", "v")
	follower := all[1]
	if follower == g.leader() {
		follower = all[2]
	}
	old := follower.layer.Addr().String()
	follower.stop()
	again := g.start(follower.id, follower.zone)
	g.leader().mustPut("while", "v")
	again.barrier()
	if !again.has("while") || again.layer.Addr().String() == old {
		t.Error("the node is not reached at its new address")
	}
	// All at once, all at other ports.
	for _, n := range g.all() {
		n.stop()
	}
	for _, n := range all {
		g.start(n.id, n.zone)
	}
	g.leader()
	g.get("n3").mustPut("after", "v")
	until(t, text("the leader says where it is"), func() bool {
		l := g.leader()
		return slices.ContainsFunc(l.raft.Servers(), func(s cluster.Server) bool {
			return s.ID == l.id && s.Address == l.layer.Addr().String()
		})
	})
	for _, n := range g.all() {
		n.barrier()
		if !n.has("before") || !n.has("after") {
			t.Errorf("%s has not got everything", n.id)
		}
	}
	g.untilShape("n1 n2 n3 - ")
}

// One client of a follower must not wait for raft's next message.
func TestFollowersLearnAtOnceWhatIsCommitted(t *testing.T) {
	g := newGroup(t)
	g.found(3)
	leader := g.leader()
	for _, n := range g.all() {
		var took []time.Duration
		for i := range 60 {
			start := time.Now()
			n.mustPut(fmt.Sprintf("%s-%d", n.id, i), "v")
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		t.Logf("%s (leader %t): half of the writes within %s, 90%% within %s", n.id, n == leader, took[30], took[54])
		// Without the message it is CommitTimeout and more.
		if took[30] > 25*time.Millisecond {
			t.Errorf("at %s half of the writes took longer than %s", n.id, took[30])
		}
	}
}
