package httpclient_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

func pkcs8(cert tls.Certificate) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

func TestConnectedIsWhatAnswers(t *testing.T) {
	var status atomic.Int32
	status.Store(200)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		io.WriteString(w, "hello")
	})
	listen := func(addr string) (net.Listener, *http.Server) {
		var l net.Listener
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			var err error
			if l, err = net.Listen("tcp", addr); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		s := &http.Server{Handler: handler}
		go s.Serve(l)
		return l, s
	}
	l, s := listen("127.0.0.1:0")
	for name, h := range map[string]*drivers.HTTPOptions{"by connecting": {ProbeMS: 20}, "by a probe": {Probe: "/health", ProbeMS: 20}} {
		t.Run(name, func(t *testing.T) {
			sink := &contract.Recorder{}
			conn, err := httpclient.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond},
				Binding: drivers.Binding{URI: "http://" + l.Addr().String(), Transport: drivers.TransportOptions{Scheme: "http", HTTP: h}}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			events := func(n int, prefix string) func([]string) bool {
				return func(e []string) bool { return len(e) >= n && strings.HasPrefix(e[n-1], prefix) }
			}
			sink.Await(t, "connected", events(1, "connected"))
			want(t, conn.(drivers.HTTPClient), "/", "hello")
			st := conn.(drivers.Reporter).Stats()
			if !st.Connected || st.FramesOut != 1 || st.FramesIn != 1 || st.BytesIn == 0 || time.Since(st.LastSeen) > time.Minute {
				t.Errorf("stats: %+v", st)
			}
			if err := conn.Send(t.Context(), []byte("x")); !errors.Is(err, drivers.ErrInvalid) {
				t.Errorf("send: %v", err)
			}
			s.Close()
			sink.Await(t, "disconnected", events(2, "disconnected: "))
			_, s = listen(l.Addr().String())
			sink.Await(t, "connected again", func(e []string) bool { return e[len(e)-1] == "connected" })
			if h.Probe != "" {
				status.Store(503)
				sink.Await(t, "unwell", func(e []string) bool { return strings.Contains(e[len(e)-1], "answers /health with 503") })
				status.Store(200)
			}
		})
	}
	s.Close()
}
