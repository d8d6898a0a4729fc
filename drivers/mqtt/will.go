package mqtt

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// willOf is the will of a CONNECT; nil: it has none.
func willOf(pk *packets.Packet, client string) *actorv1.MqttWill {
	c := &pk.Connect
	if !c.WillFlag {
		return nil
	}
	props := c.WillProperties
	delay := props.WillDelayInterval
	props.WillDelayInterval = 0
	expiry := props.MessageExpiryInterval // counts from its publication
	m := newMessage(c.WillTopic, c.WillPayload, c.WillQos, c.WillRetain, &props, client).record()
	m.Expires = int64(expiry)
	return &actorv1.MqttWill{Message: m, Delay: delay}
}

// dueWill is a will on its way to those whom it is for.
type dueWill struct {
	b          *Broker
	client     string
	connection uint64
	message    *message // for subscribers
	out        *Message // for the handler
	over       func()   // nil: nobody waits for it

	spread, delivered bool  // taken there, or refused for good; of the round before while one goes on
	doubled           uint8 // how often the wait between rounds was
	taken             atomic.Bool
}

// willDoubled is how often the wait until a will that was not taken is tried again is doubled: from sweepEvery to 8 s.
const willDoubled = 4

// publishWill gives the will of a client that was lost to subscribers and to the handler, again and again until both have
// taken or refused it, or the broker closes. It does not block; over is called when they have, from any goroutine, if it is
// not nil. It returns false where too many are on their way.
func (b *Broker) publishWill(id string, r *actorv1.MqttSession, over func()) (*dueWill, bool) {
	if b.pendingWills.Add(1) > int64(b.limits.PendingWills) {
		b.pendingWills.Add(-1)
		return nil, false
	}
	b.stats.wills.Inc()
	m := messageOf(r.Will.Message)
	if m.expires > 0 {
		m.expires = nowMillis() + m.expires*1000
	}
	grant := &Grant{Key: r.Key}
	if s := b.connected(id); s != nil && s.connection == r.Connection {
		grant = s.grant
	}
	w := &dueWill{b: b, client: id, connection: r.Connection, message: m, over: over, out: &Message{Client: id, User: r.User, Topic: m.topic,
		Payload: append([]byte{}, m.payload...), QoS: m.qos, Retain: m.retain, Will: true, Grant: grant}}
	w.publish()
	return w, true
}

// willWithin is how long the end of a connection waits for its will to be taken.
const willWithin = 100 * time.Millisecond

// passWill publishes the will of a connection that was lost, and says whether it is taken already. Else the record keeps it until it is.
func (s *session) passWill(r *actorv1.MqttSession) bool {
	b := s.b
	taken := make(chan struct{})
	w, ok := b.publishWill(s.id, r, func() {
		close(taken)
		b.tellTaken(s.id)
	})
	if !ok {
		return false
	}
	s.client.will.Store(w)
	wait := time.NewTimer(willWithin)
	defer wait.Stop()
	select {
	case <-taken:
		s.client.will.CompareAndSwap(w, nil)
		return true
	case <-wait.C:
		return false
	}
}

// tellTaken has the session of a client settled whose will was taken.
func (b *Broker) tellTaken(id string) {
	select {
	case b.willsTaken <- id:
	default: // the next sweep sees it
	}
}

// publishLostWill publishes one that no record has any more: this node alone knows of it.
func (b *Broker) publishLostWill(id string, r *actorv1.MqttSession) {
	if _, ok := b.publishWill(id, r, nil); !ok {
		b.stats.droppedWills.Inc()
	}
}

// publish is a round: it gives the will to who has not taken it.
func (w *dueWill) publish() {
	b := w.b
	var spread, delivered atomic.Bool
	spread.Store(w.spread)
	delivered.Store(w.delivered)
	done := joined(2, func(error) {
		w.spread, w.delivered = spread.Load(), delivered.Load()
		if w.spread && w.delivered {
			b.pendingWills.Add(-1)
			w.taken.Store(true)
			if w.over != nil {
				w.over()
			}
			return
		}
		wait := sweepEvery << w.doubled
		w.doubled = min(w.doubled+1, willDoubled)
		time.AfterFunc(wait, func() {
			if !b.closing.Load() {
				w.publish()
			} else if w.over == nil {
				b.stats.droppedWills.Inc() // no record has it
			}
		})
	})
	part := func(taken *atomic.Bool) func(error) {
		var called atomic.Bool
		return func(err error) {
			if !called.CompareAndSwap(false, true) {
				b.stats.doneTwice.Inc()
				return
			}
			if r := refusalOf(err); r != nil {
				b.stats.refused(r.Label)
			} else if err != nil {
				b.quiet.log(b.log, slog.LevelWarn, "mqtt will not taken yet, tried again", "client", w.client, "topic", w.message.topic, "error", err)
				done(nil)
				return
			}
			taken.Store(true)
			done(nil)
		}
	}
	if w.spread {
		done(nil)
	} else {
		b.spread(w.message, b.audienceOf(w.message.topic), part(&spread))
	}
	if w.delivered {
		done(nil)
	} else {
		out := *w.out
		b.deliver(&out, part(&delivered))
	}
}

// connected gives the client's connection here; nil: there is none.
func (b *Broker) connected(id string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID[id]
}
