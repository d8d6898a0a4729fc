package topic_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestReaderOfADeletedTopic: who waits for messages of a topic as it is deleted is told so.
func TestReaderOfADeletedTopic(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"})
	publish(t, h, "default/t", message("", "1"))
	x.settle(true, x.next().Message.Offset)
	r.drop(h, "default/t")
	select {
	case err := <-x.ended:
		if !errors.Is(err, topic.ErrNotFound) && !errors.Is(err, topic.ErrDeleting) {
			t.Errorf("its stream ended: %v", err)
		}
	case <-time.After(patience):
		t.Error("its stream goes on")
	}
}

// TestDeletedChannelStaysSo: a reader of a deleted channel that was between two calls ends as one that waited does, and does not make it anew.
func TestDeletedChannelStaysSo(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	under := make(chan func(), 100)
	var keep atomic.Bool
	between := func(env *cluster.Envelope, done func(cluster.Reply)) bool {
		if m, ok := env.Message.(*actorv1.TopicRead); ok {
			if keep.Load() {
				under <- func() { r.pass(env, done) }
				return true
			}
			m.Wait = 1
		}
		return false
	}
	r.between.Store(&between)
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"})
	keep.Store(true)
	next := <-under
	if _, err := h.DeleteChannel(limited(t), &pb.DeleteChannelRequest{Topic: "default/t", Name: "work"}); err != nil {
		t.Fatal(err)
	}
	keep.Store(false)
	next()
	select {
	case err := <-x.ended:
		if !errors.Is(err, topic.ErrNoChannel) {
			t.Errorf("its stream ended: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("its stream goes on")
	}
	if all, err := h.Channels(limited(t), "default/t"); err != nil || len(all) != 0 {
		t.Errorf("channels %v, %v", all, err)
	}
}

// TestLetterOfALargeMessage: a message as large as it may be has room among the dead letters, and is replayed from there.
func TestLetterOfALargeMessage(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: &pb.ChannelSettings{MaxAttempts: 1}})
	large := func(n int) *pb.PublishRequest {
		return &pb.PublishRequest{Topic: "default/t", Messages: []*pb.TopicMessage{{Id: "x", Key: "k", Payload: make([]byte, n)}}}
	}
	n := 300 << 10
	for ; ; n-- { // the largest that is taken
		if _, err := h.Publish(limited(t), large(n)); err == nil {
			break
		} else if !errors.Is(err, topic.ErrTooLarge) {
			t.Fatal(err)
		}
	}
	ack := &pb.AckRequest{Topic: "default/t", Channel: "work", Reader: x.reader, Failed: []uint64{x.next().Message.Offset}, Reason: strings.Repeat("why ", 400)}
	if _, err := h.Ack(limited(t), ack); err != nil {
		t.Fatal(err)
	}
	publish(t, h, "default/t", message("k", "next"))
	if got := x.text(); got != "next" {
		t.Errorf("%d bytes came", len(got))
	}
	if replayed, err := h.ReplayDead(limited(t), "default/t", 0); replayed != 1 || err != nil {
		t.Errorf("replayed %d: %v", replayed, err)
	}
}

// TestOldMessagesOfAQuietTopic: a new owner removes what is too old, also where nobody publishes or reads.
func TestOldMessagesOfAQuietTopic(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t", MaxAge: durationpb.New(time.Second)})
	publish(t, h, "default/t", message("", "1"))
	r.take(false)
	h = r.host("n2")
	r.give(h)
	until(t, "it is removed", func() bool {
		st, err := h.State(limited(t), "default/t")
		return err == nil && st.Messages == 0 && st.Trimmed == 1
	})
}

// TestFailuresOfTrimmedMessages: a channel forgets how often a message failed that the limits have removed.
func TestFailuresOfTrimmedMessages(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t", MaxMessages: 1})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: &pb.ChannelSettings{MaxAttempts: 2}})
	for i := range 5 {
		publish(t, h, "default/t", message("", fmt.Sprint(i)))
		d := x.next()
		publish(t, h, "default/t", message("", "more"))
		until(t, "it is removed", func() bool {
			st, err := h.State(limited(t), "default/t")
			return err == nil && st.FirstOffset > d.Message.Offset
		})
		x.settle(false, d.Message.Offset)
		x.settle(true, x.next().Message.Offset)
	}
	rec, _, err := r.store.Get(topic.TableChannels, "default/t\x00work")
	if err != nil {
		t.Fatal(err)
	}
	c := &actorv1.ChannelRecord{}
	if err := proto.Unmarshal(rec.Value, c); err != nil || len(c.Failed) != 0 {
		t.Errorf("failures of %v, %v", c.Failed, err)
	}
}

// TestResumeThatWasOvertaken: a reader that settles on receipt and whose settlement was lost says what it holds until the owner has heard it: else its
// message would be in flight for ever.
func TestResumeThatWasOvertaken(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	var mu sync.Mutex
	var lost, held func(cluster.Reply)
	between := func(env *cluster.Envelope, done func(cluster.Reply)) bool {
		mu.Lock()
		defer mu.Unlock()
		switch m := env.Message.(type) {
		case *pb.AckRequest:
			if lost == nil { // the first
				lost = done
				return true
			}
		case *actorv1.TopicRead:
			if m.Room == 0 {
				m.Wait = 1
				if m.Resume && held == nil {
					held = done
					return true
				}
			}
		}
		return false
	}
	r.between.Store(&between)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got, gate := make(chan string, 10), make(chan struct{})
	began, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Subscribe(ctx, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_ON_RECEIPT}},
			func(m *pb.SubscribeResponse) error {
				if m.Reader != "" {
					close(began)
				}
				for _, d := range m.Messages {
					got <- string(d.Message.Payload)
					select {
					case <-gate:
					case <-ctx.Done():
					}
				}
				return nil
			}) // it ends as ctx does
	}()
	defer func() { cancel(); <-ended }()
	next := func(want string) {
		t.Helper()
		select {
		case text := <-got:
			if text != want {
				t.Fatalf("message %s, want %s", text, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("message %s does not come", want)
		}
	}
	<-began
	publish(t, h, "default/t", message("k", "1"))
	next("1")
	publish(t, h, "default/t", message("", "2"))
	gate <- struct{}{}
	next("2")
	publish(t, h, "default/t", message("", "3"))
	until(t, "3 is at the reader, that still works on 2", func() bool { return channelOf(t, h, "default/t", "work").InFlight == 3 })
	mu.Lock()
	lost(cluster.Reply{Err: cluster.ErrOverloaded})
	mu.Unlock()
	until(t, "the reader says what it holds", func() bool { mu.Lock(); defer mu.Unlock(); return held != nil })
	go func() { // whatever comes from here on is taken at once
		for {
			select {
			case gate <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	next("3")
	held(cluster.Reply{Err: cluster.ErrOverloaded})
	publish(t, h, "default/t", message("k", "4"))
	next("1")
	next("4")
}

// TestTopicOfAnEarlierTenure: a topic that was woken for an ownership that had just ended makes room for the next one.
func TestTopicOfAnEarlierTenure(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	old := r.own
	r.take(false)
	late := make(chan cluster.Reply, 1)
	h.Handle(&cluster.Envelope{Target: topic.Target("default/t"), Message: &actorv1.TopicQuery{}}, old, func(a cluster.Reply) { late <- a })
	<-late
	r.give(h)
	until(t, "it answers", func() bool {
		_, err := h.State(limited(t), "default/t")
		return err == nil
	})
}
