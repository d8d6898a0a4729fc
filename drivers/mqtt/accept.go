package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// accept takes connections until the listener is closed.
func (b *Broker) accept() {
	defer b.wg.Done()
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			if b.closing.Load() {
				return
			}
			b.log.Error("accept mqtt connection", "error", err)
			select {
			case <-b.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		s := newSession(b, conn)
		if reason := b.enter(s); reason != "" {
			b.stats.turnedAway(reason)
			_ = conn.Close()
			continue
		}
		go b.greet(s)
	}
}

// enter counts a connection in, or says why not.
func (b *Broker) enter(s *session) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closing.Load():
		return "closing"
	case b.handshakes.Load() >= int64(b.limits.Handshakes):
		return "handshakes"
	case len(b.conns) >= b.limits.Clients+b.limits.Handshakes:
		return "clients"
	}
	b.conns[s] = struct{}{}
	b.handshakes.Add(1)
	b.wg.Add(1)
	return ""
}

// greet lets a connection in. It is then served by another goroutine, whose stack has not grown by what a login needs.
func (b *Broker) greet(s *session) {
	err := s.guarded(s.connect)
	if !s.authenticated {
		b.handshakes.Add(-1)
	}
	if err != nil {
		b.farewell(s, err)
		return
	}
	go func() { b.farewell(s, s.guarded(s.run)) }()
}

// guarded runs a part of a connection's life. A panic in there costs this connection only.
func (s *session) guarded(part func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.setReason("panic")
			s.b.stats.panics.Inc()
			s.b.log.Error("mqtt connection panicked", "client", s.id, "remote", s.remote, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return part()
}

// farewell settles what a connection leaves.
func (b *Broker) farewell(s *session, err error) {
	defer b.wg.Done()
	s.shut()
	in := s.inbox
	b.leaveInbox(s, in)
	reason, left := s.finish(err)
	if s.established.Load() {
		s.awaitReceived(in)
		s.part(err == nil)
	}
	for _, o := range left {
		b.passOn(o, func(error) {})
	}
	b.mu.Lock()
	delete(b.conns, s)
	delete(b.sessions, s)
	if b.byID[s.id] == s {
		delete(b.byID, s.id)
	}
	close(s.gone)
	b.mu.Unlock()
	b.stats.closed(reason)
	b.log.Debug("mqtt connection closed", "client", s.id, "remote", s.remote, "reason", reason, "error", err)
}

// claim gives the client id to s on this node once the connection that had it is gone, its will and record included.
func (b *Broker) claim(id string, s *session) error {
	timeout := time.NewTimer(b.limits.CommitTimeout)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		old := b.byID[id]
		if old == nil {
			b.byID[id] = s
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		old.followed.Store(true)
		old.end("taken_over", packets.ErrSessionTakenOver.Code)
		select {
		case <-old.gone:
		case <-b.stop:
			return ErrClosed
		case <-timeout.C:
			return errors.New("the earlier connection does not end")
		}
	}
}

// tlsHandshake, where the listener has TLS.
func (s *session) tlsHandshake() error {
	t, ok := s.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	_ = t.SetDeadline(s.deadline)
	if err := t.Handshake(); err != nil {
		s.setReason("tls")
		return err
	}
	return nil
}

// reasonOf names why a connection ended that did not end by our own decision.
func reasonOf(err error) string {
	var network net.Error
	switch {
	case err == nil:
		return "disconnected"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return "lost"
}
