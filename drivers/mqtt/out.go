package mqtt

import (
	"crypto/tls"
	"net"
	"time"
)

// keepOut is what an idle session keeps of its output buffers, in bytes.
const keepOut = 4 << 10

func tlsServer(conn net.Conn, config *tls.Config) net.Conn { return tls.Server(conn, config) }

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
		counted, then := s.counted, s.then
		s.counted, s.then = 0, nil
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
		if err == nil {
			for _, settle := range then {
				settle()
			}
		}
		s.mu.Lock()
		if cap(buf) <= keepOut {
			s.spare = buf[:0]
		}
		if err != nil {
			s.lost(err)
			break
		}
	}
	if s.behind && !s.closing {
		s.catchUpLocked()
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
	s.out, s.counted, s.then = nil, 0, nil
}

func (s *session) shut() {
	s.mu.Lock()
	s.shutLocked()
	s.mu.Unlock()
}

// shutLocked ends the connection. What is queued is still written, if the client takes it soon.
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
