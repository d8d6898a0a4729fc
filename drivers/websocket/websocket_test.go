package websocket_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ws "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
	"github.com/polluxhq/pollux/drivers/websocket"
)

// peer is a device with another library's server.
type peer struct {
	t      *testing.T
	tls    *tls.Config
	addr   string
	in     chan []byte
	mu     sync.Mutex
	here   *sync.Cond
	server *http.Server
	away   bool
	conns  []*gorilla.Conn
}

func newPeer(t *testing.T, conf *tls.Config) *peer {
	p := &peer{t: t, tls: conf, addr: "127.0.0.1:0", in: make(chan []byte, 1000)}
	p.here = sync.NewCond(&p.mu)
	p.Up()
	t.Cleanup(p.Down)
	return p
}

func (p *peer) URI() string {
	if p.tls != nil {
		return "wss://" + p.addr + "/control?v=1"
	}
	return "ws://" + p.addr + "/control?v=1"
}

func (p *peer) Up() {
	var l net.Listener
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		var err error
		if l, err = net.Listen("tcp", p.addr); err == nil {
			break
		}
		if time.Now().After(deadline) {
			p.t.Fatal(err)
		}
	}
	p.addr = l.Addr().String()
	if p.tls != nil {
		l = tls.NewListener(l, p.tls)
	}
	s := &http.Server{Handler: http.HandlerFunc(p.serve)}
	p.mu.Lock()
	p.server, p.away = s, false
	p.mu.Unlock()
	go s.Serve(l)
}

func (p *peer) serve(w http.ResponseWriter, r *http.Request) {
	if user, _, _ := r.BasicAuth(); user != "ann" || r.URL.String() != "/control?v=1" || r.Header.Get("X-Key") != "k" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	c, err := (&gorilla.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	p.mu.Lock()
	if p.away { // it went while this one came
		p.mu.Unlock()
		c.Close()
		return
	}
	p.conns = append(p.conns, c)
	p.here.Broadcast()
	p.mu.Unlock()
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			break
		}
		p.in <- b
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Close()
	for i := range p.conns {
		if p.conns[i] == c {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			return
		}
	}
}

func (p *peer) Send(frame []byte) {
	p.mu.Lock()
	for len(p.conns) == 0 {
		p.here.Wait()
	}
	c := p.conns[len(p.conns)-1]
	p.mu.Unlock()
	if err := c.WriteMessage(gorilla.TextMessage, frame); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) Received() []byte {
	p.t.Helper()
	select {
	case b := <-p.in:
		return b
	case <-time.After(30 * time.Second):
		p.t.Fatal("the device received nothing")
		return nil
	}
}

func (p *peer) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *peer) Down() {
	p.mu.Lock()
	s := p.server
	p.away = true
	p.mu.Unlock()
	s.Close()
	p.Drop()
}

var login = &drivers.HTTPOptions{Auth: "basic", User: "ann", Password: "x", Headers: map[string]string{"X-Key": "k"}}

func TestContract(t *testing.T) {
	contract.Run(t, contract.Transport{
		Open: websocket.Open, Is: []contract.Kind{contract.Messages}, Options: drivers.TransportOptions{Scheme: "ws", HTTP: login},
		NewPeer: func(t *testing.T) contract.Peer { return newPeer(t, nil) },
	})
}

func TestContractTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	conf := s.TLS.Clone()
	conf.NextProtos = nil
	trust := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conf.Certificates[0].Certificate[0]}))
	contract.Run(t, contract.Transport{
		Open: websocket.Open, Is: []contract.Kind{contract.Messages},
		// httptest's certificate is one for example.com and 127.0.0.1.
		Options: drivers.TransportOptions{Scheme: "wss", HTTP: login, TLS: &drivers.TLSOptions{CA: trust, ServerName: "example.com"}},
		NewPeer: func(t *testing.T) contract.Peer { return newPeer(t, conf) },
	})
}

func open(t *testing.T, uri string, change func(*drivers.TransportOptions)) (drivers.Conn, *contract.Recorder) {
	sink := &contract.Recorder{}
	o := drivers.TransportOptions{Scheme: "ws", HTTP: login}
	if change != nil {
		change(&o)
	}
	c, err := websocket.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: 5 * time.Millisecond, Max: 5 * time.Millisecond},
		Binding: drivers.Binding{URI: uri, Transport: o}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, sink
}

func TestHandshakeIsRefused(t *testing.T) {
	p := newPeer(t, nil)
	_, sink := open(t, p.URI(), func(o *drivers.TransportOptions) { o.HTTP = nil })
	sink.Await(t, "the refusal", func(e []string) bool { return len(e) > 0 })
	if e := sink.Events()[0]; !strings.Contains(e, "answers 403 Forbidden to the WebSocket handshake") {
		t.Fatalf("got %q", e)
	}
	elsewhere := httptest.NewServer(http.RedirectHandler("http"+strings.TrimPrefix(p.URI(), "ws"), http.StatusFound))
	defer elsewhere.Close()
	_, sink = open(t, "ws"+strings.TrimPrefix(elsewhere.URL, "http"), nil)
	sink.Await(t, "the refusal", func(e []string) bool { return len(e) > 0 })
	if e := sink.Events()[0]; !strings.Contains(e, "answers 302") {
		t.Fatalf("a redirect: %q", e)
	}
}

func TestTooLongMessagesAndSilenceLoseTheConnection(t *testing.T) {
	p := newPeer(t, nil)
	_, sink := open(t, p.URI(), func(o *drivers.TransportOptions) { o.WebSocket = &drivers.WebSocketOptions{MaxFrame: 100} })
	p.Send([]byte(strings.Repeat("x", 200)))
	sink.Await(t, "the loss", func(e []string) bool { return len(e) > 1 })
	if e := sink.Events()[1]; !strings.HasPrefix(e, "disconnected: frame too long") {
		t.Fatalf("got %q", e)
	}
	// A device that takes the handshake and then says nothing, not even to pings.
	hang := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := ws.Accept(w, r, nil)
		if err == nil {
			<-hang
			c.CloseNow()
		}
	}))
	defer dead.Close()
	defer close(hang)
	_, sink = open(t, "ws"+strings.TrimPrefix(dead.URL, "http"), func(o *drivers.TransportOptions) {
		o.WebSocket = &drivers.WebSocketOptions{PingMS: 30}
	})
	sink.Await(t, "the loss", func(e []string) bool { return len(e) > 1 })
	if e := sink.Events()[1]; !strings.Contains(e, "does not answer a ping") {
		t.Fatalf("got %q", e)
	}
}

// FuzzReader gives the reader garbage in place of frames, after a good handshake.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0x81, 5, 'h', 'e', 'l', 'l', 'o'})
	f.Add([]byte{0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x88, 0x02, 0x03, 0xe8, 0x01, 0xfe, 0x00})
	garbage := make(chan []byte, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := gorillaHandshake(w, r)
		if err != nil {
			return
		}
		defer c.Close()
		select {
		case b := <-garbage:
			buf.Write(b)
		default:
		}
	}))
	defer s.Close()
	f.Fuzz(func(t *testing.T, in []byte) {
		select {
		case <-garbage:
		default:
		}
		garbage <- in
		sink := &contract.Recorder{}
		c, err := websocket.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: time.Hour, Max: time.Hour},
			Binding: drivers.Binding{URI: "ws" + strings.TrimPrefix(s.URL, "http"), Transport: drivers.TransportOptions{Scheme: "ws"}}})
		if err != nil {
			t.Fatal(err)
		}
		sink.Await(t, "the end", func(e []string) bool { return len(e) > 0 && e[len(e)-1] != "connected" })
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, frame := range sink.Frames() {
			if len(frame) > transport.DefaultMaxFrame {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
		}
	})
}

func gorillaHandshake(w http.ResponseWriter, r *http.Request) (net.Conn, io.Writer, error) {
	c, err := (&gorilla.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return nil, nil, err
	}
	return c.NetConn(), c.NetConn(), nil
}
