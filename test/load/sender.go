package load

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// message is one publish under way.
type message struct {
	device   int
	sequence uint64
	value    float64
	at       time.Time
	acked    bool
}

// sender is one connection with its devices. Messages are numbered from 0; sentTo and ackedTo bound the window.
type sender struct {
	o          *Options
	connection int
	devices    []int
	topics     []string
	sequences  []uint64
	quota      uint64 // messages to send; 0: no bound
	turn       int

	journal *part     // nil: none
	window  []message // by number modulo its length
	sentTo  int
	ackedTo int

	mu      sync.Mutex
	wake    chan struct{} // room, or the connection is lost
	waiting bool
	report  Report
	last    time.Time
	buf     []byte
	payload []byte
}

func newSender(o *Options, connection int) *sender {
	s := &sender{o: o, connection: connection, window: make([]message, o.Window), wake: make(chan struct{}, 1), last: time.Now()}
	for d := connection; d < o.Devices; d += o.Connections {
		s.devices = append(s.devices, d)
		s.topics = append(s.topics, o.Topic(d))
	}
	if o.Journal != nil {
		s.journal = o.Journal.part(connection)
	}
	s.sequences = make([]uint64, len(s.devices))
	if o.Messages > 0 {
		s.quota = max(1, o.Messages*uint64(connection+1)/uint64(o.Connections)-o.Messages*uint64(connection)/uint64(o.Connections))
	}
	return s
}

// run connects again and again until all is sent or the context ends, and then for as long as Drain while something is under way.
func (s *sender) run(ctx context.Context) {
	draining, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.o.Drain, cancel) })()
	delay := 10 * time.Millisecond
	for ctx.Err() == nil || s.open() > 0 && draining.Err() == nil {
		if s.o.Gate != nil {
			s.o.Gate(ctx, s.connection)
		}
		conn, err := dial(draining, s.o, s.connection)
		if err == nil {
			delay = 10 * time.Millisecond
			s.report.Connects++
			if s.o.OnConnected != nil {
				s.o.OnConnected(s.connection)
			}
			if err = s.serve(ctx, conn); err == nil {
				return
			}
			s.report.Losses++
		}
		s.report.LastLoss = err
		s.o.Logger.Debug("load connection lost", "connection", s.connection, "error", err)
		select {
		case <-draining.Done():
		case <-time.After(delay):
		}
		delay = min(2*delay, 500*time.Millisecond)
	}
}

// serve uses one connection until all is acknowledged (nil) or it is lost.
func (s *sender) serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	read := make(chan error, 1)
	go func() { read <- s.read(conn); s.signal() }()
	stop := context.AfterFunc(ctx, s.signal)
	defer stop()
	err := s.write(ctx, conn, read)
	if err == nil {
		_, _ = conn.Write([]byte{0xe0, 0}) // DISCONNECT
	}
	_ = conn.Close()
	if e := <-read; err == nil && s.open() > 0 {
		err = e
	}
	return err
}

// write keeps the window full.
func (s *sender) write(ctx context.Context, conn net.Conn, read chan error) error {
	if err := s.resend(conn); err != nil {
		return err
	}
	interval := time.Duration(0)
	if s.o.Rate > 0 {
		interval = time.Duration(float64(time.Second) * float64(s.o.Connections) / s.o.Rate)
	}
	due := time.Now()
	for ctx.Err() == nil && (s.quota == 0 || s.report.Sent < s.quota) {
		room := s.room()
		if s.quota > 0 {
			room = min(room, int(s.quota-s.report.Sent))
		}
		if interval > 0 {
			late := int(time.Since(due)/interval) + 1
			if late <= 0 || room == 0 {
				if err := s.sleep(ctx, read, max(time.Until(due), time.Millisecond)); err != nil {
					return err
				}
				continue
			}
			room = min(room, late)
			due = due.Add(time.Duration(room) * interval)
		}
		if room == 0 {
			if err := s.sleep(ctx, read, time.Minute); err != nil {
				return err
			}
			continue
		}
		if err := s.send(conn, room); err != nil {
			return err
		}
	}
	return s.drain(read)
}

// drain awaits what is under way.
func (s *sender) drain(read chan error) error {
	deadline := time.Now().Add(s.o.Drain)
	for s.open() > 0 {
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		if err := s.sleep(context.Background(), read, left); err != nil {
			return err
		}
	}
	return nil
}

var errLost = errors.New("connection lost")

// sleep until there may be room, the time is over, or the connection is lost.
func (s *sender) sleep(ctx context.Context, read chan error, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.wake:
	case <-t.C:
	case <-ctx.Done():
	}
	select {
	case err := <-read:
		read <- err
		if err == nil {
			err = errLost
		}
		return err
	default:
	}
	return nil
}

func (s *sender) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := len(s.window) - (s.sentTo - s.ackedTo)
	// Waking for every single acknowledgement would cost a write for each.
	if room < s.enough() {
		s.waiting = true
		return 0
	}
	return room
}

// enough room to be worth a write.
func (s *sender) enough() int { return max(1, len(s.window)/4) }

func (s *sender) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = true
	return s.sentTo - s.ackedTo
}

// send writes n new messages at once.
func (s *sender) send(conn net.Conn, n int) error {
	now := time.Now()
	s.buf = s.buf[:0]
	s.mu.Lock()
	from := s.sentTo
	for i := from; i < from+n; i++ {
		at := s.turn % len(s.devices)
		s.turn++
		s.sequences[at]++
		m := message{device: s.devices[at], sequence: s.sequences[at], at: now}
		m.value = s.o.Value(m.device, m.sequence)
		s.window[i%len(s.window)] = m
		s.encode(i, at, false)
	}
	s.sentTo += n
	if s.o.QoS == 0 {
		s.confirm(s.sentTo, now)
	}
	s.mu.Unlock()
	s.report.Sent += uint64(n)
	_, err := conn.Write(s.buf)
	return err
}

// resend writes what an earlier connection left unacknowledged, in its order.
func (s *sender) resend(conn net.Conn) error {
	s.buf = s.buf[:0]
	s.mu.Lock()
	for i := s.ackedTo; i < s.sentTo; i++ {
		m := &s.window[i%len(s.window)]
		m.acked = false
		s.encode(i, (m.device-s.connection)/s.o.Connections, true)
		s.report.Resent++
	}
	s.mu.Unlock()
	if len(s.buf) == 0 {
		return nil
	}
	_, err := conn.Write(s.buf)
	return err
}

func (s *sender) encode(number, at int, again bool) {
	m := &s.window[number%len(s.window)]
	s.payload = s.o.Payload(s.payload[:0], m.device, m.sequence, m.value)
	s.buf = appendPublish(s.buf, s.topics[at], s.payload, s.o.QoS, packetID(number), again)
}

// packetID runs through 1 to 65,535.
func packetID(number int) uint16 { return uint16(number%65535) + 1 }

// read takes acknowledgements until the connection ends.
func (s *sender) read(conn net.Conn) error {
	buf := make([]byte, 16<<10)
	have := 0
	for {
		n, err := conn.Read(buf[have:])
		if n > 0 {
			rest, err := s.take(buf[:have+n])
			if err != nil {
				return err
			}
			have = copy(buf, rest)
		}
		if err != nil {
			return err
		}
	}
}

func (s *sender) take(b []byte) (rest []byte, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	rest, err = acks(b, func(id uint16) {
		if s.ackedTo < s.sentTo && packetID(s.ackedTo) == id {
			s.confirm(s.ackedTo+1, now)
			return
		}
		s.confirmLater(id)
	})
	for s.ackedTo < s.sentTo && s.window[s.ackedTo%len(s.window)].acked {
		s.confirm(s.ackedTo+1, now)
	}
	if s.waiting && (s.sentTo == s.ackedTo || len(s.window)-(s.sentTo-s.ackedTo) >= s.enough()) {
		s.waiting = false
		s.signal()
	}
	return rest, err
}

// confirmLater marks a message whose acknowledgement came too early.
func (s *sender) confirmLater(id uint16) {
	s.report.OutOfOrder++
	for i := s.ackedTo; i < s.sentTo; i++ {
		if packetID(i) == id {
			s.window[i%len(s.window)].acked = true
			return
		}
	}
}

// confirm moves the window's begin and writes the journal.
func (s *sender) confirm(to int, now time.Time) {
	for ; s.ackedTo < to; s.ackedTo++ {
		m := &s.window[s.ackedTo%len(s.window)]
		s.report.Acked++
		s.report.Latency.observe(now.Sub(m.at))
		if s.journal != nil {
			s.journal.add(Entry{Device: m.device, Sequence: m.sequence, Value: m.value, Acked: now})
		}
	}
	s.last = now
}
