package cluster

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// watchedLog is raft's log with two guards. A leader whose disk hangs stays leader for ever, because its heartbeats do
// not touch the disk; so a write that takes too long ends the process while the others can go on without it. And the log
// is not cut in front of a follower that is being brought up to date, or it would get one snapshot after another.
type watchedLog struct {
	raft.LogStore
	r     *Raft
	ready atomic.Bool // r.raft is there
	stall time.Duration
	ended atomic.Bool
	// entries and bytes are what was written since the start.
	entries, bytes atomic.Uint64
}

// holdBytes bounds what is kept for late followers, about; beyond it they get a snapshot.
const holdBytes = 512 << 20

// StoreLog implements raft.LogStore.
func (l *watchedLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore.
func (l *watchedLog) StoreLogs(entries []*raft.Log) error {
	size := 0
	for _, e := range entries {
		size += len(e.Data)
	}
	l.bytes.Add(uint64(size))
	l.entries.Add(uint64(len(entries)))
	w := &logWrite{start: time.Now(), watch: stallWatch{period: l.stall / stallSteps, last: time.Now()}}
	timer := time.AfterFunc(w.watch.period, func() { l.look(w) })
	err := l.LogStore.StoreLogs(entries)
	w.over.Store(true)
	timer.Stop()
	return err
}

// logWrite is a write under way.
type logWrite struct {
	start time.Time
	watch stallWatch
	over  atomic.Bool
}

// stallSteps is the number of looks in a row that must find a write under way for it to hang.
const stallSteps = 5

// stallWatch counts looks that came in time. One that is late says that this process was stopped or starved, not the disk.
type stallWatch struct {
	period time.Duration
	last   time.Time
	seen   int
}

func (w *stallWatch) look(now time.Time) (hangs bool) {
	if now.Sub(w.last) > 2*w.period {
		w.seen = 0
	} else {
		w.seen++
	}
	w.last = now
	return w.seen >= stallSteps
}

// look is called again and again while a write is under way.
func (l *watchedLog) look(w *logWrite) {
	if w.over.Load() {
		return
	}
	if !w.watch.look(time.Now()) {
		time.AfterFunc(w.watch.period, func() { l.look(w) })
		return
	}
	l.stalled(w)
}

// stalled is called when a write hangs.
func (l *watchedLog) stalled(w *logWrite) {
	if !l.ready.Load() || l.ended.Load() {
		return
	}
	took := time.Since(w.start).Round(100 * time.Millisecond)
	l.r.m.stalls.Inc()
	healthy, quorum := l.r.healthyVoters()
	if healthy < quorum {
		l.r.o.Logger.Warn("a write of the log hangs; no quorum of other voters is healthy, so this node waits for its disk",
			"for", took, "healthy", healthy, "quorum", quorum)
		w.watch.seen = 0
		time.AfterFunc(w.watch.period, func() { l.look(w) })
		return
	}
	if l.ended.Swap(true) {
		return
	}
	l.r.links.sever()
	err := fmt.Errorf("write the log: the disk has not answered for %s, and %d other voters can go on without this node", took, healthy)
	if l.r.o.Fatal == nil {
		l.r.o.Logger.Error("the disk hangs", "error", err)
		return
	}
	l.r.o.Fatal(err)
}

// DeleteRange implements raft.LogStore. A leader that cuts the log's beginning keeps what followers in contact need.
func (l *watchedLog) DeleteRange(from, to uint64) error {
	first, err := l.LogStore.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LogStore.LastIndex()
	if err != nil {
		return err
	}
	if l.ready.Load() && from == first && to < last && l.r.IsLeader() {
		if need, ok := l.r.links.least(l.r.raft.GetConfiguration().Configuration(), l.r.id); ok && need <= to {
			to = max(need, 1) - 1 // raft compares the entry before the next one too
			if most := holdBytes / max(1, l.bytes.Load()/max(1, l.entries.Load())); last > most {
				to = max(to, last-most)
			}
			l.r.m.truncationsHeld.Inc()
		}
		if to < from {
			return nil
		}
	}
	return l.LogStore.DeleteRange(from, to)
}

// healthyVoters counts the other voters that seem to be well, and says how many the group needs.
func (r *Raft) healthyVoters() (healthy, quorum int) {
	voters := 0
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID != r.id && r.healthy(s.ID) {
			healthy++
		}
	}
	return healthy, voters/2 + 1
}

// healthy says whether another server seems to be alive.
func (r *Raft) healthy(id raft.ServerID) bool {
	if r.o.Healthy != nil {
		return r.o.Healthy(string(id))
	}
	return r.links.contact(id).recent(2 * heartbeatTimeout)
}
