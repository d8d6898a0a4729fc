package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/ordered"
)

var (
	// ErrQuery: the query itself is wrong. The error names the field.
	ErrQuery = errors.New("invalid journal query")
	// ErrClosed: the journal is closed.
	ErrClosed = errors.New("journal closed")
	// ErrIncomplete: the journal that was to be read lacks entries.
	ErrIncomplete = errors.New("journal incomplete")
)

// Options of Open.
type Options struct {
	// Dir is the journal's alone. Needed.
	Dir string
	// FS: nil for the disk.
	FS vfs.FS
	// CacheBytes of blocks; 0 for 8 MiB.
	CacheBytes int64
	// Logger: nil for none.
	Logger *slog.Logger
	// Metrics gets pollux_journal_…; nil: they are not shown.
	Metrics *metrics.Set
	// Fatal is told once why the journal cannot go on, such as a full disk. Whoever met the error stays blocked: the process is
	// to end. Nil: it panics.
	Fatal func(error)
}

const (
	// memTable in bytes: entries come in bursts, and what is in memory is in Pebble's log too.
	memTable = 16 << 20
	// levelZero is twice the number of flushes that are compacted together: entries are read seldom, and a compaction rewrites what lies below.
	levelZero = 8
	// defaultCache in bytes.
	defaultCache = 8 << 20
)

// Journal of one node. All methods may be called concurrently.
type Journal struct {
	o  Options
	db *pebble.DB

	// gate keeps calls out once closed, and Close waiting for those inside.
	gate   sync.RWMutex
	closed bool

	// fed: everything up to this log entry is here. synced is what of it a crash leaves.
	fed, synced atomic.Uint64
	// unflushed is how many bytes were written since the last Flush, at most.
	unflushed atomic.Uint64
	whole     wholeness
	// moved is closed when fed rises; hurry wakes a follower that lingers.
	movedMu sync.Mutex
	moved   chan struct{}
	hurry   chan struct{}

	entries    *metrics.Counter
	purged     *metrics.Counter
	feedErrors *metrics.Counter
	backfilled *metrics.Counter
	gaps       *metrics.Counter
}

// Open opens the journal in o.Dir, or begins one.
func Open(o Options) (*Journal, error) {
	if o.Dir == "" {
		return nil, errors.New("open journal: Dir is empty")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref()
	l := &logger{o: &o}
	db, err := pebble.Open(o.Dir, &pebble.Options{FS: o.FS, Cache: cache, FormatMajorVersion: pebble.FormatNewest, Logger: l, EventListener: l.listener(),
		MemTableSize: memTable, L0CompactionThreshold: levelZero, L0StopWritesThreshold: 3 * levelZero, MaxOpenFiles: 128})
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", o.Dir, err)
	}
	j := &Journal{o: o, db: db, moved: make(chan struct{}), hurry: make(chan struct{}, 1), entries: o.Metrics.GetOrCreateCounter("pollux_journal_entries_total"),
		purged:     o.Metrics.GetOrCreateCounter("pollux_journal_deleted_entries_total"),
		feedErrors: o.Metrics.GetOrCreateCounter("pollux_journal_feed_errors_total"),
		backfilled: o.Metrics.GetOrCreateCounter("pollux_journal_backfilled_entries_total"),
		gaps:       o.Metrics.GetOrCreateCounter("pollux_journal_gaps_total")}
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open journal %s: %w", o.Dir, err), db.Close())
	}
	o.Metrics.GetOrCreateGauge("pollux_journal_bytes", func() float64 { return float64(j.Size()) })
	o.Metrics.GetOrCreateGauge("pollux_journal_complete", func() float64 {
		if j.Complete() {
			return 1
		}
		return 0
	})
	return j, nil
}

// Keys. Names hold no zero byte. Times are turned so that those before 1970 sort first.
//
//	e project 0 twin 0 time sequence  →  kind, name, data: the entries
//	t project 0 time sequence twin    →  whether the data is here too, kind, name, data: the same, by time
//	m fed | missing | version         →  a number
const (
	spaceEntries = 'e'
	spaceTimes   = 't'
	spaceMeta    = 'm'
	// inline is up to which size data is with the key by time too, in bytes: most is, and a look-up costs 100 µs.
	inline = 256
	// formatVersion of the keys and values.
	formatVersion = 1
)

func turned(ms int64) uint64 { return uint64(ms) ^ 1<<63 }

func entryPrefix(b []byte, project, twin string) []byte {
	b = append(append(append(b, spaceEntries), project...), 0)
	return append(append(b, twin...), 0)
}

func timePrefix(b []byte, project string) []byte {
	return append(append(append(b, spaceTimes), project...), 0)
}

func appendPosition(b []byte, p Position) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, turned(p.Time)), p.Sequence)
}

func position(b []byte) (Position, bool) {
	if len(b) < 16 {
		return Position{}, false
	}
	return Position{Time: int64(binary.BigEndian.Uint64(b) ^ 1<<63), Sequence: binary.BigEndian.Uint64(b[8:])}, true
}

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutString(b []byte) (s, rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, false
	}
	return b[k : k+int(n)], b[k+int(n):], true
}

// writes are entries on their way to the database. Those by time come in about the order that they are to have.
type writes struct {
	byTwin, byTime ordered.Writes
	batch          *pebble.Batch
	unflushed      *atomic.Uint64
}

// newWrites gives empty ones; close them.
func (j *Journal) newWrites() *writes {
	return &writes{batch: j.db.NewBatch(pebble.WithMaxRetainedSizeBytes(2 * feedBatch)), unflushed: &j.unflushed}
}

func (w *writes) len() int { return w.byTwin.Len() + w.byTime.Len() }

// commit writes everything, and up to where the log is fed now, and begins anew; fed 0: this is not from the log.
func (w *writes) commit(fed uint64) error {
	defer w.batch.Reset()
	err := errors.Join(w.byTwin.Into(w.batch), w.byTime.Into(w.batch))
	if err == nil && fed > 0 {
		err = setNumber(w.batch, "fed", fed)
	}
	if err != nil {
		return err
	}
	w.unflushed.Add(uint64(w.batch.Len()))
	return w.batch.Commit(pebble.NoSync)
}

// reset forgets what is not committed.
func (w *writes) reset() {
	w.byTwin.Reset()
	w.byTime.Reset()
}

func (w *writes) close() { _ = w.batch.Close() }

// set adds an entry: the same entry twice is once.
func (w *writes) set(e *storage.JournalEntry) {
	at := Position{e.Time, e.Sequence}
	w.byTime.Set(func(b []byte) ([]byte, int) {
		begun := len(b)
		b = append(appendPosition(timePrefix(b, e.Project), at), e.Twin...)
		key := len(b) - begun
		if len(e.Data) > inline {
			return appendString(appendString(append(b, 0), e.Kind), e.Name), key
		}
		return append(appendString(appendString(append(b, 1), e.Kind), e.Name), e.Data...), key
	})
	w.byTwin.Set(func(b []byte) ([]byte, int) {
		begun := len(b)
		b = appendPosition(entryPrefix(b, e.Project, e.Twin), at)
		key := len(b) - begun
		return append(appendString(appendString(b, e.Kind), e.Name), e.Data...), key
	})
}

func (j *Journal) number(name string) (uint64, error) {
	v, closer, err := j.db.Get(append([]byte{spaceMeta}, name...))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, fmt.Errorf("%s has %d bytes", name, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func setNumber(b *pebble.Batch, name string, n uint64) error {
	return b.Set(append([]byte{spaceMeta}, name...), binary.BigEndian.AppendUint64(nil, n), nil)
}

// load reads how far the journal is.
func (j *Journal) load() error {
	version, err := j.number("version")
	if err != nil {
		return err
	}
	if version > formatVersion {
		return fmt.Errorf("it is of format %d: this version of Pollux does not know it; run the newer version", version)
	}
	fed, err := j.number("fed")
	if err != nil {
		return err
	}
	j.whole.missing, err = j.number("missing")
	j.whole.changed = make(chan struct{})
	j.whole.fresh = version == 0
	j.fed.Store(fed)
	j.synced.Store(fed)
	return err
}

// Size on the disk, in bytes.
func (j *Journal) Size() int64 {
	if j.enter() != nil {
		return 0
	}
	defer j.leave()
	return int64(j.db.Metrics().DiskSpaceUsage())
}

// enter admits a call until leave.
func (j *Journal) enter() error {
	j.gate.RLock()
	if j.closed {
		j.gate.RUnlock()
		return ErrClosed
	}
	return nil
}

func (j *Journal) leave() { j.gate.RUnlock() }

// Close writes everything to the disk. Followers are to be stopped before.
func (j *Journal) Close() error {
	j.gate.Lock()
	defer j.gate.Unlock()
	if j.closed {
		return ErrClosed
	}
	j.closed = true
	j.o.Metrics.UnregisterMetric("pollux_journal_bytes")
	j.o.Metrics.UnregisterMetric("pollux_journal_complete")
	if err := j.db.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// sync brings to the disk what is written.
func (j *Journal) sync() error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	fed := j.fed.Load()
	if fed == j.synced.Load() {
		return nil
	}
	b := j.db.NewBatch()
	defer b.Close()
	if err := errors.Join(setNumber(b, "fed", fed), b.Commit(pebble.Sync)); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	j.synced.Store(fed)
	return nil
}

// logger of Pebble. After a failed commit Pebble must not go on, so Fatalf tells and does not return.
type logger struct {
	o    *Options
	once sync.Once
}

func (l *logger) Infof(string, ...any) {}

func (l *logger) Errorf(format string, args ...any) {
	l.o.Logger.Warn("pebble", "database", "journal", "message", fmt.Sprintf(format, args...))
}

func (l *logger) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf("write the journal: "+format, args...))
	select {}
}

func (l *logger) fail(err error) {
	if l.o.Fatal == nil {
		panic(err)
	}
	l.once.Do(func() { l.o.Fatal(err) })
}

func (l *logger) listener() *pebble.EventListener {
	return &pebble.EventListener{BackgroundError: func(err error) {
		if !errors.Is(err, pebble.ErrClosed) && !errors.Is(err, pebble.ErrCancelledCompaction) {
			l.fail(fmt.Errorf("write the journal: %w", err))
		}
	}}
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
