package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

const (
	// smallBuffer is what an idle connection keeps for reading, in bytes; largeBuffer what a busy one reads at once.
	smallBuffer = 1 << 10
	largeBuffer = 32 << 10
	// lastWords is how long a closed connection may take to get what is already queued for it.
	lastWords = time.Second
)

// session is one connection.
type session struct {
	b      *Broker
	conn   net.Conn
	remote string
	gone   chan struct{} // closed when nothing of the connection is left, its record included

	// Of the reading goroutine alone.
	buf           []byte // read ahead: buf[r:w]
	r, w          int
	deadline      time.Time
	began         time.Time // of the packet that is not complete yet; zero: none
	authenticated bool
	topics        map[string]*topic
	topicBytes    int
	aliases       map[uint16]*topic
	inbox         *inbox

	// Set once at CONNECT, then constant.
	client     *client
	id, user   string
	grant      *Grant
	version    byte
	keepAlive  time.Duration
	receiveMax int
	noReasons  bool // the client wants none in words
	maxPacket  int  // of what the client takes, in bytes; 0: any
	since      time.Time
	connection uint64
	birth      uint64
	// keeps: there is a queue, since the session outlives the connection, or an earlier one did.
	keeps     bool
	heldUntil int64 // messages queued before may have been sent on an earlier connection; milliseconds since 1970

	// Of whoever serves the connection, one after the other: its record and the revision of that.
	record   *actorv1.MqttSession
	revision uint64
	// established: the record is committed. followed: the client's next connection is to this node, too.
	established, followed atomic.Bool

	pending0      atomic.Int32 // QoS 0 messages with the handler
	pending0Bytes atomic.Int64
	stalled0      atomic.Bool // the reader waits for them

	mu           sync.Mutex
	room         sync.Cond // for the reader: unacked or pending0 went down, or the session ends
	stalled      bool
	head, tail   *delivery // unacknowledged messages in their order
	unacked      int
	unackedBytes int
	out, spare   []byte
	counted      int      // bytes of out that are in the broker's count
	then         []func() // called when out is written: messages of QoS 0 that are settled by that
	flushing     bool
	closing      bool
	finished     bool
	reason       string
	noWill       bool

	// Messages to the client: sent and not acknowledged, by packet id; waiting for that; keys of the queue in hand.
	flights      map[uint16]*flight
	lastID       uint16
	reserved     map[uint16]struct{} // packet ids of messages in the queue that were sent on an earlier connection
	waiting      []*outgoing
	waitingBytes int
	keys         map[string]struct{}
	left         []string // of keys: left the queue while it was being read
	// live: new messages of the queue are taken as they come. behind: there are some in the store only. reading: somebody reads them.
	live, behind, reading bool
	readers               map[string]*reader // of durable topics, by subscription
}

func newSession(b *Broker, conn net.Conn) *session {
	s := &session{b: b, conn: conn, remote: conn.RemoteAddr().String(), gone: make(chan struct{})}
	if b.tls != nil {
		s.conn = tlsServer(conn, b.tls)
	}
	s.room.L = &s.mu
	return s
}

// packet is one packet in the read buffer; valid until the next one is read.
type packet struct{ whole, body []byte }

// readConnect reads the first packet, which must be a CONNECT of moderate size, and gives its body.
func (s *session) readConnect() ([]byte, error) {
	if err := s.fill(0); err != nil {
		return nil, err
	}
	if s.buf[0] != packets.Connect<<4 {
		return nil, s.fail("no_connect", 0, errMalformed)
	}
	_, packet, err := s.next()
	return packet.body, err
}

// run works on packets until the connection ends. nil: by a DISCONNECT.
func (s *session) run() error {
	for {
		first, p, err := s.next()
		if err != nil {
			return err
		}
		if s.isClosing() {
			return net.ErrClosed
		}
		if first == packets.Disconnect<<4 {
			return s.disconnected(p.body)
		}
		if err := s.handle(first, p.body); err != nil {
			return err
		}
	}
}

// handle works on one packet.
func (s *session) handle(first byte, body []byte) error {
	switch first >> 4 {
	case packets.Publish:
		return s.publish(first, body)
	case packets.Pubrel:
		return s.pubrel(first, body)
	case packets.Puback, packets.Pubcomp, packets.Pubrec:
		return s.acknowledged(first>>4, body)
	case packets.Subscribe:
		return s.aside(func() error { return s.subscribe(first, body) })
	case packets.Unsubscribe:
		return s.aside(func() error { return s.unsubscribe(first, body) })
	case packets.Pingreq:
		return s.ping()
	case packets.Connect, packets.Auth:
		return s.fail("protocol", packets.ErrProtocolViolation.Code, errProtocol)
	}
	return s.fail("malformed", packets.ErrMalformedPacket.Code, errMalformed)
}

// aside waits for work that is rare and needs a deep stack, on a goroutine of its own: the connection's keeps its small one.
func (s *session) aside(work func() error) error {
	done := make(chan error, 1)
	go func() { done <- s.guarded(work) }()
	return <-done
}

// ping answers, and looks whether something lies in the client's queue that this node was not told of.
func (s *session) ping() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return net.ErrClosed
	}
	s.out = append(s.out, packets.Pingresp<<4, 0)
	s.kick()
	s.lookLocked()
	return nil
}

// look reads the client's queue.
func (s *session) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookLocked()
}

func (s *session) lookLocked() {
	if s.keeps {
		s.behind = true // where there is no room now, as soon as there is
		s.catchUpLocked()
	}
}

// next reads one packet whole.
func (s *session) next() (first byte, p packet, err error) {
	for {
		h, ok, err := parseHeader(s.buf[s.r:s.w])
		if err != nil {
			return 0, p, s.fail("malformed", packets.ErrMalformedPacket.Code, err)
		}
		if ok {
			if h.end > s.largest(h.kind()) {
				if r, ok := s.b.handler.(Refuser); ok && h.kind() == packets.Publish && s.established.Load() {
					r.Refused(&Message{Client: s.id, User: s.user, Grant: s.grant}, ErrTooLarge)
				}
				return 0, p, s.fail("too_large", packets.ErrPacketTooLarge.Code, errTooLarge)
			}
			if h.end <= s.w-s.r {
				p.whole = s.buf[s.r : s.r+h.end]
				p.body = p.whole[h.begin:]
				s.r += h.end
				s.began = time.Time{}
				return h.first, p, nil
			}
		}
		if err := s.fill(h.end); err != nil {
			return 0, p, err
		}
	}
}

func (s *session) largest(kind byte) int {
	switch {
	case !s.authenticated:
		return s.b.limits.MaxConnect
	case kind == packets.Publish:
		return s.b.limits.MaxPacket
	}
	return s.b.limits.MaxControl
}

// fill reads more bytes. The buffer grows with what has arrived, not with what a header promises.
func (s *session) fill(want int) error {
	if !s.makeRoom(want) {
		return s.fail("memory", packets.ErrQuotaExceeded.Code, errTooLarge)
	}
	if err := s.arm(); err != nil {
		return err
	}
	n, err := s.conn.Read(s.buf[s.w:])
	s.w += n
	s.b.stats.bytesIn.Add(n)
	if n > 0 {
		return nil
	}
	switch {
	case err == nil:
		err = io.ErrNoProgress
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.fail(s.timeoutReason(), packets.ErrKeepAliveTimeout.Code, err)
	}
	return err
}

// makeRoom says whether there is room to read into.
func (s *session) makeRoom(want int) bool {
	have := s.w - s.r
	size := len(s.buf)
	switch {
	case have == 0 && size > largeBuffer: // a large packet is through
		size = largeBuffer
	case s.w == size && s.r == 0, have == 0 && s.w == size: // full: more may wait
		size = max(smallBuffer, min(2*size, max(largeBuffer, want)))
	}
	if size != len(s.buf) {
		if !s.countBuffer(len(s.buf), size) {
			return false
		}
		buf := make([]byte, size)
		copy(buf, s.buf[s.r:s.w])
		s.buf = buf
	} else if s.r > 0 {
		copy(s.buf, s.buf[s.r:s.w])
	}
	s.r, s.w = 0, have
	return true
}

// countBuffer counts buffers beyond the common size. False: there are too many.
func (s *session) countBuffer(from, to int) bool {
	more := int64(max(to, largeBuffer) - max(from, largeBuffer))
	if more == 0 {
		return true
	}
	if s.b.largeBuffers.Add(more) > int64(s.b.limits.LargeBuffers) && more > 0 {
		s.b.largeBuffers.Add(-more)
		return false
	}
	return true
}

// arm sets the read deadline: for the CONNECT, for the rest of a packet, or by keep-alive.
func (s *session) arm() error {
	now := time.Now()
	deadline := s.deadline
	if s.authenticated {
		deadline = time.Time{}
		if s.keepAlive > 0 {
			deadline = now.Add(s.keepAlive + s.keepAlive/2)
		}
		if s.w > s.r {
			if s.began.IsZero() {
				s.began = now
			}
			if d := s.began.Add(s.b.limits.PacketTimeout); deadline.IsZero() || d.Before(deadline) {
				deadline = d
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return net.ErrClosed
	}
	return s.conn.SetReadDeadline(deadline)
}

func (s *session) timeoutReason() string {
	switch {
	case s.isClosing():
		return ""
	case !s.authenticated:
		return "connect_timeout"
	case s.w > s.r:
		return "packet_timeout"
	}
	return "keep_alive"
}

// fail ends the session for a reason of ours. A client of MQTT 5 is told the code, 0: none.
func (s *session) fail(reason string, code byte, err error) error {
	s.end(reason, code)
	return err
}

// end says goodbye and closes. Safe from any goroutine.
func (s *session) end(reason string, code byte) {
	s.setReason(reason)
	s.mu.Lock()
	if !s.closing && s.version == 5 && s.established.Load() && code != 0 {
		s.out = append(s.out, firstDisconnect, 1, code)
	}
	s.shutLocked()
	s.mu.Unlock()
}

func (s *session) setReason(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		s.reason = reason
	}
}

func (s *session) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// supersede ends a connection whose client has another one, by the record. That one has taken care of the will.
func (s *session) supersede() {
	s.mu.Lock()
	s.noWill = true
	s.mu.Unlock()
	s.end("taken_over", packets.ErrSessionTakenOver.Code)
}

// finish frees what the connection had, but for what others are to get.
func (s *session) finish(err error) (reason string, left []*outgoing) {
	s.countBuffer(len(s.buf), 0)
	s.buf, s.topics, s.aliases, s.inbox = nil, nil, nil, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.head, s.tail = nil, nil
	left = s.orphansLocked()
	s.freeOutboundLocked()
	if s.reason == "" {
		s.reason = reasonOf(err)
	}
	return s.reason, left
}

func (s *session) describe() Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Client{
		ID: s.id, User: s.user, Remote: s.remote, Version: s.version, Since: s.since, Unacked: s.unacked, Grant: s.grant,
	}
}
