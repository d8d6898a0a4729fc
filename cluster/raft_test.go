package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

type listFSM struct{ entries []string }

func (f *listFSM) Apply(l *raft.Log) any {
	f.entries = append(f.entries, string(l.Data))
	return len(f.entries)
}
func (f *listFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("not here") }
func (f *listFSM) Restore(io.ReadCloser) error         { return errors.New("not here") }

func openTestRaft(t *testing.T, fsm raft.FSM) *Raft {
	t.Helper()
	mem := raft.NewInmemStore()
	r, err := OpenRaft(RaftOptions{ID: "n1", Log: mem, Stable: mem, Snapshots: raft.NewInmemSnapshotStore(), FSM: fsm,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if leader, err := r.WaitLeader(ctx); err != nil || leader != "n1" {
		t.Fatalf("leader %q, %v", leader, err)
	}
	if err := r.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRaftBringsEntriesInOrder(t *testing.T) {
	fsm := &listFSM{}
	r := openTestRaft(t, fsm)
	const n = 500
	results := make(chan int, n)
	for i := range n {
		r.Propose([]byte{byte(i), byte(i >> 8)}, func(applied any, err error) {
			if err != nil {
				t.Errorf("entry %d: %v", i, err)
			}
			results <- applied.(int)
		})
	}
	for i := range n {
		if got := <-results; got != i+1 {
			t.Fatalf("result %d is of entry %d", i+1, got)
		}
	}
	if s := r.Status(); s.Role != "leader" || s.Tolerated != 0 || s.Leader != "n1" {
		t.Errorf("status %+v", s)
	}
}

func TestRaftCloseAnswersEveryProposal(t *testing.T) {
	r := openTestRaft(t, &listFSM{})
	const n = 300
	results := make(chan error, n)
	go func() {
		for range n {
			r.Propose([]byte("x"), func(_ any, err error) { results <- err })
		}
	}()
	first := <-results
	if first != nil {
		t.Fatal(first)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var failed []error
	for range n - 1 {
		select {
		case err := <-results:
			if err != nil {
				failed = append(failed, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a proposal was never answered")
		}
	}
	if i := slices.IndexFunc(failed, func(err error) bool {
		return !errors.Is(err, ErrUnknown) && !errors.Is(err, raft.ErrRaftShutdown)
	}); i >= 0 {
		t.Errorf("got %v, want unknown or shut down", failed[i])
	}
}

type slowFSM struct{ listFSM }

func (f *slowFSM) Apply(l *raft.Log) any {
	time.Sleep(200 * time.Microsecond)
	return f.listFSM.Apply(l)
}

// Raft leaves what is on its way to the state machine without an answer when it shuts down.
func TestRaftCloseWithEntriesInFlight(t *testing.T) {
	for round := range 20 {
		r := openTestRaft(t, &slowFSM{})
		var stop atomic.Bool
		var proposed, answered atomic.Int64
		flying := make(chan struct{}, 8)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for !stop.Load() {
				flying <- struct{}{}
				proposed.Add(1)
				r.Propose([]byte("x"), func(any, error) { answered.Add(1); <-flying })
			}
		}()
		for answered.Load() < 20 {
			time.Sleep(time.Millisecond)
		}
		closed := make(chan struct{})
		go func() { r.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(30 * time.Second):
			t.Fatalf("round %d: Close hangs", round)
		}
		stop.Store(true)
		<-ended
		if p, a := proposed.Load(), answered.Load(); p != a {
			t.Fatalf("round %d: %d proposals, %d answers", round, p, a)
		}
	}
}
