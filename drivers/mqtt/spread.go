package mqtt

import (
	"errors"
	"fmt"
	"sync"
	"time"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

func nowMillis() int64 { return time.Now().UnixMilli() }

// joined gives a done for n parts of one message: the first that may go well later counts most, then a refusal.
func joined(n int, done func(error)) func(error) {
	j := &parts{left: n, done: done}
	return j.one
}

type parts struct {
	mu      sync.Mutex
	left    int
	again   error
	refused error
	done    func(error)
}

func (j *parts) one(err error) {
	j.mu.Lock()
	if err != nil {
		if refusalOf(err) != nil {
			j.refused = err
		} else {
			j.again = err
		}
	}
	j.left--
	left, result := j.left, j.again
	if result == nil {
		result = j.refused
	}
	j.mu.Unlock()
	if left <= 0 {
		j.done(result)
	}
}

// plan is what becomes of one message: what is committed first, and whom it then reaches.
type plan struct {
	b      *Broker
	m      *message
	queues []*queued
	all    map[string]struct{} // nodes that have live subscribers
	groups map[string][]string // node → shared subscriptions of which it picks a member
	writes []storage.Write
	after  []func(error)
	once   bool // its sender does not wait for room in the store
}

// spread gives a message to all who subscribe to its topic, wherever they are, and keeps it where it is to be retained. done
// is called when what has to be committed is, from any goroutine and also from within. It does not block but for room in the
// store, where a client sent it.
func (b *Broker) spread(m *message, a *audience, done func(error)) {
	if a.empty() && !m.retain {
		done(nil)
		return
	}
	p := &plan{b: b, m: m, once: m.from == ""}
	for _, t := range a.plain {
		if !p.give(t, "") {
			b.stats.droppedQueue.Inc()
		}
	}
	for _, g := range a.groups {
		p.share(g)
	}
	p.forward()
	if m.retain {
		b.retain(p)
	}
	p.commit(done)
}

// share has one member of a shared subscription get the message: in turn among those that are connected, else among those that have
// a queue. One whose queue is full is passed over where another has room.
func (p *plan) share(g *group) {
	n := len(g.members)
	at := int(p.b.turn.Add(1) % uint64(n))
	full := false
	for _, away := range []bool{false, true} {
		for i := range n {
			t := g.members[(at+i)%n]
			place := t.of.place.Load()
			queue := place != nil && place.keeps && min(p.m.qos, t.qos) > 0
			if place == nil || place.away != away || away && !queue {
				continue
			}
			if p.give(t, g.name) {
				return
			}
			full = true
		}
	}
	if full {
		p.b.stats.droppedQueue.Inc()
	}
}

// passOn gives a message of a shared subscription to another member than the one that went. done is called as with spread.
func (b *Broker) passOn(o *outgoing, done func(error)) {
	p := &plan{b: b, m: o.m}
	for _, g := range b.audienceOf(o.m.topic).groups {
		if g.name == o.share {
			p.share(g)
		}
	}
	p.forward()
	p.commit(done)
}

// give has one client get the message: by its queue, by its connection here, or by its node. False: of a shared subscription another member is to.
func (p *plan) give(t *target, shared string) bool {
	qos := min(p.m.qos, t.qos)
	place := t.of.place.Load()
	if place == nil || t.noLocal && t.of.id == p.m.from {
		return true
	}
	s := t.of.here.Load()
	if qos > 0 && place.keeps {
		if !p.b.hasRoom(t.of, place.birth, p.m.size(), 1) {
			return false
		}
		p.queue(t, place.birth, qos, shared)
		return true
	}
	switch {
	case s != nil:
		return s.send(p.outgoing(t, qos, shared)) || shared == ""
	case place.away || place.node == p.b.self:
		return shared == ""
	case shared != "":
		if p.groups == nil {
			p.groups = map[string][]string{}
		}
		p.groups[place.node] = append(p.groups[place.node], shared)
	default:
		if p.all == nil {
			p.all = map[string]struct{}{}
		}
		p.all[place.node] = struct{}{}
	}
	return true
}

func (p *plan) outgoing(t *target, qos byte, shared string) *outgoing {
	return &outgoing{m: p.m, qos: qos, retain: p.m.retain && t.asPublished, identifiers: t.identifiers, share: shared}
}

// queue plans a write into the client's queue, which has room.
func (p *plan) queue(t *target, birth uint64, qos byte, shared string) {
	q := &queued{c: t.of, birth: birth, o: p.outgoing(t, qos, shared)}
	w, err := p.b.enqueue(q)
	if err != nil {
		p.b.log.Error("mqtt message cannot be encoded", "topic", p.m.topic, "error", err)
		return
	}
	p.queues = append(p.queues, q)
	p.writes = append(p.writes, w)
}

// forward sends the message to other nodes' live subscribers, once each.
func (p *plan) forward() {
	if p.all == nil && p.groups == nil {
		return
	}
	r := p.m.record()
	for node := range p.all {
		p.b.linkTo(node).add(&actorv1.MqttForward{Message: r, All: true, Groups: p.groups[node]})
		delete(p.groups, node)
	}
	for node, groups := range p.groups {
		p.b.linkTo(node).add(&actorv1.MqttForward{Message: r, Groups: groups})
	}
}

// commit writes what the plan has to, in as many transactions as it takes, then has the clients get what is in their queues.
func (p *plan) commit(done func(error)) {
	if len(p.writes) == 0 {
		done(nil)
		return
	}
	var txns []*storage.Txn
	size := 0
	for _, w := range p.writes {
		if len(txns) == 0 || size+len(w.Value) > writesBytes {
			txns, size = append(txns, &storage.Txn{}), 0
		}
		t := txns[len(txns)-1]
		t.Writes = append(t.Writes, w)
		size += len(w.Key) + len(w.Value) + 32
	}
	all := joined(len(txns), func(err error) {
		for _, f := range p.after {
			f(err)
		}
		if err == nil {
			for _, q := range p.queues {
				p.b.arrived(q)
			}
		}
		done(err)
	})
	for _, t := range txns {
		p.b.submit(t, p.once, all)
	}
}

// writesBytes is what one transaction of a message's copies has at most, in bytes, unless one has more alone.
const writesBytes = 128 << 10

// submit offers a transaction until there is room, which holds back whose message it is, or once. done gets the result.
func (b *Broker) submit(t *storage.Txn, once bool, done func(error)) {
	for began := time.Now(); ; {
		err := b.store.Submit(t, func(r storage.Result) { done(r.Err) })
		switch {
		case err == nil:
			return
		case once || !errors.Is(err, storage.ErrBusy) || b.ctx.Err() != nil || time.Since(began) > b.limits.CommitTimeout:
			done(fmt.Errorf("queue mqtt message: %w", err))
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// local gives a message that another node's client published to the live subscribers that are connected here.
func (b *Broker) local(f *actorv1.MqttForward) {
	m := messageOf(f.Message)
	a := b.audienceOf(m.topic)
	p := &plan{b: b, m: m}
	if f.All {
		for _, t := range a.plain {
			p.giveHere(t, "")
		}
	}
	for _, name := range f.Groups {
		for _, g := range a.groups {
			if g.name == name {
				p.giveOne(g)
			}
		}
	}
}

// giveHere sends to a client that is connected here and has no queue for the message.
func (p *plan) giveHere(t *target, shared string) bool {
	s := t.of.here.Load()
	qos := min(p.m.qos, t.qos)
	if s == nil || qos > 0 && s.keeps || t.noLocal && t.of.id == p.m.from {
		return false
	}
	return s.send(p.outgoing(t, qos, shared))
}

// giveOne sends to one member of a shared subscription.
func (p *plan) giveOne(g *group) {
	n := len(g.members)
	at := int(p.b.turn.Add(1) % uint64(n))
	for i := range n {
		if p.giveHere(g.members[(at+i)%n], g.name) {
			return
		}
	}
	p.b.stats.droppedOut.Inc() // the member left while the message was on its way
}

// Hear gives a message to the clients that are connected here: of a node whose broker keeps no records, and sends each message
// to every node.
func (b *Broker) Hear(topic string, payload []byte, qos byte, retain bool) {
	m := newMessage(topic, payload, min(qos, 2), retain, nil, "")
	a := b.audienceOf(topic)
	p := &plan{b: b, m: m}
	for _, t := range a.plain {
		if s := t.of.here.Load(); s != nil {
			s.send(p.outgoing(t, min(m.qos, t.qos), ""))
		}
	}
	for _, g := range a.groups {
		p.giveOne(g)
	}
}
