package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// TableHistory has one record, which says how far the external server was fed.
const TableHistory storage.Table = "history"

const (
	pushedKey = "pushed"
	// DefaultSharePoll is how often a node looks whether it is the one that pushes.
	DefaultSharePoll = 250 * time.Millisecond
	// DefaultHeldLog is how much log all nodes keep for a server that is away, in bytes. Beyond it they trust the queue of
	// the node that pushes.
	DefaultHeldLog = 1 << 30
)

// SharedStore is the log with the records of its cluster; the store implements it.
type SharedStore interface {
	Source
	Get(table storage.Table, key string) (storage.Record, bool, error)
	Commit(ctx context.Context, t *storage.Txn) (revision uint64, err error)
	// LogSize is what the log takes, in bytes.
	LogSize() int64
}

// ShareOptions of Share.
type ShareOptions struct {
	// Node is this node's id.
	Node string
	// Active says whether this node is the one that pushes, such as whether it leads. It is asked often and must not block.
	// Two nodes that push at once do no harm, but the work twice.
	Active func() bool
	// Poll, 0 for DefaultSharePoll.
	Poll time.Duration
	// HeldLog, 0 for DefaultHeldLog, in bytes.
	HeldLog int64
	// Feed is as for a Feeder. Its CursorInterval is how often the common position is committed.
	Feed FeedOptions
}

// Shared feeds one external server from the logs of all nodes of a cluster: one node at a time pushes, and the position
// that the server has for sure is a record. So another one goes on there when that node is gone, with its queue.
type Shared struct {
	store SharedStore
	sink  *Remote
	o     ShareOptions
	stop  context.CancelFunc
	done  chan struct{}

	feeder  atomic.Pointer[Feeder]
	from    uint64        // where the feeder began; of the goroutine in run alone
	behind  atomic.Uint64 // what was applied when it began
	failing bool
}

// position is the record.
type position struct {
	// Sent: the server has the samples of all entries up to here, on its disk.
	Sent uint64 `json:"sent"`
	// Queued: the queue of Node has those up to here, on its disk.
	Queued uint64 `json:"queued"`
	Node   string `json:"node"`
}

// Share starts. It runs until its Close; ctx ends it too.
func Share(ctx context.Context, store SharedStore, sink *Remote, o ShareOptions) *Shared {
	if o.Poll <= 0 {
		o.Poll = DefaultSharePoll
	}
	if o.HeldLog <= 0 {
		o.HeldLog = DefaultHeldLog
	}
	if o.Feed.CursorInterval <= 0 {
		o.Feed.CursorInterval = DefaultCursorInterval
	}
	if o.Feed.Logger == nil {
		o.Feed.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Shared{store: store, sink: sink, o: o, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
	return s
}

func (s *Shared) run(ctx context.Context) {
	poll, sync := time.NewTicker(s.o.Poll), time.NewTicker(s.o.Feed.CursorInterval)
	defer poll.Stop()
	defer sync.Stop()
	defer s.rest()
	for {
		if active := s.o.Active(); active && s.feeder.Load() == nil {
			s.push(ctx)
		} else if !active {
			s.rest()
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		case <-sync.C:
			s.report(ctx, s.sync(ctx))
		}
	}
}

// push makes this node the one that pushes.
func (s *Shared) push(ctx context.Context) {
	p, _, err := s.load()
	if err != nil {
		s.report(ctx, err)
		return
	}
	from := max(p.Sent, s.store.SampleCursor())
	if p.Node == s.o.Node {
		from = max(from, p.Queued)
	}
	s.from = from
	s.behind.Store(s.store.AppliedIndex())
	s.o.Feed.Logger.Info("this node pushes history to the metrics server", "from_entry", from+1)
	s.feeder.Store(Feed(ctx, &sharedSource{SharedStore: s.store, from: from}, s.sink, s.o.Feed))
}

// rest ends pushing. What is in the queue is still sent.
func (s *Shared) rest() {
	if f := s.feeder.Swap(nil); f != nil {
		f.Close()
	}
}

// sharedSource is the log for the one that pushes: it begins at the common position, and its cursor is not the feeder's.
type sharedSource struct {
	SharedStore
	from uint64
}

func (s *sharedSource) SampleCursor() uint64         { return s.from }
func (s *sharedSource) SetSampleCursor(uint64) error { return nil }

func (s *Shared) load() (p position, revision uint64, err error) {
	rec, ok, err := s.store.Get(TableHistory, pushedKey)
	if err != nil || !ok {
		return p, 0, err
	}
	if err := json.Unmarshal(rec.Value, &p); err != nil {
		return p, 0, fmt.Errorf("position of the metrics server: %w", err)
	}
	return p, rec.Revision, nil
}

// sync commits how far the server and this node's queue are, and lets the log go up to there.
func (s *Shared) sync(ctx context.Context) error {
	p, revision, err := s.load()
	if err != nil {
		return err
	}
	next := s.reached(p)
	if next != p {
		if p, err = s.advance(ctx, next, revision); err != nil {
			return err
		}
	}
	to := p.Sent
	if s.store.LogSize() > s.o.HeldLog {
		to = max(to, p.Queued)
	}
	if to = min(to, s.store.AppliedIndex()); to > s.store.SampleCursor() {
		return s.store.SetSampleCursor(to)
	}
	return nil
}

// reached is the position now. Entries without samples count too, where nothing before them is outstanding.
func (s *Shared) reached(p position) position {
	f := s.feeder.Load()
	if f == nil {
		p.Sent = max(p.Sent, s.sink.Sent())
		return p
	}
	fed := f.fed.Load() // first: what is inserted later is above it
	inserted := f.inserted.Load()
	sent, queued := s.sink.Sent(), s.sink.Durable()
	if inserted == 0 && p.Sent >= s.from || inserted > 0 && sent >= inserted {
		sent = fed
	}
	if inserted == 0 || queued >= inserted {
		queued = fed
	}
	p.Sent = max(p.Sent, sent)
	if p.Node != s.o.Node || queued > p.Queued {
		p.Queued, p.Node = queued, s.o.Node
	}
	return p
}

// advance writes the record, unless another node wrote it meanwhile: then it is for the next time.
func (s *Shared) advance(ctx context.Context, next position, revision uint64) (position, error) {
	value, err := json.Marshal(next)
	if err != nil {
		return position{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Feed.CursorInterval)
	defer cancel()
	_, err = s.store.Commit(ctx, &storage.Txn{
		Guards: []storage.Guard{{Table: TableHistory, Key: pushedKey, Revision: revision}},
		Writes: []storage.Write{{Table: TableHistory, Key: pushedKey, Value: value, Quiet: true}},
	})
	if errors.Is(err, storage.ErrGuard) {
		p, _, err := s.load()
		return p, err
	}
	return next, err
}

func (s *Shared) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil && !s.failing {
		s.o.Feed.Logger.Warn("the metrics server's position is not committed, the log is kept", "error", err)
	}
	s.failing = err != nil
}

// Lag returns how many entries are applied and not yet in the queue of this node; 0 where another one pushes.
func (s *Shared) Lag() uint64 {
	if f := s.feeder.Load(); f != nil {
		return f.Lag()
	}
	return 0
}

// Pushing says whether this node is the one that pushes, and has brought into its queue all that was in its log when it began to.
func (s *Shared) Pushing() bool {
	f := s.feeder.Load()
	return f != nil && f.Fed() >= s.behind.Load()
}

// Close stops. The sink is closed behind it.
func (s *Shared) Close() {
	s.stop()
	<-s.done
}

// SyncCursor does nothing: the position is committed while the cluster can.
func (s *Shared) SyncCursor() error { return nil }
