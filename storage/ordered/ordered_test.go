package ordered_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage/ordered"
)

func open(t testing.TB) *pebble.DB {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), DisableWAL: true, MemTableSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func content(t *testing.T, r pebble.Reader) []string {
	t.Helper()
	it, err := r.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var all []string
	for ok := it.First(); ok; ok = it.Next() {
		all = append(all, fmt.Sprintf("%s=%s", it.Key(), it.Value()))
	}
	return all
}

// Gathered or not, the same writes give the same content, and of each key the batch holds one.
func TestSameContent(t *testing.T) {
	plain, gathered := open(t), open(t)
	var w ordered.Writes
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		keys := map[string]bool{}
		for range 1 + rng.IntN(200) {
			key, value := fmt.Sprintf("k%03d", rng.IntN(100)), fmt.Sprint(rng.IntN(1000))
			keys[key] = true
			b := plain.NewBatch()
			if rng.IntN(4) == 0 {
				_ = b.Delete([]byte(key), nil)
			} else {
				_ = b.Set([]byte(key), []byte(value), nil)
			}
			r := b.Reader()
			if kind, k, v, _, _ := r.Next(); kind == pebble.InternalKeyKindSet && rng.IntN(2) == 0 {
				w.Set(func(b []byte) ([]byte, int) { return append(append(b, k...), v...), len(k) })
			} else if err := w.Add(b); err != nil {
				t.Fatal(err)
			}
			if err := b.Commit(pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		b := gathered.NewBatch()
		if err := w.Into(b); err != nil {
			t.Fatal(err)
		}
		if int(b.Count()) != len(keys) || w.Len() != 0 {
			t.Errorf("round %d: %d writes of %d keys, %d bytes left", round, b.Count(), len(keys), w.Len())
		}
		last := ""
		for r := b.Reader(); ; {
			_, k, _, ok, _ := r.Next()
			if !ok {
				break
			}
			if string(k) <= last {
				t.Errorf("%s after %s", k, last)
			}
			last = string(k)
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if got, want := content(t, gathered), content(t, plain); !slices.Equal(got, want) {
			t.Fatalf("round %d: %v, want %v", round, got, want)
		}
	}
}

// What Add took can be read before it is written: of each key the last.
func TestGet(t *testing.T) {
	db := open(t)
	var w ordered.Writes
	add := func(fill func(b *pebble.Batch)) {
		t.Helper()
		b := db.NewBatch()
		defer b.Close()
		fill(b)
		if err := w.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	add(func(b *pebble.Batch) {
		_ = b.Set([]byte("ta"), []byte("1"), nil)
		_ = b.Set([]byte("tb"), []byte("1"), nil)
		_ = b.Delete([]byte("tc"), nil)
	})
	add(func(b *pebble.Batch) {
		_ = b.Delete([]byte("ta"), nil)
		_ = b.Set([]byte("tb"), []byte("22"), nil)
		_ = b.Set([]byte("tc"), []byte("3"), nil)
	})
	for _, c := range []struct {
		key, value     string
		deleted, known bool
	}{{"ta", "", true, true}, {"tb", "22", false, true}, {"tc", "3", false, true}, {"t", "", false, false}, {"td", "", false, false}} {
		if v, deleted, known := w.Get([]byte(c.key)); string(v) != c.value || deleted != c.deleted || known != c.known {
			t.Errorf("%s: %q, deleted %v, known %v; want %+v", c.key, v, deleted, known, c)
		}
	}
	if err := w.Into(db.NewBatch()); err != nil {
		t.Fatal(err)
	}
	if _, _, known := w.Get([]byte("tb")); known {
		t.Error("something is gathered after Into")
	}
}

func TestOtherKindsAreRefused(t *testing.T) {
	b := open(t).NewBatch()
	_ = b.DeleteRange([]byte("a"), []byte("b"), nil)
	if err := new(ordered.Writes).Add(b); err == nil {
		t.Error("a range was taken")
	}
}

// BenchmarkOrdered writes the records of 10,000 twins again and again, five in a batch, as they come or 1,000 gathered.
func BenchmarkOrdered(b *testing.B) {
	value := make([]byte, 300)
	for _, gather := range []int{5, 1000} {
		b.Run(fmt.Sprint(gather), func(b *testing.B) {
			db := open(b)
			var w ordered.Writes
			batch := db.NewBatch()
			for i := range b.N {
				w.Set(func(b []byte) ([]byte, int) {
					begun := len(b)
					b = fmt.Appendf(b, "state/default/twin-%d", i*7919%10000)
					return append(b, value...), len(b) - begun
				})
				if i%gather == gather-1 {
					if err := w.Into(batch); err != nil {
						b.Fatal(err)
					}
					if err := batch.Commit(pebble.NoSync); err != nil {
						b.Fatal(err)
					}
					batch.Reset()
				}
			}
		})
	}
}
