package httpclient_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// FuzzAnswer has a server answer whatever it likes: an answer within its bounds or an error comes back, in time.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 401 x\r\nWWW-Authenticate: Digest realm=\"a\", nonce=, qop=\"auth\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"))
	f.Add([]byte("HTTP/1.1 503 x\r\nRetry-After: -1\r\nSet-Cookie: a=b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write(in)
				c.Close()
			}
		}()
		c := client(t, "http://"+l.Addr().String(), &drivers.HTTPOptions{Auth: "digest", User: "u", Password: "p", Cookies: true, Retries: -1}, nil, nil)
		began := time.Now()
		res, err := c.Do(context.Background(), drivers.HTTPRequest{Method: "GET", URL: "/", Timeout: 2 * time.Second, MaxBytes: 1000})
		if err == nil && (len(res.Body) > 1000 || res.Status == 0) {
			t.Fatalf("got %d and %d bytes", res.Status, len(res.Body))
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}
