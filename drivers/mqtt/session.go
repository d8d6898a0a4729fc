package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// smallBuffer is what an idle connection keeps for reading, in bytes; largeBuffer what a busy one reads at once.
	smallBuffer = 1 << 10
	largeBuffer = 32 << 10
	// lastWords is how long a closed connection may take to get what is already queued for it.
	lastWords = time.Second
)

// session is one connection. Towards mochi it is a net.Conn whose bytes are the packets that we leave to mochi; PUBLISH
// and PUBREL are taken out on the way. What mochi writes is queued here together with our acknowledgements.
type session struct {
	b      *Broker
	conn   net.Conn
	remote string
	gone   chan struct{} // closed when nothing of the connection is left in mochi

	// Of the reading goroutine alone.
	buf           []byte // read ahead: buf[r:w]
	r, w          int
	pass          []byte // the rest of the packet that mochi is reading; points into buf
	deadline      time.Time
	began         time.Time // of the packet that is not complete yet; zero: none
	authenticated bool
	topics        map[string]*topic
	topicBytes    int
	aliases       map[uint16]*topic
	fan           *mochi.Client
	inbox         *inbox

	// Set once by the hook before anything is published, then constant.
	client     *mochi.Client
	id, user   string
	grant      *Grant
	version    byte
	keepAlive  time.Duration
	receiveMax int
	since      time.Time

	owed        owed
	subscribing atomic.Bool // mochi works on a SUBSCRIBE

	pending0      atomic.Int32 // QoS 0 messages with the handler
	pending0Bytes atomic.Int64

	mu           sync.Mutex
	room         sync.Cond // for the reader: unacked went down, or the session ends
	waiting      bool
	head, tail   *delivery // unacknowledged messages in their order
	unacked      int
	unackedBytes int
	out, spare   []byte
	counted      int // bytes of out that are in the broker's count
	flushing     bool
	closing      bool
	finished     bool
	reason       string
	askedID      uint16 // the client's own id of the SUBSCRIBE or UNSUBSCRIBE that mochi works on
	flow         *flow  // of MQTT 5's receive maximum; nil: no bound
}

func newSession(b *Broker, conn net.Conn) *session {
	s := &session{b: b, conn: conn, remote: conn.RemoteAddr().String(), gone: make(chan struct{})}
	if b.tls != nil {
		s.conn = tlsServer(conn, b.tls)
	}
	s.room.L = &s.mu
	return s
}

// Read gives mochi the next bytes of what is left to it, never of two packets at once. It works on everything else
// that arrives meanwhile.
func (s *session) Read(p []byte) (int, error) {
	for len(s.pass) == 0 {
		first, packet, err := s.next()
		if err != nil {
			return 0, err
		}
		taken, err := s.take(first, packet)
		if err != nil {
			return 0, err
		}
		if !taken {
			s.pass = packet.whole
		}
	}
	n := copy(p, s.pass)
	s.pass = s.pass[n:]
	return n, nil
}

// packet is one packet in the read buffer; valid until the next one is read.
type packet struct{ whole, body []byte }

// readConnect reads the first packet, which must be a CONNECT of moderate size, and keeps it for mochi.
func (s *session) readConnect() error {
	if err := s.fill(0); err != nil {
		return err
	}
	if s.buf[0] != packets.Connect<<4 {
		return s.fail("no_connect", 0, errMalformed)
	}
	_, packet, err := s.next()
	if err != nil {
		return err
	}
	s.pass = packet.whole
	return nil
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

// take works on a packet if it is ours. False: mochi's.
func (s *session) take(first byte, p packet) (bool, error) {
	if s.isClosing() {
		return false, net.ErrClosed
	}
	switch first >> 4 {
	case packets.Publish:
		return true, s.publish(first, p.body)
	case packets.Pubrel:
		return true, s.pubrel(first, p.body)
	case packets.Subscribe, packets.Unsubscribe:
		return false, s.lendID(p.body)
	case packets.Puback, packets.Pubcomp, packets.Pubrec:
		return false, s.acknowledged(first>>4, p.body)
	}
	return false, nil
}

// lendID replaces the packet id of a SUBSCRIBE by one that mochi does not use towards the client: it keeps the ids of
// both directions in one map and would refuse one that is in use in the other.
func (s *session) lendID(body []byte) error {
	id, err := parseID(body)
	if err != nil {
		return s.fail("malformed", packets.ErrMalformedPacket.Code, err)
	}
	free := uint16(0xffff)
	for _, used := s.client.State.Inflight.Get(free); used; _, used = s.client.State.Inflight.Get(free) {
		free--
	}
	body[0], body[1] = byte(free>>8), byte(free)
	s.mu.Lock()
	s.askedID = id
	s.mu.Unlock()
	return nil
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
	if !s.closing && s.version == 5 && s.client != nil && code != 0 {
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

// finish frees what a session that mochi may still hold (for a client that comes back) does not need any more.
func (s *session) finish(err error) (reason string) {
	s.countBuffer(len(s.buf), 0)
	s.buf, s.pass, s.topics, s.aliases, s.fan, s.inbox = nil, nil, nil, nil, nil, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.head, s.tail, s.flow = nil, nil, nil
	if s.reason == "" {
		s.reason = reasonOf(err)
	}
	return s.reason
}

func (s *session) describe() Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Client{
		ID: s.id, User: s.user, Remote: s.remote, Version: s.version, Since: s.since, Unacked: s.unacked, Grant: s.grant,
	}
}
