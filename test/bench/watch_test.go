package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	streams       = 1000
	streamChanges = 60
)

// BenchmarkWatchStreams: a change of a twin with 1,000 Connect streams on it, from the call that brings it to the last stream that has it. The floor
// writes as many bytes to 1,000 TCP connections. In between are bare Connect handlers that send a message which is encoded already: what of
// ours is connect-go's and net/http's. All three are read alike: by a goroutine per connection that looks for the change in the bytes that come.
func BenchmarkWatchStreams(b *testing.B) {
	n := openNode(b)
	h := newHouse(b, n.HTTPClient(), n.URL(), adminKey(b, n), keyed(b, n))
	h.sensors(1)
	var ours, bare, raw crowd
	ours.join(b, strings.TrimPrefix(h.url, "http://"), h.key, "default/sensor-0")
	serial := 1000.0
	change := func() []float64 {
		return ours.rounds(func() []byte {
			serial++
			if err := h.set("default/sensor-0", serial); err != nil {
				b.Fatal(err)
			}
			return nil
		}, func() []byte { return number(serial + 1) })
	}
	change()
	filler := make([]byte, ours.size.Load()-8)
	handlers := serveBareStreams(b)
	bare.join(b, handlers.addr, "", "x")
	writes := tcpStreams(b, &raw)
	floor := func(c *crowd, write func([]byte)) []float64 {
		return c.rounds(func() []byte { write(append(slices.Clone(filler), number(serial)...)); return nil },
			func() []byte { serial++; return number(serial) })
	}
	var took [3][]float64
	for range rounds {
		took[0] = append(took[0], change()...)
		took[1] = append(took[1], floor(&bare, handlers.send)...)
		took[2] = append(took[2], floor(&raw, writes)...)
	}
	o, l, f := median(took[0]), median(took[1]), median(took[2])
	report(b, Line{Name: "a change with 1,000 Connect streams, to the last, against TCP writes", Unit: "ms", Ours: o, Floor: f, Goal: "ratio <= 2.00", Met: o/f <= 2})
	report(b, Line{Name: "the same by bare Connect handlers, encoded already", Unit: "ms", Ours: l, Floor: f, Goal: "connect-go's and net/http's share", Met: true})
}

// number is how a number stands in a message.
func number(v float64) []byte { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)) }

// crowd are connections that wait for a change.
type crowd struct {
	ready, got sync.WaitGroup
	want       atomic.Pointer[[]byte]
	// size in bytes of what brought the change last.
	size atomic.Int64
}

// rounds measures changes, each from when it is made until the last connection has it, in milliseconds.
func (c *crowd) rounds(change, next func() []byte) (took []float64) {
	for range streamChanges {
		want := next()
		c.got.Add(streams)
		c.want.Store(&want)
		began := time.Now()
		change()
		c.got.Wait()
		took = append(took, float64(time.Since(began).Microseconds())/1000)
	}
	return took
}

// read looks for the change in what comes.
func (c *crowd) read(in io.Reader) {
	buf := make([]byte, 16<<10)
	var had *[]byte
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		if want := c.want.Load(); want != nil && want != had && bytes.Contains(buf[:n], *want) {
			had = want
			c.size.Store(int64(n))
			c.got.Done()
		}
	}
}

// join opens watches of a twin, and waits until each has its first message.
func (c *crowd) join(b *testing.B, addr, key, twin string) {
	b.Helper()
	m, err := proto.Marshal(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{twin}}})
	if err != nil {
		b.Fatal(err)
	}
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/connect+proto\r\nConnect-Protocol-Version: 1\r\nContent-Length: %d\r\n\r\n",
		polluxv1connect.TwinServiceWatchTwinsProcedure, addr, key, len(body))
	c.ready.Add(streams)
	for range streams {
		in, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { in.Close() })
		if _, err := in.Write(append([]byte(head), body...)); err != nil {
			b.Fatal(err)
		}
		go func() {
			r := bufio.NewReader(in)
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("watch: %v, %v", res, err)
			}
			for text := make([]byte, 4<<10); err == nil; {
				var n int
				if n, err = res.Body.Read(text); bytes.Contains(text[:n], []byte(twin)) {
					break
				}
			}
			c.ready.Done()
			c.read(in)
		}()
	}
	c.ready.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// bareStreams are Connect handlers without anything around them.
type bareStreams struct {
	polluxv1connect.UnimplementedTwinServiceHandler
	addr string
	mu   sync.Mutex
	all  []chan encoded
}

// encoded is a message that is encoded already.
type encoded []byte

type encodedCodec struct{}

func (encodedCodec) Name() string { return "proto" }
func (encodedCodec) Marshal(m any) ([]byte, error) {
	return m.(encoded), nil
}
func (encodedCodec) MarshalAppend(to []byte, m any) ([]byte, error) {
	return append(to, m.(encoded)...), nil
}
func (encodedCodec) Unmarshal(data []byte, m any) error {
	return proto.Unmarshal(data, m.(proto.Message))
}

func serveBareStreams(b *testing.B) *bareStreams {
	b.Helper()
	s := &bareStreams{}
	mux := http.NewServeMux()
	mux.Handle(polluxv1connect.NewTwinServiceHandler(s, connect.WithCodec(encodedCodec{})))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.addr = l.Addr().String()
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	b.Cleanup(func() { server.Close() })
	return s
}

// WatchTwins sends what it is handed.
func (s *bareStreams) WatchTwins(ctx context.Context, r *connect.Request[pb.WatchTwinsRequest], out *connect.ServerStream[pb.WatchTwinsResponse]) error {
	c := make(chan encoded, 1)
	s.mu.Lock()
	s.all = append(s.all, c)
	s.mu.Unlock()
	for m := encoded(r.Msg.Filter.Ids[0]); ; {
		if err := out.Conn().Send(m); err != nil {
			return err
		}
		select {
		case m = <-c:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *bareStreams) send(m []byte) {
	for _, c := range s.all {
		c <- m
	}
}

// tcpStreams gives what writes to each of 1,000 connections.
func tcpStreams(b *testing.B, c *crowd) (write func([]byte)) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	var out []net.Conn
	for range streams {
		in, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		to, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { in.Close(); to.Close() })
		out = append(out, to)
		go c.read(in)
	}
	return func(m []byte) {
		for _, to := range out {
			if _, err := to.Write(m); err != nil {
				b.Fatal(err)
			}
		}
	}
}
