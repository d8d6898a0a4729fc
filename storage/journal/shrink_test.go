package journal_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestShrink: the oldest of a project go until it takes less than its quota of the disk, and nothing of another.
func TestShrink(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	begin := time.Now().Add(-time.Hour).UnixMilli()
	const each, rounds = 100, 60
	for r := range rounds {
		var entries []storage.JournalEntry
		for i := range each {
			text := make([]string, 12) // what does not compress
			for k := range text {
				text[k] = fmt.Sprint(rand.Uint64())
			}
			entries = append(entries, storage.JournalEntry{Project: []string{"small", "large"}[i%2], Twin: fmt.Sprint("t", i%7), Kind: "event", Name: "e",
				Time: begin + int64(r*each+i), Data: []byte(`"` + strings.Join(text, "-") + `"`)})
		}
		commit(t, s, entries...)
	}
	j.CatchUp(t.Context(), 30*time.Second)
	if c, err := j.Shrink(t.Context(), "large", 1<<30); err != nil || c.Entries != 0 {
		t.Fatalf("below its quota it lost %+v: %v", c, err)
	}
	used, err := j.Usage("large")
	if err != nil || used < 200_000 {
		t.Fatalf("it takes %d bytes: %v", used, err)
	}
	most := used / 2
	c, err := j.Shrink(t.Context(), "large", most)
	if err != nil || c.Entries == 0 {
		t.Fatalf("deleted %+v of %d bytes: %v", c, used, err)
	}
	after, err := j.Usage("large")
	if err != nil || after > most {
		t.Errorf("it takes %d bytes of %d, %d before: %v", after, most, used, err)
	}
	left := list(t, j, journal.Query{Project: "large", Limit: 10_000})
	if len(left) != rounds*each/2-int(c.Entries) || left[0].Time <= c.Newest || left[len(left)-1].Time < begin+rounds*each-2 {
		t.Errorf("%d are left, the oldest of %d; deleted %+v", len(left), left[0].Time, c)
	}
	if n := len(list(t, j, journal.Query{Project: "small", Limit: 10_000})); n != rounds*each/2 {
		t.Errorf("another project has %d entries", n)
	}
}

// TestShrinkTakesNoMoreThanIsTooMuch: where the oldest entries are much larger than the others, as many go as take what is too much, and no more.
func TestShrinkTakesNoMoreThanIsTooMuch(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	begin, large := time.Now().Add(-time.Hour).UnixMilli(), 100
	var entries []storage.JournalEntry
	for i := range large + 3980 {
		words := 3
		if i < large {
			words = 500
		}
		text := make([]string, words) // what does not compress
		for k := range text {
			text[k] = fmt.Sprint(rand.Uint64())
		}
		entries = append(entries, storage.JournalEntry{Project: "default", Twin: "a", Kind: "event", Name: "e", Time: begin + int64(i), Data: []byte(`"` + strings.Join(text, "-") + `"`)})
		if len(entries) == 40 {
			commit(t, s, entries...)
			entries = nil
		}
	}
	j.CatchUp(t.Context(), 30*time.Second)
	if err := j.Flush(0); err != nil {
		t.Fatal(err)
	}
	used, err := j.Usage("default")
	if err != nil {
		t.Fatal(err)
	}
	most := used - used/50 // an eighth goes
	c, err := j.Shrink(t.Context(), "default", most)
	if err != nil || c.Entries == 0 || c.Entries > uint64(large) {
		t.Errorf("of %d bytes, %d are allowed, it deleted %+v: %v", used, most, c, err)
	}
	if after, err := j.Usage("default"); err != nil || after > most {
		t.Errorf("it takes %d bytes of %d: %v", after, most, err)
	}
}
