package topic_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestAllFailsInManyChannels: where the readers of many channels fail with all that they are given, as when what they all need is away, the topic
// goes on to take messages, also large ones, and a new owner knows how often each of them failed.
func TestAllFailsInManyChannels(t *testing.T) {
	const channels, each = 16, 200
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	var readers []*inbox
	hour := durationpb.New(time.Hour)
	for i := range channels {
		readers = append(readers, subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: fmt.Sprint("c", i),
			Settings: &pb.ChannelSettings{MaxAttempts: 9, MaxInFlight: 5000, AckTimeout: hour, BackoffMin: hour, BackoffMax: hour}}))
	}
	many := make([]*pb.TopicMessage, each)
	for n := range 5000 / each {
		for i := range many {
			many[i] = message("", fmt.Sprint(n*each+i))
		}
		publish(t, h, "default/t", many...)
	}
	for n := range 3 {
		for _, x := range readers {
			for range 8 {
				var failed []uint64
				for range 32 {
					failed = append(failed, x.next().Message.Offset)
				}
				x.settle(false, failed...)
			}
		}
		publish(t, h, "default/t", &pb.TopicMessage{Payload: make([]byte, 290<<10), Id: fmt.Sprint("large", n)})
	}
	r.take(false)
	h = r.host("n2")
	r.give(h)
	for i, x := range readers {
		var held []uint64
		for again := 0; again < 768; {
			d := x.next()
			if d.Attempt == 2 && d.Message.Offset <= 768 {
				again++
			} else if d.Message.Offset <= 768 {
				t.Fatalf("channel %d was given %d as attempt %d", i, d.Message.Offset, d.Attempt)
			}
			if held = append(held, d.Message.Offset); len(held) == 32 {
				x.settle(true, held...)
				held = nil
			}
		}
	}
}
