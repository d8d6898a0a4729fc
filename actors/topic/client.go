package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// ErrNoChannel: the topic has no such channel.
var ErrNoChannel = errors.New("no such channel")

// deadSuffix ends the names of topics of dead letters.
const deadSuffix = ".dead"

// DeadOf gives the topic of a topic's dead letters.
func DeadOf(id string) string { return id + deadSuffix }

// routePrefix begins the names of the topics that are routes' lists of dead letters.
const routePrefix = "route."

// DeadOfRoute gives the topic of a route's dead letters: PROJECT/route.NAME.dead.
func DeadOfRoute(id string) string {
	project, name, _ := strings.Cut(id, "/")
	return DeadOf(project + "/" + routePrefix + name)
}

// Reserved says whether a topic of this name would have the dead letters of a route as its own.
func Reserved(id string) bool {
	_, name, _ := strings.Cut(id, "/")
	return strings.HasPrefix(name, routePrefix) && !isDead(name)
}

func isDead(id string) bool { return strings.HasSuffix(id, deadSuffix) }

const (
	// readerEnds is after how long without an answer a reader's stream ends, counted from when the last call that was answered
	// was sent: before the owner counts it as gone (readerGone).
	readerEnds = 10 * time.Second
	// readerWait is how long a reader's call waits for messages, and tailWait that of one without a channel.
	readerWait = 3 * time.Second
	tailWait   = 5 * time.Second
	// defaultRoom is how many messages a reader holds that does not say.
	defaultRoom = 64
)

// Publish commits messages, and returns then. Messages without an id get one, so that a retry of the call within the cluster
// stores them once. Where the outcome is not known it tries again, by the same ids, until ctx ends.
func (h *Host) Publish(ctx context.Context, m *pb.PublishRequest) (*pb.PublishResponse, error) {
	m = identified(m)
	wait := 10 * time.Millisecond
	for {
		r, err := ask[*pb.PublishResponse](ctx, h, m.Topic, m)
		if err == nil || !again(err) || ctx.Err() != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

// again says whether the same publication may succeed in a moment.
func again(err error) bool {
	return errors.Is(err, cluster.ErrUnknown) || errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrNotOwner)
}

// identified gives an id to messages that have none.
func identified(m *pb.PublishRequest) *pb.PublishRequest {
	out := &pb.PublishRequest{Topic: m.Topic, Messages: make([]*pb.TopicMessage, len(m.Messages))}
	name := ""
	for i, x := range m.Messages {
		if x.GetId() == "" {
			if name == "" {
				name = newName()
			}
			x = &pb.TopicMessage{Key: x.GetKey(), Payload: x.GetPayload(), ContentType: x.GetContentType(), Headers: x.GetHeaders(), Time: x.GetTime(),
				Id: fmt.Sprintf("%s-%d", name, i)}
		}
		out.Messages[i] = x
	}
	return out
}

// bury publishes a dead letter; its topic is made if need be. It does not block; done is called once.
func (h *Host) bury(id string, m *pb.TopicMessage, done func(error)) {
	env := &cluster.Envelope{ID: newCallID(), Target: Target(id), Deadline: time.Now().Add(30 * time.Second),
		Message: &pb.PublishRequest{Topic: id, Messages: []*pb.TopicMessage{m}}}
	h.o.Call(env, func(r cluster.Reply) {
		if !errors.Is(r.Err, ErrNotFound) {
			done(r.Err)
			return
		}
		value, err := proto.Marshal(&pb.Topic{Id: id, Title: "Dead letters of " + strings.TrimSuffix(id, deadSuffix)})
		if err == nil {
			err = h.o.Store.Submit(&storage.Txn{Guards: []storage.Guard{{Table: TableTopics, Key: id}},
				Writes: []storage.Write{{Table: TableTopics, Key: id, Value: value}}}, func(storage.Result) { done(r.Err) })
		}
		if err != nil {
			done(err)
		}
	})
}

// Bury makes a message of a topic that a reader without a channel gives up a dead letter, and returns when that is committed. by is the reader's
// name, which is no channel's: a replay is for it alone.
func (h *Host) Bury(ctx context.Context, id string, m *pb.TopicMessage, by, why string) error {
	letter := proto.Clone(m).(*pb.TopicMessage)
	if letter.Headers == nil {
		letter.Headers = map[string]string{}
	}
	delete(letter.Headers, HeaderOnly)
	letter.Headers[HeaderChannel], letter.Headers[HeaderOffset] = by, fmt.Sprint(m.Offset)
	return h.BuryIn(ctx, DeadOf(id), id, letter, why)
}

// BuryIn makes a message that cannot be published to a topic a dead letter in the list given, and returns when that is committed.
func (h *Host) BuryIn(ctx context.Context, list, id string, m *pb.TopicMessage, why string) error {
	letter := proto.Clone(m).(*pb.TopicMessage)
	if letter.Headers == nil {
		letter.Headers = map[string]string{}
	}
	letter.Headers[HeaderTopic], letter.Headers[HeaderReason] = id, cut(why)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		done := make(chan error, 1)
		h.bury(list, letter, func(err error) { done <- err })
		select {
		case err := <-done:
			if err == nil || !again(err) && !errors.Is(err, ErrNotFound) && !errors.Is(err, cluster.ErrOverloaded) {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("dead letter of topic %s: %w", id, ctx.Err())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("dead letter of topic %s: %w", id, ctx.Err())
		}
	}
}

// State gives what a topic holds.
func (h *Host) State(ctx context.Context, id string) (*pb.TopicState, error) {
	return ask[*pb.TopicState](ctx, h, id, &actorv1.TopicQuery{})
}

// Channels gives a topic's channels by name.
func (h *Host) Channels(ctx context.Context, id string) ([]*pb.Channel, error) {
	r, err := ask[*actorv1.TopicChannels](ctx, h, id, &actorv1.TopicChannelsQuery{})
	return r.GetChannels(), err
}

// PutChannel makes a channel, or changes its settings.
func (h *Host) PutChannel(ctx context.Context, m *pb.PutChannelRequest) (*pb.PutChannelResponse, error) {
	return ask[*pb.PutChannelResponse](ctx, h, m.Topic, m)
}

// DeleteChannel deletes a channel; its readers' streams end.
func (h *Host) DeleteChannel(ctx context.Context, m *pb.DeleteChannelRequest) (*pb.DeleteChannelResponse, error) {
	return ask[*pb.DeleteChannelResponse](ctx, h, m.Topic, m)
}

// SeekChannel has a channel read from another place.
func (h *Host) SeekChannel(ctx context.Context, m *pb.SeekChannelRequest) (*pb.SeekChannelResponse, error) {
	return ask[*pb.SeekChannelResponse](ctx, h, m.Topic, m)
}

// Drop removes what a topic holds and then its record, which says since a revision that it is being deleted.
func (h *Host) Drop(ctx context.Context, id string, revision uint64) error {
	for {
		_, err := h.call(ctx, id, &actorv1.TopicDrop{Revision: revision})
		if !errors.Is(err, cluster.ErrOverloaded) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ack settles messages, and returns when that is committed.
func (h *Host) Ack(ctx context.Context, m *pb.AckRequest) (*pb.AckResponse, error) {
	done := h.subs.settling(m)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		r, err := ask[*pb.AckResponse](ctx, h, m.Topic, m)
		if err == nil {
			done()
			return r, nil
		}
		// Overloaded: its reader has yet to make itself known to a new owner.
		if !again(err) && !errors.Is(err, cluster.ErrOverloaded) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

// ReplayDead publishes the dead letters of a topic to it again, each for the channel or the sink that gave it up, and removes them.
func (h *Host) ReplayDead(ctx context.Context, id string, limit int) (replayed int, err error) {
	return h.Replay(ctx, DeadOf(id), limit, func(m *pb.TopicMessage) error {
		delete(m.Headers, HeaderTopic)
		_, err := h.Publish(ctx, &pb.PublishRequest{Topic: id, Messages: []*pb.TopicMessage{m}})
		return err
	})
}

// Replay takes the oldest letters of a list of dead letters, at most limit (0: all that are there now), gives each to take as the message
// that it was, with an id by which its repetition is known, and removes it. It ends with the first error of take. A list that is not
// there is empty.
func (h *Host) Replay(ctx context.Context, list string, limit int, take func(*pb.TopicMessage) error) (replayed int, err error) {
	state, err := h.State(ctx, list)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if limit <= 0 {
		limit = int(state.Messages)
	}
	for at := state.FirstOffset; replayed < limit && at < state.NextOffset; {
		page, err := ask[*actorv1.TopicTailAnswer](ctx, h, list, &actorv1.TopicTail{Offset: at, Room: uint32(min(100, limit-replayed))})
		if err != nil {
			return replayed, err
		}
		for _, m := range page.Messages {
			if m.Offset >= state.NextOffset {
				break
			}
			if err := take(revived(list, m)); err != nil {
				return replayed, err
			}
			if _, err := h.call(ctx, list, &actorv1.TopicCut{Before: m.Offset + 1}); err != nil {
				return replayed, err
			}
			replayed++
		}
		if page.Offset <= at {
			break
		}
		at = page.Offset
	}
	return replayed, nil
}

// revived is the message that a dead letter was; its HeaderTopic says where it should have gone.
func revived(dead string, letter *pb.TopicMessage) *pb.TopicMessage {
	m := &pb.TopicMessage{Key: letter.Key, Payload: letter.Payload, ContentType: letter.ContentType, Time: letter.Time,
		Id: fmt.Sprintf("replay:%s/%d/%x", dead, letter.Offset, letter.PublishTime.AsTime().UnixNano()), Headers: map[string]string{}}
	for k, v := range letter.Headers {
		m.Headers[k] = v
	}
	if only := m.Headers[HeaderChannel]; only != "" {
		m.Headers[HeaderOnly] = only
	}
	for _, k := range []string{HeaderChannel, HeaderOffset, HeaderAttempts, HeaderReason} {
		delete(m.Headers, k)
	}
	return m
}

// subscriptions are the readers of this node, by name.
type subscriptions struct {
	mu       sync.Mutex
	byReader map[string]*subscription
}

// settling gives what takes messages out of what the node says that its reader holds, once they are settled.
func (s *subscriptions) settling(m *pb.AckRequest) (done func()) {
	s.mu.Lock()
	x := s.byReader[m.Reader]
	s.mu.Unlock()
	if x == nil {
		return func() {}
	}
	return x.settling(m)
}
