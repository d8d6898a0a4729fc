package history

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

var _ Source = (*storage.Store)(nil)

// TestFeedStore feeds from a real store, closes both, and goes on where it was.
func TestFeedStore(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	at := base()
	const rounds, each = 2, 200
	for round := range rounds {
		n, err := storagetest.Open(filepath.Join(dir, "store"), nil)
		if err != nil {
			t.Fatal(err)
		}
		e := openEmbedded(t, Options{Dir: filepath.Join(dir, "vm")})
		before := n.Store.SampleCursor()
		if round > 0 && before == 0 {
			t.Error("the cursor is not kept")
		}
		f := Feed(t.Context(), n.Store, e, FeedOptions{Linger: time.Millisecond, Logger: testLogger(t)})
		for i := range each {
			k := round*each + i
			txn := &storage.Txn{Samples: one("default", fmt.Sprintf("t%d", k%3), "m", storage.Sample{Property: "p", Time: at.UnixMilli() + int64(k), Value: float64(k)})}
			if i%10 == 0 { // refused: its samples do not count
				txn.Guards = []storage.Guard{{Table: "none", Key: "none", Revision: 77}}
			}
			if _, err := n.Store.Commit(t.Context(), txn); (err != nil) != (i%10 == 0) {
				t.Fatal(k, err)
			}
		}
		eventually(t, 30*time.Second, "all is fed", func() bool { return f.Lag() == 0 })
		time.Sleep(flushPause) // the longest that an insert stays unseen
		sum := 0
		for twin := range 3 {
			r := query(t, e, Query{Project: "default", Twin: fmt.Sprintf("t%d", twin), Property: "p", Start: at, End: at.Add(time.Minute)})
			sum += len(r.Points)
			for _, p := range r.Points {
				if k := p.Time - at.UnixMilli(); float64(k) != p.Value || k%10 == 0 {
					t.Errorf("point %v", p)
				}
			}
		}
		if want := (round + 1) * each * 9 / 10; sum != want {
			t.Errorf("round %d: %d samples in history, want %d", round, sum, want)
		}
		f.Close()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.SyncCursor(); err != nil || n.Store.SampleCursor() != f.Fed() {
			t.Errorf("cursor %d after closing, fed %d, %v", n.Store.SampleCursor(), f.Fed(), err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
