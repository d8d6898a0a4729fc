package journal

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
)

// wholeness knows whether this journal has all that was committed. What the node's own log cannot give any more is missing
// until it was filled from another node.
type wholeness struct {
	mu sync.Mutex
	// missing: entries of log entries up to here may be; 0: none are. It is in the database, too.
	missing uint64
	// fresh: the directory was new.
	fresh  bool
	source Source // nil until a follower came
	target uint64 // what was applied then
	// changed is closed when something becomes missing.
	changed chan struct{}
}

func (w *wholeness) begin(s Source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.source, w.target = s, s.AppliedIndex()
	if w.missing > 0 {
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// applied is 0 until a follower came.
func (w *wholeness) applied() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.source == nil {
		return 0
	}
	return w.source.AppliedIndex()
}

func (w *wholeness) lacks() (to uint64, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.missing, w.changed
}

// note writes what is missing now, and how far the feed is.
func (j *Journal) note(missing, fed uint64) error {
	b := j.db.NewBatch()
	defer b.Close()
	if err := errors.Join(setNumber(b, "missing", missing), setNumber(b, "fed", fed), b.Commit(pebble.Sync)); err != nil {
		return fmt.Errorf("note what the journal lacks: %w", err)
	}
	j.whole.mu.Lock()
	defer j.whole.mu.Unlock()
	if missing > j.whole.missing {
		close(j.whole.changed)
		j.whole.changed = make(chan struct{})
	}
	j.whole.missing = missing
	return nil
}

// lost notes, before anything behind it is fed, that the log does not give the entries up to index.
func (j *Journal) lost(index uint64) error {
	missing, _ := j.whole.lacks()
	if err := j.note(max(index, missing), index); err != nil {
		return err
	}
	j.reached(index)
	return nil
}

// Complete says whether this journal has every committed entry, up to the follower's small lag. It is false until a follower
// has come to what was applied when it began.
func (j *Journal) Complete() bool {
	j.whole.mu.Lock()
	defer j.whole.mu.Unlock()
	return j.whole.source != nil && j.whole.missing == 0 && j.fed.Load() >= j.whole.target
}

// An export is a line of JSON (exportHead) and then, in frames, the entries: project, twin, kind, name, time, sequence, data.
type exportHead struct {
	Format   string `json:"format"`
	Complete bool   `json:"complete"`
	Through  uint64 `json:"through"`
}

const exportFormat = "pollux-journal 1"

// Export writes all entries, to be read by Backfill and ReadExport. It streams.
func (j *Journal) Export(ctx context.Context, w io.Writer) error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	head := exportHead{Format: exportFormat, Complete: j.Complete(), Through: j.fed.Load()}
	if err := json.NewEncoder(w).Encode(head); err != nil {
		return fmt.Errorf("export journal: %w", err)
	}
	frames := history.Frames(w)
	var buf []byte
	err := j.all(ctx, func(e *storage.JournalEntry) error {
		buf = appendEntry(buf[:0], e)
		_, err := frames.Write(buf)
		return err
	})
	if err == nil {
		err = frames.Close()
	}
	if err != nil {
		return fmt.Errorf("export journal: %w", err)
	}
	return nil
}

func appendEntry(b []byte, e *storage.JournalEntry) []byte {
	b = appendString(appendString(appendString(appendString(b, e.Project), e.Twin), e.Kind), e.Name)
	b = appendPosition(b, Position{e.Time, e.Sequence})
	return appendString(b, e.Data)
}

// maxEntry in bytes: a transaction has less.
const maxEntry = 1 << 20

func readEntry(r *bufio.Reader) (e storage.JournalEntry, err error) {
	part := func() []byte {
		if err != nil {
			return nil
		}
		var n uint64
		if n, err = binary.ReadUvarint(r); err == nil && n > maxEntry {
			err = fmt.Errorf("a part of %d bytes", n)
		}
		if err != nil {
			return nil
		}
		b := make([]byte, n)
		_, err = io.ReadFull(r, b)
		return b
	}
	if _, err := r.Peek(1); err != nil {
		return e, err // io.EOF, bare: the end
	}
	e.Project, e.Twin, e.Kind, e.Name = string(part()), string(part()), string(part()), string(part())
	var at [16]byte
	if err == nil {
		_, err = io.ReadFull(r, at[:])
	}
	p, _ := position(at[:])
	e.Time, e.Sequence = p.Time, p.Sequence
	e.Data = part()
	if err != nil && !errors.Is(err, history.ErrDamaged) {
		err = fmt.Errorf("%w: journal entry: %w", history.ErrDamaged, err)
	}
	return e, err
}

// ReadExport calls fn with each entry of an export. Its errors wrap history.ErrDamaged, or are fn's.
func ReadExport(r io.Reader, fn func(e *storage.JournalEntry) error) (complete bool, through, entries uint64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	line, err := in.ReadSlice('\n')
	var head exportHead
	if err != nil || json.Unmarshal(line, &head) != nil || head.Format != exportFormat {
		return false, 0, 0, fmt.Errorf("%w: it begins with %.40q, want %s", history.ErrDamaged, line, exportFormat)
	}
	body := bufio.NewReaderSize(history.Unframe(in), 64<<10)
	for {
		e, err := readEntry(body)
		if err == io.EOF { //nolint:errorlint // the end, bare
			return head.Complete, head.Through, entries, nil
		}
		if err == nil {
			entries++
			err = fn(&e)
		}
		if err != nil {
			return head.Complete, head.Through, entries, err
		}
	}
}

// ExportHandler serves an Export of everything, to be read by Backfill on another node; status 503 while the journal is
// incomplete. Who may come here is the caller's to check.
func ExportHandler(j *Journal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !j.Complete() {
			http.Error(w, ErrIncomplete.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if j.Export(r.Context(), w) != nil {
			panic(http.ErrAbortHandler) // the reader sees that it is cut
		}
	})
}

// KeepComplete fills what is missing from another node, now and whenever something becomes missing, until ctx ends. source
// gives the Export of a node whose journal is complete, or an error where there is none now.
func (j *Journal) KeepComplete(ctx context.Context, source func(context.Context) (io.ReadCloser, error)) {
	fails := j.o.Metrics.GetOrCreateCounter("pollux_journal_backfill_errors_total")
	failing := false
	for ctx.Err() == nil {
		to, changed := j.whole.lacks()
		if to == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		err := j.Backfill(ctx, source)
		switch {
		case errors.Is(err, ErrClosed) || ctx.Err() != nil:
			return
		case err == nil:
			failing = false
			j.o.Logger.Info("the journal is complete: what this node lacked came from another", "up_to_entry", to)
		default:
			fails.Inc()
			if !failing {
				j.o.Logger.Warn("the journal is incomplete, and cannot be filled from another node yet", "up_to_entry", to, "error", err)
			}
			failing = true
			sleep(ctx, backOffMax)
		}
	}
}

// Backfill fills what is missing from another node's Export. Where it fails it begins again; what came twice is once.
func (j *Journal) Backfill(ctx context.Context, source func(context.Context) (io.ReadCloser, error)) error {
	need, _ := j.whole.lacks()
	if need == 0 {
		return nil
	}
	r, err := source(ctx)
	if err != nil {
		return fmt.Errorf("backfill journal: %w", err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	w := j.newWrites()
	defer w.close()
	complete, through, n, err := ReadExport(r, func(e *storage.JournalEntry) error {
		w.set(e)
		if w.len() < feedBatch {
			return nil
		}
		return errors.Join(w.commit(0), ctx.Err())
	})
	switch {
	case err != nil:
		return fmt.Errorf("backfill journal: %w", err)
	case !complete || through < need:
		return fmt.Errorf("backfill journal: %w: the other node has up to entry %d, %d is needed", ErrIncomplete, through, need)
	}
	if err := w.commit(0); err != nil {
		return fmt.Errorf("backfill journal: %w", err)
	}
	j.backfilled.Add(int(n))
	if to, _ := j.whole.lacks(); to > need {
		return fmt.Errorf("backfill journal: %w: more became missing meanwhile", ErrIncomplete)
	}
	return j.note(0, j.fed.Load())
}
