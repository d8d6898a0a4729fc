package storage_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// upTo reads a watch until a change has the revision, or the watch says that it has caught up (revision 0).
func upTo(t testing.TB, ch <-chan []storage.Change, revision uint64) []storage.Change {
	t.Helper()
	var all []storage.Change
	timeout := time.After(20 * time.Second)
	for {
		select {
		case b, ok := <-ch:
			if !ok {
				t.Fatalf("watch closed after %d changes", len(all))
			}
			all = append(all, b...)
			if revision == 0 && len(b) == 0 {
				return all
			}
			if n := len(b); n > 0 && revision > 0 && b[n-1].Revision >= revision {
				return all
			}
		case <-timeout:
			t.Fatalf("watch gave %d changes, waited for revision %d", len(all), revision)
		}
	}
}

func TestWatch(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	mustCommit(t, s, put("rule", "p/a", "1"), put("rule", "q/b", "2"), put("twin", "p/z", "3"))
	mustCommit(t, s, storage.Write{Table: "rule", Key: "p/quiet", Value: []byte("q"), Quiet: true})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ch, err := s.Watch(ctx, "rule", "p/", 0)
	if err != nil {
		t.Fatal(err)
	}
	list := upTo(t, ch, 0)
	if len(list) != 2 || list[0].Key != "p/a" || list[1].Key != "p/quiet" {
		t.Fatalf("listing %+v", list)
	}
	mustCommit(t, s, storage.Write{Table: "rule", Key: "p/quiet", Value: []byte("r"), Quiet: true})
	mustCommit(t, s, put("twin", "p/z", "4"))
	mustCommit(t, s, put("rule", "p/c", "5"), put("rule", "q/d", "6"))
	last := mustCommit(t, s, storage.Write{Table: "rule", Key: "p/a"})
	got := upTo(t, ch, last)
	if len(got) != 2 || got[0].Key != "p/c" || string(got[0].Value) != "5" || got[0].Deleted || got[0].Table != "rule" {
		t.Fatalf("changes %+v", got)
	}
	if got[1].Key != "p/a" || !got[1].Deleted || got[1].Revision != last {
		t.Fatalf("deletion %+v", got[1])
	}
	again, err := s.Watch(ctx, "rule", "p/", got[0].Revision)
	if err != nil {
		t.Fatal(err)
	}
	if c := upTo(t, again, 0); len(c) != 1 || !c[0].Deleted {
		t.Fatalf("resumed watch gave %+v", c)
	}
	cancel()
	for range ch {
	}
}

func TestWatchSurvivesRestartAndIsCompacted(t *testing.T) {
	fs := vfs.NewMem()
	small := storagetest.WithStore(func(o *storage.Options) { o.KeepChanges = 64 })
	n, err := storagetest.Open("store", fs, small)
	if err != nil {
		t.Fatal(err)
	}
	first := mustCommit(t, n.Store, put("t", "k", "first"))
	var last uint64
	for i := range 20 {
		last = mustCommit(t, n.Store, put("t", fmt.Sprint(i), "v"))
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s := storagetest.OpenSingle(t, "store", fs, small)
	ch, err := s.Watch(t.Context(), "t", "", first)
	if err != nil {
		t.Fatal(err)
	}
	if got := upTo(t, ch, last); len(got) != 20 {
		t.Fatalf("%d changes after restart, want 20", len(got))
	}
	for i := range 200 {
		last = mustCommit(t, s, put("t", fmt.Sprint(i), "w"))
	}
	if _, err := s.Watch(t.Context(), "t", "", first); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("watch from an old revision: %v", err)
	}
	if _, err := s.Watch(t.Context(), "t", "", last+1000); !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("watch from a revision to come: %v", err)
	}
	ch, err = s.Watch(t.Context(), "t", "", last-10)
	if err != nil {
		t.Fatal(err)
	}
	if got := upTo(t, ch, last); len(got) != 10 {
		t.Errorf("%d changes, want 10", len(got))
	}
}

func TestSlowWatchEndsAndBlocksNobody(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), storagetest.WithStore(func(o *storage.Options) { o.KeepChanges = 64 }))
	first := mustCommit(t, s, put("t", "k", "v"))
	slow, err := s.Watch(t.Context(), "t", "", first)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		mustCommit(t, s, put("t", fmt.Sprint(i), "v"))
	}
	deadline := time.After(30 * time.Second)
	for n := 0; ; n++ {
		select {
		case _, ok := <-slow:
			if ok {
				continue
			}
			if n > 100 {
				t.Errorf("the slow watch got %d batches", n)
			}
			return
		case <-deadline:
			t.Fatal("the slow watch stays open")
		}
	}
}
