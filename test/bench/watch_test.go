package main

import (
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	streams       = 1000
	streamChanges = 60
)

// BenchmarkWatchStreams: a change of a twin with 1,000 Connect streams on it, from the message that brings it to the last stream that has it, against
// writing as many bytes to 1,000 TCP connections that are read like that.
func BenchmarkWatchStreams(b *testing.B) {
	n := openNode(b)
	h := newHouse(b, n.HTTPClient(), n.URL(), adminKey(b, n), keyed(b, n))
	h.sensors(1)
	var ready, got sync.WaitGroup
	var size int
	ready.Add(streams)
	api := polluxv1connect.NewTwinServiceClient(&http.Client{Transport: &http.Transport{MaxConnsPerHost: 0}}, h.url, h.opt)
	for range streams {
		s, err := api.WatchTwins(b.Context(), request(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"default/sensor-0"}}}))
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for first := true; s.Receive(); {
				m := s.Msg()
				switch {
				case first && m.GetState() != nil:
					first = false
					ready.Done()
				case m.GetDelta().GetProperties()["level"] != nil:
					size = proto.Size(m)
					got.Done()
				}
			}
		}()
	}
	ready.Wait()
	ours := func() float64 {
		var took []float64
		for i := range streamChanges {
			got.Add(streams)
			began := time.Now()
			if err := h.set("default/sensor-0", float64(time.Now().UnixNano()+int64(i))); err != nil {
				b.Fatal(err)
			}
			got.Wait()
			took = append(took, float64(time.Since(began).Microseconds())/1000)
		}
		return median(took)
	}
	first := ours() // the size is known afterwards
	floor := rawWrites(b, size+5)
	l := Line{Name: "a change with 1,000 Connect streams, to the last, against TCP writes", Unit: "ms", Ours: min(first, ours()), Floor: floor(), Goal: "ratio <= 2.00"}
	l.Floor = min(l.Floor, floor())
	l.Met = l.Ours/l.Floor <= 2
	report(b, l)
}

// rawWrites gives what measures how long it takes to write so many bytes to each of 1,000 connections, until the last has read them.
func rawWrites(b *testing.B, size int) func() float64 {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	var got sync.WaitGroup
	var out []net.Conn
	for range streams {
		in, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { in.Close(); c.Close() })
		out = append(out, c)
		go func() {
			buf := make([]byte, size)
			for {
				if _, err := io.ReadFull(in, buf); err != nil {
					return
				}
				got.Done()
			}
		}()
	}
	data := make([]byte, size)
	return func() float64 {
		var took []float64
		for range streamChanges {
			got.Add(streams)
			began := time.Now()
			for _, c := range out {
				if _, err := c.Write(data); err != nil {
					b.Fatal(err)
				}
			}
			got.Wait()
			took = append(took, float64(time.Since(began).Microseconds())/1000)
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
}
