package actors

import (
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/polluxhq/pollux/actors/wheel"
	"github.com/polluxhq/pollux/cluster"
)

// entry is an active actor as its shard knows it.
//
// Tokens count what is in flight: messages on their way, and work outside that will send one. Only the shard raises
// them from zero; whoever holds a token may pass it on to a message straight to the actor. The shard stops an actor
// only at zero, so that no message is behind the stop.
type entry struct {
	wheel.Node[*entry]
	id     string
	shard  *shard
	slot   cluster.Slot
	pid    *actor.PID
	tokens atomic.Int32
	// used is when somebody last wanted it, by nowMS.
	used atomic.Int64
	// stopping and parked belong to the shard: messages for an actor that is being stopped, for its next life.
	stopping bool
	parked   []turn
}

// turn is a message to a twin.
type turn interface{ run(t *twin) }

// refusable is a turn that somebody waits for.
type refusable interface {
	turn
	refuse(err error)
}

// send passes a message to the actor. The caller holds a token, which goes with it.
func (en *entry) send(m turn) { en.shard.e.system.Root.Send(en.pid, m) }

// shard runs the actors of some slots. It is an actor, too: what follows runs in its turns.
type shard struct {
	e     *Engine
	pid   *actor.PID
	wheel *wheel.Wheel[*entry]
	queue atomic.Int32 // calls that wait in the shard's mailbox

	entries  map[string]*entry
	byPID    map[string]*entry
	serial   uint64
	releases []*release
}

// release is a group of slots that are let go.
type release struct {
	slots map[cluster.Slot]bool
	left  int
	done  func()
}

type (
	// call is an envelope on its way to a twin.
	call struct {
		env  *cluster.Envelope
		done func(cluster.Reply)
		slot cluster.Slot
	}
	shardDue  struct{ entries []*entry }
	shardIdle struct{ en *entry }
	// shardAsk asks whether an actor is in memory.
	shardAsk struct {
		id     string
		answer chan bool
	}
	// shardTurn brings a message to a twin, which is activated where activate is set.
	shardTurn struct {
		id       string
		turn     turn
		activate bool
	}
	// shardEach brings a message to each active twin.
	shardEach    struct{ make func(en *entry) turn }
	shardRelease struct {
		slots map[cluster.Slot]bool
		lost  bool
		done  func()
	}
	// shardFirst gives a watcher the state of a twin.
	shardFirst struct {
		id  string
		sub *Subscription
		// fn is called after it.
		fn func()
	}
)

func newShard(e *Engine, n int) (*shard, error) {
	s := &shard{e: e, wheel: wheel.New[*entry](tick, wheelBuckets, e.nowMS()),
		entries: map[string]*entry{}, byPID: map[string]*entry{}}
	props := actor.PropsFromFunc(s.receive, actor.WithDispatcher(&e.routines))
	pid, err := e.system.Root.SpawnNamed(props, fmt.Sprintf("s%d", n))
	s.pid = pid
	return s, err
}

func (s *shard) receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *call:
		s.queue.Add(-1)
		s.handle(c, m)
	case *shardDue:
		s.due(m)
	case *shardIdle:
		s.idle(c, m.en)
	case *shardAsk:
		m.answer <- s.entries[m.id] != nil
	case *shardTurn:
		if en := s.entries[m.id]; en != nil || m.activate {
			s.forward(c, m.id, cluster.SlotOf(m.id), m.turn, false)
		}
	case *shardEach:
		for _, en := range s.entries {
			if !en.stopping {
				s.pass(en, m.make(en))
			}
		}
	case *shardFirst:
		s.first(m)
	case *shardRelease:
		s.release(c, m)
	case *actor.Terminated:
		s.terminated(c, m.Who)
	}
}

func (s *shard) handle(c actor.Context, m *call) {
	if en := s.entries[m.env.Target.ID]; en != nil && int(en.tokens.Load())+len(en.parked) >= s.e.o.TwinQueue {
		s.e.stats.drop(dropTwinFull)
		m.refuse(fmt.Errorf("twin %s: %w", en.id, cluster.ErrOverloaded))
		return
	}
	s.forward(c, m.env.Target.ID, m.slot, m, true)
}

// forward passes a message to an actor, activated if need be. used says that somebody wants the actor.
func (s *shard) forward(c actor.Context, id string, slot cluster.Slot, m turn, used bool) {
	en := s.entries[id]
	if en == nil {
		if s.e.owned[slot].Load() == nil {
			if r, ok := m.(refusable); ok {
				r.refuse(fmt.Errorf("%s: slot %d: %w", id, slot, cluster.ErrNotOwner))
			}
			return
		}
		en = &entry{id: id, shard: s, slot: slot}
		en.Value = en
		s.entries[id] = en
		en.used.Store(s.e.nowMS())
		s.spawn(c, en)
	}
	if en.stopping {
		en.parked = append(en.parked, m)
		return
	}
	if used {
		en.used.Store(s.e.nowMS())
	}
	s.pass(en, m)
}

func (s *shard) pass(en *entry, m turn) {
	en.tokens.Add(1)
	en.send(m)
}

func (s *shard) spawn(c actor.Context, en *entry) {
	s.serial++
	pid, err := c.SpawnNamed(s.e.props, en.id+"~"+strconv.FormatUint(s.serial, 36))
	if err != nil {
		// Names are unique by their serial number: this cannot happen, and must not be survived quietly.
		panic(fmt.Errorf("spawn %s: %w", en.id, err))
	}
	en.pid = pid
	s.byPID[pid.Id] = en
	s.pass(en, &activate{en})
}

func (s *shard) due(m *shardDue) {
	for _, en := range m.entries {
		if s.entries[en.id] == en && !en.stopping {
			s.pass(en, (*tock)(nil))
		}
	}
}

// idle stops an actor that asked for it, unless something is on its way to it.
func (s *shard) idle(c actor.Context, en *entry) {
	if s.entries[en.id] != en || en.stopping || en.tokens.Load() != 0 {
		return
	}
	en.stopping = true
	c.Stop(en.pid)
}

func (s *shard) terminated(c actor.Context, who *actor.PID) {
	en := s.byPID[who.Id]
	if en == nil {
		return
	}
	delete(s.byPID, who.Id)
	delete(s.entries, en.id)
	s.wheel.Remove(&en.Node)
	for _, m := range en.parked {
		s.forward(c, en.id, en.slot, m, true)
	}
	en.parked = nil
	s.releases = remaining(s.releases, en.slot)
}

// remaining notes that an actor of the slot is gone, and drops the releases that are complete.
func remaining(all []*release, slot cluster.Slot) []*release {
	kept := all[:0]
	for _, r := range all {
		if r.slots[slot] {
			r.left--
		}
		if r.left > 0 {
			kept = append(kept, r)
		} else {
			r.done()
		}
	}
	clear(all[len(kept):])
	return kept
}

func (s *shard) release(c actor.Context, m *shardRelease) {
	r := &release{slots: m.slots, done: m.done}
	for _, en := range s.entries {
		if !m.slots[en.slot] {
			continue
		}
		r.left++
		if !en.stopping {
			s.pass(en, &leave{lost: m.lost})
		}
		for _, p := range en.parked {
			if w, ok := p.(refusable); ok {
				w.refuse(fmt.Errorf("%s: %w", en.id, cluster.ErrNotOwner))
			}
		}
		en.parked = nil
	}
	if r.left == 0 {
		r.done()
		return
	}
	s.releases = append(s.releases, r)
}

// refuse answers a call that did not run.
func (m *call) refuse(err error) { m.done(cluster.Reply{Err: err}) }
