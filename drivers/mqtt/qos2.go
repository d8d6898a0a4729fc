package mqtt

import (
	"net"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// inbox remembers which messages of QoS 2 a client has sent and not released, so that none is delivered twice. It
// outlives the connection where the client's session does.
type inbox struct {
	mu    sync.Mutex
	owner *session
	held  map[uint16]*held
}

// held is one such message.
type held struct {
	inbox   *inbox
	id      uint16
	from    *session
	settled bool
	// again stands for the same message, sent once more on a later connection while the first is with the handler.
	again *delivery
}

// settle says that the message is answered. One refused by MQTT 5's rules is over with that. It gives the delivery that
// waits for the same answer, or nil.
func (h *held) settle(code byte) *delivery {
	h.inbox.mu.Lock()
	defer h.inbox.mu.Unlock()
	h.settled = true
	if code >= 0x80 && h.from.version == 5 && h.inbox.held[h.id] == h {
		delete(h.inbox.held, h.id)
	}
	return h.again
}

// forget lets the message be delivered anew.
func (h *held) forget() *delivery {
	h.inbox.mu.Lock()
	defer h.inbox.mu.Unlock()
	if h.inbox.held[h.id] == h {
		delete(h.inbox.held, h.id)
	}
	return h.again
}

// publish2 works on a PUBLISH of QoS 2.
func (s *session) publish2(p *publish, t *topic, props packets.Properties) error {
	if s.inbox == nil {
		s.inbox = s.b.inboxOf(s)
	}
	in := s.inbox
	in.mu.Lock()
	if h := in.held[p.id]; h != nil {
		return s.again(h, p)
	}
	if len(in.held) >= s.b.limits.Unacked {
		in.mu.Unlock()
		return s.fail("unreleased", packets.ErrReceiveMaximum.Code, errTooManyHeld)
	}
	h := &held{inbox: in, id: p.id, from: s}
	in.held[p.id] = h
	in.mu.Unlock()
	d := newDelivery(s, p, t)
	d.held = h
	if !s.admit(d) {
		h.forget()
		return net.ErrClosed
	}
	s.spread(p, t, props)
	s.b.handler.Deliver(&d.message, d.done)
	return nil
}

// again works on a message that is there already; in.mu is held, and released here.
func (s *session) again(h *held, p *publish) error {
	in := h.inbox
	s.b.stats.duplicates.Inc()
	if !h.settled && (h.from == s || (h.again != nil && h.again.s == s)) {
		in.mu.Unlock()
		return nil // it is answered when the first one is
	}
	d := newDelivery(s, p, nil)
	in.mu.Unlock()
	if !s.admit(d) {
		return net.ErrClosed
	}
	in.mu.Lock()
	settled := h.settled
	if !settled {
		h.again = d
	}
	in.mu.Unlock()
	if settled {
		d.answer(0)
	}
	return nil
}

// pubrel works on a PUBREL: the client will not send that message again.
func (s *session) pubrel(first byte, body []byte) error {
	id, err := parseID(body)
	if err != nil || first&0x0f != 2 {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, errMalformed)
	}
	if s.inbox == nil {
		s.inbox = s.b.inboxOf(s)
	}
	code := packets.ErrPacketIdentifierNotFound.Code
	s.inbox.mu.Lock()
	if h := s.inbox.held[id]; h != nil && h.settled {
		delete(s.inbox.held, id)
		code = 0
	}
	s.inbox.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.out = appendAck(s.out, firstPubcomp, id, s.version, code)
		s.kick()
	}
	return nil
}

// inboxOf gives the client's inbox, of an earlier connection where the session goes on.
func (b *Broker) inboxOf(s *session) *inbox {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.held[s.id]
	if in == nil {
		in = &inbox{held: map[uint16]*held{}}
		b.held[s.id] = in
	}
	in.mu.Lock()
	in.owner = s
	in.mu.Unlock()
	return in
}

// forget drops the inbox of a client whose session is over. With s it does so only if no later connection has it.
func (b *Broker) forget(id string, s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.held[id]
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if s == nil || in.owner == s {
		delete(b.held, id)
	}
}
