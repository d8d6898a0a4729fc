package mqtt

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// keepOut is what an idle session keeps of its output buffers, in bytes.
const keepOut = 4 << 10

func tlsServer(conn net.Conn, config *tls.Config) net.Conn { return tls.Server(conn, config) }

// Write queues one packet of mochi's. It never blocks: mochi holds locks meanwhile that other clients' publishes need.
func (s *session) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return 0, net.ErrClosed
	}
	switch b[0] >> 4 {
	case packets.Publish:
		return len(b), s.queuePublish(b)
	case packets.Disconnect:
		if s.version == 5 {
			s.queue(b)
		}
		return len(b), nil // older clients know none from a server
	case packets.Suback, packets.Unsuback:
		at := len(s.out)
		s.queue(b)
		s.returnID(s.out[at:])
	default:
		s.queue(b)
	}
	if len(s.out) > s.b.limits.OutboundBytes {
		s.tooSlow()
		return 0, net.ErrClosed
	}
	return len(b), nil
}

// queuePublish queues a message for the client, or holds it back by the client's receive maximum.
func (s *session) queuePublish(b []byte) error {
	qos := b[0] >> 1 & 3
	have := len(s.out) + s.flow.held()
	if have > 0 && (have+len(b) > s.b.limits.OutboundBytes || s.b.outbound.Load() > int64(s.b.limits.OutboundTotal)) {
		if qos == 0 {
			s.b.stats.droppedOut.Inc()
			return nil
		}
		s.tooSlow()
		return net.ErrClosed
	}
	s.b.stats.out[qos].Inc()
	if qos > 0 && !s.flow.admit(b) {
		return nil
	}
	s.counted += len(b)
	s.b.outbound.Add(int64(len(b)))
	s.queue(b)
	return nil
}

// acknowledged sees the client's acknowledgements on their way to mochi and lets go what they make room for.
func (s *session) acknowledged(kind byte, body []byte) error {
	id, err := parseID(body)
	if err != nil {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, err)
	}
	if s.receiveMax == 0 || (kind == packets.Pubrec && (len(body) < 3 || body[2] < 0x80)) {
		return nil // a PUBREC goes on to PUBREL and PUBCOMP
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.flow == nil {
		return nil
	}
	for _, next := range s.flow.release(id) {
		s.queue(next)
	}
	return nil
}

// returnID puts the client's own id back into a SUBACK.
func (s *session) returnID(packet []byte) {
	if h, ok, err := parseHeader(packet); ok && err == nil && h.begin+2 <= len(packet) {
		packet[h.begin], packet[h.begin+1] = byte(s.askedID>>8), byte(s.askedID)
	}
}

// queue appends to what is to be written and sees to it that somebody writes.
func (s *session) queue(b []byte) {
	s.out = append(s.out, b...)
	s.kick()
}

// kick starts the writer where none is at work. An idle session has none.
func (s *session) kick() {
	if !s.flushing && len(s.out) > 0 && !s.finished {
		s.flushing = true
		s.b.wg.Add(1)
		go s.flush()
	}
}

// flush writes until nothing is left, gathering what comes meanwhile.
func (s *session) flush() {
	defer s.b.wg.Done()
	s.mu.Lock()
	for len(s.out) > 0 {
		buf := s.out
		s.out, s.spare = s.spare, nil
		counted := s.counted
		s.counted = 0
		timeout := s.b.limits.WriteTimeout
		if s.closing {
			timeout = lastWords
		}
		// Under the lock: a session that ends shortens the deadline.
		_ = s.conn.SetWriteDeadline(time.Now().Add(timeout))
		s.mu.Unlock()
		n, err := s.conn.Write(buf)
		s.b.stats.bytesOut.Add(n)
		s.b.outbound.Add(-int64(counted))
		s.mu.Lock()
		if cap(buf) <= keepOut {
			s.spare = buf[:0]
		}
		if err != nil {
			s.lost(err)
			break
		}
	}
	if cap(s.out) > keepOut {
		s.out = nil
	}
	s.flushing = false
	if s.closing {
		_ = s.conn.Close()
	}
	s.mu.Unlock()
}

// lost ends a session whose client cannot be written to.
func (s *session) lost(err error) {
	if s.closing || !isTimeout(err) {
		s.discard()
		s.shutLocked()
		return
	}
	s.tooSlow()
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// tooSlow closes a client that does not take what it asked for; it finds its messages of QoS 1 and 2 when it comes back.
func (s *session) tooSlow() {
	if s.reason == "" {
		s.reason = "slow"
	}
	s.discard()
	s.shutLocked()
}

// discard forgets what is not written yet.
func (s *session) discard() {
	s.b.outbound.Add(-int64(s.counted))
	s.out, s.counted = nil, 0
}

// Close is mochi's way to end the connection. What is queued is still written, if the client takes it soon.
func (s *session) Close() error {
	s.shut()
	return nil
}

func (s *session) shut() {
	s.mu.Lock()
	s.shutLocked()
	s.mu.Unlock()
}

func (s *session) shutLocked() {
	if s.closing {
		return
	}
	s.closing = true
	s.room.Broadcast()
	if !s.flushing && len(s.out) == 0 {
		_ = s.conn.Close()
		return
	}
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	_ = s.conn.SetWriteDeadline(time.Now().Add(lastWords))
	s.kick()
}

// LocalAddr and the rest make the session a net.Conn. Deadlines are the session's own business.
func (s *session) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr of the client.
func (s *session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline does nothing.
func (s *session) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (s *session) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (s *session) SetWriteDeadline(time.Time) error { return nil }
