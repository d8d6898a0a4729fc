package tcp_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.cert, _ = x509.ParseCertificate(der)
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// sign gives a certificate and its key, PEM.
func (a *authority) sign(name string) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func (a *authority) server(clients bool) *tls.Config {
	cert, key := a.sign("device.example")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients {
		conf.ClientCAs = x509.NewCertPool()
		conf.ClientCAs.AddCert(a.cert)
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf
}

func wrap(conf *tls.Config) func(net.Conn) (net.Conn, error) {
	return func(c net.Conn) (net.Conn, error) {
		s := tls.Server(c, conf)
		return s, s.Handshake()
	}
}

func TestContractTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.sign("pollux")
	conf := a.server(true)
	contract.Run(t, contract.Transport{
		Open:    tcp.Open,
		Options: drivers.TransportOptions{Scheme: "tls", Tokenizer: lines, TLS: &drivers.TLSOptions{CA: a.pem, Certificate: cert, Key: key}},
		NewPeer: func(t *testing.T) contract.Peer { return contract.NewStreamPeer(t, "tls", wrap(conf)) },
	})
}

func TestWhoIsTrusted(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	conf := a.server(false)
	peer := contract.NewStreamPeer(t, "tls", wrap(conf))
	print := fmt.Sprintf("%x", sha256.Sum256(conf.Certificates[0].Certificate[0]))
	for name, c := range map[string]struct {
		options *drivers.TLSOptions
		want    string // of the failure; "": connected
	}{
		"nobody by default":     {nil, "unknown authority"},
		"the authority":         {&drivers.TLSOptions{CA: a.pem}, ""},
		"another authority":     {&drivers.TLSOptions{CA: other.pem}, "unknown authority"},
		"the wrong name":        {&drivers.TLSOptions{CA: a.pem, ServerName: "elsewhere.example"}, "not elsewhere.example"},
		"the right name":        {&drivers.TLSOptions{CA: a.pem, ServerName: "device.example"}, ""},
		"a fingerprint":         {&drivers.TLSOptions{Fingerprint: strings.ToUpper(print)}, ""},
		"another fingerprint":   {&drivers.TLSOptions{Fingerprint: strings.Repeat("00:", 31) + "00"}, "not the one that is pinned"},
		"anybody where told so": {&drivers.TLSOptions{Insecure: "true"}, ""},
		"not anybody where not": {&drivers.TLSOptions{Insecure: "false"}, "unknown authority"},
		"a newer version only":  {&drivers.TLSOptions{CA: a.pem, MinVersion: "1.3"}, ""},
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
	a := newAuthority(t)
	conf := a.server(false)
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
		Transport: drivers.TransportOptions{Scheme: "tcp", Tokenizer: lines, TLS: &drivers.TLSOptions{CA: a.pem}}}})
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
	a := newAuthority(t)
	conf := a.server(false)
	begin := make(chan struct{})
	peer := contract.NewStreamPeer(t, "tcp", func(c net.Conn) (net.Conn, error) { <-begin; return tls.Server(c, conf), nil })
	for _, o := range []*drivers.TLSOptions{nil, {CA: a.pem}} {
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
