package topic_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// checker watches what readers of one channel are given.
type checker struct {
	mu sync.Mutex
	// holds: who has a message that he has not settled; keys: how many of a key are held.
	holds map[uint64]string
	keys  map[string]uint64
	// done is the highest number of each key that was settled, seen what came at all.
	done  map[string]int
	seen  map[string]bool
	wrong []string
}

func newChecker() *checker {
	return &checker{holds: map[uint64]string{}, keys: map[string]uint64{}, done: map[string]int{}, seen: map[string]bool{}}
}

func (c *checker) came(reader string, m *pb.TopicMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fail := func(format string, args ...any) { c.wrong = append(c.wrong, fmt.Sprintf(format, args...)) }
	if other := c.holds[m.Offset]; other != "" && other != reader {
		fail("%d was given to %s while %s holds it", m.Offset, reader, other)
	}
	if at := c.keys[m.Key]; at != 0 && at != m.Offset {
		fail("%d of key %s was given while %d is held", m.Offset, m.Key, at)
	}
	n, _ := strconv.Atoi(string(m.Payload))
	// What was settled may come again where the answer was lost; nothing may be left out.
	if n > c.done[m.Key]+1 {
		fail("key %s: %d after %d", m.Key, n, c.done[m.Key])
	}
	c.holds[m.Offset], c.keys[m.Key] = reader, m.Offset
	c.seen[m.Key+"/"+string(m.Payload)] = true
}

// settles: the reader is about to settle a message, and so does not hold it any more.
func (c *checker) settles(m *pb.TopicMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.holds, m.Offset)
	if c.keys[m.Key] == m.Offset {
		delete(c.keys, m.Key)
	}
	n, _ := strconv.Atoi(string(m.Payload))
	c.done[m.Key] = max(c.done[m.Key], n)
}

// left: a reader's stream is over, and so it holds nothing.
func (c *checker) left(reader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, who := range c.holds {
		if who != reader {
			continue
		}
		delete(c.holds, at)
		for key, held := range c.keys {
			if held == at {
				delete(c.keys, key)
			}
		}
	}
}

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
	c := newChecker()
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
	total := 0
	for k, n := range sent {
		total += n
		until(t, fmt.Sprintf("all of key %d are read", k), func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.done[fmt.Sprint(k)] >= n
		})
		for i := 1; i <= n; i++ {
			if !c.seen[fmt.Sprintf("%d/%d", k, i)] {
				t.Errorf("key %d: %d of %d was not read", k, i, n)
			}
		}
	}
	until(t, "no lag", func() bool { return channelOf(t, hosts[0], "default/t", "work").Lag == 0 })
	cancel()
	readers.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.wrong {
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
func readUntil(ctx context.Context, h *topic.Host, c *checker, name string) {
	defer c.left(name)
	work := make(chan *pb.Delivery, 1000)
	reader := make(chan string, 1)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		id := <-reader
		for d := range work {
			c.settles(d.Message)
			_, _ = h.Ack(ctx, &pb.AckRequest{Topic: "default/t", Channel: "work", Reader: id, Offsets: []uint64{d.Message.Offset}})
		}
	}()
	_ = h.Subscribe(ctx, &pb.SubscribeRequest{Topic: "default/t", Channel: "work"}, func(m *pb.SubscribeResponse) error {
		if m.Reader != "" {
			reader <- m.Reader
		}
		for _, d := range m.Messages {
			c.came(name, d.Message)
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
