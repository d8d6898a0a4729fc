package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// Topics are durable topics. Its methods are called concurrently.
type Topics interface {
	// Publish commits a message to a topic; done is called once it is, or with why not: an error that wraps a *Refusal where
	// that is for good. It does not block.
	Publish(topic string, m TopicMessage, done func(error))
	// Read gives messages to take until ctx ends, take fails or the topic does, which the error says: as one of the readers of the
	// channel, which holds at most so many that it has not settled; without a channel, what comes from now on. settle says that the
	// reader is done with a message; it does not block. take is called by one goroutine and may block.
	Read(ctx context.Context, topic, channel string, most int, take func(m TopicMessage, settle func()) error) error
	// Exists says whether there is such a topic.
	Exists(topic string) bool
}

// TopicMessage is a message of a durable topic.
type TopicMessage struct {
	Key         string
	Payload     []byte
	ContentType string
	Headers     map[string]string
	// ID by which a repetition is known; empty: it has none.
	ID string
	// Attempt, from 1: of a message that is given.
	Attempt int
}

// durablePrefix begins the MQTT topics that stand for durable topics: topics/PROJECT/NAME, and a key behind it.
const durablePrefix = "topics/"

func isDurable(topic string) bool { return strings.HasPrefix(topic, durablePrefix) }

// cutDurable gives the durable topic that an MQTT topic stands for, and the message's key.
func cutDurable(topic string) (id, key string, ok bool) {
	rest, ok := strings.CutPrefix(topic, durablePrefix)
	project, rest, _ := strings.Cut(rest, "/")
	name, key, _ := strings.Cut(rest, "/")
	return project + "/" + name, key, ok && project != "" && name != ""
}

// publishDurable publishes a message to the durable topic that its MQTT topic names. Of what that refuses the handler hears.
func (b *Broker) publishDurable(m *Message, props *packets.Properties, end func(error)) {
	done := func(err error) {
		if r := refusalOf(err); r != nil {
			if h, ok := b.handler.(Refuser); ok {
				h.Refused(m, &Refusal{Code: r.Code, Label: r.Label, Text: err.Error()})
			}
		}
		end(err)
	}
	id, key, ok := cutDurable(m.Topic)
	if !ok {
		done(fmt.Errorf("topic %q: want topics/PROJECT/NAME or topics/PROJECT/NAME/KEY: %w", m.Topic, ErrTopic))
		return
	}
	t := TopicMessage{Key: key, Payload: m.Payload}
	if props != nil {
		t.ContentType = props.ContentType
		for _, u := range props.User {
			switch {
			case u.Key == messageID:
				t.ID = u.Val
			case t.Headers == nil:
				t.Headers = map[string]string{u.Key: u.Val}
			default:
				t.Headers[u.Key] = u.Val
			}
		}
	}
	b.topics.Publish(id, t, done)
}

// messageID is the user property of MQTT 5 by which a durable topic knows a repetition.
const messageID = "id"

// reader is a client's subscription to a durable topic.
type reader struct {
	stop context.CancelFunc
	done chan struct{}
}

// isReader says whether a subscription is one to a durable topic.
func isReader(name string) bool {
	filter, _ := cutShare(name)
	return isDurable(filter)
}

// cutReader gives the topic and channel of such a subscription: $share/CHANNEL/topics/PROJECT/NAME/#, or without the channel.
func cutReader(name string) (topic, channel string, ok bool) {
	filter, shared := cutShare(name)
	if shared {
		channel, _, _ = strings.Cut(name[len(sharePrefix):], "/")
	}
	topic, rest, ok := cutDurable(filter)
	return topic, channel, ok && rest == "#" && !strings.ContainsAny(topic, "+#")
}

// checkReader refuses a subscription to durable topics that names no topic whole, or one that is not there.
func (b *Broker) checkReader(name string) error {
	if b.topics == nil || !isReader(name) {
		return nil
	}
	topic, _, ok := cutReader(name)
	if !ok {
		return fmt.Errorf("subscription %q: want $share/CHANNEL/topics/PROJECT/NAME/#: %w", name, ErrTopic)
	}
	if !b.topics.Exists(topic) {
		return fmt.Errorf("subscription %q: no such topic", name)
	}
	return nil
}

// openReaders begins to read the durable topics among the subscriptions.
func (s *session) openReaders(subs []*actorv1.MqttSubscription) {
	for _, sub := range subs {
		if s.b.topics == nil || !isReader(sub.Filter) || s.b.checkReader(sub.Filter) != nil || !s.grant.maySubscribe(sub.Filter) {
			continue
		}
		s.closeReader(sub.Filter)
		ctx, stop := context.WithCancel(s.b.ctx)
		r := &reader{stop, make(chan struct{})}
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			stop()
			return
		}
		if s.readers == nil {
			s.readers = map[string]*reader{}
		}
		s.readers[sub.Filter] = r
		s.mu.Unlock()
		go func() {
			defer close(r.done)
			s.readTopic(ctx, sub)
		}()
	}
}

// closeReader stops reading one topic, and waits until nothing more of it is sent.
func (s *session) closeReader(name string) {
	s.mu.Lock()
	r := s.readers[name]
	delete(s.readers, name)
	s.mu.Unlock()
	if r != nil {
		r.stop()
		<-r.done
	}
}

// closeReaders stops all; what was not acknowledged goes to other readers.
func (s *session) closeReaders() {
	s.mu.Lock()
	all := s.readers
	s.readers = nil
	s.mu.Unlock()
	for _, r := range all {
		r.stop()
	}
	for _, r := range all {
		<-r.done
	}
}

// readTopic sends a durable topic's messages to the client, and settles what it acknowledges. Where reading fails it begins anew.
func (s *session) readTopic(ctx context.Context, sub *actorv1.MqttSubscription) {
	topic, channel, _ := cutReader(sub.Filter)
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		err := s.b.topics.Read(ctx, topic, channel, min(s.window(), readerMost), func(m TopicMessage, settle func()) error {
			wait = 100 * time.Millisecond
			return s.takeTopic(ctx, sub, topic, m, settle)
		})
		if ctx.Err() != nil {
			return
		}
		s.b.quiet.log(s.b.log, slog.LevelWarn, "mqtt client's topic cannot be read", "client", s.id, "topic", topic, "channel", channel, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// readerMost is how many messages of a topic a client holds at most.
const readerMost = 64

// takeTopic sends one message of a topic when the client has room for it.
func (s *session) takeTopic(ctx context.Context, sub *actorv1.MqttSubscription, topic string, t TopicMessage, settle func()) error {
	name := durablePrefix + topic
	if t.Key != "" {
		name += "/" + t.Key
	}
	props := &packets.Properties{ContentType: t.ContentType}
	for k, v := range t.Headers {
		props.User = append(props.User, packets.UserProperty{Key: k, Val: v})
	}
	if t.ID != "" {
		props.User = append(props.User, packets.UserProperty{Key: messageID, Val: t.ID})
	}
	o := &outgoing{m: newMessage(name, t.Payload, byte(sub.Qos), false, props, ""), qos: byte(sub.Qos), settled: settle}
	if sub.Identifier > 0 {
		o.identifiers = []int{int(sub.Identifier)}
	}
	// A session that ends takes none, and its reader is closed soon: what was not sent is another's.
	for !s.hasRoom(len(t.Payload)) || !s.send(o) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}
