package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// simEngine is a handler: one twin at most per slot with one device, calls one at a time, each a device write and a checkpoint;
// besides, it writes to the devices that it holds every now and then, as drivers that poll do.
type simEngine struct {
	w     *world
	p     *proc
	owned [simTenures]*tenure
	// live are the tenures that may still have an effect.
	live [simTenures][]*tenure
	// started are the calls that began here, whatever became of them.
	started map[[16]byte]bool
}

// tenure is a slot of this process from Gained to Release or Lost.
type tenure struct {
	e       *simEngine
	own     Ownership
	lost    bool
	over    bool
	queue   []*simRun
	running bool
	writing int
	release func()
	// value is the twin's committed state as far as known: the slot and since of its last writer and the ids of the calls that ran.
	value  []byte
	loaded bool
	// here: the twin is known to live in this slot.
	here bool
	// unsure is when a checkpoint's outcome was last unknown.
	unsure time.Duration
}

type simRun struct {
	env  *Envelope
	done func(Reply)
}

func (e *simEngine) Gained(owned []Ownership) {
	for _, o := range owned {
		t := &tenure{e: e, own: o}
		i := tenureOf(o.Slot)
		e.owned[i] = t
		e.live[i] = append(e.live[i], t)
		e.w.at(e.w.between(0, 50*time.Millisecond), e.p, t.beat)
	}
}

func (e *simEngine) Handle(env *Envelope, done func(Reply)) {
	t := e.owned[tenureOf(e.p.node.SlotOf(env.Target.ID))]
	switch {
	case t == nil:
		done(Reply{Err: ErrNotOwner})
	case !e.p.node.LeaseValid():
		done(Reply{Err: ErrUnavailable})
	case len(t.queue) >= 50:
		done(Reply{Err: ErrOverloaded})
	default:
		t.queue = append(t.queue, &simRun{env, done})
		t.next()
	}
}

func (e *simEngine) Release(slots []Slot, done func()) {
	left := len(slots)
	for _, s := range slots {
		t := e.owned[tenureOf(s)]
		if t == nil {
			e.w.violated("%s releases slot %d, which its handler does not have", e.p.n.id, s)
			return
		}
		e.owned[tenureOf(s)] = nil
		t.refuseQueue()
		d := e.w.between(0, 5*time.Millisecond)
		if e.w.lossy && e.w.chance(3) {
			d = e.w.between(0, 3*time.Second)
		}
		e.w.at(d, e.p, func() {
			t.release = func() {
				if left--; left == 0 {
					done()
				}
			}
			t.ending()
		})
	}
}

func (e *simEngine) Lost(slots []Slot) {
	for _, s := range slots {
		if t := e.owned[tenureOf(s)]; t != nil {
			e.owned[tenureOf(s)] = nil
			t.refuseQueue()
		}
		for _, t := range slices.Clone(e.live[tenureOf(s)]) {
			t.lost = true
			t.ending()
		}
	}
}

func (t *tenure) refuseQueue() {
	for _, r := range t.queue {
		err := ErrNotOwner
		if t.e.started[r.env.ID] {
			err = ErrUnknown // its double runs
		}
		r.done(Reply{Err: err})
	}
	t.queue = nil
}

// ending ends the tenure when nothing of it runs any more.
func (t *tenure) ending() {
	if t.running || t.writing > 0 || t.over || t.release == nil && !t.lost || t.release != nil && t.e.p.stuck && !t.lost {
		return
	}
	if t.release == nil && t.lost {
		// A release may still be about to come; it finds the tenure over.
		t.e.forget(t)
		return
	}
	t.over = true
	t.e.forget(t)
	t.release()
}

func (e *simEngine) forget(t *tenure) {
	s := tenureOf(t.own.Slot)
	e.live[s] = slices.DeleteFunc(e.live[s], func(x *tenure) bool { return x == t })
}

// mayAct tells whether the handler may act on the slot now.
func (e *simEngine) mayAct(s Slot) bool {
	for _, t := range e.live[tenureOf(s)] {
		if !t.lost && !t.over {
			return e.p.node.LeaseValid()
		}
	}
	return false
}

// mayWrite tells whether a write to the device could begin here now.
func (e *simEngine) mayWrite(d int) bool {
	for i := d; i < simTenures; i += simSlots {
		for _, t := range e.live[i] {
			if !t.lost && !t.over && t.here && e.p.node.LeaseValid() {
				return true
			}
		}
	}
	return false
}

// write checks, and writes to the device a moment later; then goes on. False: it may not.
func (t *tenure) write(id *[16]byte, then func()) bool {
	p := t.e.p
	if t.lost || t.over || !t.here || !p.node.LeaseValid() {
		return false
	}
	t.writing++
	pauses := p.pauses
	t.e.w.at(t.e.w.between(0, 100*time.Microsecond), p, func() {
		t.writing--
		t.e.w.deviceWrite(t, id, p.pauses != pauses)
		then()
	})
	return true
}

// beat writes to the device every now and then.
func (t *tenure) beat() {
	if t.lost || t.over {
		return
	}
	if t.look() == nil {
		t.write(nil, t.ending)
	}
	t.e.w.at(t.e.w.between(200*time.Millisecond, 900*time.Millisecond), t.e.p, t.beat)
}

// next runs the next call.
func (t *tenure) next() {
	if t.running || len(t.queue) == 0 || t.lost {
		return
	}
	r := t.queue[0]
	t.queue = t.queue[1:]
	if err := t.look(); err != nil {
		if t.e.started[r.env.ID] {
			err = ErrUnknown // its double runs
		}
		r.done(Reply{Err: err})
		t.next()
		return
	}
	if !t.loaded {
		t.value, _ = simRecords{t.e.p}.Get("state", t.key())
		t.loaded = true
	}
	if !t.e.w.opt.noDedupe && (hasRun(t.value, r.env.ID) || t.e.started[r.env.ID]) {
		reply := Reply{}
		if !hasRun(t.value, r.env.ID) {
			reply.Err = ErrUnknown
		}
		t.loaded = false
		r.done(reply)
		t.next()
		return
	}
	t.e.started[r.env.ID] = true
	t.running = true
	w := t.e.w
	think := w.between(0, 20*time.Millisecond)
	if w.lossy && w.chance(1) {
		think = w.between(0, 2*time.Second)
	}
	w.at(think, t.e.p, func() {
		if !t.write(&r.env.ID, func() { t.checkpoint(r) }) {
			t.finish(r, Reply{Err: ErrUnavailable})
		}
	})
}

func (t *tenure) key() string { return slotKey(Slot(twinOf(t.own.Slot))) }

// checkpoint commits what the call did, and only then answers.
func (t *tenure) checkpoint(r *simRun) {
	next := appendRun(t.value, uint64(t.own.Slot)<<48|t.own.Since, r.env.ID)
	txn := Txn{Guards: []TableRecord{record("state", t.key(), t.value)}, Writes: []TableRecord{record("state", t.key(), next)}, Quiet: true}
	if !t.e.w.opt.noFence {
		txn.Guards = append(txn.Guards, record(t.own.Table, t.own.Key, t.own.Value))
	}
	if t.e.w.opt.ackEarly {
		r.done(Reply{})
		r.done = func(Reply) {}
	}
	if simTrace == "state"+t.key() {
		fmt.Println(t.e.w.now, t.e.p.n.id, "proposes", len(next), fmt.Sprintf("%x", r.env.ID[:4]), t.own.Since)
	}
	simRecords{t.e.p}.Commit(txn, func(err error) {
		if err == nil {
			t.value = next
			t.finish(r, Reply{})
			return
		}
		t.loaded = false
		if errors.Is(err, ErrUnknown) {
			t.unsure = t.e.w.now
		}
		t.finish(r, Reply{Err: fmt.Errorf("%w: %v", ErrUnknown, err)})
	})
}

func (t *tenure) finish(r *simRun, reply Reply) {
	r.done(reply)
	t.running = false
	t.ending()
	t.next()
}

// A twin's state is the slot and since of its last writer and the ids of the calls that ran.

func appendRun(value []byte, since uint64, id [16]byte) []byte {
	next := binary.BigEndian.AppendUint64(nil, since)
	if len(value) > 8 {
		next = append(next, value[8:]...)
	}
	return append(next, id[:]...)
}

func hasRun(value []byte, id [16]byte) bool {
	for i := 8; i < len(value); i += 16 {
		if bytes.Equal(value[i:i+16], id[:]) {
			return true
		}
	}
	return false
}

// simTransport brings envelopes to other processes: late, twice, or not at all.
type simTransport struct{ p *proc }

func (t simTransport) Send(node string, env *Envelope, done func(Reply)) {
	w, from := t.p.w, t.p.n.idx
	to := slices.IndexFunc(w.nodes, func(n *simNode) bool { return n.id == node })
	answered := false
	answer := func(d time.Duration, r Reply) {
		w.at(d, t.p, func() {
			if !answered {
				answered = true
				done(r)
			}
		})
	}
	if to < 0 || !w.reaches(from, to) || !w.reaches(to, from) && w.chance(50) {
		answer(w.between(0, 5*time.Millisecond), Reply{Err: ErrUnavailable})
		return
	}
	answer(3*time.Second, Reply{Err: t.lost()})
	first := w.hop(from, to)
	t.deliver(first, to, env, answer)
	if c := w.byID[env.ID]; c != nil && w.lossy && w.chance(3) {
		c.doubled = true
		t.deliver(first+w.hop(from, to), to, env, func(time.Duration, Reply) {})
	}
}

// lost is the answer to a call whose own is lost.
func (t simTransport) lost() error {
	if t.p.w.opt.unsent {
		return ErrUnavailable
	}
	return ErrUnknown
}

func (t simTransport) deliver(d time.Duration, to int, env *Envelope, answer func(time.Duration, Reply)) {
	w, from := t.p.w, t.p.n.idx
	w.at(d, nil, func() {
		p := w.nodes[to].proc
		if p == nil {
			answer(0, Reply{Err: ErrUnavailable})
			return
		}
		w.at(0, p, func() {
			w.trace(env.ID, "%s receives since %d", p.n.id, env.Since)
			p.node.Receive(env, func(r Reply) {
				w.trace(env.ID, "%s replies %v", p.n.id, r.Err)
				if !w.reaches(to, from) {
					r = Reply{Err: t.lost()}
				}
				answer(w.hop(to, from), r)
			})
		})
	})
}
