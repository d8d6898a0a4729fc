package sink_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/sink"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestKafka: all messages are records with their key, in the order of each, over a change of owners.
func TestKafka(t *testing.T) {
	r := newRig(t)
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "twins"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/bus", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/twins", BatchMessages: 30, BatchWait: durationpb.New(20 * time.Millisecond)})
	r.rounds(0, 100)
	r.give(r.host("n2"))
	r.rounds(100, 100)
	r.until("default/bus", "200 are produced", func(s *pb.SinkState) bool { return s.Position == 201 })
	c, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.ConsumeTopics("twins"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	offsets, last := map[string]bool{}, map[string]int{}
	for len(offsets) < 200 {
		f := c.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatalf("%d records: %v", len(offsets), err)
		}
		f.EachRecord(func(x *kgo.Record) {
			headers := map[string]string{}
			for _, h := range x.Headers {
				headers[h.Key] = string(h.Value)
			}
			at, key := headers["pollux-offset"], string(x.Key)
			if offsets[at] {
				return // it came twice
			}
			offsets[at] = true
			var value int
			if _, err := fmt.Sscanf(string(x.Value[strings.Index(string(x.Value), `"value":`):]), `"value":%d`, &value); err != nil {
				t.Errorf("record %s: %v", x.Value, err)
			}
			if key != fmt.Sprintf("default/t%d", value%10) || value < last[key] || headers["pollux-route"] != "default/all" {
				t.Errorf("record %s of %s after %d, headers %v", x.Value, key, last[key], headers)
			}
			last[key] = value
		})
	}
}

// TestMQTT: all messages reach a subscriber of a broker that is not ours, under their keys; also when the broker was away.
func TestMQTT(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := server.New(&server.Options{Logger: slog.New(slog.DiscardHandler)})
	defer b.Close()
	if err := b.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.AddListener(listeners.NewNet("t", l)); err != nil {
		t.Fatal(err)
	}
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/out", Url: "mqtt://" + l.Addr().String() + "/lake?user=x", BatchWait: durationpb.New(20 * time.Millisecond)})
	r.rounds(0, 20)
	if err := b.Serve(); err != nil { // it listens since the beginning, and answers nobody until now
		t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[string]int{}
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + l.Addr().String()).SetClientID("reader"))
	if tok := c.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	if tok := c.Subscribe("lake/default/+", 1, func(_ paho.Client, m paho.Message) {
		mu.Lock()
		got[m.Topic()+" "+string(m.Payload())]++
		mu.Unlock()
	}); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	r.rounds(20, 200)
	r.until("default/out", "220 are published", func(s *pb.SinkState) bool { return s.Position == 221 })
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		n := len(got)
		missing := ""
		for i := 20; i < 220; i++ {
			if m := changed(i%10, fmt.Sprint(i)); got["lake/"+m.Key+" "+string(m.Payload)] == 0 {
				missing = string(m.Payload)
			}
		}
		mu.Unlock()
		if missing == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d came, and %s did not", n, missing)
		}
	}
}

// TestAwayFromTheFirst: what is published while a new sink's broker was never reached counts: it comes when the broker does.
func TestAwayFromTheFirst(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.give(r.host("n1"))
	r.rounds(0, 5)
	r.record(sink.TableSinks, "default/late", &pb.Sink{Id: "default/late", Topic: changes, Url: "mqtt://" + address + "/lake", BatchWait: durationpb.New(20 * time.Millisecond)})
	r.wake()
	r.until("default/late", "its broker is away", func(s *pb.SinkState) bool { return s.Failures > 0 })
	r.rounds(5, 10)
	b := server.New(&server.Options{Logger: slog.New(slog.DiscardHandler)})
	defer b.Close()
	if err := b.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	if err := b.AddListener(listeners.NewNet("t", l)); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	r.until("default/late", "it has gone on", func(s *pb.SinkState) bool { return s.Position == 16 })
	if s := r.state("default/late"); s.Delivered != 10 || s.Missed != 0 {
		t.Errorf("delivered %d, missed %d; want the 10 since it was made", s.Delivered, s.Missed)
	}
}
