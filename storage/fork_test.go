package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// look is what a store has in a table: KEY=VALUE, in order, and as many as it counts.
func look(t *testing.T, s *storage.Store, table storage.Table, prefix string) string {
	t.Helper()
	var all []string
	for rec, err := range s.Scan(table, prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		one, ok, err := s.Get(table, rec.Key)
		if err != nil || !ok || string(one.Value) != string(rec.Value) || one.Revision != rec.Revision {
			t.Errorf("%s is %q at %d in a scan, alone %q at %d, %v", rec.Key, rec.Value, rec.Revision, one.Value, one.Revision, err)
		}
		all = append(all, fmt.Sprintf("%s=%s", rec.Key, rec.Value))
	}
	if n, err := s.Count(table, prefix); err != nil || n != len(all) {
		t.Errorf("counts %d of %d, %v", n, len(all), err)
	}
	return strings.Join(all, " ")
}

func TestForkGoesItsOwnWay(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	put := func(on *storage.Store, w ...storage.Write) uint64 {
		t.Helper()
		revision, err := on.Commit(t.Context(), &storage.Txn{Writes: w})
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	first := put(s, storage.Write{Table: "a", Key: "x/1", Value: []byte("one")}, storage.Write{Table: "a", Key: "x/2", Value: []byte("two")},
		storage.Write{Table: "b", Key: "x/1", Value: []byte("other")})
	fork, release, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	was, other := fork.Version("a"), fork.Version("b")
	own := put(fork, storage.Write{Table: "a", Key: "x/1"}, storage.Write{Table: "a", Key: "x/2", Value: []byte("2")}, storage.Write{Table: "a", Key: "x/3", Value: []byte("3")},
		storage.Write{Table: "a", Key: "y", Value: []byte{}})
	if own != first+1 || fork.Revision() != own || s.Revision() != first {
		t.Errorf("revisions: %d, then %d of the fork, and %d of the store", first, own, s.Revision())
	}
	if fork.Version("a") == was || fork.Version("b") != other {
		t.Error("the version is not the table's")
	}
	if got := look(t, fork, "a", ""); got != "x/2=2 x/3=3 y=" {
		t.Errorf("the fork has %q", got)
	}
	if got := look(t, fork, "a", "x/"); got != "x/2=2 x/3=3" {
		t.Errorf("the fork has %q", got)
	}
	if got := look(t, s, "a", ""); got != "x/1=one x/2=two" {
		t.Errorf("the store has %q", got)
	}
	// What is written meanwhile is there where the fork has nothing of its own.
	put(s, storage.Write{Table: "a", Key: "x/2", Value: []byte("zwei")}, storage.Write{Table: "a", Key: "z", Value: []byte("new")})
	if got := look(t, fork, "a", ""); got != "x/2=2 x/3=3 y= z=new" {
		t.Errorf("the fork has %q", got)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if got := look(t, s, "a", ""); got != "x/1=one x/2=zwei z=new" {
		t.Errorf("the store has %q", got)
	}
}

// A fork refuses what the store would.
func TestForkMindsGuards(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	at, err := s.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: "a", Key: "there", Value: []byte("v")}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		guard storage.Guard
		holds bool
	}{
		{storage.Guard{Table: "a", Key: "there", Revision: at}, true},
		{storage.Guard{Table: "a", Key: "there", Revision: at + 1}, false},
		{storage.Guard{Table: "a", Key: "there"}, false},
		{storage.Guard{Table: "a", Key: "nowhere"}, true},
		{storage.Guard{Table: "a", Key: "nowhere", Revision: at}, false},
		{storage.Guard{Table: "a", Key: "there", Equal: []byte("v")}, true},
		{storage.Guard{Table: "a", Key: "there", Equal: []byte("w")}, false},
		{storage.Guard{Table: "a", Key: "nowhere", Equal: []byte{}}, false},
	} {
		fork, release, err := s.Fork()
		if err != nil {
			t.Fatal(err)
		}
		txn := &storage.Txn{Guards: []storage.Guard{{Table: "a", Key: "nowhere"}, c.guard}, Writes: []storage.Write{{Table: "b", Key: "k", Value: []byte("v")}}}
		_, err = fork.Commit(t.Context(), txn)
		_, same := s.Commit(t.Context(), &storage.Txn{Guards: txn.Guards, Writes: []storage.Write{{Table: "c", Key: "k", Value: []byte("v")}}})
		if (err == nil) != c.holds || fmt.Sprint(err) != fmt.Sprint(same) {
			t.Errorf("%+v: %v; the store: %v", c.guard, err, same)
		}
		if _, there, _ := fork.Get("b", "k"); there != c.holds {
			t.Errorf("%+v: written %v", c.guard, there)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	fork, release, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	if _, err := fork.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: "a", Key: "k", Value: make([]byte, 1<<20)}}}); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("a megabyte: %v", err)
	}
}
