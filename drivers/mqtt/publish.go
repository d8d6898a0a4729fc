package mqtt

import (
	"errors"
	"log/slog"
	"net"

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
	// heard are those who subscribe, as of a generation of the subscriptions.
	heard *audience
	// durable: it is published to a durable topic.
	durable bool
	found   any // Message.Found
}

// publish works on a PUBLISH: other clients get it, then the handler. The body is valid during the call only.
func (s *session) publish(first byte, body []byte) error {
	p, err := parsePublish(first, body, s.version)
	if err != nil {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, err)
	}
	var props *packets.Properties
	if p.hasProperty {
		if len(p.properties) > s.b.limits.MaxProperties {
			return s.fail("too_large", packets.ErrPacketTooLarge.Code, errTooLarge)
		}
		decoded, err := decodeProperties(p.properties)
		if err != nil {
			code := packets.ErrMalformedProperties.Code
			if errors.Is(err, errAlias) {
				code = packets.ErrTopicAliasInvalid.Code
			}
			return s.fail("malformed", code, err)
		}
		props = &decoded
	}
	t, err := s.resolve(p.topic, props)
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
	admit := s.admit
	if p.qos == 0 {
		admit = s.admit0
	}
	if !admit(d) {
		return net.ErrClosed
	}
	s.pass(d, &p, t, props)
	return nil
}

// pass gives a message to subscribers, then to the handler, or to the durable topic that it is for. It is done when all of
// them are.
func (s *session) pass(d *delivery, p *publish, t *topic, props *packets.Properties) {
	if t.durable {
		s.b.publishDurable(&d.message, props, d.done)
		return
	}
	a := s.audience(t)
	if a.empty() && !p.retain {
		s.b.handler.Deliver(&d.message, d.done) // nobody subscribes to most topics of devices, but the node
		return
	}
	m := s.spreading(p, t, props)
	if p.qos == 0 {
		s.b.spread(m, a, func(error) {})
		s.b.handler.Deliver(&d.message, d.done)
		return
	}
	done := joined(2, d.done)
	s.b.spread(m, a, done)
	s.b.handler.Deliver(&d.message, done)
}

// spreading is the message as subscribers get it, with bytes of its own.
func (s *session) spreading(p *publish, t *topic, props *packets.Properties) *message {
	return newMessage(t.name, append(make([]byte, 0, len(p.payload)), p.payload...), p.qos, p.retain, props, s.id)
}

// audience gives who subscribes to the topic; it asks the index when some subscription has changed.
func (s *session) audience(t *topic) *audience {
	if now := s.b.generation.Load(); t.heard == nil || t.heard.generation != now {
		t.heard = s.b.gather(t.name, now)
	}
	return t.heard
}

// resolve finds the topic by its name or alias.
func (s *session) resolve(name []byte, props *packets.Properties) (*topic, error) {
	alias := uint16(0)
	if props != nil {
		alias = props.TopicAlias
	}
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
	t := &topic{name: name, durable: s.b.topics != nil && isDurable(name)}
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
	if h, ok := s.b.handler.(Refuser); ok {
		h.Refused(&newDelivery(s, p, t).message, r)
	}
	if p.qos == 0 {
		return nil
	}
	d := newDelivery(s, p, nil)
	if !s.admit(d) {
		return net.ErrClosed
	}
	d.answer(&reply{code: r.Code, why: r.Text})
	return nil
}
