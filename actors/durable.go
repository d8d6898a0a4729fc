package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// durable gives the MQTT broker the durable topics. Messages of one topic go to its owner one publication after the other, so
// their order is the clients'; what comes meanwhile goes with the next.
type durable struct {
	h     *topic.Host
	store *storage.Store

	mu      sync.Mutex
	writers map[string]*topicWriter
}

// MQTT gives the durable topics to the node's broker.
func (c *Client) MQTT() mqtt.Topics {
	return &durable{h: c.e.streams, store: c.e.store, writers: map[string]*topicWriter{}}
}

// topicWriter holds what waits for one topic. There is one as long as something does.
type topicWriter struct {
	waiting []published
}

type published struct {
	m    *pb.TopicMessage
	done func(error)
}

const (
	// publishMost and publishBytes bound one publication: a topic takes 1,000 messages and 300 KiB as stored, publishOverhead of each message
	// and the topic's id in its key included.
	publishMost     = 1000
	publishBytes    = 200 << 10
	publishOverhead = 80
	// publishWithin is how long a publication may take; the client sends again what was not committed by then.
	publishWithin = 15 * time.Second
)

// Exists implements mqtt.Topics.
func (d *durable) Exists(id string) bool {
	_, ok, err := d.store.Get(topic.TableTopics, id)
	return err == nil && ok
}

// Publish implements mqtt.Topics. What waits is bounded by what clients may have unacknowledged.
func (d *durable) Publish(id string, m mqtt.TopicMessage, done func(error)) {
	p := published{&pb.TopicMessage{Key: m.Key, Payload: m.Payload, ContentType: m.ContentType, Headers: m.Headers, Id: m.ID}, done}
	if err := fits(p.m); err != nil {
		done(err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := d.writers[id]; at != nil {
		at.waiting = append(at.waiting, p)
		return
	}
	d.writers[id] = &topicWriter{waiting: []published{p}}
	go d.publish(id)
}

// fits checks what the API checks of a message.
func fits(m *pb.TopicMessage) error {
	refuse := func(what string) error { return fmt.Errorf("publish: %s: %w", what, mqtt.ErrInvalid) }
	switch {
	case len(m.Key) > 512:
		return refuse("a key has at most 512 bytes")
	case len(m.Payload) > 256<<10:
		return refuse("a message has at most 256 KiB")
	case len(m.ContentType) > 200, len(m.Id) > 200:
		return refuse("content type and id have at most 200 bytes")
	case len(m.Headers) > 32:
		return refuse("a message has at most 32 headers")
	}
	for k, v := range m.Headers {
		if len(k) > 128 || len(v) > 1024 {
			return refuse("a header has a name of at most 128 bytes and a value of at most 1,024")
		}
	}
	return nil
}

// publish brings what waits to the topic until nothing does.
func (d *durable) publish(id string) {
	for {
		d.mu.Lock()
		p := d.writers[id]
		n, size := 0, 0
		for n < len(p.waiting) && n < publishMost {
			more := proto.Size(p.waiting[n].m) + publishOverhead + len(id)
			if n > 0 && size+more > publishBytes {
				break
			}
			size += more
			n++
		}
		batch := p.waiting[:n:n]
		p.waiting = p.waiting[n:]
		if n == 0 {
			delete(d.writers, id)
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		err := d.publishBatch(id, batch)
		for _, b := range batch {
			b.done(err)
		}
	}
}

func (d *durable) publishBatch(id string, batch []published) error {
	r := &pb.PublishRequest{Topic: id}
	for _, b := range batch {
		r.Messages = append(r.Messages, b.m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishWithin)
	defer cancel()
	_, err := d.h.Publish(ctx, r)
	switch {
	case errors.Is(err, topic.ErrNotFound), errors.Is(err, topic.ErrDeleting):
		return fmt.Errorf("%w: %w", err, mqtt.ErrTopic)
	case errors.Is(err, topic.ErrTooLarge):
		return fmt.Errorf("%w: %w", err, mqtt.ErrQuota)
	}
	return err
}

// Read implements mqtt.Topics.
func (d *durable) Read(ctx context.Context, id, channel string, most int, take func(m mqtt.TopicMessage, settle func()) error) error {
	var a *acks
	return d.h.Subscribe(ctx, &pb.SubscribeRequest{Topic: id, Channel: channel, MaxInFlight: uint32(most)}, func(r *pb.SubscribeResponse) error {
		if r.Reader != "" && channel != "" {
			a = &acks{h: d.h, of: &pb.AckRequest{Topic: id, Channel: channel, Reader: r.Reader}}
		}
		for _, m := range r.Messages {
			settle := func() {}
			if at, by := m.Message.Offset, a; by != nil {
				settle = func() { by.add(at) }
			}
			t := m.Message
			if err := take(mqtt.TopicMessage{Key: t.Key, Payload: t.Payload, ContentType: t.ContentType, Headers: t.Headers, ID: t.Id,
				Attempt: int(m.Attempt)}, settle); err != nil {
				return err
			}
		}
		return nil
	})
}

// acks gathers what a reader has acknowledged while a call for it is on its way.
type acks struct {
	h  *topic.Host
	of *pb.AckRequest

	mu      sync.Mutex
	waiting []uint64
	busy    bool
}

func (a *acks) add(offset uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, offset)
	if !a.busy {
		a.busy = true
		go a.run()
	}
}

// run settles until nothing waits. What fails comes again: the channel gives it to a reader once more.
func (a *acks) run() {
	for {
		a.mu.Lock()
		n := min(len(a.waiting), publishMost)
		offsets := a.waiting[:n:n]
		a.waiting = a.waiting[n:]
		a.busy = n > 0
		a.mu.Unlock()
		if n == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), publishWithin)
		_, _ = a.h.Ack(ctx, &pb.AckRequest{Topic: a.of.Topic, Channel: a.of.Channel, Reader: a.of.Reader, Offsets: offsets})
		cancel()
	}
}
