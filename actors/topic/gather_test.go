package topic_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// answers reads a channel, and gives each answer as it came.
func answers(t *testing.T, h *topic.Host, channel string) (reader string, given func() []uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	all := make(chan *pb.SubscribeResponse, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Subscribe(ctx, &pb.SubscribeRequest{Topic: "default/t", Channel: channel, MaxInFlight: 64}, func(m *pb.SubscribeResponse) error {
			all <- m
			return nil
		}) // it ends as ctx does
	}()
	t.Cleanup(func() { cancel(); <-ended })
	next := func() *pb.SubscribeResponse {
		t.Helper()
		select {
		case m := <-all:
			return m
		case <-time.After(patience):
			t.Fatal("no answer came")
		}
		return nil
	}
	return next().Reader, func() (offsets []uint64) {
		t.Helper()
		for _, d := range next().Messages {
			offsets = append(offsets, d.Message.Offset)
		}
		return offsets
	}
}

// TestMessagesAreGatheredForAReaderThatIsBehind: what is published while a reader still holds messages comes to it together, when it has settled them, or
// half of what it may hold is there; one that holds nothing is given each at once.
func TestMessagesAreGatheredForAReaderThatIsBehind(t *testing.T) {
	r := newRig(t)
	r.gather = time.Hour
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	reader, given := answers(t, h, "work")
	one := func(n int) {
		t.Helper()
		for i := range n {
			publish(t, h, "default/t", message("", fmt.Sprint(i)))
		}
	}
	settle := func(offsets []uint64) {
		t.Helper()
		a, err := h.Ack(limited(t), &pb.AckRequest{Topic: "default/t", Channel: "work", Reader: reader, Offsets: offsets})
		if err != nil || int(a.Settled) != len(offsets) {
			t.Fatalf("settled %v, %v", a, err)
		}
	}
	together := func(what string, want int) []uint64 {
		t.Helper()
		got := given()
		if len(got) != want {
			t.Fatalf("%s: an answer of %d messages, want %d", what, len(got), want)
		}
		return got
	}
	one(1)
	first := together("a reader that holds nothing", 1)
	one(20)
	settle(first)
	second := together("what came meanwhile", 20)
	one(32)
	third := together("half of what it may hold", 32)
	one(5)
	settle(second)
	settle(third)
	together("all is settled", 5)
}

// TestGatheringEnds: a reader that settles nothing for long is given more all the same, as long as it has room.
func TestGatheringEnds(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	_, given := answers(t, h, "work")
	for i := range 5 {
		publish(t, h, "default/t", message("", fmt.Sprint(i)))
		if got := given(); len(got) != 1 {
			t.Fatalf("message %d came as %v", i, got)
		}
	}
}
