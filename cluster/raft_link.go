package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/hashicorp/raft"
)

// linkWatch is raft's transport, and notes what the followers answer: when, and how far their logs are. Raft knows it, but
// does not say.
type linkWatch struct {
	raft.Transport
	start time.Time
	all   sync.Map               // raft.ServerID → *link
	end   func() (uint64, error) // the last index of this node's log

	lost     []string        // nodes that a recovery on this node has given up
	recorded func() []string // those of the records; nil: none
	logger   *slog.Logger
	sent     *metrics.Counter // snapshots
	consume  func() <-chan raft.RPC
	stop     context.CancelFunc
	// severed: nothing goes out any more.
	severed atomic.Bool
}

var errSevered = errors.New("this node has stopped talking to the others")

// sever lets the others believe that this node is gone, at once: its heartbeats would keep them from electing another.
func (w *linkWatch) sever() { w.severed.Store(true) }

// link is what is known of a follower. Times are nanoseconds since linkWatch.start, 0: never.
type link struct {
	w          *linkWatch
	born       int64         // when it was first asked about
	last       atomic.Int64  // the last answer
	failing    atomic.Int64  // since when nothing was answered; 0: the last message was answered
	index      atomic.Uint64 // of the last entry in its log
	round      round
	installing atomic.Uint64 // index of the snapshot that is on its way to it; 0: none
	nudge      nudge
}

func newLinkWatch(t raft.Transport, end func() (uint64, error), lost []string, recorded func() []string, log *slog.Logger, sent *metrics.Counter) *linkWatch {
	w := &linkWatch{Transport: t, start: time.Now(), end: end, lost: lost, recorded: recorded, logger: log, sent: sent, consume: t.Consumer, stop: func() {}}
	if len(lost) > 0 || recorded != nil {
		var ctx context.Context
		ctx, w.stop = context.WithCancel(context.Background())
		filtered := w.refuseLost(ctx, t.Consumer())
		w.consume = func() <-chan raft.RPC { return filtered }
	}
	return w
}

// Consumer implements raft.Transport.
func (w *linkWatch) Consumer() <-chan raft.RPC { return w.consume() }

// SetHeartbeatHandler implements raft.Transport.
func (w *linkWatch) SetHeartbeatHandler(fn func(raft.RPC)) {
	if (len(w.lost) == 0 && w.recorded == nil) || fn == nil {
		w.Transport.SetHeartbeatHandler(fn)
		return
	}
	w.Transport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if !w.refused(rpc) {
			fn(rpc)
		}
	})
}

func (w *linkWatch) contact(id raft.ServerID) *link {
	if l, ok := w.all.Load(id); ok {
		return l.(*link)
	}
	l, _ := w.all.LoadOrStore(id, &link{w: w, born: w.now()})
	return l.(*link)
}

func (w *linkWatch) now() int64 { return max(1, int64(time.Since(w.start))) }

func (l *link) answered(index uint64) {
	now := l.w.now()
	l.index.Store(index)
	l.last.Store(now)
	l.failing.Store(0)
	if end, err := l.w.end(); err == nil {
		l.round.answered(index, end, now)
	}
}

// round measures how far a follower is behind in time: a round lasts until it has what the leader had when the round began
// (Ongaro's dissertation, 4.2.1). A number of entries would say little: at 10,000 a second a healthy one is always some
// hundreds behind what the leader knows of it.
type round struct {
	mu    sync.Mutex
	goal  uint64 // the leader's last index when the round began; 0: no round yet
	began int64
	took  int64 // the last whole round
}

func (r *round) answered(index, end uint64, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.goal == 0 {
		r.goal, r.began, r.took = end, now, 1<<62
	}
	if index >= min(r.goal, end) {
		r.goal, r.began, r.took = end, now, now-r.began
	}
}

// behind is the length of the last round, or of the present one where that is longer; false: there was none yet.
func (r *round) behind(now int64) (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Duration(max(r.took, now-r.began)), r.goal != 0
}

func (l *link) failed() { l.failing.CompareAndSwap(0, l.w.now()) }

// recent says whether it answered within d.
func (l *link) recent(d time.Duration) bool {
	last := l.last.Load()
	return last > 0 && l.w.now()-last <= int64(d)
}

// silent is for how long it has not answered what was sent to it; 0: it answers.
func (l *link) silent() time.Duration {
	if since := l.failing.Load(); since > 0 {
		return time.Duration(l.w.now() - since)
	}
	return 0
}

// lastContact is when it last answered; zero: never.
func (l *link) lastContact() time.Time {
	if last := l.last.Load(); last > 0 {
		return l.w.start.Add(time.Duration(last))
	}
	return time.Time{}
}

// holdFor is how long the log is kept for a server that does not answer: long enough for a restart.
const holdFor = 30 * time.Second

// least is the smallest index that a server has which is in contact, or has just been added; false: there is none.
func (w *linkWatch) least(c raft.Configuration, self raft.ServerID) (uint64, bool) {
	var need uint64
	found := false
	for _, s := range c.Servers {
		if s.ID == self {
			continue
		}
		l := w.contact(s.ID)
		joining := l.last.Load() == 0 && w.now()-l.born < int64(holdFor)
		if !joining && !l.recent(holdFor) {
			continue
		}
		has := max(l.index.Load(), l.installing.Load())
		if !found || has < need {
			need, found = has, true
		}
	}
	return need, found
}

// AppendEntries implements raft.Transport.
func (w *linkWatch) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	err := errSevered
	if !w.severed.Load() {
		err = w.Transport.AppendEntries(id, to, q, a)
	}
	if err != nil {
		w.contact(id).failed()
	} else {
		w.contact(id).answered(a.LastLog)
	}
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (w *linkWatch) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := w.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return pipeline{p, w}, nil
}

type pipeline struct {
	raft.AppendPipeline
	w *linkWatch
}

// AppendEntries implements raft.AppendPipeline.
func (p pipeline) AppendEntries(q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.w.severed.Load() {
		return nil, errSevered
	}
	return p.AppendPipeline.AppendEntries(q, a)
}

// InstallSnapshot implements raft.Transport.
func (w *linkWatch) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest,
	a *raft.InstallSnapshotResponse, data io.Reader) error {
	l := w.contact(id)
	l.installing.Store(q.LastLogIndex)
	defer l.installing.Store(0)
	w.sent.Inc()
	return w.Transport.InstallSnapshot(id, to, q, a, data)
}

// RequestPreVote implements raft.WithPreVote.
func (w *linkWatch) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	if t, ok := w.Transport.(raft.WithPreVote); ok {
		return t.RequestPreVote(id, to, q, a)
	}
	return io.ErrClosedPipe
}

// Close implements raft.WithClose; raft calls it when it shuts down.
func (w *linkWatch) Close() (err error) {
	w.stop()
	if c, ok := w.Transport.(raft.WithClose); ok {
		err = c.Close()
	}
	if c, ok := w.Transport.(interface{ CloseStreams() }); ok {
		c.CloseStreams() // what is kept for another use
	}
	return err
}
