package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// lossy loses answers, entries, or both, as a leader that goes away does, and keeps what it was given.
type lossy struct {
	storage.Proposer
	mu      sync.Mutex
	rng     *rand.Rand
	entries [][]byte
	lost    int
}

func (l *lossy) Propose(entry []byte, done func(any, error)) {
	l.mu.Lock()
	l.entries = append(l.entries, entry)
	how := l.rng.IntN(8)
	if how < 3 {
		l.lost++
	}
	l.mu.Unlock()
	unknown := fmt.Errorf("leadership lost: %w", storage.ErrUnknown)
	switch how {
	case 0: // the entry never arrived
		done(nil, unknown)
	case 1: // it arrived, the answer did not
		l.Proposer.Propose(entry, func(any, error) { done(nil, unknown) })
	case 2: // the answer is lost before the entry is applied
		l.Proposer.Propose(entry, func(any, error) {})
		done(nil, unknown)
	default:
		l.Proposer.Propose(entry, done)
	}
}

func TestLostLeaderAppliesOnce(t *testing.T) {
	var l *lossy
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), storagetest.WithProposer(func(p storage.Proposer) storage.Proposer {
		l = &lossy{Proposer: p, rng: rand.New(rand.NewPCG(7, 7))}
		return l
	}))
	const clients, each = 8, 40
	var wg sync.WaitGroup
	for c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				key := fmt.Sprintf("%d/%d", c, i)
				// A second application would find the record there.
				_, err := n.Store.Commit(ctxFor(t), &storage.Txn{
					Guards: []storage.Guard{{Table: "t", Key: key}},
					Writes: []storage.Write{put("t", key, "v")},
					Samples: []storage.TwinSamples{{Project: "p", Twin: key, Model: "m",
						Samples: []storage.Sample{{Property: "x", Time: 1, Value: 1}}}},
				})
				if err != nil {
					t.Errorf("%s: %v", key, err)
				}
			}
		}()
	}
	wg.Wait()
	if l.lost < 20 {
		t.Errorf("only %d proposals were lost", l.lost)
	}
	if got, _ := n.Store.Count("t", ""); got != clients*each {
		t.Errorf("%d records, want %d", got, clients*each)
	}
	if rev := n.Store.Revision(); rev != clients*each {
		t.Errorf("revision %d, want %d", rev, clients*each)
	}
	seen := map[string]int{}
	if _, err := n.Store.ReadSamples(0, func(_ uint64, all []storage.TwinSamples) error {
		for _, s := range all {
			seen[s.Twin]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != clients*each {
		t.Errorf("samples of %d twins, want %d", len(seen), clients*each)
	}
	for twin, n := range seen {
		if n != 1 {
			t.Errorf("the sample of %s came %d times", twin, n)
		}
	}
	// The first entry of all, once more and long after: refused, with nothing written.
	for i := range 100 {
		mustCommit(t, n.Store, put("u", fmt.Sprint(i), "v"))
	}
	before := n.Store.Revision()
	f := n.Raft.Apply(l.entries[0], 0)
	if err := f.Error(); err != nil {
		t.Fatal(err)
	}
	if b, ok := f.Response().([]byte); !ok || b[0] != 2 {
		t.Errorf("the old entry was answered %v", f.Response())
	}
	if n.Store.Revision() != before {
		t.Error("the old entry was applied again")
	}
}

// down refuses everything for good, or for a while.
type down struct {
	storage.Proposer
	mu    sync.Mutex
	err   error
	calls int
}

func (d *down) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *down) Propose(entry []byte, done func(any, error)) {
	d.mu.Lock()
	err := d.err
	d.calls++
	d.mu.Unlock()
	if err != nil {
		done(nil, err)
		return
	}
	d.Proposer.Propose(entry, done)
}

func TestNoLeader(t *testing.T) {
	var d *down
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(),
		storagetest.WithProposer(func(p storage.Proposer) storage.Proposer { d = &down{Proposer: p}; return d }),
		storagetest.WithStore(func(o *storage.Options) { o.RetryFor = 100 * time.Millisecond }))
	errNone := errors.New("no leader")
	for _, c := range []struct {
		err     error
		unknown bool
	}{{errNone, false}, {fmt.Errorf("lost: %w", storage.ErrUnknown), true}} {
		d.set(c.err)
		_, err := s.Commit(ctxFor(t), &storage.Txn{Writes: []storage.Write{put("t", "k", "v")}})
		if err == nil || errors.Is(err, storage.ErrUnknown) != c.unknown {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	d.set(nil)
	mustCommit(t, s, put("t", "k", "v"))
}

// held answers when it is told to.
type held struct {
	storage.Proposer
	gate chan struct{}
}

func (h *held) Propose(entry []byte, done func(any, error)) {
	go func() {
		<-h.gate
		h.Proposer.Propose(entry, done)
	}()
}

func TestBusyAndRoom(t *testing.T) {
	gate := make(chan struct{})
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(),
		storagetest.WithProposer(func(p storage.Proposer) storage.Proposer { return &held{p, gate} }),
		storagetest.WithStore(func(o *storage.Options) { o.MaxInFlightBytes = 64 << 10 }))
	results := make(chan storage.Result, 1000)
	taken := 0
	for {
		err := s.Submit(&storage.Txn{Writes: []storage.Write{put("t", fmt.Sprint(taken), strings.Repeat("x", 1000))}},
			func(r storage.Result) { results <- r })
		if errors.Is(err, storage.ErrBusy) {
			break
		}
		if err != nil || taken > 100 {
			t.Fatalf("after %d: %v", taken, err)
		}
		taken++
	}
	if mustCommitAside(t, s); taken < 50 {
		t.Errorf("only %d transactions of 1 KB fit into 64 KiB", taken)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	// Larger than what is kept for those who wait.
	txn := &storage.Txn{Writes: []storage.Write{put("t", "waits", strings.Repeat("x", 10_000))}}
	if _, err := s.Commit(ctx, txn); !errors.Is(err, storage.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit without room: %v", err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := s.Commit(ctxFor(t), txn)
		waited <- err
	}()
	close(gate)
	for range taken {
		if r := <-results; r.Err != nil {
			t.Error(r.Err)
		}
	}
	if err := <-waited; err != nil {
		t.Errorf("commit that waited for room: %v", err)
	}
}

// mustCommitAside has a small transaction find room beside those that do not wait.
func mustCommitAside(t *testing.T, s *storage.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, err := s.Commit(ctx, &storage.Txn{Writes: []storage.Write{put("t", "small", "x")}})
	if !errors.Is(err, storage.ErrUnknown) { // taken, and held up like the others
		t.Errorf("a small commit: %v", err)
	}
}

func TestCloseAnswersEverybody(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	n, err := storagetest.Open("store", vfs.NewMem(),
		storagetest.WithProposer(func(p storage.Proposer) storage.Proposer { return &held{p, gate} }))
	if err != nil {
		t.Fatal(err)
	}
	const count = 200
	results := make(chan storage.Result, count)
	for i := range count {
		txn := &storage.Txn{Writes: []storage.Write{put("t", fmt.Sprint(i), strings.Repeat("x", 10000))}}
		if err := n.Store.Submit(txn, func(r storage.Result) { results <- r }); err != nil {
			t.Fatal(err)
		}
	}
	ch, err := n.Store.Watch(t.Context(), "t", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for range count {
		if r := <-results; !errors.Is(r.Err, storage.ErrClosed) {
			t.Fatalf("result %+v", r)
		}
	}
	for range ch {
	}
	if err := n.Store.Submit(&storage.Txn{Writes: []storage.Write{put("t", "k", "v")}}, nil); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("submit: %v", err)
	}
	if _, _, err := n.Store.Get("t", "k"); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("get: %v", err)
	}
}
