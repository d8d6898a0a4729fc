package mqtt

import (
	"log/slog"
	"sync/atomic"

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

// publishWill gives the will of a client that was lost to subscribers, then to the handler.
func (b *Broker) publishWill(id string, r *actorv1.MqttSession) {
	if b.pendingWills.Add(1) > int64(b.limits.PendingWills) {
		b.pendingWills.Add(-1)
		b.stats.droppedWills.Inc()
		return
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
	out := &Message{Client: id, User: r.User, Topic: m.topic, Payload: append([]byte{}, m.payload...), QoS: m.qos, Retain: m.retain, Will: true, Grant: grant}
	var called atomic.Bool
	done := joined(2, func(err error) {
		if !called.CompareAndSwap(false, true) {
			b.stats.doneTwice.Inc()
			return
		}
		b.pendingWills.Add(-1)
		if r := refusalOf(err); r != nil {
			b.stats.refused(r.Label)
		} else if err != nil {
			b.stats.refused("unavailable")
			b.quiet.log(b.log, slog.LevelWarn, "mqtt will not taken", "client", id, "topic", m.topic, "error", err)
		}
	})
	b.spread(m, b.audienceOf(m.topic), done)
	b.deliver(out, done)
}

// connected gives the client's connection here; nil: there is none.
func (b *Broker) connected(id string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID[id]
}
