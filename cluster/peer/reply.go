package peer

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
)

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
	s.deliver(c.ref, size, func(o *outbox, t *chunk, of resultOf) {
		if r.Err == nil {
			r.Err = appendReply(o, t, of, r.Message, size)
		}
		if r.Err != nil {
			s.p.appendFailure(o, t, of, r.Err)
		}
	})
}

// answer answers a proposal or a question for the index.
func (s *session) answer(ref uint64, applied []byte, index uint64, err error) {
	if err == nil && len(applied) > MaxMessage {
		err = fmt.Errorf("result of %d bytes: %w: %w", len(applied), ErrTooLarge, cluster.ErrUnknown)
	}
	s.deliver(ref, 0, func(o *outbox, t *chunk, of resultOf) {
		if err != nil {
			s.p.appendFailure(o, t, of, err)
			return
		}
		before := len(t.buf)
		t.buf = appendApplied(t.buf, of, applied, index)
		o.added(len(t.buf) - before)
	})
}

// deliver has add write an answer of so many bytes where it goes, and counts its call out.
func (s *session) deliver(ref uint64, size int, add addResult) {
	if k := s.carrier(); k != nil && size <= maxRide && k.carry(s, ref, add) {
		s.mu.Lock()
		s.ran()
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ran()
	of := resultOf{field: resResults, ref: ref}
	switch {
	case s.ended:
		s.p.m.lateReplies.Inc()
	case size > 0 && s.out.bytes+size > s.p.o.InFlightBytes:
		s.p.m.overloaded.Inc()
		s.p.appendFailure(&s.out, s.out.tail(), of, fmt.Errorf("node %s: %d bytes of answers wait to be read: %w: %w", s.p.o.Node, s.out.bytes, cluster.ErrOverloaded, cluster.ErrUnknown))
	default:
		add(&s.out, s.out.tail(), of)
	}
}

// appendReply writes a message of size bytes; an error says that nothing was written.
func appendReply(o *outbox, t *chunk, of resultOf, m proto.Message, size int) error {
	number := uint32(0)
	if m != nil {
		var err error
		if number, err = o.number(t, m); err != nil {
			return fmt.Errorf("answer: %w: %w", err, cluster.ErrUnknown)
		}
	}
	before := len(t.buf)
	t.buf = appendResult(t.buf, of, number, size)
	if size > 0 {
		b, err := appendMessage(t.buf, m)
		if err != nil || len(b) != len(t.buf)+size {
			t.buf = t.buf[:before]
			return fmt.Errorf("encode answer %T: %w", m, errors.Join(err, cluster.ErrUnknown))
		}
		t.buf = b
	}
	o.added(len(t.buf) - before)
	return nil
}

// appendFailure writes an error.
func (p *Peers) appendFailure(o *outbox, t *chunk, of resultOf, err error) {
	f, detail := p.failureOf(err)
	if detail != nil {
		if b, err := proto.Marshal(detail); err == nil && len(b) <= maxErrorText {
			if n, err := o.number(t, detail); err == nil {
				f.detailType, f.detail = n, b
			}
		}
	}
	before := len(t.buf)
	t.buf = appendFailed(t.buf, of, &f)
	o.added(len(t.buf) - before)
}

// ran counts a call out; the mutex is held.
func (s *session) ran() {
	if s.running.Add(-1) == 0 && s.ending {
		close(s.quiet)
		s.ending = false
	}
}
