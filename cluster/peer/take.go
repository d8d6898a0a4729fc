package peer

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/polluxhq/pollux/cluster"
)

// consume takes a batch of calls.
func (s *session) consume(b []byte) error {
	s.p.m.batchesIn.Inc()
	s.p.m.bytesIn.Add(len(b))
	s.at, s.now, s.stream = time.Now(), 0, 0
	s.hold(1)
	err := s.batch(b)
	s.handOut()
	s.hold(-1)
	s.p.m.calls.Add(s.taken)
	s.taken = 0
	return err
}

// paceEvery is the number of calls between two looks at the answers that wait.
const paceEvery = 16

// pace takes no more calls while the other side does not read its answers.
func (s *session) pace() {
	s.mu.Lock()
	full := s.out.bytes > s.p.o.InFlightBytes/4
	s.mu.Unlock()
	if !full {
		return
	}
	s.p.m.stalls.Inc()
	s.handOut()
	s.hold(-1)
	select {
	case <-s.space:
	case <-s.gone:
	}
	s.hold(1)
}

// hold keeps answers back (1) so that those of a batch leave together, or lets them go (-1).
func (s *session) hold(n int) {
	s.mu.Lock()
	s.out.hold(n)
	s.mu.Unlock()
	if n > 0 {
		s.held = s.carrier()
	}
	if k := s.held; k != nil {
		k.mu.Lock()
		k.out.hold(n)
		k.mu.Unlock()
	}
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
			err = s.greet(data)
		case reqNow:
			s.now = v
			s.lag.see(v, micros(s.since, s.at))
		case reqTypes:
			err = s.types.learn(data)
		case reqCalls:
			if s.taken%paceEvery == 0 {
				s.pace()
			}
			err = s.call(data)
		case reqProposals:
			err = s.proposal(data)
		case reqIndexQueries:
			err = s.indexQuery(data)
		case reqResults:
			err = s.ridden(data)
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

// greet takes what the other side says first.
func (s *session) greet(b []byte) (err error) {
	if s.greeted {
		return nil
	}
	s.greeted = true
	if s.peer, err = parseHello(b); err == nil && s.peer.version >= 2 && s.peer.stream != 0 {
		s.back = s.p.lane(s.node, laneCalls)
	}
	return err
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
			if string(data) != s.kind {
				s.kind = s.intern(data)
			}
			c.env.Target.Kind = s.kind
		case callTarget:
			c.env.Target.ID = string(data)
		case callSince:
			c.env.Since = v
		case callSlot:
			if v >= cluster.SlotSpace {
				return fmt.Errorf("slot %d of a call: %w", v, errMalformed)
			}
			c.env.Slot = cluster.Slot(v)
		case callDeadline:
			deadline = v
		case callChain:
			c.env.Chain = append(c.env.Chain, string(data))
		case callPrincipal:
			if string(data) != s.principal {
				s.principal = s.intern(data)
			}
			c.env.Principal = s.principal
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
	s.taken++
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
	s.handOut()
	s.hold(-1) // it may block a little; answers do not wait for it
	defer s.hold(1)
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
