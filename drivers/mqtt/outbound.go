package mqtt

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// flight is a message of QoS 1 or 2 that the client has not acknowledged.
type flight struct {
	o *outgoing
	// released: of QoS 2; the client has it, and only PUBCOMP is missing.
	released bool
}

// window is how many messages of QoS 1 and 2 may be on their way to the client.
func (s *session) window() int { return min(s.receiveMax, s.b.limits.OutboundUnacked) }

// send queues a message for the client's socket, by its receive maximum. It does not block. What is in the client's queue and
// does not go now is read from there later; other messages of QoS 1 and 2 wait in bounds. False: one of a shared subscription is not for this client,
// who has no room for it or is about to go.
func (s *session) send(o *outgoing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked(o)
}

func (s *session) sendLocked(o *outgoing) bool {
	switch {
	case s.closing:
		return false
	case o.m.expired() && o.id == 0: // of QoS 2 that was sent: the client may have it, and goes by its id
		s.b.stats.expired.Inc()
		s.dropLocked(o)
		return true
	}
	size := o.m.size()
	full := len(s.out)+s.waitingBytes > 0 &&
		(len(s.out)+s.waitingBytes+size > s.b.limits.OutboundBytes || s.b.outbound.Load() > int64(s.b.limits.OutboundTotal))
	switch {
	case o.qos == 0 && full:
		return s.noRoom(o)
	case o.qos == 0:
		s.writeLocked(o)
	case o.key != "" && (full || len(s.flights) >= s.window() || len(s.waiting) > 0):
		s.behind = true // it is in the store
		delete(s.keys, o.key)
	case full && o.key == "":
		s.tooSlow()
		return false
	case len(s.flights) >= s.window() || len(s.waiting) > 0:
		if len(s.waiting) >= s.b.limits.OutboundUnacked {
			return s.noRoom(o)
		}
		s.waiting = append(s.waiting, o)
		s.waitingBytes += size
		s.b.outbound.Add(int64(size))
	default:
		s.flyLocked(o)
	}
	return true
}

// noRoom counts what the client does not get. Of a shared subscription another member may.
func (s *session) noRoom(o *outgoing) bool {
	if o.share == "" {
		s.b.stats.droppedOut.Inc()
	}
	return false
}

// flyLocked gives the message an id and sends it: of QoS 2 out of the queue when the id is in its record.
func (s *session) flyLocked(o *outgoing) {
	if o.id == 0 {
		o.id = s.freeIDLocked()
		if o.key != "" && o.qos == 2 {
			s.takeLocked(o)
			s.numberLocked(o)
			return
		}
	}
	s.takeLocked(o)
	s.writeLocked(o)
}

func (s *session) takeLocked(o *outgoing) {
	if s.flights == nil {
		s.flights = map[uint16]*flight{}
	}
	s.flights[o.id] = &flight{o: o}
}

// freeIDLocked gives a packet id that is not in use. The window is far smaller than what there are.
func (s *session) freeIDLocked() uint16 {
	for {
		if s.lastID++; s.lastID == 0 {
			s.lastID = 1
		}
		_, used := s.flights[s.lastID]
		_, reserved := s.reserved[s.lastID]
		if !used && !reserved {
			return s.lastID
		}
	}
}

// reserve keeps the packet ids under which messages of the queue were sent before for these, by which the client knows them.
func (s *session) reserve() error {
	for rec, err := range s.b.store.Scan(TableQueue, queuePrefix(s.id, s.birth), "") {
		r := &actorv1.MqttMessage{}
		if err == nil {
			err = proto.Unmarshal(rec.Value, r)
		}
		if err != nil {
			return fmt.Errorf("queue of mqtt client %q: %w", s.id, err)
		}
		if r.PacketId > 0 {
			if s.reserved == nil {
				s.reserved = map[uint16]struct{}{}
			}
			s.reserved[uint16(r.PacketId)] = struct{}{}
		}
	}
	return nil
}

// writeLocked queues the PUBLISH itself.
func (s *session) writeLocked(o *outgoing) {
	at := len(s.out)
	s.out = appendPublish(s.out, s.version, o)
	n := len(s.out) - at
	if s.maxPacket > 0 && n > s.maxPacket {
		s.out = s.out[:at] // the client said that it cannot take it: MQTT 5, 3.1.2.11.4
		s.b.stats.droppedOut.Inc()
		delete(s.flights, o.id)
		s.dropLocked(o)
		return
	}
	if o.qos == 0 && o.settled != nil {
		s.then = append(s.then, o.settled)
	}
	s.b.stats.out[o.qos].Inc()
	s.counted += n
	s.b.outbound.Add(int64(n))
	s.kick()
}

// dropLocked: the message is not for this client any more.
func (s *session) dropLocked(o *outgoing) {
	if o.key != "" {
		s.forgetLocked(o.key, o.m.size())
	}
	if o.settled != nil {
		go o.settled()
	}
}

// acknowledged works on PUBACK, PUBREC and PUBCOMP.
func (s *session) acknowledged(kind byte, body []byte) error {
	id, err := parseID(body)
	if err != nil {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, err)
	}
	refused := len(body) > 2 && body[2] >= 0x80
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[id]
	switch kind {
	case packets.Pubrec:
		s.pubrecLocked(id, f, refused)
		return nil
	case packets.Puback:
		if f == nil || f.o.qos != 1 {
			return nil
		}
	default:
		if f == nil || f.o.qos != 2 {
			return nil
		}
	}
	s.landLocked(id, f)
	return nil
}

// pubrecLocked answers a PUBREC. Where the message is in the queue its record says first that the client has it.
func (s *session) pubrecLocked(id uint16, f *flight, refused bool) {
	switch {
	case f == nil || f.o.qos != 2:
		if !s.closing {
			s.out = appendAck(s.out, firstPubrel|2, id, s.version, packets.ErrPacketIdentifierNotFound.Code, "")
			s.kick()
		}
	case refused:
		s.landLocked(id, f)
	case f.o.key == "" || f.released:
		f.released = true
		s.pubrelLocked(id)
	default:
		s.releaseLocked(id, f)
	}
}

func (s *session) pubrelLocked(id uint16) {
	if !s.closing {
		s.out = appendAck(s.out, firstPubrel|2, id, s.version, 0, "")
		s.kick()
	}
}

// landLocked: the client has acknowledged the message. What waits for its place goes.
func (s *session) landLocked(id uint16, f *flight) {
	delete(s.flights, id)
	delete(s.reserved, id)
	s.dropLocked(f.o)
	for len(s.waiting) > 0 && len(s.flights) < s.window() && !s.closing {
		next := s.waiting[0]
		s.waiting = slices.Delete(s.waiting, 0, 1)
		s.waitingBytes -= next.m.size()
		s.b.outbound.Add(-int64(next.m.size()))
		s.flyLocked(next)
	}
	if s.behind && len(s.flights) <= s.window()/2 {
		s.catchUpLocked()
	}
}

// orphansLocked are messages of shared subscriptions that are in no queue, and that the client has not acknowledged as it goes: other members get those that
// it was not sent, and those of QoS 1 (MQTT 5, 4.8.2).
func (s *session) orphansLocked() (left []*outgoing) {
	for _, id := range slices.Sorted(maps.Keys(s.flights)) {
		if o := s.flights[id].o; o.key == "" && o.othersMay() {
			left = append(left, o)
		}
	}
	for _, o := range s.waiting {
		if o.key == "" && o.othersMay() {
			left = append(left, o)
		}
	}
	return left
}

// othersMay says whether other members of a shared subscription are to get what this one did not acknowledge.
func (o *outgoing) othersMay() bool { return o.share != "" && (o.qos == 1 || o.id == 0) }

// freeOutboundLocked forgets what waits for the client; what is in its queue stays there.
func (s *session) freeOutboundLocked() {
	s.b.outbound.Add(-int64(s.waitingBytes))
	s.waiting, s.waitingBytes, s.flights, s.keys = nil, 0, nil, nil
}

// background ends with the broker.
func (b *Broker) background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, b.limits.CommitTimeout)
}
