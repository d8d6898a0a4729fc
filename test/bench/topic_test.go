package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	topicKeys    = 1000
	topicReaders = 8
	// topicAhead is how many messages may be published and not acknowledged yet, one per client: more would wait, not travel.
	topicAhead = clients
)

// topicWay measures messages from their publication until a reader's acknowledgement is committed.
type topicWay struct {
	api  polluxv1connect.TopicServiceClient
	room chan struct{}

	mu    sync.Mutex
	began map[string]time.Time
	took  []float64 // milliseconds
}

// BenchmarkTopic: publish over Connect until it is acknowledged by one of eight readers, both committed, against a handler that
// does one bare raft Apply of a request of the same size.
func BenchmarkTopic(b *testing.B) {
	n := openNode(b)
	w := &topicWay{api: polluxv1connect.NewTopicServiceClient(n.HTTPClient(), n.URL(), keyed(b, n)), room: make(chan struct{}, topicAhead),
		began: map[string]time.Time{}}
	if _, err := w.api.CreateTopic(b.Context(), request(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: "default/bench"}})); err != nil {
		b.Fatal(err)
	}
	if _, err := w.api.PutChannel(b.Context(), request(&pb.PutChannelRequest{Topic: "default/bench", Name: "work"})); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var readers sync.WaitGroup
	for range topicReaders {
		readers.Go(func() { w.read(ctx, b) })
	}
	floor := serveBare(b, bare{apply: bareRaft(b)})
	payload := make([]byte, 100)
	ours := func() float64 {
		return perSecond(b, func(ctx context.Context, c, i int) error {
			select {
			case w.room <- struct{}{}: // given back when it is acknowledged
			case <-time.After(time.Minute):
				return fmt.Errorf("%d messages are not acknowledged", topicAhead)
			}
			id := fmt.Sprintf("%d-%d-%d", time.Now().UnixNano(), c, i)
			w.mu.Lock()
			w.began[id] = time.Now()
			w.mu.Unlock()
			_, err := w.api.Publish(ctx, request(&pb.PublishRequest{Topic: "default/bench",
				Messages: []*pb.TopicMessage{{Id: id, Key: fmt.Sprint((c*131 + i) % topicKeys), Payload: payload}}}))
			return err
		})
	}
	against(b, "topic: publish until acknowledged by a reader, 64 clients", "messages/s", 0.4, ours, func() float64 {
		return perSecond(b, func(ctx context.Context, c, i int) error {
			_, err := floor.SetDesired(ctx, connect.NewRequest(&pb.SetDesiredRequest{Id: fmt.Sprint(c), Property: "level",
				Value: structpb.NewStringValue(string(payload))}))
			return err
		})
	})
	cancel()
	readers.Wait()
	slices.Sort(w.took)
	p99 := w.took[len(w.took)*99/100]
	report(b, Line{Name: "topic: publish until acknowledged, p99", Unit: "ms", Ours: p99, Goal: "<= 50", Met: p99 <= 50})
}

// read is one reader of the channel.
func (w *topicWay) read(ctx context.Context, b *testing.B) {
	stream, err := w.api.Subscribe(ctx, request(&pb.SubscribeRequest{Topic: "default/bench", Channel: "work"}))
	if err != nil {
		b.Error(err)
		return
	}
	defer stream.Close()
	reader := ""
	for stream.Receive() {
		m := stream.Msg()
		if m.Reader != "" {
			reader = m.Reader
		}
		ack := &pb.AckRequest{Topic: "default/bench", Channel: "work", Reader: reader}
		for _, d := range m.Messages {
			ack.Offsets = append(ack.Offsets, d.Message.Offset)
		}
		if len(ack.Offsets) == 0 {
			continue
		}
		if _, err := w.api.Ack(ctx, request(ack)); err != nil {
			if ctx.Err() == nil {
				b.Error(err)
			}
			return
		}
		w.acknowledged(m.Messages)
	}
}

func (w *topicWay) acknowledged(all []*pb.Delivery) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range all {
		w.took = append(w.took, float64(now.Sub(w.began[d.Message.Id]))/1e6)
		delete(w.began, d.Message.Id)
		<-w.room
	}
}
