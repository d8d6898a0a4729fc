package mqtt

import (
	"log/slog"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"
)

// deliverWill hands a lost client's will to the handler. Nobody waits for an acknowledgement, so wills have a bound of
// their own.
func (b *Broker) deliverWill(s *session, pk *packets.Packet) {
	if b.pendingWills.Add(1) > int64(b.limits.PendingWills) {
		b.pendingWills.Add(-1)
		b.stats.droppedWills.Inc()
		return
	}
	b.stats.wills.Inc()
	m := &Message{
		Client: s.id, User: s.user, Topic: pk.TopicName, Payload: append([]byte{}, pk.Payload...), QoS: pk.FixedHeader.Qos,
		Retain: pk.FixedHeader.Retain, Will: true, Grant: s.grant,
	}
	var called atomic.Bool
	b.handler.Deliver(m, func(err error) {
		if !called.CompareAndSwap(false, true) {
			b.stats.doneTwice.Inc()
			return
		}
		b.pendingWills.Add(-1)
		if r := refusalOf(err); r != nil {
			b.stats.refused(r.Label)
		} else if err != nil {
			b.stats.refused("unavailable")
			b.quiet.log(b.log, slog.LevelWarn, "mqtt will not taken", "client", m.Client, "topic", m.Topic, "error", err)
		}
	})
}
