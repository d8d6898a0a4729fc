package actors

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
)

// How long slots that are released wait for what runs, after which it is cancelled; for what is left to be committed, after
// which it is given up; and for actors that do not even stop then.
const (
	releaseRunning = 5 * time.Second
	releaseCommits = 7500 * time.Millisecond
	releaseActors  = 8 * time.Second
)

// letting is a group of slots that are let go. It is done once no actor of them is left.
type letting struct {
	left   atomic.Int32 // shards
	done   func()
	timers [3]*time.Timer
}

func (l *letting) shardDone() {
	if l.left.Add(-1) > 0 {
		return
	}
	for _, t := range l.timers {
		if t != nil {
			t.Stop()
		}
	}
	l.done()
}

// release is a shard's part of a letting.
type release struct {
	group *letting
	slots map[cluster.Slot]bool
	lost  bool
	waits map[*entry]struct{}
}

// shardHurry has what still waits for a release end: 0: what runs, 1: what wants to be committed, 2: all of it.
type shardHurry struct {
	r     *release
	stage int
}

// Release lets go of the slots: no call is admitted any more, what runs ends, everything is checkpointed; then done. What
// still runs after 5 s is cancelled; what cannot be checkpointed within 7.5 s is given up, which loses nothing that was
// acknowledged. done is called after 8 s at the latest.
func (e *Engine) Release(slots []cluster.Slot, done func()) {
	e.letGo(slots, false, true, done)
}

// Lost stops the slots' actors without effect.
func (e *Engine) Lost(slots []cluster.Slot) {
	e.letGo(slots, true, false, func() {})
}

func (e *Engine) letGo(slots []cluster.Slot, lost, bounded bool, done func()) {
	var parts [shardCount]*release
	group := &letting{done: done}
	for _, slot := range slots {
		e.owned[slot].Store(nil)
		n := int(slot) % shardCount
		if parts[n] == nil {
			parts[n] = &release{group: group, lost: lost, slots: make(map[cluster.Slot]bool, 1+len(slots)/shardCount)}
			group.left.Add(1)
		}
		parts[n].slots[slot] = true
	}
	e.stats.hide(slots)
	e.waker.lost(slots)
	e.starter.lost(slots)
	e.tracers.moved(slots, e.slotOf)
	e.recorders.moved(slots, e.slotOf)
	group.left.Add(7) // the parts of the topics, of the sinks, of the sources, of the notifiers, of the readers, of the simulations, and of schedules and rules
	if bounded {
		for stage, after := range []time.Duration{releaseRunning, releaseCommits, releaseActors} {
			group.timers[stage] = time.AfterFunc(after, func() {
				for n, r := range parts {
					if r != nil {
						e.system.Root.Send(e.shards[n].pid, &shardHurry{r, stage})
					}
				}
			})
		}
	}
	for n, r := range parts {
		if r != nil {
			e.system.Root.Send(e.shards[n].pid, r)
		}
	}
	chosen := make(map[cluster.Slot]bool, len(slots))
	for _, slot := range slots {
		chosen[slot] = true
	}
	mine := func(s cluster.Slot) bool { return chosen[s] }
	e.streams.Release(mine, lost, group.shardDone)
	e.sinks.Release(mine, group.shardDone)
	e.notifiers.Release(mine, group.shardDone)
	e.readers.Release(mine, group.shardDone)
	e.automation.Release(mine, lost, group.shardDone)
	e.sources.Release(mine, group.shardDone)
	e.simulations.Release(mine, group.shardDone)
}

// release has the actors of some slots leave.
func (s *shard) release(r *release) {
	r.waits = map[*entry]struct{}{}
	for _, en := range s.entries {
		if !r.slots[en.slot] {
			continue
		}
		r.waits[en] = struct{}{}
		en.leaving = true
		if !en.stopping {
			s.pass(en, &leave{lost: r.lost})
		}
		parked := en.parked
		en.parked = nil
		for _, p := range parked {
			if w, ok := p.(refusable); ok {
				w.refuse(fmt.Errorf("%s: %w", en.id, cluster.ErrNotOwner))
			}
		}
	}
	if len(r.waits) == 0 {
		r.group.shardDone()
		return
	}
	s.releases = append(s.releases, r)
}

// left notes that an actor is gone, and ends the releases that are complete.
func (s *shard) left(en *entry) {
	if !en.leaving {
		return
	}
	kept := s.releases[:0]
	for _, r := range s.releases {
		delete(r.waits, en)
		if len(r.waits) > 0 {
			kept = append(kept, r)
		} else {
			r.group.shardDone()
		}
	}
	clear(s.releases[len(kept):])
	s.releases = kept
}

func (s *shard) hurry(m *shardHurry) {
	if len(m.r.waits) == 0 {
		return
	}
	if m.stage == 2 {
		// They have no effect any more; a call of the host's own that does not return holds them.
		s.e.log.Warn("released actors did not stop in time", "actors", len(m.r.waits))
		kept := s.releases[:0]
		for _, r := range s.releases {
			if r != m.r {
				kept = append(kept, r)
			}
		}
		clear(s.releases[len(kept):])
		s.releases = kept
		clear(m.r.waits)
		m.r.group.shardDone()
		return
	}
	for en := range m.r.waits {
		if en.stopping {
			continue
		}
		if m.stage == 0 {
			s.pass(en, (*hurry)(nil))
		} else {
			s.e.stats.drop(dropRelease)
			s.pass(en, &leave{lost: true})
		}
	}
}
