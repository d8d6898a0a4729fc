package storage_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

func TestVersionChangesWithItsTable(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	write := func(w ...storage.Write) {
		t.Helper()
		if _, err := s.Commit(t.Context(), &storage.Txn{Writes: w}); err != nil {
			t.Fatal(err)
		}
	}
	was := s.Version("place")
	changed := func(what string, want bool) {
		t.Helper()
		now := s.Version("place")
		if (now != was) != want {
			t.Errorf("after %s: version %d, before %d", what, now, was)
		}
		was = now
	}
	write(storage.Write{Table: "other", Key: "a", Value: []byte("1")})
	changed("a write to another table", false)
	write(storage.Write{Table: "place", Key: "a", Value: []byte("1")})
	changed("a write", true)
	write(storage.Write{Table: "place", Key: "b", Value: []byte("1"), Quiet: true})
	changed("a quiet write", true)
	write(storage.Write{Table: "other", Key: "a"}, storage.Write{Table: "place", Key: "b", Quiet: true}, storage.Write{Table: "other", Key: "b"})
	changed("a quiet deletion between other writes", true)
	if v := s.Version("other"); v != s.Version("other") {
		t.Error("a version that changes by itself")
	}
}

// TestVersionNeverHidesAChange: what is kept in memory by its version is never older than what was applied before it was asked for.
func TestVersionNeverHidesAChange(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	const writes = 100
	var done atomic.Int64 // the number that is committed
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; i <= writes; i++ {
			if _, err := s.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: "place", Key: "x", Value: fmt.Append(nil, i)}}}); err != nil {
				t.Error(err)
				break
			}
			done.Store(int64(i))
		}
		done.Store(writes)
	})
	for range 2 {
		wg.Go(func() {
			var kept int64
			version := ^uint64(0) // none yet
			for reads := 0; ; reads++ {
				runtime.Gosched()
				least := done.Load()
				if now := s.Version("place"); now != version {
					rec, _, err := s.Get("place", "x")
					if err != nil {
						t.Error(err)
						return
					}
					kept = 0
					fmt.Sscan(string(rec.Value), &kept)
					version = now
				}
				if kept < least {
					t.Errorf("after %d reads: kept %d, committed %d", reads, kept, least)
					return
				}
				if least == writes {
					return
				}
			}
		})
	}
	wg.Wait()
}
