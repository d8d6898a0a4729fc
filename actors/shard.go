package actors

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/polluxhq/pollux/actors/wheel"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
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
	// mailed are the messages that are in its mailbox or have their turn out of it. mu is held for a turn: the shard takes turns, too.
	mailed atomic.Int32
	mu     sync.Mutex
	twin   *twin
	// used is when somebody last wanted it, by nowMS.
	used atomic.Int64
	// load and bytes are what waits inside of the actor, as of its last turn.
	load, bytes atomic.Int32
	// calls are those that it has taken and not answered. They belong to its turns.
	calls *call
	// stopping, leaving and parked belong to the shard: messages for an actor that is being stopped, or whose slot is let
	// go, for its next life.
	stopping, leaving bool
	parked            []turn
	// link and high are the sender and number of the newest frame that was let in. They belong to the shard.
	link, high uint64
	// tells is a topic that it has told something; see twin.tells.
	tells atomic.Pointer[string]
}

// stop has the shard stop the actor, unless something is on its way to it by then.
func (en *entry) stop() { en.shard.e.system.Root.Send(en.shard.pid, &shardIdle{en}) }

// full says whether the actor may not be given more.
func (en *entry) full(o *Options) bool {
	return int(en.tokens.Load())+int(en.load.Load())+len(en.parked) >= o.TwinQueue || int(en.bytes.Load()) >= o.TwinBytes
}

// inOrder says whether the frame that was sent before this one, if it has no answer yet, was let in here.
func (en *entry) inOrder(f *actorv1.Frame) bool {
	return f.Previous == 0 || en != nil && en.link == f.Link && f.Previous <= en.high
}

// letIn notes that a frame was let in. en may be nil.
func (en *entry) letIn(f *actorv1.Frame) {
	if en != nil && f.Link != 0 {
		en.link, en.high = f.Link, f.Sequence
	}
}

// turn is a message to a twin.
type turn interface{ run(t *twin) }

// refusable is a turn that somebody waits for.
type refusable interface {
	turn
	refuse(err error)
}

// send passes a message to the actor. The caller holds a token, which goes with it.
func (en *entry) send(m turn) {
	en.mailed.Add(1)
	en.shard.e.system.Root.Send(en.pid, m)
}

// shard runs the actors of some slots. It is an actor, too: what follows runs in its turns.
type shard struct {
	e     *Engine
	pid   *actor.PID
	wheel *wheel.Wheel[*entry]
	queue atomic.Int32 // calls in the tray

	tray tray

	entries  map[string]*entry
	byPID    map[string]*entry
	serial   uint64
	turns    uint64 // messages that it received
	releases []*release
}

type (
	// call is an envelope on its way to a twin.
	call struct {
		env  *cluster.Envelope
		done func(cluster.Reply)
		slot cluster.Slot

		answered bool
		// en is the actor that took it; prev and next are other calls that it has not answered.
		en         *entry
		prev, next *call
	}
	shardDue  struct{ entries []*entry }
	shardIdle struct{ en *entry }
	// shardDead says that an actor has no effect any more: what comes for it is its next life's.
	shardDead struct{ en *entry }
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
	shardEach struct{ make func(en *entry) turn }
	// shardFirst gives a watcher the state of a twin.
	shardFirst struct {
		id  string
		sub *Subscription
		// fn is called after it.
		fn func()
	}
)

func newShard(e *Engine, n int) (*shard, error) {
	s := &shard{e: e, wheel: wheel.New[*entry](e.tickMS(), wheelBuckets, e.nowMS()),
		entries: map[string]*entry{}, byPID: map[string]*entry{}}
	props := actor.PropsFromFunc(s.receive, actor.WithDispatcher(&e.turns))
	pid, err := e.system.Root.SpawnNamed(props, fmt.Sprintf("s%d", n))
	s.pid = pid
	return s, err
}

func (s *shard) receive(c actor.Context) {
	s.turns++
	switch m := c.Message().(type) {
	case *collect:
		s.empty(c)
	case *shardDue:
		s.due(m)
	case *shardIdle:
		s.idle(c, m.en)
	case *shardDead:
		m.en.leaving = true
	case *shardAsk:
		m.answer <- s.entries[m.id] != nil
	case *shardLook:
		s.turns-- // it changes nothing
		m.answer <- look{busy: s.count(), turns: s.turns}
	case *shardTurn:
		s.bring(c, m)
	case *shardEach:
		for _, en := range s.entries {
			if !en.stopping && !en.leaving {
				s.pass(en, m.make(en))
			}
		}
	case *shardFirst:
		s.first(m)
	case *release:
		s.release(m)
	case *shardHurry:
		s.hurry(m)
	case *actor.Terminated:
		s.terminated(c, m.Who)
	}
}

func (s *shard) handle(c actor.Context, m *call) {
	en := s.entries[m.env.Target.ID]
	f, frame := m.env.Message.(*actorv1.Frame)
	if frame && !en.inOrder(f) {
		m.refuse(fmt.Errorf("twin %s: behind a frame that waits: %w", m.env.Target.ID, cluster.ErrOverloaded))
		return
	}
	if frame && en != nil && s.e.outbox.isBehind(en.tells.Load()) {
		m.refuse(fmt.Errorf("twin %s: what is told to the topic %s waits: %w", en.id, *en.tells.Load(), cluster.ErrOverloaded))
		return
	}
	if _, told := m.env.Message.(*actorv1.Notices); en != nil && (en.full(&s.e.o) || told && int(en.tokens.Load()) > s.e.o.TwinQueue/2) {
		// Of those that tell it something there may be thousands at once, and they come again: half of the room is for others.
		s.e.stats.drop(dropTwinFull)
		m.refuse(fmt.Errorf("twin %s: %w", en.id, cluster.ErrOverloaded))
		return
	}
	now := s.actor(c, en, m.env.Target.ID, m.slot, m)
	if now != nil {
		en = now
		en.used.Store(s.tray.tick)
		en.tokens.Add(1)
		s.take(en, m, frame)
	}
	if frame {
		en.letIn(f)
	}
}

// bring brings a twin a message from elsewhere.
func (s *shard) bring(c actor.Context, m *shardTurn) {
	if en := s.entries[m.id]; en != nil && !en.leaving || m.activate {
		s.forward(c, m.id, s.e.slotOf(m.id), m.turn, false)
	}
}

// forward passes a message to an actor, activated if need be. used says that somebody wants the actor.
func (s *shard) forward(c actor.Context, id string, slot cluster.Slot, m turn, used bool) {
	en := s.actor(c, s.entries[id], id, slot, m)
	if en == nil {
		return
	}
	if used {
		en.used.Store(s.e.nowMS())
	}
	s.pass(en, m)
}

// actor gives the actor that a message is for: en, activated where that is nil. nil: the message is parked for its next life, or was refused.
func (s *shard) actor(c actor.Context, en *entry, id string, slot cluster.Slot, m turn) *entry {
	if en == nil {
		if s.e.owned[slot].Load() == nil {
			if r, ok := m.(refusable); ok {
				r.refuse(fmt.Errorf("%s: slot %d: %w", id, slot, cluster.ErrNotOwner))
			}
			return nil
		}
		en = &entry{id: id, shard: s, slot: slot}
		en.Value = en
		s.entries[id] = en
		en.used.Store(s.e.nowMS())
		s.spawn(c, en)
	}
	if en.stopping || en.leaving {
		en.parked = append(en.parked, m)
		return nil
	}
	return en
}

// frameOf gives the frame that a message is, or nil.
func frameOf(m turn) *actorv1.Frame {
	if c, ok := m.(*call); ok {
		f, _ := c.env.Message.(*actorv1.Frame)
		return f
	}
	return nil
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
	parked := en.parked
	en.parked = nil
	for _, m := range parked {
		f := frameOf(m)
		if f != nil && !s.entries[en.id].inOrder(f) {
			// The one before it may have ended with that life, and come again.
			m.(*call).refuse(fmt.Errorf("twin %s: behind a frame that may come again: %w", en.id, cluster.ErrOverloaded))
			continue
		}
		s.forward(c, en.id, s.e.slotOf(en.id), m, true)
		if f != nil {
			s.entries[en.id].letIn(f)
		}
	}
	s.left(en)
}

// refuse answers a call that did not run.
func (m *call) refuse(err error) { m.answer(cluster.Reply{Err: err}) }

// answer answers a call, once.
func (m *call) answer(r cluster.Reply) {
	if m.answered {
		return
	}
	m.answered = true
	if m.en != nil {
		m.unlink()
	}
	m.done(r)
}

// link notes that the actor has taken the call.
func (m *call) link(en *entry) {
	m.en, m.next = en, en.calls
	if m.next != nil {
		m.next.prev = m
	}
	en.calls = m
}

func (m *call) unlink() {
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		m.en.calls = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	}
	m.en, m.prev, m.next = nil, nil, nil
}
