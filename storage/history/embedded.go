package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/promql"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// Defaults and limits of Options.
const (
	// DefaultRetention is 13 months of 31 days: a year can be compared with the one before.
	DefaultRetention = 13 * 31 * 24 * time.Hour
	// MinRetention is the least that VictoriaMetrics takes.
	MinRetention = 24 * time.Hour
	// MaxRetention is the most that VictoriaMetrics takes: 100 years.
	MaxRetention = 100 * 12 * 31 * 24 * time.Hour
	// DefaultMemory is for VictoriaMetrics' caches, in bytes. Its own default is 60 % of the machine.
	DefaultMemory = 256 << 20
	// MinMemory is what its caches need not to thrash, in bytes.
	MinMemory = 16 << 20
	// DefaultSettle is how long after an insert it counts as durable. VictoriaMetrics holds rows for up to 2 s, parts in
	// memory for up to 5 s more, looks for these every 5 s, and then merges; the rest is for a slow disk.
	DefaultSettle = 60 * time.Second
	// DefaultFlushInterval is after what time VictoriaMetrics writes parts in memory to disk.
	DefaultFlushInterval = 5 * time.Second
	// minFreeDisk is the room below which VictoriaMetrics takes no samples, in bytes. They wait in the log.
	minFreeDisk = 64 << 20
	// flushPause is the least time between two flushes of rows held back, for the sake of a query.
	flushPause = 500 * time.Millisecond
	// querySlots and queryWait bound the queries that run at once and how long others wait for their turn.
	querySlots = 8
	queryWait  = 10 * time.Second
)

// Options of an embedded VictoriaMetrics.
type Options struct {
	// Dir is the directory of its data. It is created.
	Dir string
	// Retention is how long samples are kept, 0 for DefaultRetention; MinRetention to MaxRetention, in whole seconds.
	Retention time.Duration
	// MemoryAllowedBytes bounds the caches, 0 for DefaultMemory. The first use in a process decides for all.
	MemoryAllowedBytes int64
	// FlushInterval, 0 for DefaultFlushInterval, at least a second. Shorter means more and smaller writes.
	FlushInterval time.Duration
	// Settle is after what time inserted samples count as durable, 0 for DefaultSettle; at least 3 s and thrice
	// FlushInterval.
	Settle time.Duration
	// Logger gets VictoriaMetrics' lines too; its information as debug. Nil: nothing is logged.
	Logger *slog.Logger
	// Fatal is told, once in a process, when VictoriaMetrics cannot go on, as where the disk is full under a merge. The
	// goroutine that calls it does not go on; whoever is told ends the process. Nil: it panics.
	Fatal func(error)
	// Metrics gets the counters of this package. Nil: they are kept and not shown.
	Metrics *metrics.Set
}

func (o *Options) check() error {
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.MemoryAllowedBytes == 0 {
		o.MemoryAllowedBytes = DefaultMemory
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	switch {
	case o.Dir == "":
		return errors.New("history Dir is empty")
	case o.Retention < MinRetention || o.Retention > MaxRetention:
		return fmt.Errorf("history Retention %s is not in %s..%s", o.Retention, MinRetention, MaxRetention)
	case o.FlushInterval < time.Second:
		return fmt.Errorf("history FlushInterval %s is below 1s", o.FlushInterval)
	case o.Settle < 3*time.Second || o.Settle < 3*o.FlushInterval:
		return fmt.Errorf("history Settle %s is below 3s or thrice FlushInterval %s", o.Settle, o.FlushInterval)
	}
	return checkMemory(o.MemoryAllowedBytes)
}

func checkMemory(n int64) error {
	if n < MinMemory {
		return fmt.Errorf("history MemoryAllowedBytes %d is below %d", n, MinMemory)
	}
	if total := systemMemory(); total > 0 && n >= total {
		return fmt.Errorf("history MemoryAllowedBytes %d is not below the %d bytes that this process may have", n, total)
	}
	return nil
}

// Embedded is the VictoriaMetrics in this process.
type Embedded struct {
	o     Options
	drops drops
	stats insertStats
	query querier
	evals chan struct{} // a place for each evaluation that runs

	// gate keeps calls out once closed, and Close waiting for those inside: a closed storage blocks callers for ever.
	gate    sync.RWMutex
	closed  bool
	running sync.WaitGroup // requests of queries that were left before their end

	// moving is held by queries, and by who writes series anew (rewrite.go).
	moving sync.RWMutex
	// unfinished: series were being written anew, and that failed; under mu.
	unfinished bool
	rolled     rolledProjects

	mu   sync.Mutex // guards rows: one batch at a time
	rows rows

	marks marks
	whole *wholeness
	// closing ends when Close begins, so that what takes long does not hold it.
	closing context.Context
	end     context.CancelFunc

	backfilled *metrics.Counter

	freshMu sync.Mutex
	flushed time.Time   // when rows were last made visible for a query
	dirty   atomic.Bool // rows came since
}

// OpenEmbedded starts VictoriaMetrics in this process, on the data in o.Dir. A process holds at most one at a time: a
// second call returns ErrOpen until the first is closed; then it can be opened again, also on another directory.
// A directory that another process uses, and a wrong option, are refused with nothing touched.
func OpenEmbedded(o Options) (*Embedded, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.embedded {
		return nil, ErrOpen
	}
	if err := checkDir(o.Dir); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	whole, err := openWholeness(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	if err := prepare(o.Logger, o.MemoryAllowedBytes, o.Fatal); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	if err := setFlags(embeddedFlags(&o)); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	process.own.Lock()
	err = guarded("open history", func() {
		vmstorage.Init(querySlots, queryWait, promql.ResetRollupResultCacheIfNeeded)
		vmselect.Init(querySlots, queryWait)
	})
	process.open = err == nil
	process.own.Unlock()
	if err != nil {
		return nil, err
	}
	e := &Embedded{o: o, drops: newDrops(o.Metrics), stats: newInsertStats(o.Metrics), marks: marks{settle: o.Settle}, whole: whole, evals: make(chan struct{}, querySlots),
		backfilled: o.Metrics.GetOrCreateCounter("pollux_history_backfilled_samples_total")}
	o.Metrics.GetOrCreateGauge("pollux_history_complete", e.completeGauge)
	e.query = querier{fetch: e.fetch, eval: e.eval, hasRolled: e.hasRolled}
	e.closing, e.end = context.WithCancel(context.Background())
	process.embedded = true
	if _, err := e.finishRewriting(); err != nil {
		// The samples are in the file; the next start tries again.
		process.mu.Unlock()
		err = errors.Join(fmt.Errorf("open history: finish what retention began: %w", err), e.Close())
		process.mu.Lock()
		return nil, err
	}
	return e, nil
}

func embeddedFlags(o *Options) map[string]string {
	return map[string]string{
		"storageDataPath":               o.Dir,
		"retentionPeriod":               fmt.Sprintf("%ds", int64(o.Retention/time.Second)),
		"futureRetention":               fmt.Sprintf("%ds", int64(futureRetention/time.Second)),
		"dedup.minScrapeInterval":       "1ms", // what is inserted again counts once
		"inmemoryDataFlushInterval":     o.FlushInterval.String(),
		"storage.minFreeDiskSpaceBytes": fmt.Sprint(minFreeDisk),
		"storage.trackMetricNamesStats": "false", // a handful of names; it costs on every row
		"search.latencyOffset":          "0s",    // samples come as they happen, the last half minute is not to be hidden
		"search.maxPointsPerTimeseries": fmt.Sprint(MaxLimit),
		// Whoever catches up inserts samples older than the cache of results allows for; each time it would be thrown away,
		// with a warning. Without it, an answer is always of what is stored.
		"search.disableCache":          "true",
		"search.disableAutoCacheReset": "true",
		// This cache also remembers what is not there, for 10 s: a new twin's first samples would not show. Without it a
		// filter costs a search of the index, which is small here.
		"storage.cacheSizeIndexDBTagFilters": "1",
	}
}

// checkDir makes the directory and tries it, so that VictoriaMetrics has no reason to end the process.
func checkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	probe := filepath.Join(dir, ".probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return err
	}
	if err := os.Remove(probe); err != nil {
		return err
	}
	return tryLock(filepath.Join(dir, "flock.lock"))
}

// enter admits a call until leave. It fails once Close has begun.
func (e *Embedded) enter() error {
	e.gate.RLock()
	if e.closed {
		e.gate.RUnlock()
		return ErrClosed
	}
	return nil
}

func (e *Embedded) leave() { e.gate.RUnlock() }

// lasting is the context of what takes long: it ends when Close begins, too.
func (e *Embedded) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.closing, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// Insert implements Sink. Samples that can never be stored (not a number, out of the retention, without labels) are
// counted and left out.
func (e *Embedded) Insert(_ context.Context, index uint64, samples []storage.TwinSamples) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := e.insert(samples); err != nil {
		return err
	}
	e.marks.add(index, time.Now())
	return nil
}

// insert is for who has entered.
func (e *Embedded) insert(samples []storage.TwinSamples) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.finishLeft(); err != nil {
		return err
	}
	e.rows.reset()
	b := boundsAt(time.Now(), e.o.Retention)
	for i := range samples {
		e.rows.addTwin(&samples[i], &e.drops, b)
	}
	return e.write()
}

// InsertMetrics implements MetricSink.
func (e *Embedded) InsertMetrics(_ context.Context, text, node string, at time.Time) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.finishLeft(); err != nil {
		return err
	}
	e.rows.reset()
	parseMetrics(text, func(name string, labels func(add func(name, value string)), v float64) {
		e.rows.label("", name)
		labels(e.rows.label)
		e.rows.label("node", node)
		e.rows.row(at.UnixMilli(), v)
	})
	return e.write()
}

// write hands the rows over. mu must be held.
func (e *Embedded) write() error {
	mrs := e.rows.finish()
	if len(mrs) == 0 {
		return nil
	}
	if err := vmstorage.VMInsertAPI.WriteRows(mrs); err != nil {
		e.stats.errors.Inc()
		return fmt.Errorf("insert into history: %w", err)
	}
	e.stats.samples.Add(len(mrs))
	e.dirty.Store(true)
	return nil
}

// freshen makes inserted rows visible. VictoriaMetrics holds them back for up to 4 s, to make larger parts of them.
func (e *Embedded) freshen() {
	if !e.dirty.Load() {
		return
	}
	e.freshMu.Lock()
	defer e.freshMu.Unlock()
	if now := time.Now(); now.Sub(e.flushed) >= flushPause && e.dirty.Swap(false) {
		vmstorage.DebugFlush()
		e.flushed = now
	}
}

// Durable implements Sink: what was inserted longer than Settle ago.
func (e *Embedded) Durable() uint64 { return e.marks.durable(time.Now()) }

// Query implements History. A sample is seen half a second after its insert at the latest.
func (e *Embedded) Query(ctx context.Context, q Query) (Result, error) {
	if err := q.check(); err != nil {
		return Result{}, err
	}
	if err := e.enter(); err != nil {
		return Result{}, err
	}
	defer e.leave()
	e.moving.RLock()
	defer e.moving.RUnlock()
	e.freshen()
	return e.query.run(ctx, q)
}

// Handler implements History.
func (e *Embedded) Handler() http.Handler {
	return readOnly(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := e.enter(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer e.leave()
		e.moving.RLock()
		defer e.moving.RUnlock()
		if strings.HasPrefix(r.URL.Path, "/api/v1/") {
			e.freshen()
		}
		if !vmselect.RequestHandler(w, r) {
			http.NotFound(w, r)
		}
	}))
}

// fetch runs a query's request in this process. The body streams: the handler runs until it is read or closed.
func (e *Embedded) fetch(ctx context.Context, r *http.Request) (io.ReadCloser, error) {
	return serveStream(ctx, &e.running, r, func(w http.ResponseWriter, r *http.Request) { vmselect.RequestHandler(w, r) })
}

// Close writes everything to disk. All that was inserted is durable then.
func (e *Embedded) Close() error {
	e.end()
	e.gate.Lock()
	if e.closed {
		e.gate.Unlock()
		return ErrClosed
	}
	e.closed = true
	e.gate.Unlock()
	e.o.Metrics.UnregisterMetric("pollux_history_complete")
	e.running.Wait()
	process.mu.Lock()
	defer process.mu.Unlock()
	process.own.Lock()
	process.open = false
	err := guarded("close history", func() {
		vmstorage.Stop()
		vmselect.Stop()
	})
	process.own.Unlock()
	process.embedded = false
	if err == nil {
		e.marks.all()
	}
	return err
}
