package inbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

func (a *Acceptor) serveTCP(p *port, l net.Listener) {
	strangers := transport.Dropped(a.o.Metrics, drivers.SchemeTCPIn, "sender")
	tooLong := transport.TooLong(a.o.Metrics, drivers.SchemeTCPIn)
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			a.o.Logger.Warn("accept devices", "port", p.number, "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-a.ctx.Done():
				return
			}
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		t, ok := p.find(from.Addr())
		if err != nil || !ok {
			strangers.Inc()
			a.o.Logger.Debug("a stranger called in", "port", p.number, "from", conn.RemoteAddr())
			_ = conn.Close()
			continue
		}
		tokens, err := transport.NewTokenizer(t.Options.Tokenizer)
		if err != nil {
			_ = conn.Close()
			continue
		}
		s := &stream{a: a, t: t, conn: conn, tokens: tokens, idle: time.Duration(t.Options.IdleTimeoutMS) * time.Millisecond, tooLong: tooLong}
		if s.number, ok = a.add(s); !ok {
			_ = conn.Close()
			continue
		}
		a.wait.Go(s.run)
	}
}

// stream is a device's TCP connection.
type stream struct {
	a      *Acceptor
	t      Twin
	conn   net.Conn
	tokens *transport.Tokenizer
	idle   time.Duration
	number uint64
	node   atomic.Value // the twin's node as seen last
	// tooLong counts frames that are.
	tooLong *metrics.Counter

	writing sync.Mutex
	ending  sync.Once
	why     string // after ending
}

func (s *stream) twin() string         { return s.t.ID }
func (s *stream) owner() *atomic.Value { return &s.node }

func (s *stream) end(why string) {
	s.ending.Do(func() {
		s.why = why
		_ = s.conn.Close()
	})
}

func (s *stream) write(frame []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	ctx, cancel := context.WithTimeout(s.a.ctx, writeWithin)
	defer cancel()
	_, err := transport.WriteFrame(ctx, s.conn, frame)
	if err != nil {
		s.end(err.Error())
		return fmt.Errorf("%w: %w", drivers.ErrDisconnected, err)
	}
	return nil
}

// run reads the connection, one piece after the other: the device is read no faster than its twin takes what it says.
func (s *stream) run() {
	defer s.a.remove(s.number, s)
	d := newDelivery(s.a, &s.t, s.number, s.conn.RemoteAddr().String(), &s.node)
	err := d.send(nil)
	buf := make([]byte, transport.ReadChunk)
	heard := time.Now()
	for err == nil {
		_ = s.conn.SetReadDeadline(time.Now().Add(announceEvery)) // fails where the read does
		n, readErr := s.conn.Read(buf)
		var frames [][]byte
		if n > 0 {
			heard = time.Now()
			s.tokens.Push(buf[:n])
			for frame, ok, cutErr := s.tokens.Next(); ok || cutErr != nil; frame, ok, cutErr = s.tokens.Next() {
				if cutErr != nil {
					s.tooLong.Inc()
					readErr = cutErr
					break
				}
				frames = append(frames, frame)
			}
		}
		quiet := errors.Is(readErr, os.ErrDeadlineExceeded)
		if quiet && s.idle > 0 && time.Since(heard) >= s.idle {
			err = transport.ErrIdle
			break
		}
		if len(frames) > 0 || quiet {
			err = d.send(frames)
		}
		if readErr != nil && !quiet && err == nil {
			err = readErr
		}
	}
	s.end(reasonOf(err))
	d.closed(s.why)
}

func reasonOf(err error) string {
	if transport.IsEOF(err) {
		return "closed by the device"
	}
	return err.Error()
}
