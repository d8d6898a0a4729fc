package httpclient_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
)

func client(t *testing.T, url string, h *drivers.HTTPOptions, reach *drivers.HTTPReach, change func(*transport.Options)) *httpclient.Client {
	t.Helper()
	scheme, _, _ := strings.Cut(url, ":")
	o := transport.Options{Binding: drivers.Binding{URI: url, Transport: drivers.TransportOptions{Scheme: scheme, HTTP: h}, HTTP: reach}}
	if change != nil {
		change(&o)
	}
	c, err := httpclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(c drivers.HTTPClient, url string) (drivers.HTTPResponse, error) {
	return c.Do(context.Background(), drivers.HTTPRequest{Method: "GET", URL: url, Timeout: 10 * time.Second, MaxBytes: 1000})
}

func want(t *testing.T, c drivers.HTTPClient, url, body string) {
	t.Helper()
	res, err := get(c, url)
	if err != nil || string(res.Body) != body {
		t.Fatalf("%s: got %d %q, %v, want %q", url, res.Status, res.Body, err, body)
	}
}

func TestRequestsKeepTheirConnectionAndSayWhoTheyAre(t *testing.T) {
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("session"); err == nil {
			fmt.Fprintf(w, "cookie %s", c.Value)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "7"})
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.URL, r.Header.Get("X-Key"), r.Header.Get("Authorization"), body)
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := client(t, s.URL+"/api/", &drivers.HTTPOptions{Auth: "basic", User: "ann", Password: "secret", Cookies: true, Headers: map[string]string{"X-Key": "k"}}, nil, nil)
	res, err := c.Do(t.Context(), drivers.HTTPRequest{Method: "POST", URL: "power?on=1", Body: []byte("{}"), Timeout: 10 * time.Second, MaxBytes: 1000,
		Headers: http.Header{"Host": {"elsewhere"}, "Content-Type": {"application/json"}}})
	if err != nil || string(res.Body) != "POST /api/power?on=1 k Basic YW5uOnNlY3JldA== {}" || res.Status != 200 {
		t.Fatalf("got %+v %q, %v", res, res.Body, err)
	}
	for range 20 {
		want(t, c, "/api/x", "cookie 7")
	}
	if n := opened.Load(); n > 3 { // one that is not back yet when the next request begins is not waited for
		t.Errorf("%d connections for 21 requests", n)
	}
	bearer := client(t, s.URL, &drivers.HTTPOptions{Auth: "bearer", Token: "tok"}, nil, nil)
	want(t, bearer, "/x", "GET /x  Bearer tok ")
	want(t, bearer, "/x", "GET /x  Bearer tok ") // no cookies unless asked for
}

// The server's side of RFC 7616 with MD5, written from the RFC.
func TestDigest(t *testing.T) {
	var challenges atomic.Int32
	field := func(header, name string) string {
		m := regexp.MustCompile(name + `="?([^",]+)"?`).FindStringSubmatch(header)
		if m == nil {
			return ""
		}
		return m[1]
	}
	sum := func(parts ...string) string {
		h := md5.Sum([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(h[:])
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := r.Header.Get("Authorization")
		ha1, ha2 := sum("ann", "device", "secret"), sum(r.Method, field(a, "uri"))
		if a == "" || field(a, "response") != sum(ha1, "n0nce", field(a, "nc"), field(a, "cnonce"), "auth", ha2) || field(a, "uri") != r.URL.RequestURI() {
			challenges.Add(1)
			w.Header().Set("WWW-Authenticate", `Digest realm="device", nonce="n0nce", qop="auth", algorithm=MD5`)
			w.WriteHeader(401)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "welcome %s", body)
	}))
	defer s.Close()
	c := client(t, s.URL, &drivers.HTTPOptions{Auth: "digest", User: "ann", Password: "secret"}, nil, nil)
	for range 3 {
		res, err := c.Do(t.Context(), drivers.HTTPRequest{Method: "PUT", URL: "/a?b=c", Body: []byte("body"), Timeout: 10 * time.Second, MaxBytes: 100})
		if err != nil || string(res.Body) != "welcome body" {
			t.Fatalf("got %d %q, %v", res.Status, res.Body, err)
		}
	}
	if n := challenges.Load(); n != 1 {
		t.Errorf("challenged %d times", n)
	}
	wrong := client(t, s.URL, &drivers.HTTPOptions{Auth: "digest", User: "ann", Password: "guess"}, nil, nil)
	if res, err := get(wrong, "/"); err != nil || res.Status != 401 {
		t.Errorf("a wrong password: %d, %v", res.Status, err)
	}
}

func TestOnlyWhatTheBindingNamesIsReached(t *testing.T) {
	seen := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization") + r.Header.Get("X-Key") + r.Header.Get("Cookie")
		io.WriteString(w, "other")
	}))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		io.WriteString(w, "home")
	}))
	defer s.Close()
	_, otherPort, _ := net.SplitHostPort(other.Listener.Addr().String())
	inside := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	lookup := func(o *transport.Options) { o.Lookup = inside }
	secret := &drivers.HTTPOptions{Auth: "basic", User: "u", Password: "p", Headers: map[string]string{"X-Key": "k"}}

	alone := client(t, s.URL, secret, nil, lookup)
	want(t, alone, "/", "home")
	want(t, alone, "/?to=/", "home")
	for _, url := range []string{other.URL, "/?to=" + other.URL, "http://169.254.169.254/latest", "http://[::1]:" + otherPort + "/", "//" + other.Listener.Addr().String() + "/",
		"http://localhost:" + otherPort, "http://public.example/"} {
		if res, err := get(alone, url); !errors.Is(err, drivers.ErrDenied) {
			t.Errorf("%s: got %d %q, %v", url, res.Status, res.Body, err)
		}
	}
	for _, url := range []string{"file:///etc/passwd", "gopher://x/", "http://u:p@x/", "http://", "%zz"} {
		if _, err := get(alone, url); !errors.Is(err, drivers.ErrInvalid) {
			t.Errorf("%s: %v", url, err)
		}
	}

	named := client(t, s.URL, secret, &drivers.HTTPReach{Named: []string{other.URL}}, lookup)
	want(t, named, other.URL, "other")
	want(t, named, "/?to="+other.URL, "other")
	for range 2 {
		if got := <-seen; got != "" {
			t.Errorf("the other host was told %q", got)
		}
	}

	// A manifest's own pattern does not reach inside, neither as an address nor by what its name stands for.
	manifest := client(t, s.URL, nil, &drivers.HTTPReach{Hosts: []string{"127.0.0.1:" + otherPort, "*.example.com:" + otherPort, "localhost:" + otherPort}}, lookup)
	for _, url := range []string{other.URL, "http://api.example.com:" + otherPort, "http://localhost:" + otherPort} {
		if res, err := get(manifest, url); !errors.Is(err, drivers.ErrDenied) {
			t.Errorf("%s: got %d %q, %v", url, res.Status, res.Body, err)
		}
	}
	if _, err := get(manifest, "http://example.com:"+otherPort); !errors.Is(err, drivers.ErrDenied) {
		t.Errorf("a wildcard stands for something: %v", err)
	}
	private := client(t, s.URL, nil, &drivers.HTTPReach{Named: []string{"http://nas.example:" + otherPort + "#private"}}, lookup)
	want(t, private, "http://nas.example:"+otherPort, "other")

	// What a setting names is allowed, whatever the manifest says of the same host.
	both := client(t, s.URL, nil, &drivers.HTTPReach{Hosts: []string{"127.0.0.1:" + otherPort, "*.example:" + otherPort},
		Named: []string{other.URL, "http://nas.example:" + otherPort + "#private"}}, lookup)
	want(t, both, other.URL, "other")
	want(t, both, "http://nas.example:"+otherPort, "other")
	if _, err := get(both, "http://tv.example:"+otherPort); !errors.Is(err, drivers.ErrDenied) {
		t.Errorf("a name beside the one that the setting names: %v", err)
	}
}

func TestRetriesKeepToTheRules(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		switch r.URL.Path {
		case "/busy":
			if n < 3 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(503)
				return
			}
		case "/later":
			w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
			return
		case "/gone":
			if n < 2 {
				c, _, _ := w.(http.Hijacker).Hijack()
				c.Close()
				return
			}
		case "/broken":
			w.WriteHeader(500)
			return
		}
		io.WriteString(w, "fine")
	}))
	defer s.Close()
	c := client(t, s.URL, nil, nil, nil)
	for _, k := range []struct {
		method, path string
		status, asks int32
	}{
		{"GET", "/busy", 200, 3}, {"POST", "/busy", 503, 1}, {"GET", "/later", 429, 1}, {"PUT", "/gone", 200, 2}, {"GET", "/broken", 500, 1},
	} {
		asked.Store(0)
		res, err := c.Do(t.Context(), drivers.HTTPRequest{Method: k.method, URL: k.path, Timeout: 10 * time.Second, MaxBytes: 100, Body: []byte("x")})
		if err != nil || int32(res.Status) != k.status || asked.Load() != k.asks {
			t.Errorf("%s %s: got %d after %d requests, %v; want %d after %d", k.method, k.path, res.Status, asked.Load(), err, k.status, k.asks)
		}
	}
	none := client(t, s.URL, &drivers.HTTPOptions{Retries: -1}, nil, nil)
	asked.Store(0)
	if res, err := get(none, "/busy"); err != nil || res.Status != 503 || asked.Load() != 1 {
		t.Errorf("without retries: %d, %v", res.Status, err)
	}
}

func TestBounds(t *testing.T) {
	block := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			io.WriteString(w, strings.Repeat("x", 2000))
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/slow":
			select {
			case <-block:
			case <-r.Context().Done():
			}
		}
	}))
	defer s.Close()
	defer close(block)
	c := client(t, s.URL, &drivers.HTTPOptions{Retries: -1}, nil, nil)
	if _, err := get(c, "/long"); !errors.Is(err, drivers.ErrTooLarge) {
		t.Errorf("a long answer: %v", err)
	}
	if _, err := get(c, "/loop"); !errors.Is(err, drivers.ErrDenied) {
		t.Errorf("redirects without end: %v", err)
	}
	if _, err := c.Do(t.Context(), drivers.HTTPRequest{Method: "GET", URL: "/slow", Timeout: 50 * time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow answer: %v", err)
	}
	few := client(t, s.URL, &drivers.HTTPOptions{PerMinute: 1, Burst: 2}, nil, nil)
	for i := range 3 {
		_, err := get(few, "/")
		if i < 2 && err != nil || i == 2 && !errors.Is(err, drivers.ErrRateLimited) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := c.Do(context.Background(), drivers.HTTPRequest{Method: "GET", URL: "/slow", Timeout: time.Hour})
		waiting <- err
	}()
	time.AfterFunc(20*time.Millisecond, func() { c.Close() })
	select {
	case err := <-waiting:
		if err == nil {
			t.Error("an answer after Close")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Close leaves a request waiting")
	}
}

func TestProxyAndClientCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d certificates", len(r.TLS.PeerCertificates))
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	defer s.Close()
	cert := s.TLS.Certificates[0]
	key, err := pkcs8(cert)
	if err != nil {
		t.Fatal(err)
	}
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	trust := func(o *transport.Options) {
		o.Binding.Transport.TLS = &drivers.TLSOptions{CA: chain, Certificate: chain, Key: key}
	}
	want(t, client(t, s.URL, nil, nil, trust), "/", "1 certificates")
	if _, err := get(client(t, s.URL, &drivers.HTTPOptions{Retries: -1}, nil, nil), "/"); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without the authority: %v", err)
	}

	// A proxy that connects wherever it is told, and counts.
	var through atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through.Add(1)
		out, err := net.Dial("tcp", r.Host)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(502)
			return
		}
		defer out.Close()
		in, buf, _ := w.(http.Hijacker).Hijack()
		defer in.Close()
		io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(out, bufio.NewReader(buf))
		io.Copy(in, out)
	}))
	defer proxy.Close()
	want(t, client(t, s.URL, &drivers.HTTPOptions{Proxy: proxy.URL}, nil, trust), "/", "1 certificates")
	if through.Load() != 1 {
		t.Errorf("%d requests went by the proxy", through.Load())
	}
}

// A proxy gets plain requests whole, and the device is reached by it alone.
func TestPlainProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by the proxy, %s", r.URL, r.Header.Get("Proxy-Authorization"))
	}))
	defer proxy.Close()
	by := strings.Replace(proxy.URL, "http://", "http://ann:secret@", 1)
	want(t, client(t, "http://device.example:81/", &drivers.HTTPOptions{Proxy: by}, nil, nil), "/state", "http://device.example:81/state by the proxy, Basic YW5uOnNlY3JldA==")
	proxy.Close()
	if res, err := get(client(t, "http://device.example:81/", &drivers.HTTPOptions{Proxy: by, Retries: -1}, nil, nil), "/state"); !errors.Is(err, transport.ErrNotConnected) {
		t.Errorf("without its proxy: %d, %v", res.Status, err)
	}
}

// A request over the rate waits for its turn.
func TestRequestsWaitForTheirTurn(t *testing.T) {
	var mu sync.Mutex
	var came []time.Time
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came = append(came, time.Now())
	}))
	defer s.Close()
	c := client(t, s.URL, &drivers.HTTPOptions{PerMinute: 1200, Burst: 1}, nil, nil)
	began := time.Now()
	for range 4 {
		want(t, c, "/", "")
	}
	if took := came[3].Sub(began); took < 150*time.Millisecond {
		t.Errorf("4 requests of 20 a second came within %v", took)
	}
}

// What is small on the line and without end when it is unpacked is cut where the driver's room ends.
func TestCompressedBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		switch r.URL.Path {
		case "/bomb":
			_, _ = w.Write(bomb.Bytes())
		case "/cut":
			_, _ = w.Write(bomb.Bytes()[:30])
		case "/lie":
			_, _ = io.WriteString(w, "not packed at all")
		}
	}))
	defer s.Close()
	c := client(t, s.URL, &drivers.HTTPOptions{Retries: -1}, nil, nil)
	if _, err := get(c, "/bomb"); !errors.Is(err, drivers.ErrTooLarge) {
		t.Errorf("64 MB in %d bytes: %v", bomb.Len(), err)
	}
	for _, path := range []string{"/cut", "/lie"} {
		if res, err := get(c, path); err == nil {
			t.Errorf("%s: %q", path, res.Body)
		}
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestBadOptions(t *testing.T) {
	for text, o := range map[string]transport.Options{
		"http/proxy": {Binding: drivers.Binding{URI: "http://h", Transport: drivers.TransportOptions{Scheme: "http", HTTP: &drivers.HTTPOptions{Proxy: "::"}}}},
		"tls/ca":     {Binding: drivers.Binding{URI: "https://h", Transport: drivers.TransportOptions{Scheme: "https", TLS: &drivers.TLSOptions{CA: "x"}}}},
		"no host":    {Binding: drivers.Binding{URI: "http://", Transport: drivers.TransportOptions{Scheme: "http"}}},
		"is no host": {Binding: drivers.Binding{HTTP: &drivers.HTTPReach{Named: []string{"a/b"}}}},
		"no address": {Binding: drivers.Binding{HTTP: &drivers.HTTPReach{Named: []string{"ftp://b"}}}},
	} {
		if _, err := httpclient.New(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}
