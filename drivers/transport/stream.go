package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// Stream is a Session over a net.Conn.
type Stream struct {
	secure *tls.Config // for StartTLS; nil: not offered
	buf    []byte

	reading sync.Mutex // held while the connection is read

	mu        sync.Mutex
	conn      net.Conn
	upgrading bool
}

var _ interface {
	Session
	Securer
} = (*Stream)(nil)

// NewStream makes a session of a connection. secure, where not nil, lets TLS begin in it.
func NewStream(conn net.Conn, secure *tls.Config) *Stream {
	return &Stream{conn: conn, secure: secure, buf: make([]byte, ReadChunk)}
}

func (s *Stream) current() (conn net.Conn, upgrading bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn, s.upgrading
}

// Receive implements Session.
func (s *Stream) Receive() ([]byte, error) {
	for {
		s.reading.Lock()
		conn, _ := s.current()
		n, err := conn.Read(s.buf)
		_, upgrading := s.current() // while StartTLS, which ended the read, waits for the lock
		s.reading.Unlock()
		if n > 0 {
			return s.buf[:n], nil // an error comes again
		}
		if upgrading && errors.Is(err, os.ErrDeadlineExceeded) {
			continue // StartTLS has the connection, and this waits for it
		}
		if err != nil {
			return nil, err
		}
	}
}

// Send implements Session.
func (s *Stream) Send(ctx context.Context, frame []byte) (int, error) {
	conn, _ := s.current()
	return WriteFrame(ctx, conn, frame)
}

// StartTLS implements Securer.
func (s *Stream) StartTLS(ctx context.Context) error {
	if s.secure == nil {
		return fmt.Errorf("the transport has no tls options: %w", drivers.ErrDenied)
	}
	s.mu.Lock()
	conn := s.conn
	if _, is := conn.(*tls.Conn); is {
		s.mu.Unlock()
		return fmt.Errorf("the connection has TLS already: %w", drivers.ErrDenied)
	}
	s.upgrading = true
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // ends the read that waits
	s.mu.Unlock()
	s.reading.Lock()
	defer s.reading.Unlock()
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	sealed := tls.Client(conn, s.secure)
	err := sealed.HandshakeContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upgrading = false
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	s.conn = sealed
	return nil
}

// Close implements Session.
func (s *Stream) Close() error {
	conn, _ := s.current()
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn() // no farewell, which could block
	}
	return conn.Close()
}

// Deadlined is what WriteFrame writes to: a net.Conn, or an *os.File that can wait.
type Deadlined interface {
	io.Writer
	SetWriteDeadline(t time.Time) error
}

// WriteFrame writes within ctx, at most 10 s where that has no deadline. A context that is cancelled without a deadline
// ends the write, too.
func WriteFrame(ctx context.Context, conn Deadlined, frame []byte) (int, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(writeTimeout)
	}
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	n, err := conn.Write(frame)
	stop()
	if err == nil {
		return n, nil
	}
	cause := ctx.Err()
	if cause == nil && ok && errors.Is(err, os.ErrDeadlineExceeded) {
		cause = context.DeadlineExceeded // the socket's timer was a little earlier than the context's
	}
	if cause != nil {
		err = fmt.Errorf("%w after %d of %d bytes", cause, n, len(frame))
	}
	return n, err
}

// WriteClosing writes to what has no deadlines of its own: the end of ctx closes it.
func WriteClosing(ctx context.Context, w io.Writer, end func(), frame []byte) (int, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, writeTimeout)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, end)
	n, err := w.Write(frame)
	if !stop() && ctx.Err() != nil && n < len(frame) {
		return n, fmt.Errorf("%w after %d of %d bytes", ctx.Err(), n, len(frame))
	}
	return n, err
}
