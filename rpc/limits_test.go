package rpc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// serve runs a handler behind the real server on loopback.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewHTTPServer(h, nil, nil)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

func plainRefusal(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusTeapot)
}

// dial opens a connection whose reads and writes end with the test.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBodyIsBounded(t *testing.T) {
	const size = 1000
	var read atomic.Int64
	var met metrics.Counter
	addr := serve(t, limited(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		read.Store(n)
		if err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}), bounds{size: size, timeout: time.Minute, refuse: plainRefusal, met: &met}))
	for _, tt := range []struct {
		name   string
		body   io.Reader
		status int
	}{
		{"as large as may be", strings.NewReader(strings.Repeat("a", size)), http.StatusOK},
		{"announced too large", strings.NewReader(strings.Repeat("a", size+1)), http.StatusTeapot},
		{"too large, not announced", io.MultiReader(strings.NewReader(strings.Repeat("a", 100*size))), http.StatusRequestEntityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := http.Post("http://"+addr, "text/plain", tt.body)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d", res.StatusCode, tt.status)
			}
			if read.Load() > size {
				t.Errorf("the handler read %d bytes", read.Load())
			}
		})
	}
	if met.Get() != 1 {
		t.Errorf("%d bodies were counted as too large, want 1", met.Get())
	}
	// A gigabyte that is announced is refused before it is sent.
	c := dial(t, addr)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<30)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusTeapot {
		t.Errorf("a gigabyte: %v, %v", res, err)
	}
}

func TestSlowBodyIsClosed(t *testing.T) {
	failed := make(chan error, 2)
	addr := serve(t, limited(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		failed <- err
	}), bounds{size: 1000, timeout: 100 * time.Millisecond, refuse: plainRefusal, met: &metrics.Counter{}}))
	c := dial(t, addr)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhalf")
	select {
	case err := <-failed:
		if err == nil {
			t.Error("half a body was taken for a whole")
		}
	case <-time.After(patience):
		t.Fatal("the handler still reads")
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection is still open: %v", err)
	}
}

// TestLongAnswerOutlivesTheBodysDeadline: the time to send a request must not end its handling.
func TestLongAnswerOutlivesTheBodysDeadline(t *testing.T) {
	addr := serve(t, limited(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-time.After(400 * time.Millisecond):
			_, _ = w.Write([]byte("done"))
		}
	}), bounds{size: 1000, timeout: 100 * time.Millisecond, refuse: plainRefusal, met: &metrics.Counter{}}))
	res, err := http.Post("http://"+addr, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "done" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestUploadsAtOnce(t *testing.T) {
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	addr := serve(t, atMost(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-leave
	}), 2, plainRefusal))
	statuses := make(chan int, 8)
	post := func() {
		res, err := http.Get("http://" + addr)
		if err != nil {
			t.Error(err)
			statuses <- 0
			return
		}
		_ = res.Body.Close()
		statuses <- res.StatusCode
	}
	go post()
	go post()
	<-entered
	<-entered
	post()
	if got := <-statuses; got != http.StatusTeapot {
		t.Errorf("the third got status %d", got)
	}
	close(leave)
	for range 2 {
		if got := <-statuses; got != http.StatusOK {
			t.Errorf("an admitted one got status %d", got)
		}
	}
	post()
	if got := <-statuses; got != http.StatusOK {
		t.Errorf("after the others left: status %d", got)
	}
}

// TestReaderThatTakesNothing: a client that never reads loses the connection, and the handler goes on.
func TestReaderThatTakesNothing(t *testing.T) {
	failed := make(chan error, 1)
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		control := http.NewResponseController(w)
		slow := &slowWriter{ResponseWriter: w, control: control, timeout: 200 * time.Millisecond}
		chunk := make([]byte, 64<<10)
		for {
			if _, err := slow.Write(chunk); err != nil {
				failed <- err
				return
			}
		}
	}))
	c := dial(t, addr)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-failed:
	case <-time.After(patience):
		t.Fatal("the handler still writes")
	}
}
