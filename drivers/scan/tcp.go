package scan

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/transport"
)

const (
	// atOnce bounds the connections that are being made, dialTimeout each.
	atOnce      = 64
	dialTimeout = 2 * time.Second
	// perDevice frames may wait for a device that is being dialled.
	perDevice = 64
)

// streams speak by TCP, with a connection to each device.
type streams struct {
	run    *run
	ctx    context.Context
	cancel context.CancelFunc
	places chan struct{}
	wait   sync.WaitGroup
	over   chan struct{}

	mu      sync.Mutex
	devices map[netip.AddrPort]chan []byte
	open    int
	closed  bool
}

func newTCP(ctx context.Context, r *run) (*streams, error) {
	s := &streams{run: r, places: make(chan struct{}, atOnce), devices: map[netip.AddrPort]chan []byte{}, over: make(chan struct{}), open: 1} // one for the driver, which begins
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s, nil
}

func (s *streams) send(ctx context.Context, to netip.AddrPort, payload []byte) error {
	if to.IsValid() {
		return s.give(to, payload)
	}
	for _, ip := range hosts(s.run.o.Network) {
		if err := s.give(netip.AddrPortFrom(ip, uint16(s.run.o.Scan.Port)), payload); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// hosts lists a network's devices: not its own address and its broadcast address, where it has such.
func hosts(p netip.Prefix) (all []netip.Addr) {
	last := lastOf(p)
	for ip := p.Addr(); p.Contains(ip); ip = ip.Next() {
		if p.Addr().Is4() && p.Bits() < 31 && (ip == p.Addr() || ip == last) {
			continue
		}
		all = append(all, ip)
	}
	return all
}

func (s *streams) give(to netip.AddrPort, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	q := s.devices[to]
	if q == nil {
		q = make(chan []byte, perDevice)
		s.devices[to] = q
		s.open++
		s.wait.Go(func() {
			defer s.ended()
			s.speak(to, q)
		})
	}
	select {
	case q <- payload:
		return nil
	default:
		s.run.note("too much waits for " + to.String())
		return nil
	}
}

// ended counts; when no connection is left nothing more can come.
func (s *streams) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open--; s.open == 0 && !s.closed {
		close(s.over)
		s.closed = true
	}
}

// speak writes what the driver sends to a device, and reads what that answers. Most addresses have no device.
func (s *streams) speak(to netip.AddrPort, q <-chan []byte) {
	select {
	case s.places <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(s.ctx, "tcp", to.String())
	<-s.places
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
	read := make(chan struct{})
	s.wait.Go(func() {
		defer close(read)
		s.read(to, conn)
	})
	for {
		select {
		case b := <-q:
			if _, err := transport.WriteFrame(s.ctx, conn, b); err != nil {
				return
			}
		case <-read:
			return
		}
	}
}

func (s *streams) read(from netip.AddrPort, conn net.Conn) {
	tokens, err := transport.NewTokenizer(s.run.o.Scan.Tokenizer)
	if err != nil {
		return
	}
	buf := make([]byte, transport.ReadChunk)
	for {
		n, err := conn.Read(buf)
		tokens.Push(buf[:n])
		for {
			frame, ok, cutErr := tokens.Next()
			if cutErr != nil {
				s.run.note("the answer of " + from.String() + ": " + cutErr.Error())
				return
			}
			if !ok {
				break
			}
			s.run.offer(answer{from, frame})
		}
		if err != nil {
			return
		}
	}
}

func (s *streams) begun() { s.ended() }

func (s *streams) done() <-chan struct{} { return s.over }

func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wait.Wait()
}
