package tcp_test

import (
	"net"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// FuzzReader has a device say whatever it likes, in the clear or where TLS is expected: frames are those of the
// tokenizer, and the connection ends as connections do.
func FuzzReader(f *testing.F) {
	f.Add([]byte("a\nb\n"), false)
	f.Add([]byte("\x16\x03\x03\x00\x02\x02\x28"), true)
	f.Add(make([]byte, 3000), false)
	f.Fuzz(func(t *testing.T, in []byte, secure bool) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Write(in)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = c.Read(make([]byte, 1<<16))
				c.Close()
			}
			l.Close()
		}()
		o := drivers.TransportOptions{Scheme: "tcp", Tokenizer: lines}
		if secure {
			o.Scheme = "tls"
		}
		sink := &contract.Recorder{}
		c, err := tcp.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: time.Hour, Max: time.Hour},
			Binding: drivers.Binding{URI: o.Scheme + "://" + l.Addr().String(), Transport: o}})
		if err != nil {
			t.Fatal(err)
		}
		sink.Await(t, "the end", func(e []string) bool { return len(e) > 0 && e[len(e)-1] != "connected" })
		c.Close()
		if secure {
			if len(sink.Frames()) > 0 {
				t.Fatalf("frames without TLS: %q", sink.Frames())
			}
			return
		}
		tokens, err := transport.NewTokenizer(lines)
		if err != nil {
			t.Fatal(err)
		}
		tokens.Push(in)
		for i, got := range sink.Frames() {
			if want, ok, err := tokens.Next(); !ok || err != nil || string(want) != string(got) {
				t.Fatalf("frame %d is %q, want %q, %v", i, got, want, err)
			}
		}
	})
}
