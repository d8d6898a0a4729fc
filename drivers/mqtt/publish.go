package mqtt

import (
	"log/slog"
	"net"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// rememberedTopics of a session, and their bytes; a gateway with more pays for a new string now and then.
const (
	rememberedTopics     = 512
	rememberedTopicBytes = 32 << 10
)

// topic is what a session remembers of a topic that its client publishes to.
type topic struct {
	name    string
	refused *Refusal // nil: allowed
	// heard says whether somebody subscribes, as of the broker's count of changes asked.
	heard bool
	asked uint64
}

// publish works on a PUBLISH: other clients get it, then the handler. The body is valid during the call only.
func (s *session) publish(first byte, body []byte) error {
	p, err := parsePublish(first, body, s.version)
	if err != nil {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, err)
	}
	var props packets.Properties
	if p.hasProperty {
		if len(p.properties) > s.b.limits.MaxProperties {
			return s.fail("too_large", packets.ErrPacketTooLarge.Code, errTooLarge)
		}
		if props, err = decodeProperties(p.properties); err != nil {
			return s.fail("malformed", packets.ErrMalformedProperties.Code, err)
		}
	}
	t, err := s.resolve(p.topic, &props)
	if err != nil {
		return err
	}
	s.b.stats.in[p.qos].Inc()
	if t.refused != nil {
		return s.refuse(&p, t)
	}
	if p.qos == 2 {
		return s.publish2(&p, t, props)
	}
	d := newDelivery(s, &p, t)
	if p.qos == 0 {
		if !s.admit0(d) {
			s.b.stats.dropped0.Inc()
			s.spread(&p, t, props)
			return nil
		}
	} else if !s.admit(d) {
		return net.ErrClosed
	}
	s.spread(&p, t, props)
	s.b.handler.Deliver(&d.message, d.done)
	return nil
}

// resolve finds the topic by its name or alias.
func (s *session) resolve(name []byte, props *packets.Properties) (*topic, error) {
	alias := props.TopicAlias
	props.TopicAlias, props.TopicAliasFlag = 0, false
	if len(name) == 0 {
		if t := s.aliases[alias]; alias != 0 && t != nil {
			return t, nil
		}
		return nil, s.fail("malformed", packets.ErrTopicAliasInvalid.Code, errMalformed)
	}
	t := s.topics[string(name)]
	if t == nil {
		if !wellFormed(name) {
			return nil, s.fail("malformed", packets.ErrTopicNameInvalid.Code, errMalformed)
		}
		t = s.remember(string(name))
	}
	if alias != 0 {
		if s.aliases == nil {
			s.aliases = map[uint16]*topic{}
		}
		s.aliases[alias] = t
	}
	return t, nil
}

func (s *session) remember(name string) *topic {
	t := &topic{name: name}
	if checkTopic(name, s.b.limits) != nil {
		t.refused = ErrTopic
	} else if !s.grant.mayPublish(name) {
		t.refused = ErrNotAuthorized
	}
	if s.topics == nil || len(s.topics) >= rememberedTopics || s.topicBytes > rememberedTopicBytes {
		s.topics, s.topicBytes = map[string]*topic{}, 0
	}
	s.topicBytes += len(name)
	s.topics[name] = t
	return t
}

// refuse answers a PUBLISH to a topic that the client may not publish to. MQTT 3.1.1 has no way to say so: there it is
// acknowledged like any other refusal, so that it does not come back for ever and take the device's good topics with it.
func (s *session) refuse(p *publish, t *topic) error {
	r := t.refused
	s.b.stats.refused(r.Label)
	s.b.quiet.log(s.b.log, slog.LevelInfo, "mqtt message refused", "client", s.id, "topic", t.name, "reason", r.Label)
	if p.qos == 0 {
		return nil
	}
	d := newDelivery(s, p, nil)
	if !s.admit(d) {
		return net.ErrClosed
	}
	d.answer(r.Code)
	return nil
}

// spread gives the message to subscribed clients and keeps it where it is to be retained, by way of mochi. Most topics
// of devices have no subscriber but the node, and pay for one comparison here.
func (s *session) spread(p *publish, t *topic, props packets.Properties) {
	retain := p.retain
	if retain && !s.b.retained.room(t.name, len(p.payload)) {
		s.b.stats.refused("retained")
		retain = false
	}
	if !retain && !s.b.heard(t) {
		return
	}
	if s.fan == nil {
		s.fan = s.b.server.NewClient(nil, mochi.LocalListener, s.id, true) // our id: a subscription may exclude its own
		s.fan.Properties.ProtocolVersion = s.version
	}
	pk := publishPacket(t.name, p.payload, p.qos, retain)
	pk.Properties = props
	if err := s.b.server.InjectPacket(s.fan, pk); err != nil {
		s.b.stats.droppedOut.Inc()
		s.b.log.Debug("mqtt message not forwarded", "client", s.id, "topic", t.name, "error", err)
	}
}

// heard says whether any client subscribes to the topic. Asking the index costs a microsecond and several maps, so the
// answer is kept until some subscription changes.
func (b *Broker) heard(t *topic) bool {
	now := b.subscriptions.Load()
	if t.asked != now+1 {
		subs := b.server.Topics.Subscribers(t.name)
		t.heard = len(subs.Subscriptions)+len(subs.Shared) > 0
		t.asked = now + 1
	}
	return t.heard
}
