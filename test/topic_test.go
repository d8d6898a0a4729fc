package test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors/topic/topictest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const topicOrders = "default/orders"

// topicLoad publishes to a topic and reads it by any node, whatever becomes of the nodes.
type topicLoad struct {
	c     *harness.Cluster
	check *topictest.Checker
	ctx   context.Context
	stop  chan struct{}

	writers, readers sync.WaitGroup

	mu    sync.Mutex
	sent  map[string]int
	waits time.Duration // the longest that a publication waited
}

// TestTopicOwnerDies kills the topic's owner, and has another one leave in order, while messages are published and read by all
// nodes. Each that was acknowledged is read, those of a key in their order, and none is with two readers.
func TestTopicOwnerDies(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if _, err := c.Node(0).Topics().CreateTopic(ctx, connect.NewRequest(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: topicOrders}})); err != nil {
		t.Fatal(err)
	}
	l := &topicLoad{c: c, check: topictest.New(), ctx: ctx, stop: make(chan struct{}), sent: map[string]int{}}
	if _, err := c.Node(1).Topics().PutChannel(ctx, connect.NewRequest(&pb.PutChannelRequest{Topic: topicOrders, Name: "work",
		Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_BY_HAND}})); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		l.readers.Go(func() { l.read(i) })
	}
	for i := range 8 {
		l.writers.Go(func() { l.write(i) })
	}
	l.progress(t, "at the beginning")
	owner := l.owner(t)
	t.Logf("kill -9 of %s, the owner", owner.Name)
	owner.Kill()
	l.progress(t, "without the owner")
	if !testing.Short() {
		owner.Run()
		c.Settle(time.Minute)
		l.leaves(t)
	}
	close(l.stop)
	l.writers.Wait()
	l.finish(t, cancel)
}

// leaves has the topic's owner stop in order.
func (l *topicLoad) leaves(t *testing.T) {
	owner := l.owner(t)
	t.Logf("%s, the owner, stops in order", owner.Name)
	if err := owner.Stop(); err != nil {
		t.Error(err)
	}
	l.progress(t, "without the next owner")
}

// owner is the node that has the topic.
func (l *topicLoad) owner(t *testing.T) *harness.Node {
	t.Helper()
	var owner *harness.Node
	harness.Until(t, time.Minute, "the topic has an owner", func() bool {
		for _, n := range l.c.Running() {
			res, err := n.Topics().GetTopic(l.ctx, connect.NewRequest(&pb.GetTopicRequest{Id: topicOrders}))
			if err != nil {
				continue
			}
			for _, n := range l.c.Running() {
				if n.Status().GetNode() == res.Msg.Topic.State.GetNode() {
					owner = n
				}
			}
		}
		return owner != nil
	})
	return owner
}

// progress waits until each key goes on.
func (l *topicLoad) progress(t *testing.T, when string) {
	t.Helper()
	was := make([]int, 8)
	for i := range was {
		was[i] = l.check.Done(fmt.Sprint(i))
	}
	harness.Until(t, time.Minute, "each key goes on "+when, func() bool {
		for i := range was {
			if l.check.Done(fmt.Sprint(i)) < was[i]+20 {
				return false
			}
		}
		return true
	})
}

// write publishes the numbers of one key, each until it is acknowledged.
func (l *topicLoad) write(i int) {
	key := fmt.Sprint(i)
	for n := 1; l.ctx.Err() == nil; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		m := &pb.TopicMessage{Id: fmt.Sprintf("%s/%d", key, n), Key: key, Payload: fmt.Append(nil, n)}
		began := time.Now()
		for try := i; l.ctx.Err() == nil; try++ {
			nodes := l.c.Running()
			if len(nodes) == 0 {
				continue
			}
			trying, done := context.WithTimeout(l.ctx, 20*time.Second)
			_, err := nodes[try%len(nodes)].Topics().Publish(trying, connect.NewRequest(&pb.PublishRequest{Topic: topicOrders, Messages: []*pb.TopicMessage{m}}))
			done()
			if err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond) // the node may be gone
		}
		l.mu.Lock()
		l.sent[key] = n
		l.waits = max(l.waits, time.Since(began))
		l.mu.Unlock()
	}
}

// read is a reader that subscribes again when its stream ends, each time by another node.
func (l *topicLoad) read(i int) {
	for turn := 0; l.ctx.Err() == nil; turn++ {
		if nodes := l.c.Running(); len(nodes) > 0 {
			l.readBy(nodes[(i+turn)%len(nodes)], fmt.Sprintf("r%d.%d", i, turn))
		}
		time.Sleep(20 * time.Millisecond) // the node may be gone
	}
}

func (l *topicLoad) readBy(n *harness.Node, name string) {
	defer l.check.Left(name)
	api := n.Topics()
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	stream, err := api.Subscribe(ctx, connect.NewRequest(&pb.SubscribeRequest{Topic: topicOrders, Channel: "work", MaxInFlight: 4}))
	if err != nil {
		return
	}
	defer stream.Close()
	reader := ""
	var acks sync.WaitGroup
	defer acks.Wait()
	for stream.Receive() {
		if m := stream.Msg(); m.Reader != "" {
			reader = m.Reader
		}
		for _, d := range stream.Msg().Messages {
			l.check.Came(name, d.Message)
			acks.Go(func() {
				l.check.Settles(d.Message)
				_, _ = api.Ack(ctx, connect.NewRequest(&pb.AckRequest{Topic: topicOrders, Channel: "work", Reader: reader, Offsets: []uint64{d.Message.Offset}}))
			})
		}
	}
}

// finish waits until all is read, and checks it.
func (l *topicLoad) finish(t *testing.T, cancel context.CancelFunc) {
	t.Helper()
	total := 0
	for key, n := range l.sent {
		total += n
		harness.Until(t, time.Minute, "all of key "+key+" are read", func() bool { return l.check.Done(key) >= n })
	}
	harness.Until(t, time.Minute, "the channel has no lag", func() bool {
		res, err := l.c.Running()[0].Topics().ListChannels(l.ctx, connect.NewRequest(&pb.ListChannelsRequest{Topic: topicOrders}))
		return err == nil && len(res.Msg.Channels) == 1 && res.Msg.Channels[0].Lag == 0
	})
	res, err := l.c.Running()[1].Topics().GetTopic(l.ctx, connect.NewRequest(&pb.GetTopicRequest{Id: topicOrders}))
	if err != nil || res.Msg.Topic.State.NextOffset != uint64(total)+1 {
		t.Errorf("%d messages were acknowledged, the topic has %v (%v)", total, res, err)
	}
	cancel()
	l.readers.Wait()
	for _, w := range l.check.Wrong(l.sent) {
		t.Error(w)
	}
	t.Logf("%d messages published, given %d times; the longest publication took %v", total, l.check.Count(), l.waits.Round(time.Millisecond))
}

// TestRefusalsOfDurableTopics: what a client publishes to a durable topic that does not take it is acknowledged, so that it does not come back for
// ever, and is in the list of what was refused.
func TestRefusalsOfDurableTopics(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	key := strings.Fields(n.Must("key", "create", "--role", "operator", "--project", "default"))
	secret := key[len(key)-1]
	for _, topic := range []string{"topics/default/none", "topics/default"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := exec.CommandContext(ctx, "mosquitto_pub", mosquitto(n, "any", secret, "-V", "mqttv311", "-t", topic, "-m", "21.5")...).CombinedOutput()
		cancel()
		if err != nil {
			t.Errorf("%s: %v: %s", topic, err, out)
		}
		harness.Until(t, 30*time.Second, topic+" is in the list", func() bool {
			return strings.Contains(n.Must("ingest", "refusals", "--project", "default"), fmt.Sprintf("%q", topic))
		})
	}
}
