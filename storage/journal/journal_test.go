package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// keeping has the store keep what the journal has not read, and little else.
func keeping() []storagetest.Option {
	return []storagetest.Option{
		storagetest.WithStore(func(o *storage.Options) { o.KeepJournal, o.DiscardSamples = true, true }),
		storagetest.WithRaft(func(c *raft.Config) { c.TrailingLogs, c.SnapshotInterval = 4, time.Hour }),
	}
}

func open(t *testing.T, dir string, fs vfs.FS) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: dir, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// follow feeds j until the returned function is called, which closes it.
func follow(t *testing.T, j *journal.Journal, s journal.Source) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { j.Follow(ctx, s) })
	once := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(once)
	return once
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

func commit(t *testing.T, s *storage.Store, entries ...storage.JournalEntry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := s.Commit(ctx, &storage.Txn{Journal: entries}); err != nil {
		t.Fatal(err)
	}
}

func event(twin string, at int64, name string) storage.JournalEntry {
	return storage.JournalEntry{Project: "default", Twin: twin, Kind: "event", Name: name, Time: at, Data: []byte(`{"n":` + fmt.Sprint(at) + `,"s":"` + strings.Repeat("x", int(at)%2*300) + `"}`)} // some too long to be twice
}

// list reads all pages of the given size.
func list(t *testing.T, j *journal.Journal, q journal.Query) (all []storage.JournalEntry) {
	t.Helper()
	j.CatchUp(t.Context(), 30*time.Second)
	for {
		p, err := j.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if q.Limit > 0 && len(p.Entries) > q.Limit {
			t.Fatalf("a page of %d, %d were asked for", len(p.Entries), q.Limit)
		}
		all = append(all, p.Entries...)
		if q.After = p.Next; q.After == nil {
			return all
		}
	}
}

func texts(all []storage.JournalEntry) (out []string) {
	for _, e := range all {
		out = append(out, fmt.Sprintf("%s %s %s %d %.8s %d", e.Twin, e.Kind, e.Name, e.Time, e.Data, len(e.Data)))
	}
	return out
}

func TestListPagesInBothDirections(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	var all []storage.JournalEntry
	for i := range int64(40) {
		// Two twins whose names begin alike, several entries of the same time, in several transactions.
		e := event([]string{"a", "a-b"}[i%2], 1000+i/4, fmt.Sprint("e", i%3))
		all = append(all, e)
		commit(t, s, e)
	}
	other := event("a", 1003, "e0")
	other.Project = "default2"
	commit(t, s, other, storage.JournalEntry{Project: "default", Kind: "note", Name: "of the project", Time: 1004})
	for _, size := range []int{1, 3, 7, 100} {
		for _, twin := range []string{"", "a", "a-b"} {
			for _, name := range []string{"", "e1"} {
				q := journal.Query{Project: "default", Twin: twin, Limit: size, Start: 1002, End: 1007, Kinds: []string{"event"}}
				if name != "" {
					q.Names = []string{name}
				}
				var want []storage.JournalEntry
				for _, e := range all {
					if (twin == "" || e.Twin == twin) && (name == "" || e.Name == name) && e.Time >= 1002 && e.Time <= 1007 {
						want = append(want, e)
					}
				}
				up := list(t, j, q)
				q.Newest = true
				down := list(t, j, q)
				slices.Reverse(down)
				if !slices.Equal(texts(up), texts(want)) || !slices.Equal(texts(down), texts(want)) {
					t.Errorf("twin %q name %q pages of %d: up %v, down %v, want %v", twin, name, size, texts(up), texts(down), texts(want))
				}
			}
		}
	}
	if got := list(t, j, journal.Query{Project: "default", Kinds: []string{"note"}}); len(got) != 1 || got[0].Twin != "" {
		t.Errorf("the project's own: %v", texts(got))
	}
	if names, err := j.Projects(); err != nil || !slices.Equal(names, []string{"default", "default2"}) {
		t.Errorf("projects %v %v", names, err)
	}
	for _, q := range []journal.Query{{}, {Project: "p", Limit: -1}, {Project: "p", Start: 5, End: 4}} {
		if _, err := j.List(t.Context(), q); !errors.Is(err, journal.ErrQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestRefusedIsNotJournaled: an entry shares the fate of its transaction.
func TestRefusedIsNotJournaled(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	var wg sync.WaitGroup
	for i := range int64(200) {
		wg.Add(1)
		txn := &storage.Txn{Journal: []storage.JournalEntry{event("a", i, "x")}, Samples: []storage.TwinSamples{{Project: "default", Twin: "a",
			Samples: []storage.Sample{{Property: "p", Time: i, Value: 1}}}}}
		if i%2 == 0 {
			txn.Guards = []storage.Guard{{Table: "t", Key: "none", Revision: 7}}
		}
		if err := s.Submit(txn, func(r storage.Result) {
			if refused := errors.Is(r.Err, storage.ErrGuard); refused != (i%2 == 0) {
				t.Errorf("transaction %d: %v", i, r.Err)
			}
			wg.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	got := list(t, j, journal.Query{Project: "default", Limit: 1000})
	if len(got) != 100 {
		t.Fatalf("%d entries, want 100", len(got))
	}
	for i, e := range got {
		if e.Time != int64(2*i+1) {
			t.Fatalf("entry %d is of %d", i, e.Time)
		}
	}
}

// TestCrash cuts the power of store and journal again and again: what was acknowledged is there, once.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	acked := map[int64]bool{}
	var mu sync.Mutex
	at := int64(0)
	for run := range 6 {
		node, err := storagetest.Open("store", fs, keeping()...)
		if err != nil {
			t.Fatal(err)
		}
		j := open(t, "journal", fs)
		stop := follow(t, j, node.Store)
		var wg sync.WaitGroup
		for range 300 {
			at++
			n := at
			wg.Add(1)
			if err := node.Store.Submit(&storage.Txn{Journal: []storage.JournalEntry{event("a", n, "x")}}, func(r storage.Result) {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				acked[n] = r.Err == nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if run%2 == 0 {
			wg.Wait()
			j.CatchUp(t.Context(), 30*time.Second)
		}
		if run%3 == 0 {
			if err := node.Raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock() // what is acknowledged now must survive
		rng := rand.New(rand.NewPCG(uint64(run), 1))
		crash := vfs.CrashCloneCfg{UnsyncedDataPercent: 30, RNG: rng}
		left := fs.CrashClone(crash)
		must := []int64{}
		for n, ok := range acked {
			if ok {
				must = append(must, n)
			}
		}
		mu.Unlock()
		wg.Wait()
		stop()
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
		fs = left
		check, err := storagetest.Open("store", fs, keeping()...)
		if err != nil {
			t.Fatal(err)
		}
		j = open(t, "journal", fs)
		stop = follow(t, j, check.Store)
		seen := map[int64]int{}
		clear(acked) // what was acknowledged behind the crash is of a time that was not
		for _, e := range list(t, j, journal.Query{Project: "default", Twin: "a", Limit: 1000}) {
			seen[e.Time]++
		}
		for _, n := range must {
			if seen[n] != 1 {
				t.Fatalf("run %d: entry %d is there %d times; %d of %d, complete %v", run, n, seen[n], len(seen), len(must), j.Complete())
			}
		}
		for n, times := range seen {
			if times != 1 {
				t.Fatalf("run %d: entry %d is there %d times", run, n, times)
			}
			acked[n] = true
		}
		stop()
		if err := check.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNewcomerIsFilled: a node whose state came as a snapshot gets the entries before that from another.
func TestNewcomerIsFilled(t *testing.T) {
	one := storagetest.OpenNode(t, "store", vfs.NewMem(), keeping()...)
	first := open(t, t.TempDir(), nil)
	follow(t, first, one.Store)
	for i := range int64(50) {
		commit(t, one.Store, event("a", i, "x"))
	}
	until(t, "the log may be cut", func() bool {
		first.CatchUp(t.Context(), time.Second)
		return one.Store.SetJournalCursor(one.Store.AppliedIndex()) == nil && one.Raft.Snapshot().Error() == nil
	})
	two := storagetest.Join(t, one, "n2", "store", vfs.NewMem(), keeping()...)
	second := open(t, t.TempDir(), nil)
	follow(t, second, two.Store)
	commit(t, one.Store, event("a", 1000, "x"))
	until(t, "the newcomer knows what it lacks", func() bool {
		second.CatchUp(t.Context(), time.Second)
		p, err := second.List(t.Context(), journal.Query{Project: "default"})
		return err == nil && len(p.Entries) == 1 && !second.Complete()
	})
	cut := func(context.Context) (io.ReadCloser, error) {
		var b bytes.Buffer
		err := first.Export(t.Context(), &b)
		return io.NopCloser(bytes.NewReader(b.Bytes()[:b.Len()-9])), err
	}
	if err := second.Backfill(t.Context(), cut); !errors.Is(err, history.ErrDamaged) || second.Complete() {
		t.Fatalf("a cut export: %v, complete %v", err, second.Complete())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() {
		second.KeepComplete(ctx, func(ctx context.Context) (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() { w.CloseWithError(first.Export(ctx, w)) }()
			return r, nil
		})
	})
	until(t, "the newcomer is complete", second.Complete)
	cancel()
	keeping.Wait()
	want := list(t, first, journal.Query{Project: "default", Limit: 1000})
	got := list(t, second, journal.Query{Project: "default", Limit: 1000})
	if len(got) != 51 || !slices.EqualFunc(got, want, func(a, b storage.JournalEntry) bool {
		return a.Sequence == b.Sequence && a.Time == b.Time && bytes.Equal(a.Data, b.Data)
	}) {
		t.Errorf("the newcomer has %d entries, the other %d", len(got), len(want))
	}
}

func TestOlder(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	for i := range int64(100) {
		commit(t, s, event([]string{"a", "b"}[i%2], i, "x"))
	}
	j.CatchUp(t.Context(), 30*time.Second)
	ofA := func(e *storage.JournalEntry) bool { return e.Twin == "a" }
	would, err := j.Older(t.Context(), "default", 50, ofA, false, nil)
	if err != nil || would.Entries != 25 || would.Oldest != 0 || would.Newest != 48 || would.Bytes == 0 {
		t.Fatalf("would delete %+v: %v", would, err)
	}
	if n := len(list(t, j, journal.Query{Project: "default", Limit: 1000})); n != 100 {
		t.Fatalf("a preview left %d of 100", n)
	}
	did, err := j.Older(t.Context(), "default", 50, ofA, true, nil)
	if err != nil || did != would {
		t.Fatalf("deleted %+v, would %+v: %v", did, would, err)
	}
	for _, twin := range []string{"", "a", "b"} {
		want := map[string]int{"": 75, "a": 25, "b": 50}[twin]
		if n := len(list(t, j, journal.Query{Project: "default", Twin: twin, Limit: 1000})); n != want {
			t.Errorf("twin %q has %d entries, want %d", twin, n, want)
		}
	}
}

// TestCurate: the closest rule counts, nothing outlives the default, and a preview says what goes.
func TestCurate(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	now := time.Now()
	old := func(kind, name string, age time.Duration) storage.JournalEntry {
		return storage.JournalEntry{Project: "default", Twin: "a", Kind: kind, Name: name, Time: now.Add(-age).UnixMilli()}
	}
	commit(t, s, old("event", "door", 3*time.Hour), old("event", "other", 3*time.Hour), old("event", "door", 30*time.Hour), old("value", "v", 3*time.Hour),
		old("value", "v", 5*time.Minute), old("command", "c", 90*time.Hour), old("command", "c", 110*time.Hour))
	j.CatchUp(t.Context(), 30*time.Second)
	rules := journal.Rules{Default: 100 * time.Hour, List: []journal.Rule{{Kind: "event", MaxAge: 2 * time.Hour}, {Kind: "event", Name: "door", MaxAge: 24 * time.Hour},
		{Kind: "value", MaxAge: time.Hour}, {Kind: "command", MaxAge: 1000 * time.Hour}}}
	would, kinds, err := j.Expired(t.Context(), "default", rules, now, false)
	if err != nil || would.Entries != 4 || kinds["event"] != 2 || kinds["value"] != 1 || kinds["command"] != 1 {
		t.Fatalf("would delete %+v %v: %v", would, kinds, err)
	}
	if did, _, err := j.Expired(t.Context(), "default", rules, now, true); err != nil || did != would {
		t.Errorf("deleted %+v, would %+v: %v", did, would, err)
	}
	if got := texts(list(t, j, journal.Query{Project: "default", Twin: "a", Limit: 100})); len(got) != 3 {
		t.Errorf("left: %v", got)
	}
}
