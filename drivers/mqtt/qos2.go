package mqtt

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/storage"
)

// inbox remembers which messages of QoS 2 a client has sent and not released, so that none is delivered twice. Where the session
// outlives its connection they are in the store, too, and the inbox stays as long as one is with the handler.
type inbox struct {
	prefix string // of its records
	mu     sync.Mutex
	held   map[uint16]*held
	left   bool // its connection is over
}

// idle says whether nothing of it is with the handler. The caller has the lock.
func (in *inbox) idle() bool {
	for _, h := range in.held {
		if !h.settled {
			return false
		}
	}
	return true
}

// held is one such message.
type held struct {
	inbox   *inbox
	id      uint16
	sum     uint64 // of topic and payload
	from    *session
	settled bool
	// again stands for the same message, sent once more on a later connection while the first is with the handler.
	again *delivery
}

// key of its record.
func (h *held) key() string { return fmt.Sprintf("%s%04x", h.inbox.prefix, h.id) }

// sumOf tells messages apart. What is known of a packet id may be of another time, as where a node that was away wrote it late, or an older backup
// was put back: a message that is another one is not taken for it.
func sumOf(p *publish, t *topic) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(t.name) // it never fails
	_, _ = d.Write([]byte{0})
	_, _ = d.Write(p.payload)
	return d.Sum64()
}

// settle says that the message is answered. One refused by MQTT 5's rules is over with that. It gives the delivery that
// waits for the same answer, or nil, and says whether the inbox is over: of a connection that is, and nothing more is with the handler.
func (h *held) settle(r *reply) (again *delivery, over bool) {
	h.inbox.mu.Lock()
	defer h.inbox.mu.Unlock()
	h.settled = true
	if r != nil && r.code >= 0x80 && h.from.version == 5 && h.inbox.held[h.id] == h {
		delete(h.inbox.held, h.id)
	}
	return h.again, h.inbox.left && h.inbox.idle()
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
func (s *session) publish2(p *publish, t *topic, props *packets.Properties) error {
	in, err := s.received()
	if err != nil {
		return err
	}
	sum := sumOf(p, t)
	in.mu.Lock()
	h := in.held[p.id]
	if h != nil && h.sum == sum {
		return s.again(h, p)
	}
	if h == nil && len(in.held) >= s.b.limits.Unacked {
		in.mu.Unlock()
		return s.fail("unreleased", packets.ErrReceiveMaximum.Code, errTooManyHeld)
	}
	h = &held{inbox: in, id: p.id, sum: sum, from: s}
	in.held[p.id] = h
	in.mu.Unlock()
	d := newDelivery(s, p, t)
	d.held = h
	if !s.admit(d) {
		h.forget()
		return net.ErrClosed
	}
	s.pass(d, p, t, props)
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
		if h.again != nil {
			h.again.leave() // of a connection that is over
		}
		h.again = d
	}
	in.mu.Unlock()
	if settled {
		d.answer(nil)
	}
	return nil
}

// pubrel works on a PUBREL: the client will not send that message again.
func (s *session) pubrel(first byte, body []byte) error {
	id, err := parseID(body)
	if err != nil || first&0x0f != 2 {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, errMalformed)
	}
	in, err := s.received()
	if err != nil {
		return err
	}
	in.mu.Lock()
	h := in.held[id]
	known := h != nil && h.settled
	if known && !s.keeps {
		delete(in.held, id)
	}
	in.mu.Unlock()
	switch {
	case !known:
		s.pubcomp(id, packets.ErrPacketIdentifierNotFound.Code)
	case !s.keeps:
		s.pubcomp(id, 0)
	default:
		// The client may use the id for another message as soon as it is told.
		s.b.writer.add(storage.Write{Table: TableReceived, Key: h.key(), Quiet: true}, func(err error) {
			if err != nil {
				s.end("not_committed", packets.ErrServerBusy.Code)
				return
			}
			h.forget()
			s.pubcomp(id, 0)
		})
	}
	return nil
}

func (s *session) pubcomp(id uint16, code byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.out = appendAck(s.out, firstPubcomp, id, s.version, code, "")
		s.kick()
	}
}

// received gives the client's inbox, with what its session has received on earlier connections.
func (s *session) received() (*inbox, error) {
	if s.inbox != nil {
		return s.inbox, nil
	}
	b, prefix := s.b, queuePrefix(s.id, s.birth)
	b.mu.Lock()
	in := b.held[s.id]
	if in == nil || in.prefix != prefix {
		in = &inbox{prefix: prefix, held: map[uint16]*held{}}
		b.held[s.id] = in
	}
	b.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.left = false
	if s.keeps {
		maps.DeleteFunc(in.held, func(_ uint16, h *held) bool { return h.settled }) // the store has them, of whatever node
		for rec, err := range b.store.Scan(TableReceived, prefix, "") {
			if err != nil {
				return nil, s.fail("store", packets.ErrServerUnavailable.Code, err)
			}
			id, err := strconv.ParseUint(rec.Key[len(prefix):], 16, 16)
			if err == nil && in.held[uint16(id)] == nil && len(rec.Value) == 8 {
				in.held[uint16(id)] = &held{inbox: in, id: uint16(id), sum: binary.BigEndian.Uint64(rec.Value), from: s, settled: true}
			}
		}
	}
	s.inbox = in
	return in, nil
}

// receivedWithin is how long the end of a connection waits for what it received: less than another node waits for that end.
const receivedWithin = 2 * time.Second

// awaitReceived waits until all that the client sent with QoS 2 is answered, unless its next connection is to this node, which knows of it: another
// node would take it for new when it comes again.
func (s *session) awaitReceived(in *inbox) {
	if in == nil || !s.keeps || s.b.cluster == nil {
		return
	}
	for end := time.Now().Add(receivedWithin); !s.followed.Load() && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		in.mu.Lock()
		idle := in.idle()
		in.mu.Unlock()
		if idle {
			return
		}
	}
}

// leaveInbox lets go of the client's inbox when its connection is over.
func (b *Broker) leaveInbox(s *session, in *inbox) {
	if in == nil {
		return
	}
	in.mu.Lock()
	in.left = true
	idle := in.idle()
	in.mu.Unlock()
	if idle || !s.keeps {
		b.dropInbox(s.id, in)
	}
}

func (b *Broker) dropInbox(id string, in *inbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[id] == in {
		delete(b.held, id)
	}
}
