package notify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// outboxSuffix ends the names of topics that are outboxes.
	outboxSuffix = ".outbox"
	// MaxName of a notifier, so that its outbox's name is a topic's.
	MaxName = 100
	// defaultKeep is how many messages an outbox keeps that does not say.
	defaultKeep = 10_000
	// defaultGiveUp is after how long a message is given up.
	defaultGiveUp = 24 * time.Hour
	// kept is how long an outbox shows what became of a message.
	kept = 7 * 24 * time.Hour
)

// OutboxOf gives the topic that is a notifier's outbox.
func OutboxOf(id string) string { return id + outboxSuffix }

// IsOutbox says whether a topic is an outbox by its name.
func IsOutbox(topic string) bool { return strings.HasSuffix(topic, outboxSuffix) }

// Outbox is the configuration of a notifier's outbox.
func Outbox(m *pb.Notifier) *pb.Topic {
	return &pb.Topic{Id: OutboxOf(m.Id), Title: "Outbox of " + m.Id, MaxMessages: uint64(keep(m)), MaxAge: durationpb.New(giveUp(m) + kept)}
}

func keep(m *pb.Notifier) uint32 {
	if m.Keep == 0 {
		return defaultKeep
	}
	return m.Keep
}

func giveUp(m *pb.Notifier) time.Duration {
	if m.GiveUp == nil {
		return defaultGiveUp
	}
	return m.GiveUp.AsDuration()
}

func outcomeKey(id string, offset uint64) string { return fmt.Sprintf("%s\x00%016x", id, offset) }

// Send commits a message into its notifier's outbox, and returns then. A message of the same id is stored once, as long as the first
// one is among the last 10,000. The caller keeps m.
func (h *Host) Send(ctx context.Context, m *pb.Notification) (offset uint64, err error) {
	if _, ok, err := h.o.Store.Get(TableNotifiers, m.Notifier); err != nil || !ok {
		return 0, errors.Join(fmt.Errorf("notifier %s: %w", m.Notifier, ErrNotFound), err)
	}
	m = proto.Clone(m).(*pb.Notification)
	m.Outcome = nil
	if m.Time == nil {
		m.Time = timestamppb.New(h.o.Now())
	}
	if m.Id == "" {
		m.Id = newID()
	}
	payload, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return 0, fmt.Errorf("notification: %w", err)
	}
	res, err := h.o.Topics.Publish(ctx, &pb.PublishRequest{Topic: OutboxOf(m.Notifier), Messages: []*pb.TopicMessage{{Payload: payload,
		ContentType: "application/json", Id: m.Id, Time: m.Time}}})
	if err != nil {
		return 0, fmt.Errorf("outbox of notifier %s: %w", m.Notifier, err)
	}
	h.queued.Add(1 - int(res.Duplicates))
	return res.Offsets[0], nil
}

func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// read gives the message of an outbox. One that somebody else published may leave out all but subject and body.
func read(notifier string, m *pb.TopicMessage) (*pb.Notification, error) {
	n := &pb.Notification{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(m.Payload, n); err != nil {
		return &pb.Notification{Notifier: notifier, Id: m.Id, Time: m.PublishTime}, fmt.Errorf("it is no notification: %w", err)
	}
	n.Notifier, n.Id, n.Outcome = notifier, m.Id, nil
	if n.Time == nil {
		if n.Time = m.Time; n.Time == nil {
			n.Time = m.PublishTime
		}
	}
	return n, nil
}

// State gives how far a notifier is, as this node has it.
func (h *Host) State(id string) (*pb.NotifierState, error) {
	s := &pb.NotifierState{}
	rec, ok, err := h.o.Store.Get(TableStates, id)
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, s)
	}
	if err != nil {
		return nil, fmt.Errorf("state of notifier %s: %w", id, err)
	}
	return s, nil
}

// Queued gives how many messages wait in a notifier's outbox.
func (h *Host) Queued(ctx context.Context, id string) (uint64, error) {
	s, err := h.State(id)
	if err != nil {
		return 0, err
	}
	t, err := h.o.Topics.State(ctx, OutboxOf(id))
	if err != nil {
		return 0, err
	}
	return t.NextOffset - min(t.NextOffset, max(s.Position, t.FirstOffset)), nil
}

// listRooms bounds the pages of the topic that one page of a list looks at, where it leaves messages out.
const listRooms = 20

// List gives a page of an outbox, the newest message first.
func (h *Host) List(ctx context.Context, req *pb.ListNotificationsRequest) (*pb.ListNotificationsResponse, error) {
	id, size := req.Notifier, uint64(req.PageSize)
	if size == 0 {
		size = 100
	}
	t, err := h.o.Topics.State(ctx, OutboxOf(id))
	if errors.Is(err, topic.ErrNotFound) {
		return nil, fmt.Errorf("notifier %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	end := t.NextOffset
	if req.PageToken != "" {
		if end, err = strconv.ParseUint(req.PageToken, 10, 64); err != nil {
			return nil, fmt.Errorf("page token %q: %w", req.PageToken, err)
		}
	}
	out := &pb.ListNotificationsResponse{}
	for n := 0; n < listRooms && end > t.FirstOffset && uint64(len(out.Notifications)) < size; n++ {
		from := max(t.FirstOffset, end-min(end, size))
		all, err := h.span(ctx, id, from, end)
		if err != nil {
			return nil, err
		}
		end = from
		for _, m := range slices.Backward(all) {
			if req.State != 0 && m.Outcome.State != req.State {
				continue
			}
			if uint64(len(out.Notifications)) == size {
				end = m.Outcome.Offset + 1
				break
			}
			out.Notifications = append(out.Notifications, m)
		}
	}
	if end > t.FirstOffset {
		out.NextPageToken = strconv.FormatUint(end, 10)
	}
	return out, nil
}

// span gives the messages from an offset to before another one, with what became of them.
func (h *Host) span(ctx context.Context, id string, from, end uint64) (all []*pb.Notification, err error) {
	for at := from; at < end; {
		p, err := h.o.Topics.Read(ctx, OutboxOf(id), at, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, m := range p.Messages {
			if m.Offset >= end {
				return all, nil
			}
			n, bad := read(id, m)
			if n.Outcome, err = h.outcome(id, m.Offset); err != nil {
				return nil, err
			}
			if n.Outcome.State == 0 {
				n.Outcome.State = pb.NotificationState_NOTIFICATION_STATE_QUEUED
			}
			if bad != nil && n.Outcome.Error == "" {
				n.Outcome.Error = bad.Error()
			}
			all = append(all, n)
		}
		if p.Offset <= at {
			break
		}
		at = p.Offset
	}
	return all, nil
}

// outcome reads what became of a message; one that was not tried has no state.
func (h *Host) outcome(id string, offset uint64) (*pb.NotificationOutcome, error) {
	o := &pb.NotificationOutcome{}
	rec, ok, err := h.o.Store.Get(TableOutcomes, outcomeKey(id, offset))
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, o)
	}
	if err != nil {
		return nil, fmt.Errorf("outcome of message %d of notifier %s: %w", offset, id, err)
	}
	o.Offset = offset
	return o, nil
}

// Forget deletes what is stored of a notifier beside its record, of messages before an offset: one that is made anew under the id goes on there. It
// does so in steps, and can be called again.
func (h *Host) Forget(ctx context.Context, id string, before uint64) error {
	for {
		var w []storage.Write
		for rec, err := range h.o.Store.Scan(TableOutcomes, id+"\x00", "") {
			if err != nil {
				return fmt.Errorf("outcomes of notifier %s: %w", id, err)
			}
			if rec.Key >= outcomeKey(id, before) {
				break
			}
			if w = append(w, storage.Write{Table: TableOutcomes, Key: rec.Key, Quiet: true}); len(w) == 1000 {
				break
			}
		}
		if len(w) == 0 {
			return nil
		}
		if _, err := h.o.Store.Commit(ctx, &storage.Txn{Writes: w}); err != nil {
			return fmt.Errorf("outcomes of notifier %s: %w", id, err)
		}
	}
}
