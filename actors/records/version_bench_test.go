package records_test

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors/records"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// BenchmarkPlace: a place as the router would read it at each call, and what it looks at instead.
func BenchmarkPlace(b *testing.B) {
	s := storagetest.OpenSingle(b, "store", vfs.NewMem())
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprint("default/lamp", i)
		if i%2 == 0 {
			continue
		}
		if _, err := s.Commit(b.Context(), &storage.Txn{Writes: []storage.Write{{Table: "place", Key: ids[i], Value: []byte{1, 1}}}}); err != nil {
			b.Fatal(err)
		}
	}
	r := records.Of(s, slog.New(slog.DiscardHandler))
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := r.Get("place", ids[i%len(ids)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("version", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Version("place")
		}
	})
}
