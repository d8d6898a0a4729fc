package history

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

var _ SharedStore = (*storage.Store)(nil)

func committed(t *testing.T, s SharedStore) (p position) {
	t.Helper()
	rec, ok, err := s.Get(TableHistory, pushedKey)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		if err := json.Unmarshal(rec.Value, &p); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestShared: one of two nodes pushes. The server is away, the node that pushes is gone with its queue, and the other one
// goes on where the server was: nothing is lost, and the logs let go what the server has.
func TestShared(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	leader := storagetest.OpenNode(t, filepath.Join(t.TempDir(), "n1"), nil)
	follower := storagetest.Join(t, leader, "n2", filepath.Join(t.TempDir(), "n2"), nil)
	var who atomic.Int32
	share := func(n *storagetest.Node, number int32, name string) (*remoteUnderTest, *Shared) {
		r := openRemote(t, server, RemoteOptions{Settle: time.Second, Metrics: metrics.NewSet()})
		return r, Share(context.Background(), n.Store, r.Remote, ShareOptions{Node: name, Active: func() bool { return who.Load() == number },
			Poll: 5 * time.Millisecond, Feed: FeedOptions{Linger: time.Millisecond, CursorInterval: 50 * time.Millisecond, Logger: testLogger(t), Metrics: metrics.NewSet()}})
	}
	r1, s1 := share(leader, 1, "n1")
	r2, s2 := share(follower, 2, "n2")
	defer s2.Close()
	at := base()
	count := 0
	commit := func(n int) (last uint64) {
		t.Helper()
		for range n {
			txn := &storage.Txn{Samples: one("default", "t", "m", storage.Sample{Property: "p", Time: at.UnixMilli() + int64(count), Value: float64(count)})}
			if _, err := leader.Store.Commit(t.Context(), txn); err != nil {
				t.Fatal(err)
			}
			count++
		}
		return leader.Store.AppliedIndex()
	}
	arrived := func(r *remoteUnderTest) int {
		r.flush()
		got, err := r.Query(t.Context(), Query{Project: "default", Twin: "t", Property: "p", Start: at, End: at.Add(time.Minute)})
		if err != nil {
			return -1
		}
		return len(got.Points)
	}

	commit(50)
	if p := committed(t, leader.Store); p != (position{}) || leader.Store.SampleCursor() != 0 {
		t.Errorf("nobody pushes: %+v", p)
	}
	who.Store(1)
	eventually(t, 30*time.Second, "the first node's samples arrive", func() bool { return arrived(r1) == count })
	last := commit(10)
	eventually(t, 30*time.Second, "the position is committed, and both logs may go", func() bool {
		return committed(t, follower.Store).Sent >= last && leader.Store.SampleCursor() >= last && follower.Store.SampleCursor() >= last
	})

	// The server is away. The first node queues, and dies with its queue.
	server.stop(syscall.SIGTERM)
	last = commit(100)
	eventually(t, 30*time.Second, "the queue has them", func() bool { return committed(t, leader.Store).Queued >= last })
	if p := committed(t, leader.Store); p.Sent >= last || p.Node != "n1" || follower.Store.SampleCursor() >= last {
		t.Errorf("the server is away: %+v, the other log is read up to %d of %d", p, follower.Store.SampleCursor(), last)
	}
	who.Store(0)
	s1.Close()
	if err := r1.Close(); err != nil {
		t.Fatal(err)
	}
	commit(20)
	who.Store(2)
	server.start()
	last = commit(20)
	eventually(t, 30*time.Second, "the second node's samples arrive", func() bool { return arrived(r2) == count })
	eventually(t, 30*time.Second, "the position is committed", func() bool {
		p := committed(t, leader.Store)
		return p.Sent >= last && p.Node == "n2" && follower.Store.SampleCursor() >= last
	})
	if s2.Lag() > 5 {
		t.Errorf("lag %d", s2.Lag())
	}
	// Entries without samples are no reason to keep the log.
	for range 10 {
		if _, err := leader.Store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: "t", Key: "k", Value: []byte("v")}}}); err != nil {
			t.Fatal(err)
		}
	}
	last = leader.Store.AppliedIndex()
	eventually(t, 30*time.Second, "the log may go", func() bool { return follower.Store.SampleCursor() >= last })
}

// TestSharedLongOutage: a log that grows too long for a server that is away is let go up to what the queue has.
func TestSharedLongOutage(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	server.stop(syscall.SIGKILL)
	n := storagetest.OpenNode(t, filepath.Join(t.TempDir(), "n1"), nil)
	r := openRemote(t, server, RemoteOptions{Settle: time.Second})
	s := Share(context.Background(), n.Store, r.Remote, ShareOptions{Node: "n1", Active: func() bool { return true }, HeldLog: 1,
		Feed: FeedOptions{Linger: time.Millisecond, CursorInterval: 50 * time.Millisecond}})
	defer s.Close()
	if _, err := n.Store.Commit(t.Context(), &storage.Txn{Samples: one("default", "t", "m", storage.Sample{Property: "p", Time: base().UnixMilli(), Value: 1})}); err != nil {
		t.Fatal(err)
	}
	last := n.Store.AppliedIndex()
	eventually(t, 30*time.Second, "the log may go", func() bool { return n.Store.SampleCursor() >= last })
	if p := committed(t, n.Store); p.Sent >= last {
		t.Errorf("%+v, and the server is away", p)
	}
}

// TestSharedCurateOverAChange: while the node that pushes has series deleted, to write them anew, it is paused, and another one pushes. What
// that one has sent by when the deletion comes is there in the end, though the server has deleted it.
func TestSharedCurateOverAChange(t *testing.T) {
	takeTurn(t)
	server := startServer(t, "-search.disableCache", "-search.latencyOffset=1ms", "-dedup.minScrapeInterval=1ms")
	leader := storagetest.OpenNode(t, filepath.Join(t.TempDir(), "n1"), nil)
	follower := storagetest.Join(t, leader, "n2", filepath.Join(t.TempDir(), "n2"), nil)
	var who atomic.Int32
	deleting, on := make(chan struct{}), make(chan struct{})
	var first sync.Once
	slow := proxyOf(t, server, func(r *http.Request) {
		if deletes(r) {
			first.Do(func() {
				close(deleting)
				<-on
			})
		}
	})
	share := func(n *storagetest.Node, number int32, name, at string) (*remoteUnderTest, *Shared) {
		r := openRemote(t, server, RemoteOptions{URL: at, Settle: 100 * time.Millisecond, Metrics: metrics.NewSet()})
		s := Share(context.Background(), n.Store, r.Remote, ShareOptions{Node: name, Active: func() bool { return who.Load() == number }, Gone: func(string) bool { return false },
			Poll: 5 * time.Millisecond, Feed: FeedOptions{Linger: time.Millisecond, CursorInterval: 50 * time.Millisecond, Logger: testLogger(t), Metrics: metrics.NewSet()}})
		t.Cleanup(s.Close)
		return r, s
	}
	r1, s1 := share(leader, 1, "n1", slow)
	r2, _ := share(follower, 2, "n2", server.url())
	now := time.Now()
	commit := func(at time.Time, n int) (last uint64) {
		t.Helper()
		var samples []storage.Sample
		for k := range n {
			samples = append(samples, storage.Sample{Property: "heat", Time: at.Add(time.Duration(k) * time.Second).UnixMilli(), Value: float64(k)})
		}
		if _, err := leader.Store.Commit(t.Context(), &storage.Txn{Samples: one("house", "a", "Room", samples...)}); err != nil {
			t.Fatal(err)
		}
		return leader.Store.AppliedIndex()
	}
	commit(now.Add(-5*time.Hour), 100) // goes
	commit(now.Add(-time.Hour), 100)   // stays
	who.Store(1)
	eventually(t, 30*time.Second, "the first node's samples arrive", func() bool {
		r1.flush()
		return s1.Pushing() && raws(t, r1, "house", "a", "heat") == 200
	})
	curated := make(chan error)
	go func() {
		_, err := s1.Curate(t.Context(), "house", SampleRules{List: []SampleRule{{MaxAge: 2 * time.Hour}}}, now, nil)
		curated <- err
	}()
	<-deleting
	who.Store(2)
	last := commit(now.Add(-time.Minute), 50)
	eventually(t, 30*time.Second, "the second node's samples arrive", func() bool {
		r2.flush()
		return raws(t, r2, "house", "a", "heat") == 250
	})
	close(on)
	if err := <-curated; err != nil {
		t.Errorf("curate: %v", err)
	}
	eventually(t, 30*time.Second, "the position goes on", func() bool { return committed(t, leader.Store).Sent >= last })
	r1.flush()
	if n := raws(t, r2, "house", "a", "heat"); n != 150 {
		t.Errorf("%d samples are left, want 100 of before and 50 that came meanwhile", n)
	}
}
