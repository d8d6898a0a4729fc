package history

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// rewriteFile holds what a group of series is to have, from before the series are deleted until what they have is on the disk again.
const rewriteFile = "rewrite"

// rewriting is the head of the file. Behind it is a native export of the samples that stay.
type rewriting struct {
	Project, Model, Property string
	Twins                    []string
	// Rolled are the aggregates of the samples that go.
	Rolled []storage.TwinSamples
}

// rewrite lets the samples of some twins' series from before a time go: what stays is written to a file, the series are deleted, and the
// file is inserted. Meanwhile nothing is inserted and nobody reads.
func (e *Embedded) rewrite(ctx context.Context, k kindOfSeries, twins []string, cutoff int64, step time.Duration, c *Curation) error {
	if err := e.still(ctx); err != nil {
		return err
	}
	defer e.moving.Unlock()
	e.mu.Lock() // until all is on the disk: what came meanwhile would be deleted if the next start had to do this again
	defer e.mu.Unlock()
	if err := e.finishLeft(); err != nil {
		return err
	}
	vmstorage.DebugFlush()
	w := rewriting{Project: k.project, Model: k.model, Property: k.property, Twins: twins}
	if step > 0 {
		n, err := e.roll(ctx, &w, k, cutoff, step)
		if err != nil {
			return err
		}
		c.Rolled += n
		if n > 0 {
			e.rolled.add(k.project)
		}
	}
	if err := e.writeRewriting(ctx, &w, k.match(twins), cutoff); err != nil {
		return fmt.Errorf("write what stays: %w", err)
	}
	// From here on it is finished: now, by who inserts next, or by the next start.
	e.unfinished = true
	n, err := e.finishRewriting()
	e.unfinished = err != nil
	c.Kept += n
	return err
}

// finishLeft does again what failed in the middle of writing series anew. Until it succeeds nothing is inserted: it would be deleted with
// those series, and the file of another group would take this one's place. mu must be held.
func (e *Embedded) finishLeft() error {
	if !e.unfinished {
		return nil
	}
	if _, err := e.finishRewriting(); err != nil {
		return fmt.Errorf("series are half written anew: %w", err)
	}
	e.unfinished = false
	return nil
}

// still waits until no query runs, and keeps others out. It does not stand in line: a long query would then hold all that come after.
func (e *Embedded) still(ctx context.Context) error {
	for began, told := time.Now(), false; !e.moving.TryLock(); sleep(ctx, 5*time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !told && time.Since(began) > time.Minute {
			told = true
			e.o.Logger.Info("retention waits for a moment without queries of history")
		}
	}
	return nil
}

// roll makes the aggregates of what goes.
func (e *Embedded) roll(ctx context.Context, w *rewriting, k kindOfSeries, cutoff int64, step time.Duration) (samples uint64, err error) {
	w.Rolled, samples, err = e.query.roll(ctx, k, w.Twins, boundsAt(time.Now(), e.o.Retention).min, cutoff, step)
	return samples, err
}

// roll makes the aggregates of the samples of some twins' series, from first until before cutoff, and counts these; none where there is no
// step.
func (s *querier) roll(ctx context.Context, k kindOfSeries, twins []string, first, cutoff int64, step time.Duration) (rolled []storage.TwinSamples, samples uint64, err error) {
	if step <= 0 {
		return nil, 0, nil
	}
	rollers := map[string]*roller{}
	out := map[string]*storage.TwinSamples{}
	emit := func(twin string) func(kind int, at int64, v float64) {
		return func(kind int, at int64, v float64) {
			t := out[twin]
			if t == nil {
				t = &storage.TwinSamples{Project: k.project, Twin: twin, Model: k.model}
				out[twin] = t
			}
			t.Samples = append(t.Samples, storage.Sample{Property: rolledName(k.property, step, kind), Time: at, Value: v})
		}
	}
	err = s.walkMatch(ctx, k.match(twins), max(0, first), cutoff-1, func(t storage.TwinSamples) error {
		r := rollers[t.Twin]
		if r == nil {
			r = &roller{step: step.Milliseconds()}
			rollers[t.Twin] = r
		}
		for _, x := range t.Samples {
			if r.have && x.Time == r.at && x.Value == r.values[rolledLast] {
				continue // a server without de-duplication may have it twice
			}
			samples++
			r.add(x.Time, x.Value, emit(t.Twin))
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read what goes: %w", err)
	}
	for twin, r := range rollers {
		r.flush(emit(twin))
	}
	for _, t := range out {
		rolled = append(rolled, *t)
	}
	return rolled, samples, nil
}

func (e *Embedded) writeRewriting(ctx context.Context, w *rewriting, match string, cutoff int64) (err error) {
	path := filepath.Join(e.o.Dir, rewriteFile)
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(path+".tmp", path)
		}
		if err == nil {
			err = syncDir(e.o.Dir)
		}
	}()
	out := bufio.NewWriter(f)
	if err := gob.NewEncoder(out).Encode(w); err != nil {
		return err
	}
	body, err := e.query.fetch(ctx, request("/api/v1/export/native", url.Values{"match[]": {match}, "start": {seconds(cutoff)},
		"end": {seconds(time.Now().Add(futureRetention).UnixMilli())}}))
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(out, body)
	return errors.Join(err, out.Flush(), f.Sync())
}

// finishRewriting does what the file says, where there is one, and may be repeated. mu must be held, or nobody else be there. It gives the
// number of samples that stayed.
func (e *Embedded) finishRewriting() (kept uint64, err error) {
	path := filepath.Join(e.o.Dir, rewriteFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	var w rewriting
	if err := gob.NewDecoder(in).Decode(&w); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if err := deleteSeries(&w); err != nil {
		return 0, err
	}
	put := func(samples []storage.TwinSamples) error {
		e.rows.reset()
		b := boundsAt(time.Now(), e.o.Retention)
		for i := range samples {
			e.rows.addTwin(&samples[i], &e.drops, b)
		}
		return e.write()
	}
	if err := put(w.Rolled); err != nil {
		return 0, err
	}
	x := &nativeReader{r: in}
	if err := x.begin(); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	for {
		samples, err := x.next()
		if err == io.EOF { //nolint:errorlint // the end, bare
			break
		}
		if err == nil {
			kept += uint64(len(samples[0].Samples))
			err = put(samples)
		}
		if err != nil {
			return kept, fmt.Errorf("write series anew: %w", err)
		}
	}
	vmstorage.DebugFlush()
	if err := e.sync(); err != nil {
		return kept, err
	}
	return kept, errors.Join(os.Remove(path), syncDir(e.o.Dir))
}

func deleteSeries(w *rewriting) (err error) {
	of := filters("project", w.Project, "model", w.Model, "property", w.Property)
	of = append(of, vm.TagFilter{Key: []byte("twin"), Value: []byte(pattern(w.Twins)), IsRegexp: true})
	q := vm.NewSearchQuery(0, time.Now().Add(futureRetention).UnixMilli(), [][]vm.TagFilter{of}, maxSeries)
	if gerr := guarded("delete series", func() {
		_, err = vmstorage.VMSelectAPI.DeleteSeries(nil, q, uint64(time.Now().Add(time.Minute).Unix()))
	}); gerr != nil {
		err = gerr
	}
	if err != nil {
		return fmt.Errorf("delete series: %w", err)
	}
	return nil
}

// reclaim has VictoriaMetrics write months of the past anew, without what was deleted: by itself it does not look at them again. It
// returns when that is done, or ctx ends; VictoriaMetrics stops it when it is closed.
func (e *Embedded) reclaim(ctx context.Context, months map[string]bool) {
	active := metrics.GetOrCreateCounter("vm_active_force_merges")
	for month := range months {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/internal/force_merge?partition_prefix="+month, nil)
		if err != nil {
			return
		}
		w := &discardAnswer{header: http.Header{}, status: http.StatusOK}
		if err := guarded("free the disk", func() { vmstorage.RequestHandler(w, r) }); err != nil {
			e.o.Logger.Warn("the disk that deleted samples take is not freed", "month", month, "error", err)
			return
		}
		for sleep(ctx, 50*time.Millisecond); active.Get() > 0 && ctx.Err() == nil; sleep(ctx, 200*time.Millisecond) {
		}
	}
}
