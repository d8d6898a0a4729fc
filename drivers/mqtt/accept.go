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
			b.log.Error("accept mqtt connection", "error", err) // out of file descriptors, mostly
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
		go b.serve(s)
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

// serve runs one connection to its end.
func (b *Broker) serve(s *session) {
	defer b.wg.Done()
	err := b.attach(s)
	if !s.authenticated {
		b.handshakes.Add(-1)
	}
	s.shut()
	b.mu.Lock()
	delete(b.conns, s)
	delete(b.sessions, s)
	if b.byID[s.id] == s {
		delete(b.byID, s.id)
	}
	close(s.gone)
	b.mu.Unlock()
	reason := s.finish(err)
	b.stats.closed(reason)
	b.log.Debug("mqtt connection closed", "client", s.id, "remote", s.remote, "reason", reason, "error", err)
}

// attach reads the first packet and gives the connection to mochi, which reads from it until it ends. A panic in there
// costs this connection only.
func (b *Broker) attach(s *session) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.setReason("panic")
			b.stats.panics.Inc()
			b.log.Error("mqtt connection panicked", "client", s.id, "remote", s.remote, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	s.deadline = time.Now().Add(b.limits.ConnectTimeout)
	if t, ok := s.conn.(*tls.Conn); ok {
		_ = t.SetDeadline(s.deadline)
		if err := t.Handshake(); err != nil {
			s.setReason("tls")
			return err
		}
	}
	if err := s.readConnect(); err != nil {
		return err
	}
	return b.server.EstablishConnection(listenerID, s)
}

// claim gives the client id to s once the connection that had it is gone, its will included. mochi alone would let both
// overlap, and the end of the old one could take the new one's entry and subscriptions with it.
func (b *Broker) claim(id string, s *session) error {
	timeout := time.NewTimer(b.limits.ConnectTimeout)
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

// reasonOf names why mochi ended a connection that did not end by our own decision.
func reasonOf(err error) string {
	var code packets.Code
	var network net.Error
	switch {
	case err == nil:
		return "disconnected"
	case errors.As(err, &code) && code == packets.ErrBadUsernameOrPassword:
		return "not_authenticated"
	case errors.As(err, &code) && code == packets.ErrServerBusy:
		return "clients"
	case errors.As(err, &code) && code.Code >= packets.ErrUnspecifiedError.Code:
		return "protocol"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return "lost"
}
