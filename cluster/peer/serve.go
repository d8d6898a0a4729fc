package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/polluxhq/pollux/cluster"
)

// drainTime is how long a stream whose other side has said all it will waits for the calls that run.
const drainTime = 30 * time.Second

// session is the serving side of a stream.
type session struct {
	p     *Peers
	node  string
	since time.Time // when the stream began here

	mu     sync.Mutex
	out    outbox
	ended  bool            // nothing is sent any more
	ending bool            // the other side calls no more
	quiet  chan struct{}   // closed when ending and nothing runs
	space  chan struct{}   // one is sent when replies were taken from a full outbox
	gone   <-chan struct{} // closed when the stream is over
	cut    func()          // ends the connection

	running atomic.Int64 // calls that were taken and not answered
	back    *lane        // whose calls answers ride with; nil: the other node does not take them there

	// The reader's.
	greeted   bool
	peer      hello
	types     typeTable
	lag       lag
	at        time.Time // arrival of the batch
	now       uint64    // when it was sent, in the stream's time
	slab      []served
	taken     int               // calls of the batch
	names     map[string]string // strings that come again and again, and the last of them
	kind      string
	principal string
	results   results // for of, whose stream's number is stream
	of        *link
	stream    uint64
	held      *link // whose calls wait until the batch is read
}

// served is a call of another node that runs here.
type served struct {
	s     *session
	env   cluster.Envelope
	ref   uint64
	ended atomic.Bool
}

// exchange serves a stream until the other side ends it or the connection is lost.
func (c *serverConn) exchange(ctx context.Context, stream *connect.BidiStream[chunk, chunk]) error {
	p := c.p
	if !p.begin() {
		return connect.NewError(connect.CodeUnavailable, ErrClosed)
	}
	defer p.running.Done()
	s := &session{p: p, node: c.node, since: time.Now(), gone: ctx.Done(), cut: c.close, out: newOutbox(resTypes, false), quiet: make(chan struct{}),
		space: make(chan struct{}, 1), names: map[string]string{}}
	conn := stream.Conn()
	p.m.sessions.Add(1)
	defer p.m.sessions.Add(-1)
	if err := conn.Receive(s); err != nil {
		return err
	}
	if !s.greeted {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the first batch has no hello"))
	}
	if s.peer.node != c.node {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("certificate is of node %s, %s says hello", c.node, s.peer.node))
	}
	if err := conn.Send(&chunk{buf: appendHello(nil, resHello, p.o.Node, p.o.Incarnation, 0)}); err != nil {
		return err
	}
	for n := range lanes {
		p.lane(c.node, n).alive()
	}
	var writer sync.WaitGroup
	writing := make(chan struct{})
	writer.Go(func() {
		defer close(writing)
		if err := s.write(ctx, conn); err != nil {
			c.close()
		}
	})
	err := s.read(conn)
	if err == nil {
		s.drain(ctx)
	} else if ctx.Err() == nil {
		p.m.malformed.Inc()
		if p.seldom("batch " + c.node) {
			p.o.Logger.Warn("peer stream closed", "node", c.node, "error", err)
		}
	}
	s.mu.Lock()
	s.ended = true
	if s.out.asleep {
		s.out.asleep = false
		s.out.wake <- struct{}{}
	}
	s.mu.Unlock()
	if err != nil {
		// A writer that waits for the other side to read comes back only with the connection.
		select {
		case <-writing:
		case <-time.After(100 * time.Millisecond):
			c.close()
		}
	}
	writer.Wait()
	return err
}

// read takes batches until the other side ends the stream (nil).
func (s *session) read(conn connect.StreamingHandlerConn) error {
	for {
		if err := conn.Receive(s); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// write sends replies until the session has ended and nothing waits.
func (s *session) write(ctx context.Context, conn connect.StreamingHandlerConn) error {
	for {
		s.mu.Lock()
		before := s.out.bytes
		c := s.out.take()
		ended := s.ended
		if limit := s.p.o.InFlightBytes / 4; before > limit && s.out.bytes <= limit || c == nil {
			select {
			case s.space <- struct{}{}:
			default:
			}
		}
		s.mu.Unlock()
		if c == nil {
			if ended {
				return nil
			}
			select {
			case <-s.out.wake:
				runtime.Gosched() // who can run now may have more to answer
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		s.p.m.batchesOut.Inc()
		s.p.m.bytesOut.Add(len(c.buf))
		err := conn.Send(c)
		freeChunk(c)
		if err != nil {
			return err
		}
	}
}

// drain waits for what runs, after the other side has sent its last call.
func (s *session) drain(ctx context.Context) {
	s.mu.Lock()
	s.ending = true
	idle := s.running.Load() == 0
	s.mu.Unlock()
	if idle {
		return
	}
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-s.quiet:
	case <-t.C:
	case <-ctx.Done():
	}
}
