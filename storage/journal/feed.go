package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/polluxhq/pollux/storage"
)

// Source is the committed log as the journal reads it. The store implements it.
type Source interface {
	// ReadJournal calls fn for every log entry after the given one that has accepted journal entries, in order, and returns
	// the last one that it has looked at. The entries are valid until fn returns. Where the log does not reach back to after, it returns storage.ErrCompacted and the
	// after that would do.
	ReadJournal(after uint64, fn func(index uint64, entries []storage.JournalEntry) error) (last uint64, err error)
	// WaitApplied blocks until a log entry above after is applied, or ctx ends.
	WaitApplied(ctx context.Context, after uint64) error
	// AppliedIndex is the last log entry that is applied.
	AppliedIndex() uint64
	// SampleCursor is up to where samples are read; a journal that is begun beside an older history begins there.
	SampleCursor() uint64
	// JournalCursor and SetJournalCursor are the durable cursor: the log keeps what lies behind it.
	JournalCursor() uint64
	SetJournalCursor(index uint64) error
}

const (
	// feedBatch is how many bytes of entries are committed at once.
	feedBatch = 1 << 20
	// linger turns many small log entries into one batch, whose keys go to the database in their order. Who reads does not wait for
	// it (CatchUp).
	linger = time.Second
	// A feed that failed is tried again after twice backOffMin, doubling to backOffMax.
	backOffMin = 50 * time.Millisecond
	// cursorInterval is how often the journal is synced and the log let go.
	cursorInterval = 5 * time.Second
	backOffMax     = 5 * time.Second
)

// Follow feeds the journal from the log until ctx ends; it returns then, when all that it took is on the disk. It may be
// called once. Until then Complete is false.
func (j *Journal) Follow(ctx context.Context, source Source) {
	j.o.Metrics.GetOrCreateGauge("pollux_journal_lag_entries", func() float64 { return float64(j.Lag()) })
	defer j.o.Metrics.UnregisterMetric("pollux_journal_lag_entries")
	f := &follower{j: j, source: source, writes: j.newWrites()}
	defer f.writes.close()
	failing, pause := false, linger
	for moved := time.Now(); ctx.Err() == nil; j.linger(ctx, pause) {
		err := f.begin()
		if err == nil {
			err = waitApplied(ctx, source, j.fed.Load())
		}
		if err == nil {
			err = f.read(ctx)
		}
		if err == nil && time.Since(moved) >= cursorInterval {
			moved = time.Now()
			err = f.moveCursor()
		}
		switch {
		case ctx.Err() != nil:
		case err == nil:
			if failing {
				j.o.Logger.Info("the journal is fed again", "lag_entries", j.Lag())
			}
			failing, pause = false, linger
		default:
			j.feedErrors.Inc()
			if !failing {
				j.o.Logger.Warn("the journal is not fed, the log keeps its entries", "error", err, "lag_entries", j.Lag())
				pause = backOffMin
			}
			failing, pause = true, min(2*pause, backOffMax)
		}
	}
	if f.begun {
		if err := f.moveCursor(); err != nil {
			j.o.Logger.Warn("journal cursor not moved", "error", err)
		}
	}
}

// waitApplied waits, but not for so long that the cursor would rest.
func waitApplied(ctx context.Context, source Source, after uint64) error {
	ctx, cancel := context.WithTimeout(ctx, cursorInterval)
	defer cancel()
	if err := source.WaitApplied(ctx, after); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

type follower struct {
	j      *Journal
	source Source
	begun  bool
	writes *writes
}

// begin compares what is here with what the store says has been here.
func (f *follower) begin() error {
	if f.begun {
		return nil
	}
	j := f.j
	cursor := f.source.JournalCursor()
	if cursor == 0 {
		cursor = f.source.SampleCursor() // before there was a journal, nothing was to be in it
	} else if j.whole.fresh {
		j.whole.missing = cursor // of a directory that is not there any more
	}
	b := j.db.NewBatch()
	defer b.Close()
	fed := max(j.fed.Load(), cursor)
	err := errors.Join(setNumber(b, "version", formatVersion), setNumber(b, "missing", j.whole.missing), setNumber(b, "fed", fed), b.Commit(pebble.Sync))
	if err != nil {
		return fmt.Errorf("begin journal: %w", err)
	}
	j.whole.begin(f.source)
	j.reached(fed)
	f.begun = true
	return nil
}

// read takes everything that is applied and not fed.
func (f *follower) read(ctx context.Context) error {
	j := f.j
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	w := f.writes
	w.reset() // of a read that failed
	n := 0
	flush := func(index uint64) error {
		if index <= j.fed.Load() {
			return nil
		}
		if n == 0 && index-j.fed.Load() < 1<<16 {
			j.reached(index) // there is nothing to repeat; written with the next entries
			return nil
		}
		if err := w.commit(index); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
		j.reached(index)
		j.entries.Add(n)
		n = 0
		return nil
	}
	last, err := f.source.ReadJournal(j.fed.Load(), func(index uint64, entries []storage.JournalEntry) error {
		for i := range entries {
			w.set(&entries[i])
		}
		if n += len(entries); w.len() < feedBatch {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return flush(index)
	})
	if errors.Is(err, storage.ErrCompacted) && last > j.fed.Load() {
		j.gaps.Inc()
		j.o.Logger.Info("the log begins later than the journal ends: another node has what is between", "from_entry", j.fed.Load()+1, "to_entry", last)
		return j.lost(last)
	}
	if err != nil {
		return err
	}
	return flush(last)
}

// linger waits, unless somebody wants to read.
func (j *Journal) linger(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-j.hurry:
	}
}

func (j *Journal) reached(index uint64) {
	j.fed.Store(index)
	j.movedMu.Lock()
	defer j.movedMu.Unlock()
	close(j.moved)
	j.moved = make(chan struct{})
}

// CatchUp waits until what is applied on this node now is in the journal: so that who wrote reads it. It gives up, without an
// error, when ctx ends or after patience.
func (j *Journal) CatchUp(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for target := uint64(0); ; {
		j.movedMu.Lock()
		moved := j.moved
		j.movedMu.Unlock()
		if target == 0 {
			target = j.whole.applied()
		}
		if target > 0 && j.fed.Load() >= target {
			return
		}
		select {
		case j.hurry <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
	}
}

// moveCursor lets the log go up to what is on the disk.
func (f *follower) moveCursor() error {
	if err := f.j.sync(); err != nil {
		return err
	}
	if err := f.source.SetJournalCursor(f.j.synced.Load()); err != nil {
		return fmt.Errorf("move journal cursor: %w", err)
	}
	return nil
}

// Lag is how many log entries are applied and not fed.
func (j *Journal) Lag() uint64 {
	fed := j.fed.Load()
	applied := j.whole.applied()
	return max(applied, fed) - fed
}
