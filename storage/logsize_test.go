package storage_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestLogBytes: what a restart finds counts, what the reader of samples holds does not, and what a snapshot lets go is gone.
func TestLogBytes(t *testing.T) {
	fs := vfs.NewMem()
	const entries, size = 64, 128 << 10
	n, err := storagetest.Open("store", fs, trailing)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		b := make([]byte, size)
		_, _ = rand.Read(b) // nothing to compress
		mustCommit(t, n.Store, put("t", fmt.Sprintf("k%d", i), string(b)))
	}
	if got := n.Store.LogBytes(); got != 0 {
		t.Errorf("nobody has read the samples, and a snapshot would let %d bytes go", got)
	}
	settle := func() {
		t.Helper()
		if err := n.Store.SetSampleCursor(n.Store.AppliedIndex()); err != nil {
			t.Fatal(err)
		}
	}
	near := func(when string, want int64) {
		t.Helper()
		if got := n.Store.LogBytes(); got < want-2<<20 || got > want+2<<20 {
			t.Errorf("%s: a snapshot would let %d bytes go, want about %d", when, got, want)
		}
	}
	settle()
	near("written", entries*size)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err = storagetest.Open("store", fs, trailing); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	mustCommit(t, n.Store, put("t", "after", "restart"))
	settle()
	near("after a restart", entries*size)
	snapshot(t, n)
	near("after a snapshot", 0)
}
