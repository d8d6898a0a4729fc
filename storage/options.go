package storage

import (
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a store. The zero value of a field means its default.
type Options struct {
	// Dir is the store's own directory; it is created where it is missing.
	Dir string
	// FS is the file system; nil: the disk.
	FS vfs.FS
	// Logger; nil: discards.
	Logger *slog.Logger
	// Metrics gets the store's counters and gauges; nil: a set of the store's own.
	Metrics *metrics.Set
	// Fatal is told, once, why the store cannot go on: a disk that is full or broken, a log entry that this version does
	// not know. The process must end soon after: nothing is acknowledged any more. It may be called from any goroutine,
	// and callers inside Pebble stay blocked after it. nil: panics.
	Fatal func(error)
	// NoSync switches every fsync of the log off, so that a power loss loses what was acknowledged. For tests only.
	NoSync bool

	// MaxInFlightBytes bounds the encoded transactions that wait or are proposed, in bytes. Default 8 MiB: at the
	// 40 MB/s that one raft group takes on two cores, 200 ms of work. The bound shrinks by itself where the log is slower.
	MaxInFlightBytes int
	// MaxProposals bounds the entries in flight. Default 8: raft writes what came while it wrote, and so a few are written
	// while a few are applied. At most 16.
	MaxProposals int
	// MaxEntryBytes bounds an entry of many transactions. Default 256 KiB, at most 512 KiB: larger ones delay the small
	// ones behind them.
	MaxEntryBytes int
	// RetryFor bounds how long an entry is proposed again after a lost leader before its transactions fail with
	// ErrUnknown. Default 10 s: longer than an election.
	RetryFor time.Duration

	// KeepChanges bounds the change log that Watch reads, in changes. Default 100,000.
	KeepChanges int
	// KeepChangeBytes bounds the same in bytes. Default 32 MiB.
	KeepChangeBytes int

	// StateCacheBytes is the block cache of the state. Default 64 MiB.
	StateCacheBytes int64
	// LogCacheBytes is the block cache of the log. Default 8 MiB.
	LogCacheBytes int64
	// MemTableBytes is the size of the write buffers of each database, and with it what a crash makes the state read
	// again from the log. Default 32 MiB.
	MemTableBytes int

	// DiscardSamples says that nobody reads the samples from this node's log, so that its truncation need not wait for
	// the sample cursor.
	DiscardSamples bool
	// KeepJournal says that somebody reads the journal's entries from this node's log: its truncation waits for the journal
	// cursor too.
	KeepJournal bool
	// KeepSnapshots is how many snapshots stay. Default 1.
	KeepSnapshots int
}

const (
	// maxTxn is the largest encoded transaction, in bytes: an entry must hold it with its header.
	maxTxn = 448 << 10
	// maxEntry is the largest entry, in bytes.
	maxEntry = 512 << 10
	// maxTable and maxKey bound names, in bytes.
	maxTable = 64
	maxKey   = 4096
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	or := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	or(&o.MaxInFlightBytes, 8<<20)
	or(&o.MaxProposals, 8)
	or(&o.MaxEntryBytes, 256<<10)
	o.MaxEntryBytes = min(o.MaxEntryBytes, maxEntry)
	o.MaxProposals = min(o.MaxProposals, windowSize/4)
	or(&o.KeepChanges, 100_000)
	or(&o.KeepChangeBytes, 32<<20)
	or(&o.MemTableBytes, 32<<20)
	or(&o.KeepSnapshots, 1)
	if o.RetryFor <= 0 {
		o.RetryFor = 10 * time.Second
	}
	if o.StateCacheBytes <= 0 {
		o.StateCacheBytes = 64 << 20
	}
	if o.LogCacheBytes <= 0 {
		o.LogCacheBytes = 8 << 20
	}
	return o
}
