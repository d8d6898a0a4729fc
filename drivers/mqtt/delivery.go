package mqtt

import (
	"encoding/binary"
	"log/slog"
	"sync/atomic"

	"github.com/polluxhq/pollux/storage"
)

// delivery is one message on its way to the handler and back.
type delivery struct {
	message Message
	s       *session
	next    *delivery // behind it in the session's order
	held    *held     // of QoS 2
	called  atomic.Bool
	size    int32
	ready   bool // answered; the session's lock
	first   byte // of its acknowledgement; 0: QoS 0
	id      uint16
	reply   *reply
}

// overhead of a message beside its payload and topic, in bytes, for the limits.
const overhead = 256

func newDelivery(s *session, p *publish, t *topic) *delivery {
	d := &delivery{s: s, id: p.id, size: int32(overhead + len(p.payload))}
	switch p.qos {
	case 1:
		d.first = firstPuback
	case 2:
		d.first = firstPubrec
	}
	if t != nil {
		d.message = Message{
			Client: s.id, User: s.user, Topic: t.name, Payload: append(make([]byte, 0, len(p.payload)), p.payload...),
			QoS: p.qos, Retain: p.retain, Grant: s.grant, Found: &t.found,
		}
	}
	return d
}

// admit0 counts a message of QoS 0 in. It waits while too many are with the handler, which keeps the client from being
// read. False: the session ends.
func (s *session) admit0(d *delivery) bool {
	if s.full0(int(d.size)) && !s.wait0(int(d.size)) {
		return false
	}
	s.pending0.Add(1)
	s.pending0Bytes.Add(int64(d.size))
	s.b.pending.Add(int64(d.size))
	return true
}

// full0 is full for messages of QoS 0.
func (s *session) full0(size int) bool {
	l, n := &s.b.limits, s.pending0.Load()
	return n > 0 && (int(n) >= l.PendingQoS0 || s.pending0Bytes.Load()+int64(size) > int64(l.UnackedBytes) ||
		s.b.pending.Load() > int64(l.PendingBytes))
}

// wait0 waits until there is room for a message of QoS 0, and for some more: the reader is not to be woken for each. False: the session ends.
func (s *session) wait0(size int) bool {
	s.b.stats.held.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled0.Store(true)
	for !s.closing && (s.full0(size) || !s.roomy0()) {
		s.room.Wait()
	}
	s.stalled0.Store(false)
	return !s.closing
}

// roomy0 says whether half of the room for messages of QoS 0 is free.
func (s *session) roomy0() bool { return int(s.pending0.Load()) <= s.b.limits.PendingQoS0/2 }

// leave0 counts a message of QoS 0 out.
func (s *session) leave0(d *delivery) {
	s.pending0Bytes.Add(-int64(d.size))
	s.b.pending.Add(-int64(d.size))
	s.pending0.Add(-1)
	if s.stalled0.Load() && s.roomy0() {
		s.mu.Lock()
		s.room.Signal()
		s.mu.Unlock()
	}
}

// admit puts a message of QoS 1 or 2 in the session's order and waits while too many are in it, which keeps the
// client from being read. False: the session ends.
func (s *session) admit(d *delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.full(int(d.size)) {
		if !s.stalled {
			s.b.stats.held.Inc()
		}
		s.stalled = true
		s.room.Wait()
	}
	s.stalled = false
	if s.closing {
		return false
	}
	s.unacked++
	s.unackedBytes += int(d.size)
	s.b.pending.Add(int64(d.size))
	if s.tail == nil {
		s.head = d
	} else {
		s.tail.next = d
	}
	s.tail = d
	return true
}

// full says whether the next message has to wait. A session without any may always have one, so all make progress.
func (s *session) full(size int) bool {
	l := &s.b.limits
	return !s.closing && s.unacked > 0 && (s.unacked >= l.Unacked || s.unackedBytes+size > l.UnackedBytes ||
		s.b.pending.Load() > int64(l.PendingBytes))
}

// done is what the handler calls.
func (d *delivery) done(err error) {
	if !d.called.CompareAndSwap(false, true) {
		d.s.b.stats.doneTwice.Inc()
		return
	}
	var refusal *Refusal
	if err != nil {
		if refusal = refusalOf(err); refusal != nil {
			d.s.b.stats.refused(refusal.Label)
		} else {
			d.s.b.stats.refused("unavailable")
		}
	}
	switch {
	case d.first == 0:
		if err != nil && refusal == nil {
			d.s.b.stats.dropped0.Inc() // it does not come again
		}
		d.s.leave0(d)
	case err == nil:
		d.settle(nil)
	case refusal != nil:
		d.settle(&reply{code: refusal.Code, why: err.Error()})
	default:
		d.abandon()
		d.s.b.quiet.log(d.s.b.log, slog.LevelWarn, "mqtt message not taken, its connection is closed", "client", d.s.id,
			"topic", d.message.Topic, "error", err)
	}
}

// settle answers the message and, for QoS 2, remembers that: in the store, where the session has a queue.
func (d *delivery) settle(r *reply) {
	if d.held != nil && d.s.keeps && (r == nil || r.code < 0x80 || d.s.version < 5) {
		d.s.b.writer.add(storage.Write{Table: TableReceived, Key: d.held.key(), Value: binary.BigEndian.AppendUint64(nil, d.held.sum), Quiet: true}, func(err error) {
			if err != nil {
				d.abandon()
				return
			}
			d.settled(r)
		})
		return
	}
	d.settled(r)
}

func (d *delivery) settled(r *reply) {
	if d.held != nil {
		again, over := d.held.settle(r)
		if again != nil {
			again.answer(r)
		}
		if over {
			d.s.b.dropInbox(d.s.id, d.held.inbox)
		}
	}
	d.answer(r)
}

// abandon closes the connection without an acknowledgement: the client is to send again.
func (d *delivery) abandon() {
	d.s.end("not_committed", 0x89) // server busy
	if d.held != nil {
		if again := d.held.forget(); again != nil {
			again.s.end("not_committed", 0x89)
			again.leave()
		}
	}
	d.leave()
}

// leave frees what the message counts for, without an answer.
func (d *delivery) leave() {
	d.s.b.pending.Add(-int64(d.size))
	d.s.mu.Lock()
	d.s.unacked--
	d.s.unackedBytes -= int(d.size)
	d.s.mu.Unlock()
}

// appendReply appends the acknowledgement, of a refusal with the reason in words where the client wants it.
func (d *delivery) appendReply(out []byte) []byte {
	s, r := d.s, d.reply
	switch {
	case r == nil:
		return appendAck(out, d.first, d.id, s.version, 0, "")
	case s.noReasons || r.code < 0x80:
		return appendAck(out, d.first, d.id, s.version, r.code, "")
	}
	return appendAck(out, d.first, d.id, s.version, r.code, r.why)
}

// answer marks the message as answered and sends all acknowledgements that are due: in the order of the messages.
func (d *delivery) answer(r *reply) {
	s := d.s
	s.b.pending.Add(-int64(d.size))
	s.mu.Lock()
	defer s.mu.Unlock()
	d.ready, d.reply = true, r
	for h := s.head; h != nil && h.ready; h = s.head {
		s.head = h.next
		if s.head == nil {
			s.tail = nil
		}
		s.unacked--
		s.unackedBytes -= int(h.size)
		if !s.closing {
			s.out = h.appendReply(s.out)
		}
	}
	if s.stalled {
		s.room.Signal()
	}
	if s.closing {
		return
	}
	if len(s.out) > s.b.limits.OutboundBytes {
		s.tooSlow()
		return
	}
	s.kick()
}
