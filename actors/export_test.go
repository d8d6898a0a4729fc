package actors

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Crash has a turn of a twin panic that has taken the first event and the first command in hand.
func (e *Engine) Crash(id string) { e.activate(id, crash{}) }

// Stuff gives a twin more samples than a transaction can carry.
func (e *Engine) Stuff(id string) { e.activate(id, stuff{}) }

type stuff struct{}

func (stuff) run(t *twin) {
	s := t.saves()
	for i := range int64(10_000) {
		s.samples = append(s.samples, storage.Sample{Property: strings.Repeat("x", 100), Time: 1e12 + i, Value: 1})
	}
}

type crash struct{}

func (crash) run(t *twin) {
	if w := t.work; w != nil {
		if len(w.events) > 0 {
			w.popEvent()
		}
		if len(w.commands) > 0 {
			w.take(0)
		}
		w.call = nil
	}
	panic("as the test wished")
}

// Blame gives a twin a fault.
func (e *Engine) Blame(id, fault string) { e.activate(id, blame(fault)) }

type blame string

func (b blame) run(t *twin) { t.fault(string(b), drivers.EventReceived) }

// Mishear has a twin that computes properties take a value for what another one says, and ask that one again in an hour, or when it is told to.
func (e *Engine) Mishear(id, source, property string, x float64) {
	e.activate(id, &mishear{source, property, x})
}

type mishear struct {
	source, property string
	x                float64
}

func (m *mishear) run(t *twin) {
	d := t.deriving
	d.failed, d.againAt = append(d.failed, m.source), t.nowMS()+3_600_000
	for _, c := range d.list {
		if c.state.Set(m.source, m.property, derive.Reading{Value: state.NumberValue(m.x), Good: true}) {
			c.dirty, d.dirty = true, true
		}
	}
}

// AskAgain has a twin ask again now those that it could not ask.
func (e *Engine) AskAgain(id string) { e.activate(id, askAgain{}) }

type askAgain struct{}

func (askAgain) run(t *twin) { t.deriving.againAt = 0 }

// Hold has the shard of a twin stand still until the function it gives is called.
func (e *Engine) Hold(id string) (goOn func()) {
	stands, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := e.shardOf(slotOf(id))
	s.e.system.Root.Send(s.pid, &shardEach{make: func(*entry) turn {
		once.Do(func() { close(stands); <-release })
		return (*nudge)(nil)
	}})
	<-stands
	return func() { close(release) }
}

// Tray is how many calls wait in the tray of a twin's shard.
func (e *Engine) Tray(id string) int { return int(e.shardOf(slotOf(id)).queue.Load()) }

// Absorb gives a twin without a driver a message, as a door does, and waits until it is committed.
func (e *Engine) Absorb(id, payload string, at int64, historical bool) Absorbed {
	m := &absorbing{payload: payload, at: at, historical: historical, done: make(chan Absorbed, 1)}
	full, err := CanonicalID(id)
	if err != nil {
		return Absorbed{Err: err}
	}
	e.activate(full, m)
	select {
	case r := <-m.done:
		return r
	case <-time.After(time.Minute):
		return Absorbed{Err: ErrClosed}
	}
}

// Absorbed is what became of a message.
type Absorbed struct {
	Taken, Ignored int
	Refused        []string
	Err            error
}

type absorbing struct {
	payload    string
	at         int64
	historical bool
	done       chan Absorbed
}

func (m *absorbing) run(t *twin) {
	x := intakeRooms.Get().(*intakeRoom)
	defer x.free()
	out := t.take(x, t.read(x, []byte(m.payload), m.at), m.historical)
	r := Absorbed{Taken: out.taken, Ignored: out.ignored}
	for _, x := range out.refused {
		r.Refused = append(r.Refused, x.Code+" "+x.Property)
	}
	t.whenSaved(func(err error) {
		r.Err = err
		m.done <- r
	})
}

// Crowd has messages of a twin of this node wait for a topic, with so many bytes together as far as the outbox counts them.
func (e *Engine) Crowd(id, topic string, bytes int) {
	const each = 32 << 10
	slot := e.slotOf(id)
	var all []outgoing
	for i := range bytes / each {
		key := fmt.Sprintf("%s%s\x00crowd%06d", slotKey(slot), id, i)
		all = append(all, outgoing{slot: slot, own: e.owned[slot].Load(), key: key, topic: topic, size: each,
			m: &pb.TopicMessage{Key: id, Id: key, Payload: []byte(`{}`)}})
	}
	e.outbox.mu.Lock()
	defer e.outbox.mu.Unlock()
	for _, x := range all {
		e.outbox.take(x)
	}
}

// MaxOutboxBytes are what may wait on a node.
const MaxOutboxBytes = maxOutboxBytes

// Found puts a device into the inbox that a scan has found, and gives the note of why not.
func (r *Registry) Found(ctx context.Context, project, driver string, d drivers.Discovery) string {
	_, note := r.found(ctx, project, driver, d, &addresses{r: r, project: project})
	return note
}

// AliasKey is the key of a sender's entry of the inbox.
func AliasKey(project string, a *pb.Alias) string {
	return aliasKey(project, a.Network, a.Key, a.Value)
}
