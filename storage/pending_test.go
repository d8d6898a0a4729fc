package storage_test

import (
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// What was acknowledged and not yet applied on disk when a node was killed is found in its log.
func TestPendingWrites(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := storagetest.OpenNode(t, "data", fs)
	for _, w := range []storage.Write{
		{Table: "member", Key: "a", Value: []byte("1")},
		{Table: "other", Key: "a", Value: []byte("x")},
		{Table: "member", Key: "b", Value: []byte("1")},
		{Table: "member", Key: "a", Value: []byte("2"), Quiet: true},
		{Table: "member", Key: "b"},
	} {
		if _, err := n.Store.Commit(t.Context(), &storage.Txn{Guards: []storage.Guard{{Table: "none", Key: "x"}}, Writes: []storage.Write{w}}); err != nil {
			t.Fatal(err)
		}
	}
	killed := fs.CrashClone(vfs.CrashCloneCfg{})
	s, err := storage.Open(storage.Options{Dir: "data", FS: killed})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if rec, ok, err := s.Get("member", "a"); ok || err != nil {
		t.Fatalf("the record is in the state already, nothing is tested: %q, %v", rec.Value, err)
	}
	got := map[string]string{}
	if err := s.PendingWrites("member", func(key string, value []byte) {
		if value == nil {
			delete(got, key)
		} else {
			got[key] = string(value)
		}
	}); err != nil || !maps.Equal(got, map[string]string{"a": "2"}) {
		t.Errorf("%v, %v", got, err)
	}
}
