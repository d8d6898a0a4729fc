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

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func isNotOwner(err error) bool { return errors.Is(err, cluster.ErrNotOwner) }

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// inbox collects what a subscription is given.
type inbox struct {
	t      testing.TB
	h      *topic.Host
	req    *pb.SubscribeRequest
	name   chan string
	got    chan *pb.Delivery
	cancel context.CancelFunc
	ended  chan error
	reader string
	missed atomic.Uint64
}

func subscribe(t testing.TB, h *topic.Host, req *pb.SubscribeRequest) *inbox {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	x := &inbox{t: t, h: h, req: req, name: make(chan string, 1), got: make(chan *pb.Delivery, 10000), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		x.ended <- h.Subscribe(ctx, req, func(m *pb.SubscribeResponse) error {
			if m.Reader != "" || req.Channel == "" && len(m.Messages) == 0 && m.Missed == 0 {
				x.name <- m.Reader
			}
			x.missed.Add(m.Missed)
			for _, d := range m.Messages {
				x.got <- d
			}
			return nil
		})
	}()
	t.Cleanup(cancel)
	select {
	case x.reader = <-x.name:
	case err := <-x.ended:
		t.Fatalf("subscription ended: %v", err)
	case <-time.After(patience):
		t.Fatal("no subscription")
	}
	return x
}

func (x *inbox) next() *pb.Delivery {
	x.t.Helper()
	select {
	case d := <-x.got:
		return d
	case err := <-x.ended:
		x.t.Fatalf("subscription ended: %v", err)
	case <-time.After(patience):
		x.t.Fatal("no message came")
	}
	return nil
}

func (x *inbox) settle(ok bool, offsets ...uint64) *pb.AckResponse {
	x.t.Helper()
	m := &pb.AckRequest{Topic: x.req.Topic, Channel: x.req.Channel, Reader: x.reader, Offsets: offsets}
	if !ok {
		m.Offsets, m.Failed, m.Reason = nil, offsets, "refused by the test"
	}
	r, err := x.h.Ack(limited(x.t), m)
	if err != nil {
		x.t.Fatalf("ack: %v", err)
	}
	return r
}

func (x *inbox) text() string { x.t.Helper(); return string(x.next().Message.Payload) }

func channelOf(t testing.TB, h *topic.Host, id, name string) *pb.Channel {
	t.Helper()
	all, err := h.Channels(limited(t), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no channel %s", name)
	return nil
}

var oldest = &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}

func TestPublishNumbersMessages(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	if got := publish(t, h, "default/t", message("a", "1"), message("b", "2")).Offsets; fmt.Sprint(got) != "[1 2]" {
		t.Errorf("offsets %v", got)
	}
	again := &pb.TopicMessage{Id: "x", Payload: []byte("3")}
	publish(t, h, "default/t", again)
	if got := publish(t, h, "default/t", again, message("", "4")); fmt.Sprint(got.Offsets) != "[3 4]" || got.Duplicates != 1 {
		t.Errorf("a repetition got %v", got)
	}
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Start: oldest})
	for i := range 4 {
		if got, want := x.text(), fmt.Sprint(i+1); got != want {
			t.Errorf("message %s, want %s", got, want)
		}
	}
	publish(t, h, "default/t", message("", "5"))
	if got := x.text(); got != "5" {
		t.Errorf("message %s, want 5", got)
	}
	st, err := h.State(limited(t), "default/t")
	if err != nil || st.Messages != 5 || st.Duplicates != 1 || st.NextOffset != 6 {
		t.Errorf("state %v, %v", st, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	_, err := h.Publish(limited(t), &pb.PublishRequest{Topic: "default/none", Messages: []*pb.TopicMessage{message("", "x")}})
	if !errors.Is(err, topic.ErrNotFound) {
		t.Errorf("publish to no topic: %v", err)
	}
	_, err = h.Publish(limited(t), &pb.PublishRequest{Topic: "default/t", Messages: []*pb.TopicMessage{message("", strings.Repeat("x", 400<<10))}})
	if !errors.Is(err, topic.ErrTooLarge) {
		t.Errorf("publish of too much: %v", err)
	}
	if _, err := h.SeekChannel(limited(t), &pb.SeekChannelRequest{Topic: "default/t", Name: "none", To: oldest}); !errors.Is(err, topic.ErrNoChannel) {
		t.Errorf("seek of no channel: %v", err)
	}
	if err := h.Subscribe(limited(t), &pb.SubscribeRequest{Topic: "default/none", Channel: "c"}, nil); !errors.Is(err, topic.ErrNotFound) {
		t.Errorf("subscribe to no topic: %v", err)
	}
}

// TestChannelsAndOrder: two readers of a channel share its messages, one message of a key at a time and in order; another
// channel gets all of them too.
func TestChannelsAndOrder(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	a := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"})
	b := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"})
	other := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "other", Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_ON_RECEIPT}})
	const keys, each = 7, 30
	for i := range each {
		for k := range keys {
			publish(t, h, "default/t", message(fmt.Sprint(k), fmt.Sprint(i)))
		}
	}
	last := map[string]int{}
	holds := map[string]bool{}
	for n := 0; n < keys*each; n++ {
		var d *pb.Delivery
		x := a
		select {
		case d = <-a.got:
		case d = <-b.got:
			x = b
		case <-time.After(patience):
			t.Fatalf("%d of %d messages came", n, keys*each)
		}
		key := d.Message.Key
		if holds[key] {
			t.Fatalf("a message of key %s while another is held", key)
		}
		if got := string(d.Message.Payload); got != fmt.Sprint(last[key]) || d.Attempt != 1 {
			t.Fatalf("key %s: message %s in attempt %d, want %d", key, got, d.Attempt, last[key])
		}
		last[key]++
		holds[key] = true
		delete(holds, key)
		x.settle(true, d.Message.Offset)
	}
	seen := map[string]int{}
	for range keys * each {
		d := other.next()
		if string(d.Message.Payload) != fmt.Sprint(seen[d.Message.Key]) {
			t.Fatalf("other: key %s out of order", d.Message.Key)
		}
		seen[d.Message.Key]++
	}
	for _, name := range []string{"work", "other"} {
		until(t, name+" has no lag", func() bool { return channelOf(t, h, "default/t", name).Lag == 0 })
		if c := channelOf(t, h, "default/t", name); c.Acknowledged != keys*each || c.InFlight != 0 || c.Dead+c.Missed+c.Redelivered != 0 {
			t.Errorf("channel %v", c)
		}
	}
}

// TestRedelivery: what fails comes again after a wait that grows, what follows of its key waits, and at last it is a dead
// letter, which can be replayed for that channel alone.
func TestRedelivery(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	set := &pb.ChannelSettings{MaxAttempts: 3, BackoffMin: durationpb.New(time.Millisecond), BackoffMax: durationpb.New(4 * time.Millisecond)}
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: set})
	fine := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "fine"})
	publish(t, h, "default/t", message("k", "bad"), message("k", "next"), message("", "free"))
	for attempt := uint32(1); attempt <= 3; {
		d := x.next()
		if string(d.Message.Payload) == "free" {
			x.settle(true, d.Message.Offset)
			continue
		}
		if string(d.Message.Payload) != "bad" || d.Attempt != attempt {
			t.Fatalf("%q in attempt %d, want bad in attempt %d", d.Message.Payload, d.Attempt, attempt)
		}
		x.settle(false, d.Message.Offset)
		attempt++
	}
	for {
		d := x.next()
		x.settle(true, d.Message.Offset)
		if string(d.Message.Payload) == "next" {
			break
		}
	}
	for range 3 {
		fine.settle(true, fine.next().Message.Offset)
	}
	until(t, "no lag", func() bool { return channelOf(t, h, "default/t", "work").Lag == 0 })
	if c := channelOf(t, h, "default/t", "work"); c.Dead != 1 || c.Redelivered != 2 || c.Acknowledged != 2 {
		t.Errorf("channel %v", c)
	}
	letters := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t.dead", Start: oldest})
	m := letters.next().Message
	if m.Headers[topic.HeaderChannel] != "work" || m.Headers[topic.HeaderReason] != "refused by the test" || m.Headers[topic.HeaderAttempts] != "3" || m.Key != "k" {
		t.Errorf("dead letter %v", m)
	}
	if n, err := h.ReplayDead(limited(t), "default/t", 0); n != 1 || err != nil {
		t.Fatalf("replayed %d: %v", n, err)
	}
	d := x.next()
	if string(d.Message.Payload) != "bad" || d.Message.Offset != 4 {
		t.Errorf("replayed message %v", d.Message)
	}
	x.settle(true, d.Message.Offset)
	until(t, "the other channel skipped it", func() bool { return channelOf(t, h, "default/t", "fine").Lag == 0 })
	if len(fine.got) != 0 {
		t.Error("another channel was given the replayed message")
	}
	if n, err := h.ReplayDead(limited(t), "default/t", 0); n != 0 || err != nil {
		t.Errorf("replayed again: %d, %v", n, err)
	}
}

// TestDeadAgain: what a channel gives up once more, as it reads from an earlier place, is a dead letter again, and is replayed again.
// TestRepetitionsOfABusyTopic: what was published 25,000 messages ago, some seconds, is known for a repetition, also by the next owner.
func TestRepetitionsOfABusyTopic(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/busy"})
	batch := func(from int) (all []*pb.TopicMessage) {
		for i := range 1000 {
			all = append(all, &pb.TopicMessage{Id: fmt.Sprintf("m-%d", from+i), Payload: []byte("x")})
		}
		return all
	}
	for from := 0; from < 25_000; from += 1000 {
		publish(t, h, "default/busy", batch(from)...)
	}
	if a := publish(t, h, "default/busy", batch(0)...); a.Duplicates != 1000 || a.Offsets[7] != 8 {
		t.Errorf("%d of 1000 are known, the eighth at %d", a.Duplicates, a.Offsets[7])
	}
	r.give(r.host("n2"))
	if a := publish(t, h, "default/busy", batch(0)...); a.Duplicates != 1000 || a.Offsets[7] != 8 {
		t.Errorf("by the next owner %d of 1000 are known, the eighth at %d", a.Duplicates, a.Offsets[7])
	}
}

func TestDeadAgain(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	set := &pb.ChannelSettings{MaxAttempts: 1}
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: set})
	publish(t, h, "default/t", message("", "bad"))
	for n := range uint64(2) {
		x.settle(false, x.next().Message.Offset)
		until(t, "it is given up", func() bool { return channelOf(t, h, "default/t", "work").Dead == n+1 })
		if _, err := h.SeekChannel(limited(t), &pb.SeekChannelRequest{Topic: "default/t", Name: "work", To: oldest}); err != nil {
			t.Fatal(err)
		}
	}
	x.settle(true, x.next().Message.Offset)
	if s, err := h.State(limited(t), "default/t.dead"); err != nil || s.Messages != 2 {
		t.Errorf("dead letters %v, %v", s, err)
	}
	if n, err := h.ReplayDead(limited(t), "default/t", 0); n != 2 || err != nil {
		t.Errorf("replayed %d: %v", n, err)
	}
	for range 2 {
		d := x.next()
		x.settle(true, d.Message.Offset)
		if string(d.Message.Payload) != "bad" {
			t.Errorf("replayed message %v", d.Message)
		}
	}
	r.drop(h, "default/t.dead")
	publish(t, h, "default/t", message("", "worse"))
	x.settle(false, x.next().Message.Offset)
	until(t, "it is given up", func() bool { return channelOf(t, h, "default/t", "work").Dead == 3 })
	if n, err := h.ReplayDead(limited(t), "default/t", 0); n != 1 || err != nil {
		t.Errorf("replayed %d: %v", n, err)
	}
	if d := x.next(); string(d.Message.Payload) != "worse" {
		t.Errorf("replayed message %v", d.Message)
	}
}

func TestAckTimeout(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	set := &pb.ChannelSettings{AckTimeout: durationpb.New(20 * time.Millisecond), BackoffMin: durationpb.New(time.Millisecond)}
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: set})
	publish(t, h, "default/t", message("k", "1"))
	if d := x.next(); d.Attempt != 1 {
		t.Errorf("attempt %d", d.Attempt)
	}
	if d := x.next(); d.Attempt != 2 {
		t.Errorf("attempt %d", d.Attempt)
	}
}

// TestReaderLeaves: what a reader held when it left is another's at once.
func TestReaderLeaves(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	set := &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_BY_HAND}
	a := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: set})
	publish(t, h, "default/t", message("k", "1"), message("k", "2"), message("j", "3"))
	first, third := a.next(), a.next()
	if string(first.Message.Payload) != "1" || string(third.Message.Payload) != "3" {
		t.Fatalf("got %v and %v", first, third)
	}
	b := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"})
	a.cancel()
	<-a.ended
	got := map[string]bool{b.text(): true, b.text(): true}
	if !got["1"] || !got["3"] {
		t.Errorf("the other reader got %v", got)
	}
	if s := a.settle(true, first.Message.Offset); s.Stale != 1 || s.Settled != 0 {
		t.Errorf("the reader that left settled %v", s)
	}
	b.settle(true, first.Message.Offset)
	if got := b.text(); got != "2" {
		t.Errorf("then %s", got)
	}
}

func TestSeek(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Start: oldest, MaxInFlight: 1})
	var middle time.Time
	for i := range 6 {
		publish(t, h, "default/t", message("k", fmt.Sprint(i)))
		if i == 2 {
			time.Sleep(3 * time.Millisecond) // the times of messages are milliseconds
			middle = time.Now()
			time.Sleep(3 * time.Millisecond)
		}
	}
	read := func(from int) {
		t.Helper()
		for i := from; i < 6; i++ {
			d := x.next()
			if string(d.Message.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %s, want %d", d.Message.Payload, i)
			}
			x.settle(true, d.Message.Offset)
		}
	}
	read(0)
	seek := func(p *pb.TopicPosition) {
		t.Helper()
		if _, err := h.SeekChannel(limited(t), &pb.SeekChannelRequest{Topic: "default/t", Name: "work", To: p}); err != nil {
			t.Fatal(err)
		}
	}
	seek(oldest)
	read(0)
	seek(&pb.TopicPosition{At: &pb.TopicPosition_Offset{Offset: 5}})
	read(4)
	seek(&pb.TopicPosition{At: &pb.TopicPosition_Time{Time: timestamppb.New(middle)}})
	read(3)
}

// TestLimits: a topic keeps to its limits, and channels know what they missed.
func TestLimits(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t", MaxMessages: 10})
	if _, err := h.PutChannel(limited(t), &pb.PutChannelRequest{Topic: "default/t", Name: "late"}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		publish(t, h, "default/t", message("k", fmt.Sprint(i)))
	}
	until(t, "ten are left", func() bool {
		st, err := h.State(limited(t), "default/t")
		return err == nil && st.Messages == 10 && st.Trimmed == 90
	})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "late"})
	for i := 90; i < 100; i++ {
		d := x.next()
		if string(d.Message.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %s, want %d", d.Message.Payload, i)
		}
		x.settle(true, d.Message.Offset)
	}
	if c := channelOf(t, h, "default/t", "late"); c.Missed != 90 || c.Lag != 0 {
		t.Errorf("channel %v", c)
	}
	// A reader without a channel that asks for what is gone is told so, once.
	tail := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Start: &pb.TopicPosition{At: &pb.TopicPosition_Offset{Offset: 41}}})
	if d := tail.next(); string(d.Message.Payload) != "90" {
		t.Errorf("the oldest is %s", d.Message.Payload)
	}
	publish(t, h, "default/t", message("k", "100"))
	until(t, "it has what came", func() bool { return string(tail.next().Message.Payload) == "100" })
	if got := tail.missed.Load(); got != 50 {
		t.Errorf("it missed %d, want 50", got)
	}
	r.create(&pb.Topic{Id: "default/old", MaxAge: durationpb.New(time.Second)})
	publish(t, h, "default/old", message("k", "x"))
	until(t, "it is too old", func() bool {
		st, err := h.State(limited(t), "default/old")
		return err == nil && st.Messages == 0 && st.Trimmed == 1
	})
}

func TestDrop(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"}).cancel()
	var many []*pb.TopicMessage
	for i := range 1000 {
		many = append(many, message("", fmt.Sprint(i)))
	}
	for range 6 {
		publish(t, h, "default/t", many...)
	}
	r.drop(h, "default/t")
	until(t, "its next offset is left, and nothing else", func() bool {
		for table, left := range map[string]int{"stream": 0, "tail": 1, "message": 0, "channel": 0} {
			if n, err := r.count(table); err != nil || n != left {
				return false
			}
		}
		return true
	})
	if n := r.metrics.GetOrCreateCounter("pollux_topic_trimmed_total").Get(); n != 6000 {
		t.Errorf("%d messages are counted as removed", n)
	}
	r.create(&pb.Topic{Id: "default/t"})
	if p := publish(t, h, "default/t", many[0]); p.Offsets[0] != 6001 {
		t.Errorf("the new topic begins with %d", p.Offsets[0])
	}
}

// TestLongName: a topic whose id is as long as it may be takes and removes as others do.
func TestLongName(t *testing.T) {
	r := newRig(t)
	h := r.start()
	id := strings.Repeat("p", 64) + "/" + strings.Repeat("n", 128)
	r.create(&pb.Topic{Id: id})
	large := make([]*pb.TopicMessage, 1000)
	for i := range large {
		large[i] = message("", strings.Repeat("x", 250))
	}
	if _, err := h.Publish(limited(t), &pb.PublishRequest{Topic: id, Messages: large}); !errors.Is(err, topic.ErrTooLarge) {
		t.Errorf("more than a transaction has: %v", err)
	}
	var all sync.WaitGroup
	for range 4000 {
		all.Go(func() { publish(t, h, id, message("", "x")) })
	}
	all.Wait()
	r.create(&pb.Topic{Id: id, MaxMessages: 10})
	until(t, "ten are left", func() bool {
		publish(t, h, id, &pb.TopicMessage{Id: "last", Payload: make([]byte, 250<<10)})
		st, err := h.State(limited(t), id)
		return err == nil && st.Messages == 10 && st.Trimmed == 3991
	})
}

// TestMadeAnew: the offsets of a topic go on where those of a deleted one of its name ended, so who reads on misses nothing and hears nothing again; and
// who was further than the topic begins with its oldest message.
func TestMadeAnew(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	for range 5 {
		publish(t, h, "default/t", message("", "old"))
	}
	for range 2 {
		r.drop(h, "default/t")
		r.create(&pb.Topic{Id: "default/t"})
	}
	for range 7 {
		publish(t, h, "default/t", message("", "new"))
	}
	for _, from := range []uint64{4, 6, 100} {
		p, err := h.Read(limited(t), "default/t", from, nil, 0)
		if err != nil || len(p.Messages) != 7 || p.Messages[0].Offset != 6 || string(p.Messages[0].Payload) != "new" || p.Offset != 13 {
			t.Errorf("from %d: %v, %v", from, p, err)
		}
	}
	st, err := h.State(limited(t), "default/t")
	if err != nil || st.Messages != 7 || st.FirstOffset != 6 || st.Trimmed != 0 {
		t.Errorf("state %v, %v", st, err)
	}
}

// TestTrimmedWhileHeld: a message that the limits remove while a reader has it, and that the reader then gives back, is counted as missed.
func TestTrimmedWhileHeld(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t", MaxMessages: 2})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", MaxInFlight: 2, Settings: &pb.ChannelSettings{MaxAttempts: 1}})
	for i := range 2 {
		publish(t, h, "default/t", message("", fmt.Sprint(i)))
	}
	x.next()
	x.next()
	for i := range 4 {
		publish(t, h, "default/t", message("", fmt.Sprint(2+i)))
	}
	until(t, "two are left", func() bool {
		st, err := h.State(limited(t), "default/t")
		return err == nil && st.FirstOffset == 5
	})
	x.settle(true, 1)
	x.settle(false, 2)
	got := []*pb.Delivery{x.next(), x.next()}
	x.settle(true, got[0].Message.Offset, got[1].Message.Offset)
	c := channelOf(t, h, "default/t", "work")
	if c.Acknowledged != 3 || c.Missed != 3 || c.Dead != 0 || c.Lag != 0 { // 2, 3 and 4
		t.Errorf("channel %v", c)
	}
}

// TestTrimmedWhileDying: what the limits remove while it is on its way to the dead letters arrives there.
func TestTrimmedWhileDying(t *testing.T) {
	r := newRig(t)
	h := r.start()
	r.create(&pb.Topic{Id: "default/t", MaxMessages: 1})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: &pb.ChannelSettings{MaxAttempts: 1}})
	publish(t, h, "default/t", message("", "bad"))
	x.settle(false, x.next().Message.Offset) // there is no topic for it yet
	for range 3 {
		publish(t, h, "default/t", message("", "good"))
	}
	until(t, "it is given up", func() bool { return channelOf(t, h, "default/t", "work").Dead == 1 })
	dead, err := h.Read(limited(t), topic.DeadOf("default/t"), 0, oldest, 0)
	if err != nil || len(dead.Messages) != 1 || string(dead.Messages[0].Payload) != "bad" {
		t.Errorf("dead letters: %v, %v", dead, err)
	}
}
