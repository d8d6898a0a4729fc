package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polluxhq/pollux/test/harness"
)

// idler opens an MQTT 3.1.1 connection as a device does, subscribes it to its own topic, and leaves it alone.
func idler(addr, key string, i int) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	text := func(b []byte, s string) []byte { return append(append(b, byte(len(s)>>8), byte(len(s))), s...) }
	body := append(text(nil, "MQTT"), 4, 0xc2, 0, 0) // user, password, clean session, no keep-alive
	body = text(text(text(body, fmt.Sprint("idle-", i)), "admin"), key)
	filter := append(text([]byte{0, 1}, fmt.Sprintf("cmnd/idle-%d/#", i)), 0)
	packets := append(append([]byte{0x10, byte(len(body)&0x7f | 0x80), byte(len(body) >> 7)}, body...), append([]byte{0x82, byte(len(filter))}, filter...)...)
	if _, err := c.Write(packets); err != nil {
		return c, err
	}
	answer := make([]byte, 9) // CONNACK, SUBACK
	if _, err := io.ReadFull(bufio.NewReaderSize(c, 16), answer); err != nil {
		return c, err
	}
	if answer[3] != 0 || answer[8] >= 0x80 {
		return c, fmt.Errorf("connection %d: % x", i, answer)
	}
	return c, nil
}

// BenchmarkIdleMQTT: what a connection takes that has subscribed to its topic and does nothing, its records, the node's garbage and
// write buffers included.
func BenchmarkIdleMQTT(b *testing.B) {
	const count, warm = 10_000, 200
	n := harness.Start(b, harness.Options{})
	conns := make([]net.Conn, count+warm)
	b.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	open := func(from, to int) {
		next := atomic.Int64{}
		next.Store(int64(from))
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < to && !b.Failed(); i = int(next.Add(1)) - 1 {
					var err error
					if conns[i], err = idler(n.MQTT, n.Key, i); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if b.Failed() {
			b.FailNow()
		}
	}
	open(0, warm)
	before := settled(b, n)
	open(warm, warm+count)
	each := (settled(b, n) - before) / count
	report(b, Line{Name: "10,000 idle MQTT connections with a subscription", Unit: "B resident each", Ours: each, Goal: "<= 20480", Met: each <= 20<<10})
}
