package httpclient_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// contractTime is more than anything in the suite takes.
const contractTime = 30 * time.Second

// asked is a device behind HTTP. It takes what is posted to /in, and whoever asks for /out waits until it has something to
// say.
type asked struct {
	t      *testing.T
	scheme string
	conf   *tls.Config
	addr   string
	in     chan []byte
	out    chan []byte

	mu     sync.Mutex
	server *http.Server
	conns  map[net.Conn]bool
	life   *life
}

// life is that of the connections between two losses.
type life struct {
	over     chan struct{}
	handlers sync.WaitGroup
}

func newAsked(t *testing.T, scheme string, conf *tls.Config) *asked {
	d := &asked{t: t, scheme: scheme, conf: conf, addr: "127.0.0.1:0", in: make(chan []byte, 1000), out: make(chan []byte, 1000),
		conns: map[net.Conn]bool{}, life: &life{over: make(chan struct{})}}
	d.Up()
	t.Cleanup(d.Down)
	return d
}

func (d *asked) URI() string { return d.scheme + "://" + d.addr }

func (d *asked) Up() {
	d.t.Helper()
	var l net.Listener
	for deadline := time.Now().Add(contractTime); ; time.Sleep(time.Millisecond) {
		var err error
		if l, err = net.Listen("tcp", d.addr); err == nil {
			break
		}
		if time.Now().After(deadline) {
			d.t.Fatal(err)
		}
	}
	d.addr = l.Addr().String()
	if d.conf != nil {
		l = tls.NewListener(l, d.conf)
	}
	s := &http.Server{Handler: http.HandlerFunc(d.serve), ConnState: d.follow, ErrorLog: log.New(io.Discard, "", 0)}
	d.mu.Lock()
	d.server = s
	d.mu.Unlock()
	go s.Serve(l)
}

func (d *asked) follow(c net.Conn, state http.ConnState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if state == http.StateNew {
		d.conns[c] = true
	} else if state == http.StateClosed {
		delete(d.conns, c)
	}
}

func (d *asked) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	now := d.life
	now.handlers.Add(1)
	d.mu.Unlock()
	defer now.handlers.Done()
	if r.URL.Path == "/in" {
		frame, err := io.ReadAll(r.Body)
		if err == nil {
			d.in <- frame
		}
		return
	}
	select {
	case frame := <-d.out:
		_, _ = w.Write(frame)
	case <-now.over:
	case <-r.Context().Done():
	}
}

func (d *asked) Send(frame []byte) { d.out <- frame }

func (d *asked) Received() []byte {
	d.t.Helper()
	select {
	case frame := <-d.in:
		return frame
	case <-time.After(contractTime):
		d.t.Fatal("the device received nothing")
		return nil
	}
}

// Drop ends all connections, and returns when nobody waits any more for what the device says.
func (d *asked) Drop() {
	d.mu.Lock()
	old := d.life
	d.life = &life{over: make(chan struct{})}
	for c := range d.conns {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		c.Close()
	}
	d.mu.Unlock()
	close(old.over)
	old.handlers.Wait()
}

func (d *asked) Down() {
	d.mu.Lock()
	s := d.server
	d.mu.Unlock()
	s.Close()
	d.Drop()
}

// poller is a twin's end as drivers for such devices have it: what it sends is a POST, and for what the device says it asks
// again and again.
type poller struct {
	*httpclient.Conn
	sink drivers.Sink
	stop context.CancelFunc
	done chan struct{}
}

func openPoller(o transport.Options) (drivers.Conn, error) {
	turns := &turns{sink: o.Sink, there: make(chan struct{})}
	p := &poller{sink: turns, done: make(chan struct{})}
	if o.Sink != nil {
		o.Sink = turns
	}
	conn, err := httpclient.Open(o)
	if err != nil {
		return nil, err
	}
	p.Conn = conn.(*httpclient.Conn)
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go p.poll(ctx, turns.there)
	return p, nil
}

func (p *poller) poll(ctx context.Context, there chan struct{}) {
	defer close(p.done)
	select {
	case <-there:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		res, err := p.Do(ctx, drivers.HTTPRequest{Method: http.MethodGet, URL: "/out", Timeout: contractTime, MaxBytes: 2000})
		switch {
		case err != nil:
			time.Sleep(2 * time.Millisecond)
		case len(res.Body) > 0:
			p.sink.Received(res.Body)
		}
	}
}

func (p *poller) Send(ctx context.Context, frame []byte) error {
	_, err := p.Do(ctx, drivers.HTTPRequest{Method: http.MethodPost, URL: "/in", Body: frame, Timeout: contractTime, MaxBytes: 2000})
	return err
}

// Close ends the client first: it is what lets go of a request that waits.
func (p *poller) Close() error {
	p.stop()
	err := p.Conn.Close()
	<-p.done
	return err
}

// turns has the sink hear of one thing at a time, as a twin's mailbox does.
type turns struct {
	mu    sync.Mutex
	sink  drivers.Sink
	once  sync.Once
	there chan struct{}
}

func (s *turns) Connected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.Connected()
	s.once.Do(func() { close(s.there) })
}

func (s *turns) Disconnected(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.Disconnected(err)
}

func (s *turns) Failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.(drivers.FailureSink).Failed(err)
}

func (s *turns) Received(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.Received(frame)
}

// many is a rate that the suite does not come to.
var many = drivers.HTTPOptions{PerMinute: 6_000_000, Burst: 6_000_000, Retries: -1}

func runContract(t *testing.T, o drivers.TransportOptions, conf *tls.Config) {
	contract.Run(t, contract.Transport{Open: openPoller, Options: o, Is: []contract.Kind{contract.Messages, contract.Requests},
		NewPeer: func(t *testing.T) contract.Peer { return newAsked(t, o.Scheme, conf) }})
}

func TestContract(t *testing.T) {
	runContract(t, drivers.TransportOptions{Scheme: "http", HTTP: &many}, nil)
}

// A device that wants to see a certificate of whoever asks.
func TestContractTLS(t *testing.T) {
	a := contract.NewAuthority(t)
	cert, key := a.Sign("pollux")
	runContract(t, drivers.TransportOptions{Scheme: "https", HTTP: &many, TLS: &drivers.TLSOptions{CA: a.PEM, Certificate: cert, Key: key}}, a.Server(true))
}
