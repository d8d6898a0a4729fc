package actors

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestLedgerTellsWhoMovedItsCounters: after a try of unknown outcome counters that moved were moved by it, or by an earlier life of the node: then the
// ledger goes on from there.
func TestLedgerTellsWhoMovedItsCounters(t *testing.T) {
	store := storagetest.OpenSingle(t, "data", vfs.NewMem())
	l := newLedger(&Engine{store: store, ctx: t.Context()})
	mine := storage.Write{Table: tableIngest, Key: "p/http/n", Value: []byte("mine")}
	s := &sheet{txn: &storage.Txn{Writes: []storage.Write{mine}}, counts: map[string]*pb.IngestCount{mine.Key: {Refused: 2}}}
	for _, x := range []struct {
		value   string
		applied bool
	}{{"", false}, {"another life's", false}, {"mine", true}} {
		if x.value != "" {
			if _, err := store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: tableIngest, Key: mine.Key, Value: []byte(x.value)}}}); err != nil {
				t.Fatal(err)
			}
		}
		if applied, err := l.applied(s); err != nil || applied != x.applied {
			t.Errorf("with %q there: %v, %v", x.value, applied, err)
		}
		if c := l.counters[mine.Key]; (c != nil) != x.applied {
			t.Errorf("with %q there: counter %v", x.value, c)
		}
	}
}
