package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// Source is the committed log as the feeder reads it. The store implements it.
type Source interface {
	// ReadSamples calls fn for every entry after the given one that has accepted samples, in order, and returns the last
	// entry that it has looked at. It stops at fn's error and returns it. What fn is given is valid during its call.
	// Where the log does not reach back to after, it returns storage.ErrCompacted and the after that would do.
	ReadSamples(after uint64, fn func(index uint64, samples []storage.TwinSamples) error) (last uint64, err error)
	// WaitApplied blocks until an entry above after is applied, or ctx ends.
	WaitApplied(ctx context.Context, after uint64) error
	// AppliedIndex is the last entry that is applied.
	AppliedIndex() uint64
	// SampleCursor is the durable cursor: history has everything up to it. The log keeps what lies behind it.
	SampleCursor() uint64
	// SetSampleCursor moves the cursor durably.
	SetSampleCursor(index uint64) error
}

// Defaults of FeedOptions.
const (
	// DefaultBatch is how many samples go into one insert. More gain nothing.
	DefaultBatch = 5_000
	// DefaultLinger is the pause after which a caught-up feeder reads again: it turns many small entries into one insert.
	DefaultLinger = 100 * time.Millisecond
	// DefaultCursorInterval is how often the durable cursor moves. It is a synced write, and 60 s behind anyway.
	DefaultCursorInterval = 10 * time.Second
	// feedBackOff bounds the pause after a failed insert.
	feedBackOffMin = 100 * time.Millisecond
	feedBackOffMax = 5 * time.Second
)

// FeedOptions of a Feeder. Zero values mean the defaults.
type FeedOptions struct {
	Batch          int
	Linger         time.Duration
	CursorInterval time.Duration
	// Logger gets failures, one line per outage. Nil: none.
	Logger *slog.Logger
	// Metrics gets pollux_history_lag_entries, pollux_history_cursor and the counters. Nil: they are not shown. One
	// feeder per set.
	Metrics *metrics.Set
}

// keeper is a sink that has to know what of the log it lacks.
type keeper interface {
	// begin is told where a feeder begins, what is applied then, and how to ask it how far it is.
	begin(cursor, applied uint64, fed func() uint64) error
	// lost is told that entries up to index are not fed, before later ones are.
	lost(index uint64) error
}

// Feeder brings samples from the log to a sink, in the order of the log, each at least once.
type Feeder struct {
	source Source
	sink   Sink
	o      FeedOptions
	stop   context.CancelFunc
	done   chan struct{}
	fails  *metrics.Counter
	gaps   *metrics.Counter

	keeper keeper // nil: the sink has none
	begun  bool   // the keeper knows of us; of the feeding goroutine alone

	fed      atomic.Uint64 // every entry up to here is inserted, or had no samples
	inserted atomic.Uint64 // the last entry given to the sink; 0 while none was since the start

	cursorMu sync.Mutex // SetSampleCursor is called by one at a time
	cursor   uint64

	// The batch being gathered; of the feeding goroutine alone.
	batch   []storage.TwinSamples
	samples []storage.Sample // what batch's slices point into
	last    uint64           // the batch's last entry
}

// Feed starts a feeder at the source's durable cursor. It runs until its Close; ctx ends it too.
func Feed(ctx context.Context, source Source, sink Sink, o FeedOptions) *Feeder {
	if o.Batch <= 0 {
		o.Batch = DefaultBatch
	}
	if o.Linger <= 0 {
		o.Linger = DefaultLinger
	}
	if o.CursorInterval <= 0 {
		o.CursorInterval = DefaultCursorInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &Feeder{source: source, sink: sink, o: o, stop: cancel, done: make(chan struct{})}
	f.cursor = source.SampleCursor()
	f.fed.Store(f.cursor)
	if k, ok := sink.(keeper); ok {
		f.keeper = k
	}
	f.gaps = o.Metrics.GetOrCreateCounter("pollux_history_gaps_total")
	f.fails = o.Metrics.GetOrCreateCounter("pollux_history_feed_errors_total")
	o.Metrics.GetOrCreateGauge("pollux_history_lag_entries", func() float64 { return float64(f.Lag()) })
	o.Metrics.GetOrCreateGauge("pollux_history_cursor", func() float64 { return float64(f.Cursor()) })
	go func() {
		defer close(f.done)
		var moving sync.WaitGroup
		moving.Go(func() { f.moveCursor(ctx) })
		f.run(ctx)
		moving.Wait()
	}()
	return f
}

// Lag returns how many log entries are applied and not yet inserted.
func (f *Feeder) Lag() uint64 {
	fed := f.fed.Load() // first: it never overtakes the applied index
	return max(f.source.AppliedIndex(), fed) - fed
}

// Fed returns the index up to which everything is inserted.
func (f *Feeder) Fed() uint64 { return f.fed.Load() }

// Cursor returns the durable cursor.
func (f *Feeder) Cursor() uint64 {
	f.cursorMu.Lock()
	defer f.cursorMu.Unlock()
	return f.cursor
}

// Close stops feeding and waits for the insert that runs. Then, if the sink is closed before it, SyncCursor can move the
// cursor to the end.
func (f *Feeder) Close() {
	f.stop()
	<-f.done
	f.o.Metrics.UnregisterMetric("pollux_history_lag_entries")
	f.o.Metrics.UnregisterMetric("pollux_history_cursor")
}

// SyncCursor moves the durable cursor to what the sink has made durable by now. The feeder does so itself at intervals;
// a caller may after the sink's Close, so that the next start has nothing to repeat.
func (f *Feeder) SyncCursor() error {
	fed := f.fed.Load()
	inserted := f.inserted.Load()
	to := f.sink.Durable()
	if to >= inserted {
		to = fed // nothing is outstanding: entries without samples count too
	}
	f.cursorMu.Lock()
	defer f.cursorMu.Unlock()
	if to <= f.cursor {
		return nil
	}
	if err := f.source.SetSampleCursor(to); err != nil {
		return fmt.Errorf("move history cursor to %d: %w", to, err)
	}
	f.cursor = to
	return nil
}

func (f *Feeder) moveCursor(ctx context.Context) {
	tick := time.NewTicker(f.o.CursorInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f.SyncCursor(); err != nil && ctx.Err() == nil {
			f.fails.Inc()
			f.o.Logger.Warn("history cursor not moved", "error", err)
		}
	}
}

// run reads, inserts, and waits for more, until ctx ends.
func (f *Feeder) run(ctx context.Context) {
	backOff, failing := feedBackOffMin, false
	for ctx.Err() == nil {
		err := f.begin()
		if err == nil {
			err = f.source.WaitApplied(ctx, f.fed.Load())
		}
		if err == nil {
			err = f.read(ctx)
		}
		pause := f.o.Linger
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && failing:
			f.o.Logger.Info("history is fed again", "lag_entries", f.Lag())
			backOff, failing = feedBackOffMin, false
		case err != nil:
			f.fails.Inc()
			if !failing {
				f.o.Logger.Warn("history is not fed, the log keeps the samples", "error", err, "lag_entries", f.Lag())
			}
			failing = true
			pause, backOff = backOff, min(2*backOff, feedBackOffMax)
		}
		sleep(ctx, pause)
	}
}

// begin tells the keeper of us, once.
func (f *Feeder) begin() error {
	if f.keeper == nil || f.begun {
		return nil
	}
	err := f.keeper.begin(f.fed.Load(), f.source.AppliedIndex(), f.fed.Load)
	f.begun = err == nil
	return err
}

// read inserts everything that is applied and not fed.
func (f *Feeder) read(ctx context.Context) error {
	f.clear()
	last, err := f.source.ReadSamples(f.fed.Load(), func(index uint64, samples []storage.TwinSamples) error {
		f.gather(index, samples)
		if len(f.samples) < f.o.Batch {
			return nil
		}
		return f.flush(ctx)
	})
	if errors.Is(err, storage.ErrCompacted) && last > f.fed.Load() {
		level, text := slog.LevelWarn, "history has a gap: the log begins later"
		if f.keeper != nil {
			if err := f.keeper.lost(last); err != nil {
				return err
			}
			level, text = slog.LevelInfo, "the log begins later than history ends: another node has what is between"
		}
		f.gaps.Inc()
		f.o.Logger.Log(ctx, level, text, "from_entry", f.fed.Load()+1, "to_entry", last)
		f.fed.Store(last)
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	if last > f.fed.Load() {
		f.fed.Store(last)
	}
	return nil
}

// gather copies an entry's samples: what the source gave is its own again after the call.
func (f *Feeder) gather(index uint64, samples []storage.TwinSamples) {
	for _, t := range samples {
		from := len(f.samples)
		f.samples = append(f.samples, t.Samples...)
		t.Samples = f.samples[from:len(f.samples):len(f.samples)] // stays right when f.samples moves: the old array is kept by it
		f.batch = append(f.batch, t)
	}
	f.last = index
}

func (f *Feeder) clear() {
	clear(f.batch)
	f.batch, f.samples = f.batch[:0], f.samples[:0]
}

// flush inserts the batch. An entry is in one batch whole, so that its index says all.
func (f *Feeder) flush(ctx context.Context) error {
	if len(f.batch) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := f.sink.Insert(ctx, f.last, f.batch); err != nil {
		return err
	}
	f.inserted.Store(f.last)
	f.fed.Store(f.last)
	f.clear()
	return nil
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
