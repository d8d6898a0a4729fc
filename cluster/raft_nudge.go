package cluster

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A follower learns that an entry is committed from the message that brings the next one. When none follows, raft tells it
// after CommitTimeout, a time in which a client of the follower waits. So the leader says at once
// what is committed when its last entry is: the same message that raft would send later, without entries.

// commitNews is what is to be told to the followers.
type commitNews struct{ index, term uint64 }

// nudge is the news for one follower.
type nudge struct {
	news atomic.Pointer[commitNews]
	busy atomic.Bool
}

// tellCommitted tells the followers of an entry that this node, as the leader, proposed in term and that is committed.
func (r *Raft) tellCommitted(index, term uint64) {
	if r.flying.Load() > 0 || r.raft.CurrentTerm() != term {
		return // a later entry brings it; or the term of the entry is not certain
	}
	news := &commitNews{index, term}
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		l := r.links.contact(s.ID)
		if s.ID == r.id || !l.recent(heartbeatTimeout) {
			continue
		}
		l.nudge.news.Store(news)
		if l.nudge.busy.CompareAndSwap(false, true) {
			go r.sendNews(l, s)
		}
	}
}

// sendNews sends until there is no more. One message is on its way to a follower at a time.
func (r *Raft) sendNews(l *link, to raft.Server) {
	for {
		if n := l.nudge.news.Swap(nil); n != nil {
			r.sendOne(l, to, n)
			continue
		}
		l.nudge.busy.Store(false)
		if l.nudge.news.Load() == nil || !l.nudge.busy.CompareAndSwap(false, true) {
			return
		}
	}
}

// sendOne sends until the follower has taken it, or something newer takes its place. A follower takes it only if it has
// this very entry, so that all before it are the leader's too; the entry may still be on its way.
func (r *Raft) sendOne(l *link, to raft.Server, n *commitNews) {
	t := r.links.Transport
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(r.id), Addr: t.EncodePeer(r.id, t.LocalAddr())}
	q := raft.AppendEntriesRequest{RPCHeader: header, Term: n.term, PrevLogEntry: n.index, PrevLogTerm: n.term, LeaderCommitIndex: n.index}
	for pause := time.Millisecond; pause < 100*time.Millisecond; pause *= 2 {
		var a raft.AppendEntriesResponse
		err := t.AppendEntries(to.ID, to.Address, &q, &a)
		r.m.nudges.Inc()
		if err != nil || a.Success || a.Term > n.term {
			return
		}
		select {
		case <-time.After(pause):
		case <-r.closing:
			return
		}
		if l.nudge.news.Load() != nil {
			return
		}
	}
}
