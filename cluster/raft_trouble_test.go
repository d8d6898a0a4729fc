package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
	"github.com/polluxhq/pollux/storage"
)

func TestHangingDiskEndsTheNode(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.opts = func(o *cluster.RaftOptions) { o.LogStall = 700 * time.Millisecond }
	g.found(3)
	bad := g.leader()
	bad.mustPut("before", "v")
	start := time.Now()
	bad.log.hang.Store(true)
	go bad.put("hangs", "v") // the heartbeats go on, so without the watchdog nobody would notice
	select {
	case err := <-bad.fatal:
		if !strings.Contains(err.Error(), "the disk has not answered") {
			t.Errorf("it says %v", err)
		}
		t.Logf("ended after %s: %v", time.Since(start).Round(10*time.Millisecond), err)
	case <-time.After(patience):
		t.Fatal("the node goes on with a disk that hangs")
	}
	// Though its process has not ended yet, the others elect.
	var next *member
	until(t, text("another leads"), func() bool {
		for _, n := range g.all() {
			if n != bad && n.raft.IsLeader() {
				next = n
			}
		}
		return next != nil
	})
	next.mustPut("after", "v")
	t.Logf("the next commit came after %s", time.Since(start).Round(10*time.Millisecond))
}

// Where the others could not go on either, the node waits for its disk.
func TestHangingDiskOfTheLastIsOnlyWarnedOf(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.opts = func(o *cluster.RaftOptions) { o.LogStall = 200 * time.Millisecond }
	n := g.found(1)[0]
	n.mustPut("before", "v")
	n.log.hang.Store(true)
	put := make(chan error, 1)
	go func() { put <- n.put("hangs", "v") }()
	select {
	case err := <-n.fatal:
		t.Fatalf("the only node ended: %v", err)
	case err := <-put:
		t.Fatalf("the write came through: %v", err)
	case <-time.After(time.Second): // several times the bound
	}
	n.log.hang.Store(false)
	close(n.log.free)
	if err := <-put; err != nil {
		t.Errorf("when the disk answers again: %v", err)
	}
}

func (g *group) reopen(id string) (*storage.Store, cluster.RecoverOptions) {
	g.t.Helper()
	s, err := storage.Open(storage.Options{Dir: filepath.Join(g.dir, id), NoSync: true, DiscardSamples: true, MemTableBytes: 1 << 20})
	if err != nil {
		g.t.Fatal(err)
	}
	return s, cluster.RecoverOptions{ID: id, Log: s.LogStore(), Stable: s.StableStore(), Snapshots: s.SnapshotStore(), FSM: s.FSM(),
		Logger: slog.New(slog.DiscardHandler)}
}

func TestRecoverFromALostQuorum(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.found(5)
	for i := range 40 {
		g.leader().mustPut(fmt.Sprint("k", i), "v")
	}
	for _, n := range g.all() {
		n.barrier()
	}
	// n2 stays behind a little.
	g.get("n2").stop()
	l := g.leader()
	for i := range 20 {
		l.mustPut(fmt.Sprint("late", i), "v")
	}
	g.get("n1").barrier()
	for _, n := range g.all() {
		n.stop()
	}
	survivors := []cluster.Server{{ID: "n1"}, {ID: "n2"}}
	for _, id := range []string{"n1", "n2"} {
		s, o := g.reopen(id)
		o.Survivors = append(survivors, cluster.Server{ID: "n9"})
		if _, err := cluster.Recover(o); err == nil || !strings.Contains(err.Error(), "n9") {
			t.Errorf("a survivor that was never there: %v", err)
		}
		o.Survivors = []cluster.Server{{ID: "n3"}}
		if _, err := cluster.Recover(o); err == nil || !strings.Contains(err.Error(), "not among") {
			t.Errorf("without this node: %v", err)
		}
		o.Survivors = survivors
		term, _ := o.Stable.GetUint64([]byte("CurrentTerm"))
		done, err := cluster.Recover(o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(done.Lost, []string{"n3", "n4", "n5"}) || !slices.Equal(done.Voters, []string{"n1", "n2"}) || done.Index == 0 {
			t.Errorf("recovered %+v", done)
		}
		if now, _ := o.Stable.GetUint64([]byte("CurrentTerm")); now != term+1000 {
			t.Errorf("the term went from %d to %d", term, now)
		}
		group, err := cluster.Configuration(o)
		if err != nil || len(group) != 2 {
			t.Errorf("the group is %+v, %v", group, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	g.start("n2", "a")
	g.start("n1", "b")
	leader := g.leader()
	if leader.id != "n1" {
		t.Errorf("%s leads, n1 has more", leader.id)
	}
	for _, n := range g.all() {
		n.barrier()
		for i := range 40 {
			if !n.has(fmt.Sprint("k", i)) || (i < 20 && !n.has(fmt.Sprint("late", i))) {
				t.Fatalf("%s has lost what was acknowledged (%d)", n.id, i)
			}
		}
	}
	leader.mustPut("after", "v")
	// Those that were given up come back with their old data: three of five, they could outvote the survivors.
	for _, id := range []string{"n3", "n4", "n5"} {
		g.start(id, "c")
	}
	fresh := g.start("n6", "d")
	g.untilShape("n1 n2 n6 - ")
	time.Sleep(2 * time.Second) // two elections' time
	for _, id := range []string{"n1", "n2", "n6"} {
		n := g.get(id)
		if got := n.shape(); got != "n1 n2 n6 - " {
			t.Errorf("%s sees the group %q", id, got)
		}
		if l := n.raft.Leader(); slices.Contains([]string{"n3", "n4", "n5"}, l) {
			t.Errorf("%s follows %s, which was given up", id, l)
		}
	}
	fresh.mustPut("more", "v")
	fresh.barrier()
	if !fresh.has("k0") || !fresh.has("late19") || !fresh.has("after") {
		t.Error("the new node has not got everything")
	}
}

// The line is so narrow that the log is cut many times while a snapshot is on its way. What comes behind the snapshot must be
// there still, or the joiner gets one snapshot after another for ever.
func TestLateJoinerUnderLoadWhileTheLogIsCut(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.perSecond = 1 << 20
	set := metrics.NewSet()
	g.opts = func(o *cluster.RaftOptions) {
		if o.TrailingLogs = 8; o.ID == "n1" {
			o.Metrics = set
		}
	}
	n1 := g.found(1)[0]
	var count atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for w := range 4 {
		load.Add(1)
		go func() {
			defer load.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond): // what the line can carry, or no follower could keep up
				}
				if err := n1.put(fmt.Sprintf("w%d-%06d", w, i), strings.Repeat("x", 500)); err != nil {
					t.Errorf("put: %v", err)
					return
				}
				count.Add(1)
			}
		}()
	}
	load.Add(1)
	var snapshots atomic.Int64
	go func() {
		defer load.Done()
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if err := n1.raft.Snapshot(); err != nil {
				t.Errorf("snapshot: %v", err)
			}
			snapshots.Add(1)
		}
	}()
	until(t, text("some load"), func() bool { return count.Load() > 400 && snapshots.Load() > 3 })
	n2 := g.start("n2", "b")
	n3 := g.start("n3", "c")
	g.untilShape("n1 n2 n3 - ")
	more := count.Load() + 200
	until(t, text("the load goes on"), func() bool { return count.Load() > more })
	close(stop)
	load.Wait()
	for _, n := range []*member{n2, n3} {
		n.barrier()
		if a, b := n1.count(), n.count(); a != b || a < int(count.Load()) {
			t.Errorf("%s has %d records, n1 %d; %d were acknowledged", n.id, b, a, count.Load())
		}
	}
	sent := set.GetOrCreateCounter("pollux_raft_snapshots_sent_total").Get()
	t.Logf("%d writes, %d snapshots made, %d sent", count.Load(), snapshots.Load(), sent)
	if sent < 2 || sent > 4 { // without the hold it is one after another
		t.Errorf("two joiners were sent %d snapshots", sent)
	}
	equalChecksums(t, g)
}

func (n *member) count() int {
	c, err := n.store.Count("t", "")
	if err != nil {
		n.g.t.Fatal(err)
	}
	return c
}

func (n *member) sums() []cluster.Checksum {
	var out []cluster.Checksum
	for _, c := range n.store.Checksums() {
		out = append(out, cluster.Checksum(c))
	}
	return out
}

// equalChecksums compares by the way that nodes do.
func equalChecksums(t *testing.T, g *group) {
	t.Helper()
	n := g.all()[0]
	o := cluster.ChecksumOptions{Self: n.id, Own: n.sums, Peers: func() []string { return []string{"n1", "n2", "n3"} },
		Ask: func(_ context.Context, node string) ([]cluster.Checksum, error) { return g.get(node).sums(), nil }}
	if m, _ := cluster.CompareChecksums(context.Background(), o); m != nil {
		t.Error(m)
	}
	own := n.sums()
	if len(own) == 0 {
		return
	}
	// The control: one wrong bit is found, and by whom.
	o.Ask = func(_ context.Context, node string) ([]cluster.Checksum, error) {
		theirs := slices.Clone(own)
		if node == "n3" {
			theirs[0].Sum ^= 1
		}
		return theirs, nil
	}
	m, compared := cluster.CompareChecksums(context.Background(), o)
	if m == nil || m.Index != own[0].Index || !slices.Equal(m.Odd, []string{"n3"}) || compared != 3 {
		t.Errorf("a wrong state: %v, %d compared", m, compared)
	}
}

func TestOneOfTwoLeaves(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	n1 := g.found(1)[0]
	n2 := g.start("n2", "b")
	g.untilShape("n1 n2 - ")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n1.raft.TransferLeadership(ctx, "n2"); err != nil {
		t.Fatal(err)
	}
	if g.leader() != n2 {
		t.Fatal("n2 does not lead")
	}
	// The leader leaves: the other leads, and goes on alone.
	if err := n2.gossip.UpdateMeta(leaving); err != nil {
		t.Fatal(err)
	}
	if err := n2.raft.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n2.gossip.Leave(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	n2.stop()
	n1.mustPut("alone", "v")
	if got := n1.shape(); got != "n1 - n2" {
		t.Errorf("the group is %q", got)
	}
	g.start("n2", "b")
	g.untilShape("n1 n2 - ")
}

func TestRemovedMembersLoseTheirPlace(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	var removed sync.Map
	g.rec = func(o *cluster.ReconcileOptions) {
		o.Expect = func() int { return 3 }
		o.Members = func() []cluster.Member {
			var out []cluster.Member
			for _, id := range []string{"n1", "n2", "n3"} {
				if _, gone := removed.Load(id); !gone {
					out = append(out, cluster.Member{ID: id, State: cluster.StateActive})
				}
			}
			return out
		}
	}
	g.found(3)
	// Dead is not removed.
	victim := g.get("n3")
	if victim == g.leader() {
		victim = g.get("n2")
	}
	victim.stop()
	time.Sleep(2 * time.Second)
	if got := g.leader().shape(); got != "n1 n2 n3 - " {
		t.Errorf("after a death the group is %q", got)
	}
	removed.Store(victim.id, true)
	want := strings.Replace("n1 n2 n3 - ", victim.id+" ", "", 1)
	g.untilShape(want)
	// The last but one cannot go: the rest would have no quorum of what is left.
	g.leader().mustPut("k", "v")
}

func TestLeaderIsTold(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.found(3)
	var mu sync.Mutex
	var told []cluster.LeaderChange
	watcher := g.all()[0]
	stop := watcher.raft.OnLeader(func(c cluster.LeaderChange) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, c)
	})
	defer stop()
	last := func() cluster.LeaderChange {
		mu.Lock()
		defer mu.Unlock()
		if len(told) == 0 {
			return cluster.LeaderChange{}
		}
		return told[len(told)-1]
	}
	until(t, text("the present leader is told"), func() bool { return last().Leader == g.leader().id })
	before := last()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.leader().raft.TransferLeadership(ctx, ""); err != nil {
		t.Fatal(err)
	}
	until(t, text("the new leader is told"), func() bool {
		l := last()
		return l.Leader == g.leader().id && l.Leader != before.Leader && l.Term > before.Term && l.Self == (l.Leader == watcher.id)
	})
	// Only the leader takes what is forwarded, and only it knows the index.
	for _, n := range g.all() {
		if n == g.leader() {
			continue
		}
		answer := make(chan error, 1)
		n.raft.ApplyLocal([]byte("x"), func(_ []byte, err error) { answer <- err })
		if err := <-answer; !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrUnknown) {
			t.Errorf("a follower took an entry: %v", err)
		}
		if _, err := n.raft.LeaderIndex(ctx); !errors.Is(err, cluster.ErrUnavailable) {
			t.Errorf("a follower gave an index: %v", err)
		}
		if err := n.raft.Demote(ctx, "n1"); !errors.Is(err, raft.ErrNotLeader) {
			t.Errorf("a follower changed the group: %v", err)
		}
	}
}

func leaving(m *gossip.Meta) { m.Leaving = true }
