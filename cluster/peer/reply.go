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
	if r.Err != nil {
		s.fail(c.ref, r.Err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.ran()
	switch {
	case s.ended:
		s.p.m.lateReplies.Inc()
		return
	case size > 0 && s.out.bytes+size > s.p.o.InFlightBytes:
		s.p.m.overloaded.Inc()
		s.failed(c.ref, fmt.Errorf("node %s: %d bytes of answers wait to be read: %w: %w", s.p.o.Node, s.out.bytes, cluster.ErrOverloaded, cluster.ErrUnknown))
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
