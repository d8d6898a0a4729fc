package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxFilters of one SUBSCRIBE.
const maxFilters = 1024

// parseFilters parses the body of a SUBSCRIBE, or, without options, of an UNSUBSCRIBE.
func parseFilters(body []byte, version byte, options bool) (id uint16, subs []*actorv1.MqttSubscription, err error) {
	if id, err = parseID(body); err != nil {
		return 0, nil, err
	}
	body = body[2:]
	identifier := 0
	if version == 5 {
		length, used := uvarint(body)
		if used == 0 || length > len(body)-used {
			return 0, nil, errMalformed
		}
		if options {
			if identifier, err = parseIdentifier(body[:used+length]); err != nil {
				return 0, nil, err
			}
		}
		body = body[used+length:]
	}
	for len(body) > 0 {
		s := &actorv1.MqttSubscription{Identifier: uint32(identifier)}
		if len(body) < 2 {
			return 0, nil, errMalformed
		}
		n := int(binary.BigEndian.Uint16(body))
		if body = body[2:]; n > len(body) {
			return 0, nil, errMalformed
		}
		s.Filter, body = string(body[:n]), body[n:]
		if options {
			if len(body) == 0 || !setOptions(s, body[0], version) {
				return 0, nil, errMalformed
			}
			body = body[1:]
		}
		subs = append(subs, s)
	}
	if len(subs) == 0 || len(subs) > maxFilters {
		return 0, nil, errMalformed
	}
	return id, subs, nil
}

// setOptions reads the byte behind a filter: MQTT 5, section 3.8.3.1.
func setOptions(s *actorv1.MqttSubscription, o, version byte) bool {
	s.Qos = uint32(o & 3)
	if version < 5 {
		return o <= 2
	}
	s.NoLocal, s.AsPublished, s.Handling = o&4 != 0, o&8 != 0, uint32(o>>4&3)
	return s.Qos <= 2 && s.Handling <= 2 && o&0xc0 == 0
}

func parseIdentifier(raw []byte) (int, error) {
	var props packets.Properties
	if _, err := props.Decode(packets.Subscribe, bytes.NewBuffer(bytes.Clone(raw))); err != nil {
		return 0, errMalformed
	}
	if len(props.SubscriptionIdentifier) == 0 {
		return 0, nil
	}
	if n := props.SubscriptionIdentifier[0]; n > 0 && n <= 268_435_455 && len(props.SubscriptionIdentifier) == 1 {
		return n, nil
	}
	return 0, errMalformed
}

// subscribe works on a SUBSCRIBE. It is answered when it is committed, and then the retained messages come.
func (s *session) subscribe(first byte, body []byte) error {
	id, subs, err := parseFilters(body, s.version, true)
	if err != nil || first&0x0f != 2 {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, errMalformed)
	}
	codes := make([]byte, len(subs))
	next := proto.CloneOf(s.record)
	known := make([]bool, len(subs))
	for i, sub := range subs {
		if codes[i], err = s.mayHave(sub, next); err != nil {
			return err
		}
		if codes[i] >= 0x80 {
			continue
		}
		if at := slices.IndexFunc(next.Subscriptions, func(x *actorv1.MqttSubscription) bool { return x.Filter == sub.Filter }); at >= 0 {
			next.Subscriptions[at], known[i] = sub, true
		} else {
			next.Subscriptions = append(next.Subscriptions, sub)
		}
		codes[i] = byte(sub.Qos)
	}
	if err := s.store(next); err != nil {
		return err
	}
	s.openReaders(subs)
	s.acknowledge(packets.Suback, id, codes)
	for i, sub := range subs {
		if codes[i] < 0x80 && sub.Handling != 2 && (sub.Handling == 0 || !known[i]) {
			s.sendRetained(sub)
		}
	}
	return nil
}

// mayHave gives the reason code that refuses a subscription, or 0.
func (s *session) mayHave(sub *actorv1.MqttSubscription, r *actorv1.MqttSession) (byte, error) {
	l := &s.b.limits
	_, shared := cutShare(sub.Filter)
	switch {
	case shared && sub.NoLocal:
		return 0, s.fail("protocol", packets.ErrProtocolViolation.Code, errProtocol) // MQTT 5, 3.8.3-4
	case !validSubscription(sub.Filter) || checkLength(sub.Filter, *l) != nil || s.b.checkReader(sub.Filter) != nil:
		s.b.stats.refused("filter")
		return packets.ErrTopicFilterInvalid.Code, nil
	case !s.grant.maySubscribe(sub.Filter):
		s.b.stats.refused("subscribe")
		s.b.quiet.log(s.b.log, slog.LevelInfo, "mqtt subscription refused", "client", s.id, "filter", sub.Filter)
		return packets.ErrNotAuthorized.Code, nil
	case len(r.Subscriptions) >= l.Subscriptions &&
		!slices.ContainsFunc(r.Subscriptions, func(x *actorv1.MqttSubscription) bool { return x.Filter == sub.Filter }):
		s.b.stats.refused("subscriptions")
		return packets.ErrQuotaExceeded.Code, nil
	}
	return 0, nil
}

// store commits the session's record. An error ends the connection: the client comes again.
func (s *session) store(next *actorv1.MqttSession) error {
	if proto.Equal(next, s.record) {
		return nil
	}
	ctx, cancel := s.b.background()
	defer cancel()
	revision, err := s.b.writeSession(ctx, s.id, next, s.revision)
	switch {
	case err == nil:
		s.record, s.revision = next, revision
		return nil
	case errors.Is(err, storage.ErrGuard):
		s.supersede()
		return err
	}
	return s.fail("not_committed", packets.ErrServerBusy.Code, err)
}

// unsubscribe works on an UNSUBSCRIBE.
func (s *session) unsubscribe(first byte, body []byte) error {
	id, subs, err := parseFilters(body, s.version, false)
	if err != nil || first&0x0f != 2 {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, errMalformed)
	}
	codes := make([]byte, len(subs))
	next := proto.CloneOf(s.record)
	for i, sub := range subs {
		at := slices.IndexFunc(next.Subscriptions, func(x *actorv1.MqttSubscription) bool { return x.Filter == sub.Filter })
		if at < 0 {
			codes[i] = packets.CodeNoSubscriptionExisted.Code
			continue
		}
		next.Subscriptions = slices.Delete(next.Subscriptions, at, at+1)
		s.closeReader(sub.Filter)
	}
	if err := s.store(next); err != nil {
		return err
	}
	s.acknowledge(packets.Unsuback, id, codes)
	return nil
}

// acknowledge answers a SUBSCRIBE or UNSUBSCRIBE. MQTT 3.1.1 knows one code of refusal, and none for UNSUBSCRIBE.
func (s *session) acknowledge(kind byte, id uint16, codes []byte) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, ProtocolVersion: s.version, PacketID: id, ReasonCodes: slices.Clone(codes)}
	if kind == packets.Unsuback {
		s.answer(&pk, (*packets.Packet).UnsubackEncode)
		return
	}
	for i, c := range pk.ReasonCodes {
		if s.version < 5 && c >= 0x80 {
			pk.ReasonCodes[i] = 0x80
		}
	}
	s.answer(&pk, (*packets.Packet).SubackEncode)
}
