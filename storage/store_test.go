package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

func ctxFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func put(table storage.Table, key, value string) storage.Write {
	return storage.Write{Table: table, Key: key, Value: []byte(value)}
}

func mustCommit(t testing.TB, s *storage.Store, writes ...storage.Write) uint64 {
	t.Helper()
	rev, err := s.Commit(ctxFor(t), &storage.Txn{Writes: writes})
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return rev
}

func mustGet(t testing.TB, s *storage.Store, table storage.Table, key, want string) storage.Record {
	t.Helper()
	rec, ok, err := s.Get(table, key)
	if err != nil || !ok {
		t.Fatalf("get %s %q: found %v, error %v", table, key, ok, err)
	}
	if string(rec.Value) != want {
		t.Fatalf("get %s %q: %q, want %q", table, key, rec.Value, want)
	}
	return rec
}

func TestCommitGetScan(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	r1 := mustCommit(t, s, put("twin", "default/a", "1"), put("twin", "default/b", "2"))
	r2 := mustCommit(t, s, put("twin", "default/c", ""), put("twins", "default/x", "other table"))
	if r2 <= r1 {
		t.Fatalf("revisions %d then %d", r1, r2)
	}
	if rec := mustGet(t, s, "twin", "default/a", "1"); rec.Revision != r1 {
		t.Errorf("revision %d, want %d", rec.Revision, r1)
	}
	mustGet(t, s, "twin", "default/c", "")
	scan := func(prefix, after string) string {
		var keys []string
		for rec, err := range s.Scan("twin", prefix, after) {
			if err != nil {
				t.Fatalf("scan: %v", err)
			}
			keys = append(keys, rec.Key)
		}
		return strings.Join(keys, " ")
	}
	for _, c := range []struct{ prefix, after, want string }{
		{"", "", "default/a default/b default/c"},
		{"default/", "default/a", "default/b default/c"},
		{"default/b", "", "default/b"},
		{"default/b", "a", "default/b"},
		{"zone", "", ""},
	} {
		if got := scan(c.prefix, c.after); got != c.want {
			t.Errorf("scan %q after %q: %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	if n, err := s.Count("twin", "default/"); n != 3 || err != nil {
		t.Errorf("count: %d, %v", n, err)
	}
	view := s.View()
	defer view.Close()
	mustCommit(t, s, storage.Write{Table: "twin", Key: "default/a"})
	if _, ok, err := s.Get("twin", "default/a"); ok || err != nil {
		t.Errorf("deleted record: found %v, %v", ok, err)
	}
	if _, ok, err := view.Get("twin", "default/a"); !ok || err != nil || view.Revision() != r2 {
		t.Errorf("view: found %v, revision %d, %v", ok, view.Revision(), err)
	}
}

func TestGuards(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	rev := mustCommit(t, s, put("slot", "1", "owner-a"))
	absent := storage.Guard{Table: "slot", Key: "2"}
	for _, c := range []struct {
		name  string
		guard storage.Guard
		holds bool
		at    uint64
	}{
		{"revision", storage.Guard{Table: "slot", Key: "1", Revision: rev}, true, 0},
		{"other revision", storage.Guard{Table: "slot", Key: "1", Revision: rev + 9}, false, rev},
		{"value", storage.Guard{Table: "slot", Key: "1", Equal: []byte("owner-a")}, true, 0},
		{"other value", storage.Guard{Table: "slot", Key: "1", Equal: []byte("owner-b")}, false, rev},
		{"empty value", storage.Guard{Table: "slot", Key: "1", Equal: []byte{}}, false, rev},
		{"absent", absent, true, 0},
		{"not absent", storage.Guard{Table: "slot", Key: "1"}, false, rev},
		{"value of none", storage.Guard{Table: "slot", Key: "2", Equal: []byte{}}, false, 0},
	} {
		before := s.Revision()
		_, err := s.Commit(ctxFor(t), &storage.Txn{
			Guards: []storage.Guard{absent, c.guard},
			Writes: []storage.Write{put("out", c.name, "x")},
		})
		_, written, _ := s.Get("out", c.name)
		if written != c.holds {
			t.Errorf("%s: written %v, want %v", c.name, written, c.holds)
		}
		if c.holds {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var g *storage.GuardError
		if !errors.Is(err, storage.ErrGuard) || !errors.As(err, &g) {
			t.Errorf("%s: error %v", c.name, err)
			continue
		}
		if g.Guard != 1 || g.Table != "slot" || g.Key != c.guard.Key || g.Revision != c.at {
			t.Errorf("%s: %+v", c.name, g)
		}
		if s.Revision() != before {
			t.Errorf("%s: a refused transaction took a revision", c.name)
		}
	}
}

// Transactions of one entry see one another: of many that all want to create a record, one does.
func TestGuardsWithinAnEntry(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	const n = 500
	results := make(chan storage.Result, n)
	for i := range n {
		err := s.Submit(&storage.Txn{
			Guards: []storage.Guard{{Table: "t", Key: "one"}},
			Writes: []storage.Write{put("t", "one", fmt.Sprint(i))},
		}, func(r storage.Result) { results <- r })
		if err != nil {
			t.Fatal(err)
		}
	}
	won := 0
	for range n {
		switch r := <-results; {
		case r.Err == nil:
			won++
		case !errors.Is(r.Err, storage.ErrGuard):
			t.Fatal(r.Err)
		}
	}
	if won != 1 {
		t.Errorf("%d transactions created the record", won)
	}
}

func TestRefusesBadTransactions(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	big := make([]byte, 449<<10)
	for name, txn := range map[string]*storage.Txn{
		"no table":       {Writes: []storage.Write{put("", "k", "v")}},
		"zero in table":  {Writes: []storage.Write{put("a\x00b", "k", "v")}},
		"no key":         {Writes: []storage.Write{put("a", "", "v")}},
		"guard no table": {Guards: []storage.Guard{{Key: "x"}}},
		"too large":      {Writes: []storage.Write{{Table: "a", Key: "k", Value: big}}},
	} {
		_, err := s.Commit(ctxFor(t), txn)
		if err == nil || errors.Is(err, storage.ErrBusy) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "too large" && !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.Revision() != 0 {
		t.Errorf("revision %d", s.Revision())
	}
}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	var rev uint64
	for round := range 3 {
		n, err := storagetest.Open("store", fs)
		if err != nil {
			t.Fatal(err)
		}
		if round > 0 {
			rec := mustGet(t, n.Store, "t", "k", fmt.Sprint(round-1))
			if rec.Revision != rev {
				t.Errorf("revision %d, want %d", rec.Revision, rev)
			}
		}
		rev = mustCommit(t, n.Store, put("t", "k", fmt.Sprint(round)))
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
