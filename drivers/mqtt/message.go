package mqtt

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// message is a publication on its way to subscribers. It is shared and not changed.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	props   *packets.Properties // of MQTT 5; nil: none
	expires int64               // milliseconds since 1970; 0: never
	from    string              // the client that published it
}

// newMessage keeps the properties but for what concerns one hop only.
func newMessage(topic string, payload []byte, qos byte, retain bool, props *packets.Properties, from string) *message {
	m := &message{topic: topic, payload: payload, qos: qos, retain: retain, from: from}
	if props == nil {
		return m
	}
	p := *props
	p.TopicAlias, p.TopicAliasFlag, p.SubscriptionIdentifier = 0, false, nil
	if p.MessageExpiryInterval > 0 {
		m.expires = time.Now().UnixMilli() + int64(p.MessageExpiryInterval)*1000
	}
	m.props = &p
	return m
}

// record is the message as the store and other nodes get it.
func (m *message) record() *actorv1.MqttMessage {
	r := &actorv1.MqttMessage{Topic: m.topic, Payload: m.payload, Qos: uint32(m.qos), Retain: m.retain, Expires: m.expires, From: m.from}
	if m.props != nil {
		var buf bytes.Buffer
		m.props.Encode(packets.Publish, packets.Mods{AllowResponseInfo: true}, &buf, 0)
		r.Properties = buf.Bytes()
	}
	return r
}

// messageOf reads a record. Properties that cannot be read are left out: the message counts.
func messageOf(r *actorv1.MqttMessage) *message {
	m := &message{topic: r.Topic, payload: r.Payload, qos: byte(min(r.Qos, 2)), retain: r.Retain, expires: r.Expires, from: r.From}
	if len(r.Properties) > 1 {
		if p, err := decodeProperties(r.Properties); err == nil {
			m.props = &p
		}
	}
	return m
}

func (m *message) expired() bool { return m.expires > 0 && time.Now().UnixMilli() >= m.expires }

// size is what the message takes in memory or in the store, in bytes.
func (m *message) size() int { return overhead + len(m.topic) + len(m.payload) }

// outgoing is a message for one client.
type outgoing struct {
	m           *message
	qos         byte
	retain, dup bool
	identifiers []int
	// share is the shared subscription that the client has it by; empty: none.
	share string
	// key of its record in the client's queue; empty: none.
	key string
	// id of a message of QoS 2 that was sent before; 0: none yet.
	id uint16
	// settled is called when the client has acknowledged it; nil: nobody asks.
	settled func()
}

func outgoingOf(r *actorv1.MqttMessage, key string) *outgoing {
	m := messageOf(r)
	o := &outgoing{m: m, qos: m.qos, retain: m.retain, share: r.Share, key: key, id: uint16(r.PacketId), dup: r.PacketId > 0}
	for _, n := range r.Identifiers {
		o.identifiers = append(o.identifiers, int(n))
	}
	return o
}

// record is what the client's queue keeps of it.
func (o *outgoing) record() *actorv1.MqttMessage {
	r := o.m.record()
	r.Qos, r.Retain, r.PacketId, r.Share = uint32(o.qos), o.retain, uint32(o.id), o.share
	for _, n := range o.identifiers {
		r.Identifiers = append(r.Identifiers, uint32(n))
	}
	return r
}

// appendPublish appends a PUBLISH.
func appendPublish(out []byte, version byte, o *outgoing) []byte {
	m := o.m
	first := byte(packets.Publish<<4) | o.qos<<1
	if o.retain {
		first |= 1
	}
	if o.dup {
		first |= 8
	}
	var props []byte
	if version == 5 {
		props = o.properties()
	}
	n := 2 + len(m.topic) + len(props) + len(m.payload)
	if o.qos > 0 {
		n += 2
	}
	out = binary.AppendUvarint(append(out, first), uint64(n)) // the same coding as MQTT's
	out = binary.BigEndian.AppendUint16(out, uint16(len(m.topic)))
	out = append(out, m.topic...)
	if o.qos > 0 {
		out = binary.BigEndian.AppendUint16(out, o.id)
	}
	out = append(out, props...)
	return append(out, m.payload...)
}

var noProperties = []byte{0}

// properties of the PUBLISH, their length first.
func (o *outgoing) properties() []byte {
	if o.m.props == nil && len(o.identifiers) == 0 {
		return noProperties
	}
	var p packets.Properties
	if o.m.props != nil {
		p = *o.m.props
	}
	p.SubscriptionIdentifier = o.identifiers
	if o.m.expires > 0 {
		p.MessageExpiryInterval = uint32(max(1, (o.m.expires-time.Now().UnixMilli()+999)/1000))
	}
	var buf bytes.Buffer
	p.Encode(packets.Publish, packets.Mods{AllowResponseInfo: true}, &buf, 0)
	return buf.Bytes()
}
