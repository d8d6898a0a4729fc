package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
)

// errLinkOver says that a link takes no more calls; its lane makes another.
var errLinkOver = errors.New("link is over")

// link is one connection to a node with one stream on it, from dialling to the end. Calls that come while it
// connects wait in its outbox.
type link struct {
	l     *lane
	id    uint64 // of its stream
	epoch time.Time
	ctx   context.Context
	stop  context.CancelFunc

	mu    sync.Mutex
	out   outbox
	table table
	seq   uint64 // of the last call that was added
	sent  uint64 // of the last call that was given to the stream
	over  error  // not nil: no more calls
	// retired: no new calls, those that wait are still answered.
	retired bool
	// standing: the other side said hello. takes: it reads results among calls.
	standing, takes bool
	// riders are the sessions whose results this link carries; emptied is closed when no call waits any more. See ride.go.
	riders  []*session
	emptied chan struct{}
	// sweepAt is when the timer runs out, in the link's time.
	sweepAt uint64
	timer   *time.Timer

	types   typeTable // the reader's
	results results   // the reader's
}

// result is one answer of a batch.
type result struct {
	ref     uint64
	stream  uint64 // among calls: of the call, or 0
	reply   cluster.Reply
	applied []byte
	index   uint64
}

func newLink(l *lane) *link {
	k := &link{l: l, id: newStreamID(), epoch: time.Now(), out: newOutbox(reqTypes, true), sweepAt: math.MaxUint64}
	k.ctx, k.stop = context.WithCancel(l.p.ctx)
	return k
}

// deadline is a time as the link's calls carry it.
func (k *link) deadline(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return micros(k.epoch, t) + 1
}

// call adds a call. An error means that done will not be called.
func (k *link) call(env *cluster.Envelope, size int, done func(cluster.Reply)) error {
	w := waiting{done: done, deadline: k.deadline(env.Deadline), size: size + len(env.Target.ID) + 64}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.admit(&w); err != nil {
		return err
	}
	c := k.out.tail()
	number := uint32(0)
	if env.Message != nil {
		var err error
		if number, err = k.out.number(c, env.Message); err != nil {
			return err
		}
	}
	before, ref := len(c.buf), uint64(0)
	if done != nil {
		ref = k.add(c, w)
	} else {
		c.posts++
	}
	c.buf = appendCall(c.buf, ref, env, w.deadline, number, size)
	if size > 0 {
		b, err := appendMessage(c.buf, env.Message)
		if err != nil || len(b) != len(c.buf)+size {
			// The message was changed while it was encoded, or cannot be: take it back.
			c.buf = c.buf[:before]
			if _, ok := k.table.remove(ref); !ok {
				c.posts--
			}
			return fmt.Errorf("encode %T: %w", env.Message, errors.Join(err, ErrUnsupported))
		}
		c.buf = b
	}
	k.out.added(len(c.buf) - before)
	return nil
}

// admit checks the limits and sees to the deadline.
func (k *link) admit(w *waiting) error {
	if err := k.room(w.size); err != nil || w.deadline == 0 || w.deadline >= k.sweepAt {
		return err
	}
	now := micros(k.epoch, time.Now())
	if w.deadline <= now {
		return fmt.Errorf("node %s: not sent in time: %w", k.l.node, cluster.ErrDeadline)
	}
	k.sweepIn(w.deadline, now)
	return nil
}

func (k *link) room(size int) error {
	switch o := &k.l.p.o; {
	case k.over != nil:
		return k.over
	case k.retired:
		return errLinkOver
	case k.table.count >= o.InFlight:
		return fmt.Errorf("node %s: %d calls in flight: %w", k.l.node, k.table.count, cluster.ErrOverloaded)
	case k.table.bytes+size > o.InFlightBytes, k.out.bytes+size > o.InFlightBytes:
		return fmt.Errorf("node %s: %d bytes in flight: %w", k.l.node, max(k.table.bytes, k.out.bytes), cluster.ErrOverloaded)
	}
	return nil
}

// add enters a call into the table.
func (k *link) add(c *chunk, w waiting) (ref uint64) {
	k.seq++
	w.seq, c.last = k.seq, k.seq
	return k.table.add(w)
}

// sweepGap keeps sweeps apart.
const sweepGap = 2 * time.Millisecond

func (k *link) sweepIn(at, now uint64) {
	k.sweepAt = at
	wait := sweepGap
	if at > now {
		wait = max(wait, time.Duration(at-now)*time.Microsecond)
	}
	if k.timer == nil {
		k.timer = time.AfterFunc(wait, k.sweep)
	} else {
		k.timer.Reset(wait)
	}
}

// sweep ends the calls whose deadline is over. One that has not left this node never will run: the batch that it is in will say a
// later time than its deadline.
func (k *link) sweep() {
	var expired []waiting
	k.mu.Lock()
	if k.over != nil {
		k.mu.Unlock()
		return
	}
	now, next, sent := micros(k.epoch, time.Now()), uint64(math.MaxUint64), k.sent
	k.table.each(func(n uint32, w *waiting) {
		if w.deadline == 0 {
			return
		}
		if w.deadline <= now {
			expired = append(expired, k.table.clear(n))
		} else {
			next = min(next, w.deadline)
		}
	})
	k.sweepAt = math.MaxUint64
	if next != math.MaxUint64 {
		k.sweepIn(next, now)
	}
	k.mu.Unlock()
	for i := range expired {
		w := &expired[i]
		k.l.p.m.expired.Inc()
		if w.seq > sent {
			w.end(fmt.Errorf("node %s: not sent in time: %w", k.l.node, cluster.ErrDeadline))
		} else {
			w.end(fmt.Errorf("node %s: no answer before the deadline: %w", k.l.node, cluster.ErrUnknown))
		}
	}
}

// propose adds an entry for the log.
func (k *link) propose(entry []byte, deadline time.Time, done func([]byte, uint64, error)) error {
	w := waiting{raw: done, deadline: k.deadline(deadline), size: len(entry) + 64}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.admit(&w); err != nil {
		return err
	}
	c := k.out.tail()
	before := len(c.buf)
	c.buf = appendProposal(c.buf, k.add(c, w), entry)
	k.out.added(len(c.buf) - before)
	return nil
}

// askIndex adds a question for the committed index.
func (k *link) askIndex(deadline time.Time, done func([]byte, uint64, error)) error {
	w := waiting{raw: done, deadline: k.deadline(deadline), size: 64}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.admit(&w); err != nil {
		return err
	}
	c := k.out.tail()
	before := len(c.buf)
	c.buf = appendIndexQuery(c.buf, k.add(c, w), w.deadline)
	k.out.added(len(c.buf) - before)
	return nil
}

// run lives as long as the link: it connects, hands out results, and ends all calls at the end. What waits is sent by feed.
func (k *link) run() {
	ctx := k.ctx
	defer k.stop()
	k.l.p.streams.Store(k.id, k)
	defer k.l.p.streams.Delete(k.id)
	conn, err := k.l.p.dialH2(ctx, k.l.node)
	if err != nil {
		k.end(err)
		return
	}
	defer conn.close()
	defer context.AfterFunc(ctx, conn.close)()
	stands := make(chan struct{})
	conn.body = func(hello io.ReadCloser) io.ReadCloser {
		return &feed{ReadCloser: hello, k: k, stands: stands, closed: make(chan struct{})}
	}
	// A stream that is refused is known to be so before a call was sent: the hello of the other side comes first.
	stream, err := k.open(ctx, conn)
	if err != nil {
		k.end(err)
		return
	}
	k.mu.Lock()
	k.standing = true
	k.mu.Unlock()
	k.l.up(k)
	close(stands)
	if err = k.read(stream); errors.Is(err, errEnded) {
		k.linger()
	}
	k.end(err)
	stream.CloseRequest()
	stream.CloseResponse()
}

func (k *link) open(ctx context.Context, conn *h2conn) (connect.StreamingClientConn, error) {
	p := k.l.p
	client := connect.NewClient[chunk, greeting](conn, "https://"+k.l.node+exchangePath, connect.WithCodec(codec{}),
		connect.WithReadMaxBytes(readMax))
	bidi := client.CallBidiStream(ctx)
	stream, err := bidi.Conn()
	if err != nil {
		return nil, err
	}
	timer := time.AfterFunc(p.o.DialTimeout, conn.close)
	defer timer.Stop()
	var g greeting
	if err = stream.Send(&chunk{buf: appendHello(nil, reqHello, p.o.Node, p.o.Incarnation, k.id)}); err == nil || errors.Is(err, io.EOF) {
		err = stream.Receive(&g)
	}
	if err != nil {
		return nil, refusal(err)
	}
	if g.h.node != k.l.node {
		return nil, fmt.Errorf("node %s answers as %q: %w", k.l.node, g.h.node, ErrRefused)
	}
	k.mu.Lock()
	k.takes = g.h.version >= 2
	k.mu.Unlock()
	return stream, nil
}

// refusal makes what the other side said about us readable.
func refusal(err error) error {
	var c *connect.Error
	if errors.As(err, &c) && c.Code() == connect.CodePermissionDenied {
		return fmt.Errorf("%w: %s", ErrRefused, c.Message())
	}
	return err
}

// greeting is the first batch back.
type greeting struct{ h hello }

func (g *greeting) consume(b []byte) error {
	return fields(b, func(field int, _ uint64, data []byte) (err error) {
		if field == resHello {
			g.h, err = parseHello(data)
		}
		return err
	})
}

// retire lets the link end once all its calls are answered; none comes any more.
func (k *link) retire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired = true
	if k.out.asleep {
		k.out.asleep = false
		k.out.wake <- struct{}{}
	}
}

// end ends the link and every call on it, once: what has left this node may have run.
func (k *link) end(why error) {
	k.mu.Lock()
	if k.over != nil {
		k.mu.Unlock()
		return
	}
	k.over = errLinkOver
	if k.timer != nil {
		k.timer.Stop()
	}
	why = ownWords(why)
	var left []waiting
	k.table.each(func(n uint32, _ *waiting) { left = append(left, k.table.clear(n)) })
	sent, retired, unsent := k.sent, k.retired, len(k.out.waiting)
	k.l.p.m.postsLost.Add(k.out.drop())
	riders := k.riders
	k.riders = nil
	k.mu.Unlock()
	if !retired || unsent > 0 || !errors.Is(why, errEnded) {
		throw(riders)
	}
	k.l.ended(k, why, len(left), retired && len(left) == 0 && unsent == 0)
	for i := range left {
		if w := &left[i]; w.seq > sent {
			w.end(fmt.Errorf("node %s: %w: %w", k.l.node, why, cluster.ErrUnavailable))
		} else {
			w.end(fmt.Errorf("node %s: link lost: %w: %w", k.l.node, why, cluster.ErrUnknown))
		}
	}
}

// ownWords takes the transport's own error out of why a link was lost: its code would say that the call was cancelled or
// failed inside, and whoever passes the error on would tell so.
func ownWords(why error) error {
	var c *connect.Error
	if errors.As(why, &c) {
		return errors.New(why.Error())
	}
	return why
}

// messageSize checks a message's size before it is encoded.
func messageSize(m proto.Message) (int, error) {
	if m == nil {
		return 0, nil
	}
	n := proto.Size(m)
	if n > MaxMessage {
		return 0, fmt.Errorf("message of %d bytes, %d are allowed: %w", n, MaxMessage, ErrTooLarge)
	}
	return n, nil
}
