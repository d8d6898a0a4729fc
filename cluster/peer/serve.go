package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

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
	ended  bool          // nothing is sent any more
	ending bool          // the other side calls no more
	quiet  chan struct{} // closed when ending and nothing runs
	space  chan struct{} // one is sent when replies were taken from a full outbox

	running atomic.Int64 // calls that were taken and not answered

	// The reader's.
	greeted bool
	peer    hello
	types   typeTable
	lag     lag
	at      time.Time // arrival of the batch
	now     uint64    // when it was sent, in the stream's time
	slab    []served
	names   map[string]string
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
	s := &session{p: p, node: c.node, since: time.Now(), out: newOutbox(resTypes, false), quiet: make(chan struct{}),
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
	if err := conn.Send(&chunk{buf: appendHello(nil, resHello, p.o.Node, p.o.Incarnation)}); err != nil {
		return err
	}
	var writer sync.WaitGroup
	writing := make(chan struct{})
	writer.Go(func() {
		defer close(writing)
		if err := s.write(ctx, conn); err != nil {
			c.close()
		}
	})
	err := s.read(ctx, conn)
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
func (s *session) read(ctx context.Context, conn connect.StreamingHandlerConn) error {
	for {
		if err := conn.Receive(s); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		s.mu.Lock()
		full := s.out.bytes > s.p.o.InFlightBytes/4
		s.mu.Unlock()
		if full { // the other side does not read its answers: take no more until it does
			s.p.m.stalls.Inc()
			select {
			case <-s.space:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
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

// consume takes a batch of calls.
func (s *session) consume(b []byte) error {
	s.p.m.batchesIn.Inc()
	s.p.m.bytesIn.Add(len(b))
	s.at, s.now = time.Now(), 0
	s.mu.Lock()
	s.out.held++
	s.mu.Unlock()
	err := s.batch(b)
	s.mu.Lock()
	s.out.release()
	s.mu.Unlock()
	return err
}

func (s *session) batch(b []byte) error {
	for len(b) > 0 {
		field, v, data, n := nextField(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		var err error
		switch field {
		case reqHello:
			s.greeted = true
			s.peer, err = parseHello(data)
		case reqNow:
			s.now = v
			s.lag.see(v, micros(s.since, s.at))
		case reqTypes:
			err = s.types.learn(data)
		case reqCalls:
			err = s.call(data)
		case reqProposals:
			err = s.proposal(data)
		case reqIndexQueries:
			err = s.indexQuery(data)
		}
		if err != nil {
			return err
		}
		if !s.greeted {
			return fmt.Errorf("a batch before hello: %w", errMalformed)
		}
	}
	return nil
}

// take gives room for a call.
func (s *session) take() *served {
	if len(s.slab) == 0 {
		s.slab = make([]served, 8) // few, so that one that waits long keeps little
	}
	c := &s.slab[0]
	s.slab = s.slab[1:]
	c.s = s
	return c
}

func (s *session) call(b []byte) error {
	c := s.take()
	var deadline uint64
	var number uint32
	var message []byte
	for len(b) > 0 {
		field, v, data, n := nextField(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		switch field {
		case callRef:
			c.ref = v
		case callID:
			if copy(c.env.ID[:], data) != len(c.env.ID) {
				return fmt.Errorf("id of a call has %d bytes: %w", len(data), errMalformed)
			}
		case callKind:
			c.env.Target.Kind = s.intern(data)
		case callTarget:
			c.env.Target.ID = string(data)
		case callSince:
			c.env.Since = v
		case callDeadline:
			deadline = v
		case callChain:
			c.env.Chain = append(c.env.Chain, string(data))
		case callPrincipal:
			c.env.Principal = s.intern(data)
		case callType:
			number = uint32(v)
		case callMessage:
			message = data
		}
	}
	if c.ref != 0 && s.running.Add(1) > int64(s.p.o.InFlight) {
		s.p.m.overloaded.Inc()
		c.reply(cluster.Reply{Err: fmt.Errorf("node %s: %d calls of node %s run: %w", s.p.o.Node, s.p.o.InFlight, s.node, cluster.ErrOverloaded)})
		return nil
	}
	if deadline != 0 && s.late(deadline) {
		s.p.m.tooLate.Inc()
		c.reply(cluster.Reply{Err: fmt.Errorf("node %s: %s %s: %w", s.p.o.Node, c.env.Target.Kind, c.env.Target.ID, cluster.ErrDeadline)})
		return nil
	}
	if deadline != 0 {
		c.env.Deadline = s.at.Add(time.Duration(deadline-s.now-s.lag.now) * time.Microsecond)
	}
	var err error
	if c.env.Message, err = s.types.decode(number, message); err != nil {
		s.p.m.unsupported.Inc()
		c.reply(cluster.Reply{Err: fmt.Errorf("node %s: %w", s.p.o.Node, err)})
		return nil
	}
	s.p.m.calls.Inc()
	if c.ref == 0 {
		s.p.o.Calls(&c.env, ignore)
	} else {
		s.p.o.Calls(&c.env, c.reply)
	}
	return nil
}

func ignore(cluster.Reply) {}

// late says that a deadline, in the stream's time plus 1, is over: in the batch already, or because the batch lay for long.
func (s *session) late(deadline uint64) bool { return deadline <= s.now+s.lag.now+1 }

// maxNames bounds the strings that are kept to be used again.
const maxNames = 256

// intern keeps strings that come again and again: kinds, principals.
func (s *session) intern(b []byte) string {
	if v, ok := s.names[string(b)]; ok {
		return v
	}
	v := string(b)
	if len(s.names) < maxNames && len(v) <= 128 {
		s.names[v] = v
	}
	return v
}

func (s *session) proposal(b []byte) error {
	var ref uint64
	var entry []byte
	err := fields(b, func(field int, v uint64, data []byte) error {
		switch field {
		case proposalRef:
			ref = v
		case proposalEntry:
			entry = bytes.Clone(data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.running.Add(1)
	if s.p.o.Propose == nil {
		s.answer(ref, nil, 0, fmt.Errorf("node %s takes no proposals: %w", s.p.o.Node, cluster.ErrUnavailable))
		return nil
	}
	s.p.o.Propose(entry, func(result []byte, err error) { s.answer(ref, result, 0, err) })
	return nil
}

func (s *session) indexQuery(b []byte) error {
	var ref, deadline uint64
	err := fields(b, func(field int, v uint64, _ []byte) error {
		switch field {
		case indexRef:
			ref = v
		case indexDeadline:
			deadline = v
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.running.Add(1)
	wait := 10 * time.Second
	if deadline != 0 {
		wait = time.Duration(int64(deadline)-int64(s.now)-int64(s.lag.now)) * time.Microsecond
	}
	ask := func() {
		ctx, cancel := context.WithTimeout(s.p.ctx, wait)
		defer cancel()
		index, err := s.p.o.CommitIndex(ctx)
		s.answer(ref, nil, index, err)
	}
	if s.p.o.CommitIndex == nil || !s.p.goDo(ask) {
		s.answer(ref, nil, 0, fmt.Errorf("node %s has no commit index: %w", s.p.o.Node, cluster.ErrUnavailable))
	}
	return nil
}

// reply answers a call, once.
func (c *served) reply(r cluster.Reply) {
	if c.ref == 0 || !c.ended.CompareAndSwap(false, true) {
		return
	}
	s := c.s
	if !c.env.Deadline.IsZero() && time.Now().After(c.env.Deadline) {
		s.p.m.lateReplies.Inc() // its caller was told already
		s.mu.Lock()
		s.ran()
		s.mu.Unlock()
		return
	}
	size := 0
	if r.Err == nil {
		var err error
		if size, err = messageSize(r.Message); err != nil {
			r.Err = fmt.Errorf("answer: %w: %w", err, cluster.ErrUnknown)
		}
	}
	if r.Err != nil {
		s.fail(c.ref, r.Err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ran()
	if s.ended {
		s.p.m.lateReplies.Inc()
		return
	}
	t := s.out.tail()
	number := uint32(0)
	if r.Message != nil {
		var err error
		if number, err = s.out.number(t, r.Message); err != nil {
			s.failed(c.ref, fmt.Errorf("answer: %w: %w", err, cluster.ErrUnknown))
			return
		}
	}
	before := len(t.buf)
	t.buf = appendResult(t.buf, c.ref, number, size)
	if size > 0 {
		b, err := appendMessage(t.buf, r.Message)
		if err != nil || len(b) != len(t.buf)+size {
			t.buf = t.buf[:before]
			s.failed(c.ref, fmt.Errorf("encode answer %T: %w", r.Message, errors.Join(err, cluster.ErrUnknown)))
			return
		}
		t.buf = b
	}
	s.out.added(len(t.buf) - before)
}

// answer answers a proposal or a question for the index.
func (s *session) answer(ref uint64, applied []byte, index uint64, err error) {
	if err == nil && len(applied) > MaxMessage {
		err = fmt.Errorf("result of %d bytes: %w: %w", len(applied), ErrTooLarge, cluster.ErrUnknown)
	}
	if err != nil {
		s.fail(ref, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ran()
	if s.ended {
		return
	}
	t := s.out.tail()
	before := len(t.buf)
	t.buf = appendApplied(t.buf, ref, applied, index)
	s.out.added(len(t.buf) - before)
}

func (s *session) fail(ref uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ran()
	s.failed(ref, err)
}

// failed sends an error; the mutex is held.
func (s *session) failed(ref uint64, err error) {
	if s.ended {
		return
	}
	f, detail := s.p.failureOf(err)
	t := s.out.tail()
	before := len(t.buf)
	if detail != nil {
		if b, err := proto.Marshal(detail); err == nil && len(b) <= maxErrorText {
			if n, err := s.out.number(t, detail); err == nil {
				f.detailType, f.detail = n, b
				before = len(t.buf)
			}
		}
	}
	t.buf = appendFailed(t.buf, ref, &f)
	s.out.added(len(t.buf) - before)
}

// ran counts a call out; the mutex is held.
func (s *session) ran() {
	if s.running.Add(-1) == 0 && s.ending {
		close(s.quiet)
		s.ending = false
	}
}

// lag knows how much longer than others a batch was on its way, since the clocks of two nodes cannot be compared: this
// process, or the other, may have stood still with the batch in a socket.
type lag struct {
	seen   bool
	least  int64 // of arrival minus sending, microseconds
	at     uint64
	now    uint64 // of the present batch
	jitter int64
}

// lagFree is how much lateness is ignored, and driftParts how fast clocks may drift apart: one part in that many.
const (
	lagFree    = 50_000 // µs
	driftParts = 1000
)

func (l *lag) see(sent, arrived uint64) {
	d := int64(arrived) - int64(sent)
	if !l.seen {
		l.seen, l.least, l.at = true, d, arrived
	}
	l.least = min(d, l.least+int64(arrived-l.at)/driftParts)
	if step := (arrived - l.at) / driftParts; step > 0 {
		l.at = arrived
	}
	l.now = 0
	if late := d - l.least; late > lagFree {
		l.now = uint64(late)
	}
}

// debugLog takes the lines of the HTTP server.
type debugLog struct{ to *slog.Logger }

func (d debugLog) Write(b []byte) (int, error) {
	d.to.Debug("peer http", "line", strings.TrimSpace(string(b)))
	return len(b), nil
}

// wholeWrites gathers what Connect writes until it flushes: its 5 bytes and the message would otherwise be several frames.
func wholeWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &gathered{ResponseWriter: w}
		next.ServeHTTP(b, r)
		b.Flush()
	})
}

type gathered struct {
	http.ResponseWriter
	buf []byte
}

func (g *gathered) Write(b []byte) (int, error) {
	g.buf = append(g.buf, b...)
	return len(b), nil
}

// FlushError sends what was gathered.
func (g *gathered) FlushError() error {
	if len(g.buf) > 0 {
		_, err := g.ResponseWriter.Write(g.buf)
		if g.buf = g.buf[:0]; cap(g.buf) > 4*chunkSize {
			g.buf = nil
		}
		if err != nil {
			return err
		}
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Flush is FlushError for those who do not ask.
func (g *gathered) Flush() { g.FlushError() }
