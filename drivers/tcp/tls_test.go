package tcp_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

func wrap(conf *tls.Config) func(net.Conn) (net.Conn, error) {
	return func(c net.Conn) (net.Conn, error) {
		s := tls.Server(c, conf)
		return s, s.Handshake()
	}
}

func TestContractTLS(t *testing.T) {
	a := contract.NewAuthority(t)
	cert, key := a.Sign("pollux")
	conf := a.Server(true)
	contract.Run(t, contract.Transport{
		Open:    tcp.Open,
		Options: drivers.TransportOptions{Scheme: "tls", Tokenizer: lines, TLS: &drivers.TLSOptions{CA: a.PEM, Certificate: cert, Key: key}},
		NewPeer: func(t *testing.T) contract.Peer { return contract.NewStreamPeer(t, "tls", wrap(conf)) },
	})
}

func TestWhoIsTrusted(t *testing.T) {
	a, other := contract.NewAuthority(t), contract.NewAuthority(t)
	conf := a.Server(false)
	peer := contract.NewStreamPeer(t, "tls", wrap(conf))
	print := fmt.Sprintf("%x", sha256.Sum256(conf.Certificates[0].Certificate[0]))
	for name, c := range map[string]struct {
		options *drivers.TLSOptions
		want    string // of the failure; "": connected
	}{
		"nobody by default":     {nil, "unknown authority"},
		"the authority":         {&drivers.TLSOptions{CA: a.PEM}, ""},
		"another authority":     {&drivers.TLSOptions{CA: other.PEM}, "unknown authority"},
		"the wrong name":        {&drivers.TLSOptions{CA: a.PEM, ServerName: "elsewhere.example"}, "not elsewhere.example"},
		"the right name":        {&drivers.TLSOptions{CA: a.PEM, ServerName: "device.example"}, ""},
		"a fingerprint":         {&drivers.TLSOptions{Fingerprint: strings.ToUpper(print)}, ""},
		"another fingerprint":   {&drivers.TLSOptions{Fingerprint: strings.Repeat("00:", 31) + "00"}, "not the one that is pinned"},
		"anybody where told so": {&drivers.TLSOptions{Insecure: "true"}, ""},
		"not anybody where not": {&drivers.TLSOptions{Insecure: "false"}, "unknown authority"},
		"a newer version only":  {&drivers.TLSOptions{CA: a.PEM, MinVersion: "1.3"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sink := &contract.Recorder{}
			conn, err := tcp.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: time.Millisecond, Max: time.Millisecond},
				Binding: drivers.Binding{URI: peer.URI(), Transport: drivers.TransportOptions{Scheme: "tls", TLS: c.options}}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			sink.Await(t, "an outcome", func(e []string) bool { return len(e) > 0 })
			if got := sink.Events()[0]; c.want == "" && got != "connected" || c.want != "" && !strings.Contains(got, c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
	for want, o := range map[string]*drivers.TLSOptions{
		"tls/ca":          {CA: "nothing"},
		"certificate and": {Certificate: "x", Key: "y"},
		"tls/fingerprint": {Fingerprint: "12"},
		"tls/insecure":    {Insecure: "perhaps"},
	} {
		_, err := tcp.Open(transport.Options{Sink: &contract.Recorder{},
			Binding: drivers.Binding{URI: peer.URI(), Transport: drivers.TransportOptions{Scheme: "tls", TLS: o}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A device that begins TLS in mid-session, as SMTP and IMAP do. What somebody put behind its consent in the clear is
// not taken for something that was said under TLS.
func TestStartTLS(t *testing.T) {
	a := contract.NewAuthority(t)
	conf := a.Server(false)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	device := make(chan error, 1)
	go func() {
		device <- func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			in := bufio.NewReader(c)
			if line, err := in.ReadString('\n'); line != "STARTTLS\n" {
				return fmt.Errorf("got %q, %v", line, err)
			}
			if _, err := io.WriteString(c, "GO\ninjected\nhal"); err != nil {
				return err
			}
			s := tls.Server(c, conf)
			line, err := bufio.NewReader(s).ReadString('\n')
			if line != "secret\n" {
				return fmt.Errorf("got %q, %v", line, err)
			}
			_, err = io.WriteString(s, "sealed\n")
			return errors.Join(err, func() error { _, err := s.Read(make([]byte, 1)); return ignoreEOF(err) }())
		}()
	}()
	sink := newSteps()
	conn, err := tcp.Open(transport.Options{Sink: sink, Binding: drivers.Binding{URI: "tcp://" + l.Addr().String(),
		Transport: drivers.TransportOptions{Scheme: "tcp", Tokenizer: lines, TLS: &drivers.TLSOptions{CA: a.PEM}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	sink.onFrame = func(frame string) {
		if frame == "GO" { // in the turn of the answer, before what follows is given
			if err := conn.(*transport.Conn).StartTLS(ctx); err != nil {
				t.Errorf("start tls: %v", err)
			}
		}
	}
	<-sink.connected
	if err := conn.Send(ctx, []byte("STARTTLS\n")); err != nil {
		t.Fatal(err)
	}
	if f := <-sink.frames; f != "GO" {
		t.Fatalf("got %q", f)
	}
	if err := conn.Send(ctx, []byte("secret\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-sink.frames:
		if f != "sealed" {
			t.Fatalf("got %q, which came in the clear", f)
		}
	case err := <-device:
		t.Fatalf("the device ended: %v", err)
	}
	if err := conn.(*transport.Conn).StartTLS(ctx); !errors.Is(err, drivers.ErrDenied) {
		t.Fatalf("tls twice: %v", err)
	}
	conn.Close()
	if err := <-device; err != nil {
		t.Fatal(err)
	}
}

// TLS may also begin while the reader waits for the device, and not without the manifest's leave.
func TestStartTLSWhileReading(t *testing.T) {
	a := contract.NewAuthority(t)
	conf := a.Server(false)
	begin := make(chan struct{})
	peer := contract.NewStreamPeer(t, "tcp", func(c net.Conn) (net.Conn, error) { <-begin; return tls.Server(c, conf), nil })
	for _, o := range []*drivers.TLSOptions{nil, {CA: a.PEM}} {
		sink := &contract.Recorder{}
		conn, err := tcp.Open(transport.Options{Sink: sink, Binding: drivers.Binding{URI: peer.URI(),
			Transport: drivers.TransportOptions{Scheme: "tcp", Tokenizer: lines, TLS: o}}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sink.Await(t, "the connection", func(e []string) bool { return len(e) > 0 })
		if o != nil {
			close(begin)
		}
		err = conn.(*transport.Conn).StartTLS(t.Context())
		if o == nil && !errors.Is(err, drivers.ErrDenied) || o != nil && err != nil {
			t.Fatalf("start tls: %v", err)
		}
		if o == nil {
			conn.Close()
			continue
		}
		if err := conn.Send(t.Context(), []byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		if got := peer.Received(); string(got) != "hello\n" {
			t.Fatalf("got %q", got)
		}
		peer.Send([]byte("back\n"))
		sink.Await(t, "the answer", func([]string) bool { return len(sink.Frames()) == 1 })
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "reset") {
		return nil
	}
	return err
}

// steps is a sink that hands on what it hears.
type steps struct {
	connected chan struct{}
	frames    chan string
	onFrame   func(string)
}

func newSteps() *steps {
	return &steps{connected: make(chan struct{}, 10), frames: make(chan string, 10)}
}

func (s *steps) Connected()         { s.connected <- struct{}{} }
func (s *steps) Disconnected(error) {}
func (s *steps) Received(frame []byte) {
	s.onFrame(string(frame))
	s.frames <- string(frame)
}
