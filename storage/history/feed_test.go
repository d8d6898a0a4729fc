package history

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// ledger is a Sink that keeps everything, fails when told, and is durable as far as told.
type ledger struct {
	mu      sync.Mutex
	values  []float64
	batches int
	fail    error
	durably uint64
	last    uint64
}

func (l *ledger) Insert(_ context.Context, index uint64, samples []storage.TwinSamples) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for _, t := range samples {
		for _, s := range t.Samples {
			l.values = append(l.values, s.Value)
		}
	}
	l.batches++
	l.last = index
	return nil
}

func (l *ledger) Durable() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durably
}

func (l *ledger) set(fail error, durably uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail, l.durably = fail, durably
}

func (l *ledger) got() []float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.values)
}

func valued(vs ...float64) []storage.TwinSamples {
	var out []storage.TwinSamples
	for i, v := range vs {
		out = append(out, one("p", "t", "m", storage.Sample{Property: "x", Time: int64(i), Value: v})...)
	}
	return out
}

var quick = FeedOptions{Linger: time.Millisecond, CursorInterval: time.Millisecond}

func TestFeedOrderAndBatches(t *testing.T) {
	j := newJournal()
	var want []float64
	for i := range 100 {
		v := float64(i)
		if err := j.append(valued(v, v+0.25, v+0.5), nil); err != nil {
			t.Fatal(err)
		}
		want = append(want, v, v+0.25, v+0.5)
	}
	l := &ledger{}
	o := quick
	o.Batch = 10
	f := Feed(t.Context(), j, l, o)
	defer f.Close()
	eventually(t, 30*time.Second, "all is fed", func() bool { return f.Lag() == 0 })
	if got := l.got(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	// Ten samples are reached with the fourth entry: 25 batches.
	if l.batches != 25 || l.last != 199 || f.Fed() != 200 {
		t.Errorf("%d batches up to %d, fed %d", l.batches, l.last, f.Fed())
	}
	if err := j.append(valued(1000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "what comes later", func() bool { return f.Lag() == 0 && len(l.got()) == len(want)+1 })
}

func TestFeedCursor(t *testing.T) {
	j := newJournal()
	l := &ledger{}
	f := Feed(t.Context(), j, l, quick)
	defer f.Close()
	// Entries without samples need nothing of the sink.
	if err := j.append(nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "cursor at 3", func() bool { return f.Cursor() == 3 && j.SampleCursor() == 3 })
	if err := j.append(valued(1), nil, valued(2), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "all is fed", func() bool { return f.Fed() == 7 })
	if err := f.SyncCursor(); err != nil || f.Cursor() != 3 {
		t.Errorf("cursor %d before anything is durable, %v", f.Cursor(), err)
	}
	l.set(nil, 4)
	eventually(t, 30*time.Second, "cursor at 4", func() bool { return f.Cursor() == 4 })
	l.set(nil, 6)
	eventually(t, 30*time.Second, "cursor at the end", func() bool { return f.Cursor() == 7 && j.SampleCursor() == 7 })
	f.Close()
	if !slices.IsSorted(j.sets) {
		t.Errorf("the cursor went back: %v", j.sets)
	}
	// The next one begins there.
	if err := j.append(valued(3)); err != nil {
		t.Fatal(err)
	}
	next := &ledger{}
	g := Feed(t.Context(), j, next, quick)
	defer g.Close()
	eventually(t, 30*time.Second, "the next feeder", func() bool { return g.Lag() == 0 })
	if got := next.got(); !slices.Equal(got, []float64{3}) {
		t.Errorf("next feeder inserts %v", got)
	}
}

func TestFeedFailures(t *testing.T) {
	j := newJournal()
	l := &ledger{fail: errors.New("full")}
	set := metrics.NewSet()
	o := quick
	o.Metrics = set
	f := Feed(t.Context(), j, l, o)
	defer f.Close()
	if err := j.append(valued(1), valued(2), valued(3)); err != nil {
		t.Fatal(err)
	}
	fails := set.GetOrCreateCounter("pollux_history_feed_errors_total")
	eventually(t, 30*time.Second, "two failures", func() bool { return fails.Get() >= 2 })
	var text strings.Builder
	set.WritePrometheus(&text)
	if f.Lag() != 3 || f.Fed() != 0 || !strings.Contains(text.String(), "pollux_history_lag_entries 3\n") {
		t.Errorf("lag %d, fed %d, metrics:\n%s", f.Lag(), f.Fed(), text.String())
	}
	l.set(nil, 0)
	eventually(t, 30*time.Second, "all is fed", func() bool { return f.Lag() == 0 })
	if got := l.got(); !slices.Equal(got, []float64{1, 2, 3}) {
		t.Errorf("got %v", got)
	}
}

// truncated is a journal whose first entries are gone.
type truncated struct {
	*journal
	first uint64
}

func (s *truncated) ReadSamples(after uint64, fn func(uint64, []storage.TwinSamples) error) (uint64, error) {
	if after+1 < s.first {
		return s.first - 1, storage.ErrCompacted
	}
	return s.journal.ReadSamples(after, fn)
}

func TestFeedGap(t *testing.T) {
	j := newJournal()
	if err := j.append(valued(1), valued(2), valued(3), valued(4)); err != nil {
		t.Fatal(err)
	}
	l := &ledger{}
	o := quick
	o.Metrics = metrics.NewSet()
	f := Feed(t.Context(), &truncated{j, 3}, l, o)
	defer f.Close()
	eventually(t, 30*time.Second, "all is fed", func() bool { return f.Lag() == 0 })
	if got := l.got(); !slices.Equal(got, []float64{3, 4}) {
		t.Errorf("got %v", got)
	}
	if n := o.Metrics.GetOrCreateCounter("pollux_history_gaps_total").Get(); n != 1 {
		t.Errorf("%d gaps are counted", n)
	}
}

func TestMarks(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	m := marks{settle: 60 * time.Second}
	// One insert each 10 ms for 100 s, and its index is its number.
	for i := range 10_000 {
		now := at(10 * i)
		m.add(uint64(i+1), now)
		d := m.durable(now)
		// What is durable was inserted 60 s ago; and not much earlier than that.
		if inserted := at(10 * (int(d) - 1)); d > 0 && now.Sub(inserted) < m.settle {
			t.Fatalf("at %v, %d is durable, inserted %v ago", now.Sub(start), d, now.Sub(inserted))
		}
		if lag := uint64(i+1) - d; i > 7000 && lag > 6300 {
			t.Fatalf("at %v, %d is durable: %d behind", now.Sub(start), d, lag)
		}
		if len(m.pending) > 63 {
			t.Fatalf("%d marks are kept", len(m.pending))
		}
	}
	watch := func(from, to int) (d uint64) {
		for ms := from; ms <= to; ms += 10_000 {
			d = m.durable(at(ms))
		}
		return d
	}
	if d := watch(100_000, 160_000); d != 10_000 {
		t.Errorf("at the end %d is durable", d)
	}
	m.add(3, at(165_000)) // a repetition
	if d := watch(170_000, 300_000); d != 10_000 {
		t.Errorf("after a repetition %d is durable", d)
	}
}

// A process that was stopped for an hour has flushed nothing in that hour.
func TestMarksCountNoPause(t *testing.T) {
	start := time.Now()
	m := marks{settle: 60 * time.Second}
	m.add(7, start)
	if d := m.durable(start.Add(time.Hour)); d != 0 {
		t.Errorf("%d is durable at the first look after a pause", d)
	}
	d := uint64(0)
	for s := 10; s <= 60; s += 10 {
		d = m.durable(start.Add(time.Hour + time.Duration(s)*time.Second))
	}
	if d != 7 {
		t.Errorf("%d is durable a minute later", d)
	}
}
