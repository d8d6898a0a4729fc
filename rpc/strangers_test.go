package rpc

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// What sends no request is counted, with TLS and without; clients of any version, and who leaves without a word, are not.
func TestStrangersAreCounted(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var all http.Protocols
		all.SetHTTP1(true)
		all.SetHTTP2(true)
		all.SetUnencryptedHTTP2(true)
		count := metrics.NewSet().NewCounter("strangers")
		server := httptest.NewUnstartedServer(nil)
		server.Config.Protocols = &all
		(&strangers{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }), count: count}).watch(server.Config)
		start, versions := server.Start, []func(p *http.Protocols){func(p *http.Protocols) { p.SetHTTP1(true) }, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }}
		if secure {
			server.EnableHTTP2 = true
			start, versions[1] = server.StartTLS, func(p *http.Protocols) { p.SetHTTP2(true) }
		}
		start()
		defer server.Close()
		for i, set := range versions {
			var p http.Protocols
			set(&p)
			transport := &http.Transport{Protocols: &p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // what is said matters here, not by whom
			res, err := (&http.Client{Transport: transport}).Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			if res.ProtoMajor != i+1 {
				t.Errorf("HTTP/%d, want %d", res.ProtoMajor, i+1)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			transport.CloseIdleConnections()
		}
		addr := server.Listener.Addr().String()
		if !secure {
			silent, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = silent.Close()
		}
		const strange = 3
		for range strange {
			c := dial(t, addr)
			if _, err := c.Write([]byte("\x00\x01 what is this\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c) // until it is closed
		}
		for end := time.Now().Add(patience); count.Get() < strange && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		server.Close()
		if got := count.Get(); got != strange {
			t.Errorf("TLS %v: %d were counted, want %d", secure, got, strange)
		}
	}
}
