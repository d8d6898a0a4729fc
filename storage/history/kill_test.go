package history

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wanted is every sample of a journal, by series. Of two at the same millisecond, VictoriaMetrics keeps the higher.
func wanted(j *journal) map[string]map[int64]float64 {
	want := map[string]map[int64]float64{}
	for _, e := range j.entries {
		for _, t := range e.Samples {
			for _, s := range t.Samples {
				key := t.Twin + " " + s.Property
				if want[key] == nil {
					want[key] = map[int64]float64{}
				}
				if v, ok := want[key][s.Time]; !ok || s.Value > v {
					want[key][s.Time] = s.Value
				}
			}
		}
	}
	return want
}

// missing returns how many of a journal's samples history does not have, how many it has twice, and how many there are.
func missing(t *testing.T, h History, j *journal) (lost, twice, all int) {
	t.Helper()
	for key, want := range wanted(j) {
		twin, property, _ := strings.Cut(key, " ")
		r := query(t, h, Query{Project: "default", Twin: twin, Property: property, Start: time.Now().Add(-time.Hour), End: time.Now().Add(time.Minute), Limit: MaxLimit})
		if r.Truncated {
			t.Fatalf("%s: more samples than can be compared", key)
		}
		got := map[int64]float64{}
		for _, p := range r.Points {
			got[p.Time] = p.Value
		}
		twice += len(r.Points) - len(got)
		for at, v := range want {
			if w, ok := got[at]; !ok || w != v {
				lost++
			}
			delete(got, at)
		}
		for at := range got {
			t.Errorf("%s: sample at %d that nobody sent", key, at)
		}
		all += len(want)
	}
	return lost, twice, all
}

func readCursor(dir string) uint64 {
	text, _ := os.ReadFile(filepath.Join(dir, "journal.cursor"))
	n, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// TestKillEmbedded: nothing acknowledged is missing after kill -9 in the middle, several times over.
func TestKillEmbedded(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	cursor := uint64(0)
	for round := range 2 {
		cmd := child(t, "feed", "DIR="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := cursor
		eventually(t, 30*time.Second, "the cursor moves", func() bool { cursor = readCursor(dir); return cursor > before+100 })
		stop(cmd, syscall.SIGKILL)
		j, err := openJournal(filepath.Join(dir, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		if j.cursor == 0 || j.cursor >= j.AppliedIndex() {
			t.Fatalf("round %d: cursor %d of %d entries: nothing is tested", round, j.cursor, j.AppliedIndex())
		}
		t.Logf("round %d: killed with cursor %d of %d entries", round, j.cursor, j.AppliedIndex())
		j.file.Close()
	}
	lost, all := recover9(t, dir)
	if lost > 0 || all < 1000 {
		t.Errorf("%d of %d acknowledged samples are missing", lost, all)
	}
	t.Logf("%d samples compared", all)
}

// TestKillEmbeddedEager: with a cursor that does not wait for the flush, the same check finds samples missing.
func TestKillEmbeddedEager(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	cmd := child(t, "feed", "DIR="+dir, "EAGER=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the cursor moves", func() bool { return readCursor(dir) > 100 })
	stop(cmd, syscall.SIGKILL)
	if lost, all := recover9(t, dir); lost == 0 {
		t.Errorf("none of %d samples is missing: the check cannot fail", all)
	}
}

// recover9 opens what a killed child left, feeds, and compares.
func recover9(t *testing.T, dir string) (lost, all int) {
	t.Helper()
	j, err := openJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.file.Close()
	e := openEmbedded(t, Options{Dir: filepath.Join(dir, "vm")})
	f := Feed(t.Context(), j, e, FeedOptions{Logger: testLogger(t)})
	defer f.Close()
	eventually(t, 30*time.Second, "caught up", func() bool { return f.Lag() == 0 })
	time.Sleep(flushPause) // the longest that an insert stays unseen
	lost, twice, all := missing(t, e, j)
	if twice > 0 {
		t.Errorf("%d samples are there twice", twice)
	}
	return lost, all
}

// TestKillRemote: nothing acknowledged is missing on the external server after the node is killed: while the server is
// away, while it catches up, and while it is there.
func TestKillRemote(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, "-dedup.minScrapeInterval=1ms")
	s.stop(syscall.SIGTERM)
	for round := range 4 {
		if round == 2 {
			s.start()
		}
		cmd := child(t, "remote", "DIR="+dir, "URL="+s.url())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := readCursor(dir)
		eventually(t, 30*time.Second, fmt.Sprintf("round %d: the cursor moves", round), func() bool { return readCursor(dir) > before+300 })
		stop(cmd, syscall.SIGKILL)
	}
	j, err := openJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.file.Close()
	t.Logf("cursor %d of %d entries", j.cursor, j.AppliedIndex())
	r := openRemote(t, s, RemoteOptions{Dir: filepath.Join(dir, "queue")})
	f := Feed(t.Context(), j, r, FeedOptions{Logger: testLogger(t)})
	defer f.Close()
	compareRemote(t, r, f, j)
}
