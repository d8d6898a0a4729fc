package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

var (
	errMalformed = errors.New("malformed packet")
	errAlias     = errors.New("topic alias out of range")
	errTooLarge  = errors.New("packet too large")
	errProtocol  = errors.New("not allowed by the protocol at this point")
	// errWithWill: the client went, and wants its will published.
	errWithWill = errors.New("disconnected with its will")
	// errTooManyHeld: messages of QoS 2 that were answered and never released.
	errTooManyHeld = errors.New("too many messages that are not released")
)

// header of a packet: its first byte and where its body lies in the bytes that begin with it.
type header struct {
	first byte
	begin int
	end   int
}

func (h header) kind() byte { return h.first >> 4 }

// parseHeader reads a fixed header. False: more bytes are needed.
func parseHeader(b []byte) (h header, ok bool, err error) {
	if len(b) < 2 {
		return h, false, nil
	}
	length := 0
	for i := 1; i <= 4; i++ {
		if i >= len(b) {
			return h, false, nil
		}
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return header{first: b[0], begin: i + 1, end: i + 1 + length}, true, nil
		}
	}
	return h, false, errMalformed
}

// publish is a parsed PUBLISH; its slices point into the packet.
type publish struct {
	qos         byte
	retain      bool
	id          uint16
	topic       []byte
	properties  []byte // with their length in front; nil: none
	payload     []byte
	hasProperty bool
}

// parsePublish parses the body of a PUBLISH. The topic is not checked.
func parsePublish(first byte, body []byte, version byte) (p publish, err error) {
	p.qos, p.retain = first>>1&3, first&1 != 0
	if p.qos == 3 || (p.qos == 0 && first&8 != 0) || len(body) < 2 {
		return p, errMalformed
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	if n > len(body) {
		return p, errMalformed
	}
	p.topic, body = body[:n], body[n:]
	if p.qos > 0 {
		if len(body) < 2 {
			return p, errMalformed
		}
		p.id, body = binary.BigEndian.Uint16(body), body[2:]
		if p.id == 0 {
			return p, errMalformed
		}
	}
	if version == 5 {
		length, used := uvarint(body)
		if used == 0 || length > len(body)-used {
			return p, errMalformed
		}
		p.properties, p.hasProperty = body[:used+length], length > 0
		body = body[used+length:]
	}
	p.payload = body
	return p, nil
}

// wellFormed says whether a topic to publish to is one by the protocol's rules.
func wellFormed(topic []byte) bool {
	return utf8.Valid(topic) && !bytes.ContainsAny(topic, "+#\x00")
}

// uvarint reads a variable byte integer; used is 0 where it is malformed.
func uvarint(b []byte) (n, used int) {
	for i := 0; i < len(b) && i < 4; i++ {
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return n, i + 1
		}
	}
	return 0, 0
}

// decodeProperties of a PUBLISH of MQTT 5. They do not point into raw: the decoder makes strings of its bytes as they are.
func decodeProperties(raw []byte) (props packets.Properties, err error) {
	_, err = props.Decode(packets.Publish, bytes.NewBuffer(bytes.Clone(raw)))
	switch {
	case err != nil || len(props.SubscriptionIdentifier) > 0 || !wellFormed([]byte(props.ResponseTopic)):
		return props, errMalformed
	case props.TopicAliasFlag && (props.TopicAlias == 0 || props.TopicAlias > topicAliases):
		return props, errAlias
	}
	return props, nil
}

// parseID reads the packet id that a body begins with.
func parseID(body []byte) (uint16, error) {
	if len(body) < 2 {
		return 0, errMalformed
	}
	id := binary.BigEndian.Uint16(body)
	if id == 0 {
		return 0, errMalformed
	}
	return id, nil
}

const (
	firstPuback     = packets.Puback << 4
	firstPubrec     = packets.Pubrec << 4
	firstPubcomp    = packets.Pubcomp << 4
	firstPubrel     = packets.Pubrel << 4
	firstDisconnect = packets.Disconnect << 4
)

// reply is what a message's acknowledgement says; nil: it is taken.
type reply struct {
	code byte
	why  string
}

// longestReason is how long a reason string gets, in bytes: with it the length of the properties takes one byte.
const longestReason = 120

// appendAck appends a PUBACK, PUBREC or PUBCOMP; only MQTT 5 has reasons. why may be empty.
func appendAck(out []byte, first byte, id uint16, version, code byte, why string) []byte {
	switch {
	case version < 5 || code == 0:
		return append(out, first, 2, byte(id>>8), byte(id))
	case why == "":
		return append(out, first, 3, byte(id>>8), byte(id), code)
	}
	if len(why) > longestReason {
		why = strings.ToValidUTF8(why[:longestReason-len("…")], "") + "…"
	}
	const reasonString = 0x1f
	n := len(why)
	out = append(out, first, byte(7+n), byte(id>>8), byte(id), code, byte(3+n), reasonString, 0, byte(n))
	return append(out, why...)
}
