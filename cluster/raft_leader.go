package cluster

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// LeaderChange says who leads from a term on.
type LeaderChange struct {
	// Leader is its id; "": none is known.
	Leader string
	// Self says that this node leads.
	Self bool
	Term uint64
}

// leaderWatch tells those who asked about changes of the leader.
type leaderWatch struct {
	mu    sync.Mutex
	hooks []*leaderHook
	kick  chan raft.Observation
}

type leaderHook struct {
	fn   func(LeaderChange)
	told *LeaderChange
}

// OnLeader calls fn with the present leader and after each change, in order, from one goroutine. Changes that pass while
// fn runs may be left out, the last one never; leading again after a loss has another term. fn must not block for long.
func (r *Raft) OnLeader(fn func(LeaderChange)) (stop func()) {
	h := &leaderHook{fn: fn}
	w := &r.leaders
	w.mu.Lock()
	w.hooks = append(w.hooks, h)
	w.mu.Unlock()
	select {
	case w.kick <- raft.Observation{}:
	default:
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hooks = slices.DeleteFunc(slices.Clone(w.hooks), func(x *leaderHook) bool { return x == h })
	}
}

// watchLeaders runs until Close.
func (r *Raft) watchLeaders() {
	defer r.done.Done()
	w := &r.leaders
	observer := raft.NewObserver(w.kick, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	r.raft.RegisterObserver(observer)
	defer r.raft.DeregisterObserver(observer)
	for {
		r.tellLeader()
		select {
		case <-w.kick:
		case <-r.closing:
			return
		}
	}
}

// leadership is since when this node leads.
type leadership struct {
	term  uint64
	since atomic.Int64 // UnixNano; 0: it does not
}

// note is called from one goroutine.
func (l *leadership) note(now LeaderChange) {
	switch {
	case !now.Self:
		l.since.Store(0)
	case l.since.Load() == 0 || l.term != now.Term:
		l.since.Store(time.Now().UnixNano())
	}
	l.term = now.Term
}

func (r *Raft) tellLeader() {
	now := LeaderChange{Leader: r.Leader(), Self: r.IsLeader(), Term: r.raft.CurrentTerm()}
	if now.Self {
		now.Leader = string(r.id)
	} else if now.Leader == string(r.id) {
		now.Leader = ""
	}
	r.leads.note(now)
	if now.Leader != "" {
		// What waits for an older leader is asked again of this one: the state machine knows what it has applied.
		r.failForwards(func(f *forward) bool { return f.leader != now.Leader }, raft.ErrLeadershipLost)
	}
	w := &r.leaders
	w.mu.Lock()
	hooks := slices.Clone(w.hooks)
	w.mu.Unlock()
	for _, h := range hooks {
		if h.told != nil && (*h.told == now || (h.told.Leader == now.Leader && h.told.Self == now.Self && !now.Self)) {
			continue
		}
		h.told = &now
		h.fn(now)
	}
}
