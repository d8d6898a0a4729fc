package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"

	"github.com/polluxhq/pollux/storage"
)

// ErrIncomplete: the history that was to be read, here or on another node, lacks samples.
var ErrIncomplete = errors.New("history incomplete")

// completeFile is in VictoriaMetrics' directory and says what of the committed samples it lacks. It goes with its data:
// who deletes the directory deletes both.
const completeFile = "pollux.json"

// wholeness knows whether a node's history has all that was committed. What the node's own log cannot give any more (the
// state came as a snapshot, the directory is new) is missing until it was filled from another node.
type wholeness struct {
	path string

	mu sync.Mutex
	// begun: a feeder said where the log begins.
	begun bool
	// saved: there is a file, or data of a version that had none.
	saved bool
	state wholeState
	fed   func() uint64
	// applied is what was, when the feeder began.
	applied uint64
	// changed is closed when something becomes missing.
	changed chan struct{}
}

// wholeState is the file's content.
type wholeState struct {
	Version int `json:"version"`
	// MissingTo: samples of log entries up to here may be missing; 0: none are.
	MissingTo uint64 `json:"missing_to"`
}

// openWholeness reads the file in dir, before VictoriaMetrics makes anything there.
func openWholeness(dir string) (*wholeness, error) {
	w := &wholeness{path: filepath.Join(dir, completeFile), changed: make(chan struct{})}
	text, err := os.ReadFile(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Before there was this file a node was alone, and its history whole.
		_, err := os.Stat(filepath.Join(dir, "data"))
		w.saved = err == nil
		return w, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(text, &w.state); err != nil || w.state.Version != 1 {
		return nil, fmt.Errorf("%s: %q is not understood: %w", w.path, text, errors.Join(err, ErrNewer))
	}
	w.saved = true
	return w, nil
}

// begin is told, when a feeder starts, the entry up to which it has fed before, the last one applied, and how to ask it
// how far it is.
func (w *wholeness) begin(cursor, applied uint64, fed func() uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun, w.applied, w.fed = true, applied, fed
	missing := w.state.MissingTo
	if !w.saved {
		missing = cursor // of a directory that is not there any more
	}
	return w.save(missing)
}

// lost notes that the log does not give the samples of entries up to index.
func (w *wholeness) lost(index uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.save(max(index, w.state.MissingTo))
}

// filled notes that nothing up to index is missing any more.
func (w *wholeness) filled(index uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.MissingTo > index {
		return fmt.Errorf("%w: more became missing meanwhile, up to entry %d", ErrIncomplete, w.state.MissingTo)
	}
	return w.save(0)
}

// save writes the file where it changes. mu must be held.
func (w *wholeness) save(missing uint64) error {
	next := wholeState{Version: 1, MissingTo: missing}
	if w.saved && next == w.state {
		return nil
	}
	text, err := json.Marshal(next)
	if err == nil {
		err = writeSynced(w.path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("note what history lacks: %w", err)
	}
	if missing > w.state.MissingTo {
		close(w.changed)
		w.changed = make(chan struct{})
	}
	w.state, w.saved = next, true
	return nil
}

// read says whether nothing is missing, and up to which entry all is inserted then.
func (w *wholeness) read() (complete bool, through uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		return false, 0
	}
	return w.state.MissingTo == 0, w.fed()
}

func (w *wholeness) target() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.applied
}

func (w *wholeness) missing() (to uint64, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.MissingTo, w.changed
}

// Complete says whether this history has every committed sample of the retention, up to the feeder's small lag. Where it
// has not, queries are better asked of a node that has. It is false until a feeder has come to what was applied when it
// was started.
func (e *Embedded) Complete() bool {
	complete, through := e.whole.read()
	return complete && through >= e.whole.target()
}

// Complete implements the same as Embedded's: the server's history is all there is.
func (r *Remote) Complete() bool { return true }

// Backfill fills what is missing from another node: source gives its Export, whole. Nothing is done where nothing is
// missing. It blocks for as long as that takes; one at a time is enough. After an error, or a crash, it begins again, and
// what it has inserted by then is inserted again, which is harmless. Its errors wrap ErrIncomplete where the other node
// lacks what is missing here, ErrDamaged and ErrNewer, or what source said.
func (e *Embedded) Backfill(ctx context.Context, source func(ctx context.Context) (io.ReadCloser, error)) error {
	to, _ := e.whole.missing()
	if to == 0 {
		return nil
	}
	ctx, cancel := e.lasting(ctx)
	defer cancel()
	r, err := source(ctx)
	if err != nil {
		return fmt.Errorf("backfill history: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer func() {
		stop()
		_ = r.Close()
	}()
	if err := e.fill(ctx, r, to); err != nil {
		return fmt.Errorf("backfill history: %w", err)
	}
	if err := e.whole.filled(to); err != nil {
		return fmt.Errorf("backfill history: %w", err)
	}
	return nil
}

// fill inserts an export that has all up to the entry need, and returns when it is on the disk.
func (e *Embedded) fill(ctx context.Context, r io.Reader, need uint64) error {
	info, x, err := openExport(r)
	if err != nil {
		return err
	}
	if !info.Complete {
		return fmt.Errorf("%w: of the other node too", ErrIncomplete)
	}
	if info.Through < need {
		return fmt.Errorf("%w: the other node has up to entry %d, %d is needed", ErrIncomplete, info.Through, need)
	}
	for {
		samples, err := x.next()
		if err == io.EOF { //nolint:errorlint // the end, bare
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = e.insertRetrying(ctx, samples)
		}
		if err != nil {
			return err
		}
		e.backfilled.Add(len(samples[0].Samples))
	}
	e.rolled.forget()
	return e.persist()
}

// insertRetrying waits where VictoriaMetrics takes nothing now, as for want of room on the disk.
func (e *Embedded) insertRetrying(ctx context.Context, samples []storage.TwinSamples) error {
	for {
		err := e.enter()
		if err != nil {
			return err
		}
		err = e.insert(samples)
		e.leave()
		if err == nil {
			return nil
		}
		if sleep(ctx, feedBackOffMax); ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// persist writes to the disk what VictoriaMetrics holds in memory. Only its snapshots do that; one that nobody waits for
// is removed at once.
func (e *Embedded) persist() error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	return e.sync()
}

// sync is persist for who has entered.
func (e *Embedded) sync() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/snapshot/create", nil)
	if err != nil {
		return err
	}
	w := &discardAnswer{header: http.Header{}, status: http.StatusOK}
	if err := guarded("write history to the disk", func() { vmstorage.RequestHandler(w, r) }); err != nil {
		return err
	}
	if w.status > 299 {
		return fmt.Errorf("write history to the disk: status %d", w.status)
	}
	return nil
}

// discardAnswer is a response that nobody reads.
type discardAnswer struct {
	header http.Header
	status int
}

func (w *discardAnswer) Header() http.Header         { return w.header }
func (w *discardAnswer) WriteHeader(status int)      { w.status = status }
func (w *discardAnswer) Write(p []byte) (int, error) { return len(p), nil }

// KeepOptions of KeepComplete.
type KeepOptions struct {
	// Source gives the Export of a node whose history is complete, or an error where there is none now.
	Source func(ctx context.Context) (io.ReadCloser, error)
	// Retry is the pause after an error, 0 for DefaultRetry.
	Retry time.Duration
}

// DefaultRetry is the pause after a backfill that failed: the other node may just be starting.
const DefaultRetry = 5 * time.Second

// KeepComplete fills what is missing, now and whenever something becomes missing, until ctx ends. Failures are logged and
// counted in pollux_history_backfill_errors_total; what was filled in pollux_history_backfilled_samples_total.
func (e *Embedded) KeepComplete(ctx context.Context, o KeepOptions) {
	if o.Retry <= 0 {
		o.Retry = DefaultRetry
	}
	fails := e.o.Metrics.GetOrCreateCounter("pollux_history_backfill_errors_total")
	failing := false
	ctx, cancel := e.lasting(ctx)
	defer cancel()
	for ctx.Err() == nil {
		to, changed := e.whole.missing()
		if to == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		began := time.Now()
		before := e.backfilled.Get()
		err := e.Backfill(ctx, o.Source)
		if errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return
		}
		if err == nil {
			failing = false
			e.o.Logger.Info("history is complete: what this node lacked came from another", "up_to_entry", to,
				"samples", e.backfilled.Get()-before, "seconds", time.Since(began).Seconds())
			continue
		}
		fails.Inc()
		if !failing {
			e.o.Logger.Warn("history is incomplete, and cannot be filled from another node yet", "up_to_entry", to, "error", err)
		}
		failing = true
		sleep(ctx, o.Retry)
	}
}

func (e *Embedded) completeGauge() float64 {
	if e.Complete() {
		return 1
	}
	return 0
}

// begin and lost are what a Feeder tells.
func (e *Embedded) begin(cursor, applied uint64, fed func() uint64) error {
	return e.whole.begin(cursor, applied, fed)
}

func (e *Embedded) lost(index uint64) error { return e.whole.lost(index) }
