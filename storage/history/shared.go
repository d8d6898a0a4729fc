package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
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
	// goneAfter is how long a node that is gone may still be writing series anew: twice what it gives itself, for it may have been stopped.
	goneAfter = 2 * rewriteWithin
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
	// Gone says whether a node is no member any more, or a dead one. Nil: none is.
	Gone func(node string) bool
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
	behind  atomic.Uint64 // what was applied when it began
	failing bool

	curating  sync.Mutex // one Curate at a time
	mu        sync.Mutex // guards what follows, and the changes of feeder
	from      uint64     // where the feeder began
	rewrites  uint64     // position.Rewrites that what the feeder pushes is behind, or of its own node
	rewriting bool       // Curate has claimed the series, and goes on
	mark      uint64     // the sink's number for what has to be at the server before the series are let go; 0: none yet
	holder    position   // the Rewriting and Rewrites seen last
	held      time.Time  // since when
}

// position is the record.
type position struct {
	// Sent: the server has the samples of all entries up to here, on its disk.
	Sent uint64 `json:"sent"`
	// Queued: the queue of Node has those up to here, on its disk.
	Queued uint64 `json:"queued"`
	Node   string `json:"node"`
	// Rewriting is the node that writes series anew, or pushes again what may have gone with them, and whose queue has what they are to have;
	// empty: none. Until it has brought that to the server Sent rests, and no other node begins to. Rewrites counts who began.
	Rewriting string `json:"rewriting,omitempty"`
	Rewrites  uint64 `json:"rewrites,omitempty"`
	// QueuedAt is Rewrites as it was when Queued was noted: samples that were sent before a later one may have gone.
	QueuedAt uint64 `json:"queued_at,omitempty"`
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
	poll, moving := time.NewTicker(s.o.Poll), time.NewTicker(s.o.Feed.CursorInterval)
	defer poll.Stop()
	defer moving.Stop()
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
		case <-moving.C:
			s.report(ctx, s.sync(ctx))
		}
	}
}

// push makes this node the one that pushes.
func (s *Shared) push(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _, err := s.load()
	if err != nil {
		s.report(ctx, err)
		return
	}
	s.begin(ctx, p)
}

// begin feeds from a position on. mu must be held.
func (s *Shared) begin(ctx context.Context, p position) {
	from := max(p.Sent, s.store.SampleCursor())
	if p.Node == s.o.Node && p.QueuedAt == p.Rewrites {
		from = max(from, p.Queued)
	}
	s.rewrites, s.mark = p.Rewrites, 0
	if p.Rewriting != "" && p.Rewriting != s.o.Node {
		s.rewrites-- // what is pushed from here on may go with the series
	}
	s.from = from
	s.behind.Store(s.store.AppliedIndex())
	s.o.Feed.Logger.Info("this node pushes history to the metrics server", "from_entry", from+1)
	s.feeder.Store(Feed(ctx, &sharedSource{SharedStore: s.store, from: from}, s.sink, s.o.Feed))
}

// rest ends pushing. What is in the queue is still sent.
func (s *Shared) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// end is rest for who holds mu.
func (s *Shared) end() {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	p, revision, err := s.load()
	if err != nil {
		return err
	}
	if s.pushesAgain(p) {
		next := p
		next.Rewriting = s.o.Node
		if p, err = s.advance(ctx, next, revision); err != nil || p != next {
			return err
		}
		s.o.Feed.Logger.Info("series were deleted on the metrics server while this node pushed: it pushes again", "from_entry", p.Sent+1)
		s.end()
		s.begin(ctx, p)
	}
	next, err := s.released(p)
	if err != nil {
		return err
	}
	next = s.reached(next)
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

// pushesAgain says whether what this node has pushed may have gone with series that another one has deleted, and nobody deletes any more. mu
// must be held.
func (s *Shared) pushesAgain(p position) bool {
	if p.Rewriting != s.holder.Rewriting || p.Rewrites != s.holder.Rewrites {
		s.holder, s.held = p, time.Now()
	}
	if s.feeder.Load() == nil || s.rewrites == p.Rewrites {
		return false
	}
	return p.Rewriting == "" || p.Rewriting == s.o.Node ||
		s.o.Gone != nil && s.o.Gone(p.Rewriting) && time.Since(s.held) > goneAfter
}

// released lets the series go that this node has claimed, when all that they are to have is at the server. mu must be held.
func (s *Shared) released(p position) (position, error) {
	f := s.feeder.Load()
	if p.Rewriting != s.o.Node || s.rewriting || f != nil && f.Fed() < s.behind.Load() {
		return p, nil
	}
	if s.mark == 0 {
		s.mark = rand.Uint64() | 1
	}
	ok, err := s.sink.passed(s.mark)
	if ok {
		p.Rewriting = ""
	}
	return p, err
}

// claim notes, before series are written anew, that this node does so. Whoever pushes instead of it, before it has done that, pushes again what
// it has pushed by then: the deletion may come late, and would take it along.
func (s *Shared) claim(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, revision, err := s.load()
	switch {
	case err != nil:
		return err
	case s.feeder.Load() == nil || s.rewrites != p.Rewrites:
		return fmt.Errorf("%w: another node pushes to the metrics server now, retention is for that one", ErrUnavailable)
	case p.Rewriting != "" && p.Rewriting != s.o.Node:
		return fmt.Errorf("%w: node %s has to bring to the metrics server what it has deleted there; retention waits for it", ErrUnavailable, p.Rewriting)
	case s.rewriting && p.Rewriting == s.o.Node:
		return nil
	}
	next := p
	next.Rewriting, next.Rewrites = s.o.Node, p.Rewrites+1
	if p, err = s.advance(ctx, next, revision); err != nil {
		return err
	}
	if p != next {
		return fmt.Errorf("%w: another node has changed the position of the metrics server", ErrUnavailable)
	}
	s.rewriting, s.rewrites, s.mark = true, next.Rewrites, 0
	return nil
}

// Curate is the sink's, where this node pushes: else an error that wraps ErrUnavailable. It holds the position, and so the logs, until what
// it has written anew is at the server.
func (s *Shared) Curate(ctx context.Context, project string, rules SampleRules, now time.Time, progress func(property string, c Curation)) (Curation, error) {
	s.curating.Lock()
	defer s.curating.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rewriting = false
	}()
	return s.sink.curation(ctx, project, rules, now, true, progress, s.claim)
}

// reached is the position now. Entries without samples count too, where nothing before them is outstanding. mu must be held.
func (s *Shared) reached(p position) position {
	f := s.feeder.Load()
	rests := p.Rewriting != "" || p.Rewrites != s.rewrites
	if f == nil {
		if !rests {
			p.Sent = max(p.Sent, s.sink.Sent())
		}
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
	if !rests {
		p.Sent = max(p.Sent, sent)
	}
	if p.Node != s.o.Node || queued > p.Queued || p.QueuedAt != s.rewrites {
		p.Queued, p.Node, p.QueuedAt = queued, s.o.Node, s.rewrites
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
