package topic_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/actors/topic/topictest"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestOwnerChanges: the topic goes from owner to owner, with and without a word, while messages are published and read. Each
// that was acknowledged is read, in the order of its key, and none is with two readers.
func TestOwnerChanges(t *testing.T) {
	r := newRig(t)
	hosts := []*topic.Host{r.host("n1"), r.host("n2"), r.host("n3")}
	r.give(hosts[0])
	r.create(&pb.Topic{Id: "default/t"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := hosts[0].PutChannel(ctx, &pb.PutChannelRequest{Topic: "default/t", Name: "work",
		Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_BY_HAND}}); err != nil {
		t.Fatal(err)
	}
	c := topictest.New()
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for turn := 0; ctx.Err() == nil; turn++ {
				readUntil(ctx, hosts[i%3], c, fmt.Sprintf("r%d.%d", i, turn))
			}
		}()
	}
	var writers sync.WaitGroup
	sent := make([]int, 5)
	stop := make(chan struct{})
	for k := range sent {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				m := &pb.TopicMessage{Id: fmt.Sprintf("%d/%d", k, n), Key: fmt.Sprint(k), Payload: []byte(fmt.Sprint(n))}
				for {
					trying, done := context.WithTimeout(ctx, 5*time.Second)
					_, err := hosts[k%3].Publish(trying, &pb.PublishRequest{Topic: "default/t", Messages: []*pb.TopicMessage{m}})
					done()
					if err == nil || ctx.Err() != nil {
						break
					}
				}
				sent[k] = n
			}
		}()
	}
	for turn := range 8 {
		time.Sleep(50 * time.Millisecond) // load, between two changes
		r.take(turn%2 == 1)
		r.give(hosts[(turn+1)%3])
	}
	close(stop)
	writers.Wait()
	total, all := 0, map[string]int{}
	for k, n := range sent {
		key := fmt.Sprint(k)
		total += n
		all[key] = n
		until(t, "all of key "+key+" are read", func() bool { return c.Done(key) >= n })
	}
	until(t, "no lag", func() bool { return channelOf(t, hosts[0], "default/t", "work").Lag == 0 })
	cancel()
	readers.Wait()
	for _, w := range c.Wrong(all) {
		t.Error(w)
	}
	st, err := hosts[0].State(limited(t), "default/t")
	if err != nil || st.NextOffset != uint64(total)+1 {
		t.Errorf("%d messages were published, the topic has %v, %v", total, st, err)
	}
	if total < 100 {
		t.Errorf("%d messages are no load", total)
	}
}

// readUntil reads and settles until its stream ends.
func readUntil(ctx context.Context, h *topic.Host, c *topictest.Checker, name string) {
	defer c.Left(name)
	work := make(chan *pb.Delivery, 1000)
	reader := make(chan string, 1)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		id := <-reader
		for d := range work {
			c.Settles(d.Message)
			_, _ = h.Ack(ctx, &pb.AckRequest{Topic: "default/t", Channel: "work", Reader: id, Offsets: []uint64{d.Message.Offset}})
		}
	}()
	_ = h.Subscribe(ctx, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"}, func(m *pb.SubscribeResponse) error {
		if m.Reader != "" {
			reader <- m.Reader
		}
		for _, d := range m.Messages {
			c.Came(name, d.Message)
			work <- d
		}
		return nil
	})
	cancel()
	close(work)
	close(reader)
	wg.Wait()
}

// TestReaderIsGone: a reader whose node is gone without a word is waited for, and then what it held is another's.
func TestReaderIsGone(t *testing.T) {
	r := newRig(t)
	a, b := r.host("n1"), r.host("n2")
	r.give(a)
	r.create(&pb.Topic{Id: "default/t"})
	x := subscribe(t, a, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_BY_HAND}})
	publish(t, a, "default/t", message("k", "1"))
	held := x.next()
	r.take(true)
	r.give(b)
	y := subscribe(t, b, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"})
	publish(t, b, "default/t", message("j", "2"))
	if got := y.text(); got != "2" { // x has said that it is there, and what it holds
		t.Errorf("got %s", got)
	}
	if s := x.settle(true, held.Message.Offset); s.Settled != 1 {
		t.Errorf("what was held over the change: %v", s)
	}
}

// TestRefusedAndBackBeforeTheAnswer: a reader that has a message again before it heard that its refusal is committed says to the next owner that it
// holds it, and is not given it once more.
func TestRefusedAndBackBeforeTheAnswer(t *testing.T) {
	r := newRig(t)
	a, b := r.host("n1"), r.host("n2")
	r.give(a)
	r.create(&pb.Topic{Id: "default/t"})
	answers := make(chan func(), 1)
	between := func(env *cluster.Envelope, done func(cluster.Reply)) bool {
		if m, ok := env.Message.(*pb.AckRequest); !ok || len(m.Failed) == 0 {
			return false
		}
		r.pass(env, func(reply cluster.Reply) { answers <- func() { done(reply) } })
		return true
	}
	r.between.Store(&between)
	x := subscribe(t, a, &pb.SubscribeRequest{Topic: "default/t", Channel: "work",
		Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_BY_HAND, BackoffMin: durationpb.New(time.Millisecond)}})
	publish(t, a, "default/t", message("", "1"))
	at := x.next().Message.Offset
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		x.settle(false, at)
	}()
	if d := x.next(); d.Message.Offset != at || d.Attempt != 2 {
		t.Errorf("after its refusal %v", d)
	}
	(<-answers)()
	<-refused
	r.take(true)
	r.give(b)
	publish(t, b, "default/t", message("", "2"))
	if got := x.text(); got != "2" {
		t.Errorf("got %s, which it holds", got)
	}
}

// gated is a proposer that takes nothing while its gate is closed.
type gated struct {
	storage.Proposer
	gate sync.RWMutex
}

func (g *gated) Propose(entry []byte, done func(any, error)) {
	go func() {
		g.gate.RLock()
		defer g.gate.RUnlock()
		g.Proposer.Propose(entry, done)
	}()
}

// TestRefusedComesAgainWhenCommitted: what a reader refused does not come again before its refusal is committed, however short its wait is.
func TestRefusedComesAgainWhenCommitted(t *testing.T) {
	var g *gated
	r := newRig(t, storagetest.WithProposer(func(p storage.Proposer) storage.Proposer { g = &gated{Proposer: p}; return g }))
	h := r.start()
	r.create(&pb.Topic{Id: "default/t"})
	x := subscribe(t, h, &pb.SubscribeRequest{Topic: "default/t", Channel: "work", Settings: &pb.ChannelSettings{BackoffMin: durationpb.New(time.Millisecond)}})
	publish(t, h, "default/t", message("", "1"))
	at := x.next().Message.Offset
	g.gate.Lock()
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		x.settle(false, at)
	}()
	until(t, "it is refused", func() bool { return channelOf(t, h, "default/t", "work").InFlight == 0 })
	time.Sleep(50 * time.Millisecond) // longer than its wait: a defect would give it meanwhile
	if len(x.got) > 0 {
		t.Error("it came before its refusal was committed")
	}
	g.gate.Unlock()
	<-refused
	if d := x.next(); d.Attempt != 2 {
		t.Errorf("it came again as %v", d)
	}
}

// TestTopicThatItsNodeHasNotHeardOf: a topic that is here, and not yet where its owner reads, is unavailable and not missing: whoever publishes to
// it tries again.
func TestTopicThatItsNodeHasNotHeardOf(t *testing.T) {
	r := newRig(t)
	h := topic.New(topic.Options{Store: r.store, Node: "n1", Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Owned: func(cluster.Slot) *cluster.Ownership { return nil }, LeaseValid: func() bool { return true },
		Call: func(_ *cluster.Envelope, done func(cluster.Reply)) { done(cluster.Reply{Err: topic.ErrNotFound}) }})
	t.Cleanup(h.Close)
	state := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := h.State(ctx, "default/t")
		return err
	}
	if err := state(); !errors.Is(err, topic.ErrNotFound) {
		t.Errorf("a topic that is nowhere: %v", err)
	}
	r.create(&pb.Topic{Id: "default/t"})
	if err := state(); !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, topic.ErrNotFound) {
		t.Errorf("a topic that its node has not heard of: %v", err)
	}
}
