package broker_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/broker"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// peer is a broker, with a device that hears dev/in and says something on dev/out.
type peer struct {
	t      *testing.T
	addr   string
	tls    *tls.Config // nil: it speaks in the clear
	in     chan []byte
	mu     sync.Mutex
	server *mqtt.Server
}

func newPeer(t *testing.T, conf *tls.Config) *peer {
	p := &peer{t: t, addr: "127.0.0.1:0", tls: conf, in: make(chan []byte, 1000)}
	p.Up()
	t.Cleanup(p.Down)
	return p
}

func (p *peer) URI() string {
	if p.tls != nil {
		return "mqtts://" + p.addr
	}
	return "mqtt://" + p.addr
}

func (p *peer) Up() {
	p.t.Helper()
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
	s := mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		p.t.Fatal(err)
	}
	if err := s.AddListener(listeners.NewNet("t", l)); err != nil {
		p.t.Fatal(err)
	}
	if err := s.Subscribe("dev/in", 1, func(_ *mqtt.Client, _ packets.Subscription, pk packets.Packet) {
		p.in <- append([]byte{}, pk.Payload...)
	}); err != nil {
		p.t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.server = s
	p.mu.Unlock()
}

func (p *peer) broker() *mqtt.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

func (p *peer) Send(frame []byte) {
	if err := p.broker().Publish("dev/out", frame, false, 1); err != nil {
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
	for _, c := range p.broker().Clients.GetAll() {
		if !c.Net.Inline {
			c.Stop(errors.New("dropped"))
		}
	}
}

func (p *peer) Down() {
	p.mu.Lock()
	s := p.server
	p.server = nil
	p.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

var topics = drivers.TransportOptions{Scheme: "mqtt", Subscribe: []string{"dev/out"}, Publish: []string{"dev/in"}}

func TestContract(t *testing.T) {
	contract.Run(t, contract.Transport{
		Open: broker.Open, Options: topics, Is: []contract.Kind{contract.Messages}, NewPeer: func(t *testing.T) contract.Peer { return newPeer(t, nil) },
		Encode: into, Decode: out,
	})
}

// A broker that wants the twin's certificate.
func TestContractTLS(t *testing.T) {
	a := contract.NewAuthority(t)
	secure := topics
	secure.Scheme, secure.TLS = "mqtts", &drivers.TLSOptions{CA: a.PEM, ServerName: "device.example"}
	secure.TLS.Certificate, secure.TLS.Key = a.Sign("pollux")
	conf := a.Server(true)
	contract.Run(t, contract.Transport{
		Open: broker.Open, Options: secure, Is: []contract.Kind{contract.Messages}, NewPeer: func(t *testing.T) contract.Peer { return newPeer(t, conf) },
		Encode: into, Decode: out,
	})
}

// into is what the driver sends for a frame, out the frame of what it hears.
func into(f []byte) []byte { return append([]byte("dev/in\x00"), f...) }
func out(f []byte) []byte  { return []byte(strings.TrimPrefix(string(f), "dev/out\x00")) }

// mosquitto runs Debian's broker, where it is there.
func mosquitto(t *testing.T) string {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		drivertest.Missing(t, "mosquitto is not installed: apt-get install mosquitto")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	dir := t.TempDir()
	passwords := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "ann", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v %s", err, out)
	}
	if err := errors.Join(os.Chmod(passwords, 0o644), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %d 127.0.0.1\nallow_anonymous false\npassword_file %s\npersistence false\n", addr.Port, passwords), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return "mqtt://" + addr.String()
}

func open(t *testing.T, uri string, o drivers.TransportOptions) (*broker.Conn, *contract.Recorder) {
	t.Helper()
	sink := &contract.Recorder{}
	c, err := broker.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 50 * time.Millisecond},
		Binding: drivers.Binding{Twin: "default/" + strings.ReplaceAll(t.Name(), "/", "-") + fmt.Sprint(time.Now().UnixNano()), URI: uri, Transport: o}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*broker.Conn), sink
}

func TestMosquitto(t *testing.T) {
	uri := mosquitto(t)
	login := &drivers.BrokerOptions{User: "ann", Password: "secret"}
	a := drivers.TransportOptions{Scheme: "mqtt", Subscribe: []string{"x/#", "x/+/state"}, Publish: []string{"x/+/cmd"}, Broker: login}
	one, heard := open(t, uri, a)
	heard.Await(t, "the connection", func(e []string) bool { return len(e) > 0 && e[len(e)-1] == "connected" })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for qos := range byte(3) {
		if err := one.Publish(ctx, "x/lamp/cmd", []byte{'0' + qos}, qos, qos == 2); err != nil {
			t.Fatal(err)
		}
	}
	heard.Await(t, "its own words", func([]string) bool { return len(heard.Frames()) >= 3 })
	for i, f := range heard.Frames()[:3] {
		if string(f) != fmt.Sprintf("x/lamp/cmd\x00%d", i) {
			t.Errorf("frame %d: %q", i, f)
		}
	}
	_, second := open(t, uri, a)
	second.Await(t, "what was retained", func([]string) bool { return len(second.Frames()) >= 1 })
	if f := string(second.Frames()[0]); f != "x/lamp/cmd\x002" {
		t.Errorf("retained: %q", f)
	}
	for topic, want := range map[string]error{"y": drivers.ErrDenied, "x/lamp/state": drivers.ErrDenied, "x/+/cmd": drivers.ErrInvalid, "": drivers.ErrInvalid} {
		if err := one.Publish(ctx, topic, nil, 0, false); !errors.Is(err, want) {
			t.Errorf("publish to %q: %v", topic, err)
		}
	}
	if s := one.Stats(); s.FramesOut != 3 || s.FramesIn < 3 || s.BytesOut != 3*12 {
		t.Errorf("stats: %+v", s)
	}
	a.Broker = &drivers.BrokerOptions{User: "ann", Password: "guess"}
	_, refused := open(t, uri, a)
	refused.Await(t, "the refusal", func(e []string) bool { return len(e) > 0 && strings.Contains(strings.ToLower(e[0]), "not authorized") })
}

// FuzzReader gives the client garbage in place of a broker's packets.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 1, 0x30, 9, 0, 7, 'd', 'e', 'v', '/', 'o', 'u', 't'})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Write(in)
				c.Close()
			}
			l.Close()
		}()
		sink := &contract.Recorder{}
		c, err := broker.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: time.Hour, Max: time.Hour},
			Binding: drivers.Binding{Twin: "d/x", URI: "mqtt://" + l.Addr().String(), Transport: topics}})
		if err != nil {
			t.Fatal(err)
		}
		sink.Await(t, "an end", func(e []string) bool { return len(e) > 0 && e[len(e)-1] != "connected" })
		c.Close()
	})
}
