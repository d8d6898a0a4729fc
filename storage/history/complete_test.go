package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// trimmed is a journal whose first entries are not there any more, as behind a snapshot.
type trimmed struct {
	*journal
	from uint64
}

func (s *trimmed) ReadSamples(after uint64, fn func(uint64, []storage.TwinSamples) error) (uint64, error) {
	if after < s.from {
		return s.from, fmt.Errorf("it begins at %d: %w", s.from+1, storage.ErrCompacted)
	}
	return s.journal.ReadSamples(after, fn)
}

// someSamples are entries of several twins and properties, at times of their own.
func someSamples(at time.Time, entries int) [][]storage.TwinSamples {
	var out [][]storage.TwinSamples
	for i := range entries {
		ms := at.UnixMilli() + int64(i)*1000
		out = append(out, append(
			one("default", fmt.Sprintf("twin-%d", i%7), "m1", storage.Sample{Property: "power", Time: ms, Value: float64(i) / 8}, storage.Sample{Property: "level", Time: ms, Value: float64(i % 3)}),
			one("hotel", "lamp", "", storage.Sample{Property: "on", Time: ms, Value: float64(i % 2)})...))
	}
	return out
}

// flat lists samples in one order.
func flat(entries ...[]storage.TwinSamples) []string {
	var out []string
	for _, e := range entries {
		for _, t := range e {
			for _, s := range t.Samples {
				out = append(out, fmt.Sprintf("%s/%s %s %s %d %v", t.Project, t.Twin, t.Model, s.Property, s.Time, s.Value))
			}
		}
	}
	slices.Sort(out)
	return out
}

func exported(t *testing.T, h Exporter) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := h.Export(t.Context(), &b, time.Time{}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(export []byte) (info ExportInfo, samples []string, err error) {
	n := uint64(0)
	info, n, err = ReadExport(bytes.NewReader(export), func(b []storage.TwinSamples) error {
		samples = append(samples, flat(b)...)
		return nil
	})
	slices.Sort(samples)
	if err == nil && n != uint64(len(samples)) {
		err = fmt.Errorf("%d samples were counted, %d came", n, len(samples))
	}
	return info, samples, err
}

// testExport: what was inserted is what an export gives.
func testExport(t *testing.T, h whole, x Exporter) {
	entries := someSamples(base(), 50)
	for _, e := range entries {
		if err := h.Insert(t.Context(), 1, e); err != nil {
			t.Fatal(err)
		}
	}
	// The node's own metrics are no part of it.
	if err := h.InsertMetrics(t.Context(), "some_metric 1\n", "n1", time.Now()); err != nil {
		t.Fatal(err)
	}
	want := flat(entries...)
	eventually(t, 30*time.Second, "the export has all", func() bool {
		if f, ok := h.(flusher); ok {
			f.flush()
		}
		_, got, err := readAll(exported(t, x))
		if err != nil {
			t.Fatal(err)
		}
		return slices.Equal(got, want)
	})
	var part bytes.Buffer
	from := base().Add(10 * time.Second)
	if err := x.Export(t.Context(), &part, from, from.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := readAll(part.Bytes()); err != nil || !slices.Equal(got, flat(entries[10:12]...)) {
		t.Errorf("of two seconds: %v, %v", got, err)
	}
}

func TestExport(t *testing.T) {
	takeTurn(t)
	e := openEmbedded(t, Options{})
	testExport(t, e, e)
}

func TestExportRemote(t *testing.T) {
	t.Parallel()
	r := openRemote(t, startServer(t), RemoteOptions{})
	testExport(t, r, r.Remote)
}

// TestBackfill: a node whose log begins late gets the rest from another, knows before and after whether it is whole, and
// believes nothing that is damaged.
func TestBackfill(t *testing.T) {
	takeTurn(t)
	ctx := t.Context()
	entries := someSamples(base(), 200)
	const lost = 150
	j := newJournal()
	if err := j.append(entries...); err != nil {
		t.Fatal(err)
	}
	feed := func(e *Embedded, s Source) *Feeder {
		f := Feed(ctx, s, e, FeedOptions{Linger: time.Millisecond, CursorInterval: time.Hour, Logger: testLogger(t), Metrics: metrics.NewSet()})
		eventually(t, 30*time.Second, "all is fed", func() bool { return f.Lag() == 0 })
		return f
	}
	// The node that has all.
	a := openEmbedded(t, Options{})
	if a.Complete() {
		t.Error("complete before it was fed")
	}
	early := exported(t, a) // which says that it is not complete
	f := feed(a, j)
	eventually(t, 30*time.Second, "it is complete", a.Complete)
	good := exported(t, a)
	if info, got, err := readAll(good); err != nil || !slices.Equal(got, flat(entries...)) || info.Through != 200 || !info.Complete {
		t.Fatalf("%+v: %d samples of %d, %v", info, len(got), len(flat(entries...)), err)
	}
	short := newJournal()
	if err := short.append(entries[:lost-1]...); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a = openEmbedded(t, Options{})
	f = feed(a, short)
	late := exported(t, a) // which has one entry too few
	f.Close()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}

	// The one that came later.
	dir := filepath.Join(t.TempDir(), "vm")
	b := openEmbedded(t, Options{Dir: dir})
	late2 := &trimmed{j, lost}
	f = feed(b, late2)
	if b.Complete() {
		t.Error("complete though the log begins late")
	}
	calls := 0
	from := func(export []byte, err error) func(context.Context) (io.ReadCloser, error) {
		return func(context.Context) (io.ReadCloser, error) {
			calls++
			return io.NopCloser(bytes.NewReader(export)), err
		}
	}
	broken := slices.Clone(good)
	broken[len(broken)/2] ^= 1
	unreachable := errors.New("nobody is there")
	for name, c := range map[string]struct {
		export []byte
		err    error
		want   error
	}{
		"not complete itself": {early, nil, ErrIncomplete},
		"an entry short":      {late, nil, ErrIncomplete},
		"damaged":             {broken, nil, ErrDamaged},
		"cut":                 {good[:len(good)-1], nil, ErrDamaged},
		"unreachable":         {nil, unreachable, unreachable},
	} {
		if err := b.Backfill(ctx, from(c.export, c.err)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if b.Complete() {
			t.Errorf("%s: complete", name)
		}
	}
	// It is remembered.
	f.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openEmbedded(t, Options{Dir: dir})
	f = feed(b, late2)
	if b.Complete() {
		t.Error("complete after a restart")
	}
	keep, stop := context.WithCancel(ctx)
	defer stop()
	kept := make(chan struct{})
	attempts := 0
	go func() {
		defer close(kept)
		b.KeepComplete(keep, KeepOptions{Retry: time.Millisecond, Source: func(ctx context.Context) (io.ReadCloser, error) {
			if attempts++; attempts < 3 {
				return nil, unreachable
			}
			return from(good, nil)(ctx)
		}})
	}()
	eventually(t, 30*time.Second, "it is complete", b.Complete)
	if _, got, err := readAll(exported(t, b)); err != nil {
		t.Error(err)
	} else if got = slices.Compact(got); !slices.Equal(got, flat(entries...)) {
		t.Errorf("%d samples, want %d", len(got), len(flat(entries...)))
	}
	calls = 0
	if err := b.Backfill(ctx, from(good, nil)); err != nil || calls != 0 {
		t.Errorf("asked again: %d times, %v", calls, err)
	}
	// Another snapshot comes.
	if err := b.lost(190); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "it is complete again", b.Complete)
	stop()
	<-kept
	f.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	// A directory that was deleted: the cursor says what is lost.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := j.SetSampleCursor(200); err != nil {
		t.Fatal(err)
	}
	b = openEmbedded(t, Options{Dir: dir})
	f = feed(b, j)
	defer f.Close()
	if b.Complete() {
		t.Error("complete without its data")
	}
	// One of a newer version is left alone.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, completeFile), []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenEmbedded(Options{Dir: dir, MemoryAllowedBytes: 64 << 20}); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer file: %v", err)
	}
}

// TestExportDamaged: no damage is taken for an export, wherever it is.
func TestExportDamaged(t *testing.T) {
	takeTurn(t)
	e := openEmbedded(t, Options{})
	f := Feed(t.Context(), newJournal(), e, quick)
	defer f.Close()
	entries := someSamples(base(), 300)
	for _, x := range entries {
		if err := e.Insert(t.Context(), 1, x); err != nil {
			t.Fatal(err)
		}
	}
	good := exported(t, e)
	if _, _, err := readAll(good); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	head := bytes.IndexByte(good, '\n') + 1
	head += bytes.IndexByte(good[head:], '\n') + 1
	for i := range 500 {
		cut := rnd.IntN(len(good))
		if _, _, err := readAll(good[:cut]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d of %d: %v", cut, len(good), err)
		}
		at := head + rnd.IntN(len(good)-head)
		bad := slices.Clone(good)
		bad[at] ^= 1 << (i % 8)
		if _, _, err := readAll(bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d at %d of %d: %v", i%8, at, len(good), err)
		}
	}
	newer := strings.Replace(string(good), "pollux-history 1", "pollux-history 2", 1)
	if _, _, err := readAll([]byte(newer)); !errors.Is(err, ErrNewer) {
		t.Errorf("newer: %v", err)
	}
	stopped := errors.New("stopped")
	if _, _, err := ReadExport(bytes.NewReader(good), func([]storage.TwinSamples) error { return stopped }); !errors.Is(err, stopped) {
		t.Errorf("the reader stops: %v", err)
	}
}

func FuzzReadExport(f *testing.F) {
	var b bytes.Buffer
	b.WriteString("pollux-history 1\n{\"complete\":true,\"through\":1}\n")
	w := newFrameWriter(&b)
	_, _ = w.Write(bytes.Repeat([]byte{0, 0, 0, 9}, 30))
	_ = w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, export []byte) {
		_, _, _ = ReadExport(bytes.NewReader(export), func([]storage.TwinSamples) error { return nil })
	})
}

// TestExportHandler over HTTP; an export that fails in the middle is none.
func TestExportHandler(t *testing.T) {
	takeTurn(t)
	e := openEmbedded(t, Options{})
	f := Feed(t.Context(), newJournal(), e, quick)
	defer f.Close()
	entries := someSamples(base(), 20)
	for _, x := range entries {
		if err := e.Insert(t.Context(), 1, x); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(ExportHandler(e))
	defer srv.Close()
	get := func() ([]byte, int, error) {
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return b, resp.StatusCode, err
	}
	eventually(t, 30*time.Second, "it is complete", e.Complete)
	if err := e.lost(5); err != nil {
		t.Fatal(err)
	}
	if _, status, _ := get(); status != http.StatusServiceUnavailable {
		t.Errorf("incomplete: status %d", status)
	}
	if err := e.whole.filled(5); err != nil {
		t.Fatal(err)
	}
	b, status, err := get()
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	if _, got, err := readAll(b); err != nil || !slices.Equal(got, flat(entries...)) {
		t.Errorf("%d samples, %v", len(got), err)
	}
	if resp, err := http.Post(srv.URL, "", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("post: %v, %v", resp, err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, status, _ := get(); status != http.StatusServiceUnavailable {
		t.Errorf("closed: status %d", status)
	}
}

// TestSnapshotLeavesAGap: a follower that gets its state as a snapshot, and the rest from its own log.
func TestSnapshotLeavesAGap(t *testing.T) {
	leader := storagetest.OpenNode(t, filepath.Join(t.TempDir(), "leader"), nil, trailing)
	commit := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			txn := &storage.Txn{Samples: valued(float64(i))}
			if i%5 == 4 {
				txn.Guards = []storage.Guard{{Table: "none", Key: "none", Revision: 77}} // refused
			}
			if _, err := leader.Store.Commit(t.Context(), txn); (err != nil) != (i%5 == 4) {
				t.Fatal(i, err)
			}
		}
	}
	commit(0, 20)
	if err := leader.Store.SetSampleCursor(leader.Store.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
	if err := leader.Raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	commit(20, 30)
	follower := storagetest.Join(t, leader, "n2", filepath.Join(t.TempDir(), "follower"), nil, trailing)
	sink := &keptLedger{}
	f := Feed(t.Context(), follower.Store, sink, quick)
	defer f.Close()
	commit(30, 40)
	eventually(t, 30*time.Second, "all is fed", func() bool {
		return follower.Store.AppliedIndex() >= leader.Store.AppliedIndex() && f.Lag() == 0
	})
	var want []float64
	for i := range 40 {
		if i%5 != 4 {
			want = append(want, float64(i))
		}
	}
	got := sink.got()
	if len(got) == 0 || len(got) == len(want) || !slices.Equal(got, want[len(want)-len(got):]) {
		t.Errorf("fed %v, want an end of %v", got, want)
	}
	if to := sink.to(); to == 0 || int(to) > 45 {
		t.Errorf("said to be lost up to entry %d", to)
	}
}

// keptLedger is a ledger that is told of gaps.
type keptLedger struct {
	ledger
	lostTo uint64
}

func (l *keptLedger) begin(uint64, uint64, func() uint64) error { return nil }

func (l *keptLedger) lost(to uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lostTo = to
	return nil
}

func (l *keptLedger) to() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lostTo
}

// childBack fills its history from a file, says so, and waits to be killed.
func childBack() error {
	dir, log := childOptions()
	e, err := OpenEmbedded(Options{Dir: filepath.Join(dir, "vm"), MemoryAllowedBytes: 64 << 20, Logger: log})
	if err != nil {
		return err
	}
	if err := e.begin(200, 200, func() uint64 { return 200 }); err != nil {
		return err
	}
	if e.Complete() {
		return errors.New("complete without its data")
	}
	err = e.Backfill(context.Background(), func(context.Context) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, "export")) })
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o600); err != nil {
		return err
	}
	select {}
}

// TestBackfillSurvivesKill: what is said to be complete is on the disk.
func TestBackfillSurvivesKill(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	entries := someSamples(base(), 200)
	a := openEmbedded(t, Options{})
	if err := a.begin(0, 200, func() uint64 { return 200 }); err != nil {
		t.Fatal(err)
	}
	for _, x := range entries {
		if err := a.Insert(t.Context(), 1, x); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "export"), exported(t, a), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "back", "DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the child is done", func() bool {
		_, err := os.Stat(filepath.Join(dir, "done"))
		return err == nil
	})
	stop(cmd, syscall.SIGKILL)
	b := openEmbedded(t, Options{Dir: filepath.Join(dir, "vm")})
	if err := b.begin(200, 200, func() uint64 { return 200 }); err != nil {
		t.Fatal(err)
	}
	if _, got, err := readAll(exported(t, b)); err != nil || !slices.Equal(got, flat(entries...)) || !b.Complete() {
		t.Errorf("complete %v: %d samples of %d, %v", b.Complete(), len(got), len(flat(entries...)), err)
	}
}

// trailing makes raft keep next to nothing of the log behind a snapshot.
var trailing = storagetest.WithRaft(func(c *raft.Config) { c.TrailingLogs, c.SnapshotInterval = 1, time.Hour })
