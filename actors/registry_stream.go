package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// PutTopic creates a topic (revision 0), or replaces what is configured of the one of the revision given.
func (r *Registry) PutTopic(ctx context.Context, t *pb.Topic) (*pb.Topic, error) {
	id, err := CanonicalID(t.GetId())
	if err != nil {
		return nil, err
	}
	t = proto.Clone(t).(*pb.Topic)
	t.Id, t.State, t.Deleting = id, nil, false
	return put(ctx, r, "topic", topic.TableTopics, id, t, func() ([]storage.Guard, []storage.Write, error) {
		_, err := r.wholeTopic(t)
		return nil, nil, err
	})
}

// wholeTopic refuses a topic that is being deleted, and one whose dead letters would be a route's.
func (r *Registry) wholeTopic(t *pb.Topic) (*pb.Topic, error) {
	if topic.Reserved(t.Id) {
		return nil, invalid("/topic/id", "%s: names that begin with route. are for the dead letters of routes", NameOf(t.Id))
	}
	if old, err := get(r.store, topic.TableTopics, t.Id, &pb.Topic{}); err == nil && old.Deleting {
		return nil, topic.ErrDeleting
	}
	if notify.IsOutbox(t.Id) {
		return nil, invalid("/topic/id", "what ends in .outbox is the outbox of a notifier: change that")
	}
	return t, nil
}

// Topic gives what is configured of a topic.
func (r *Registry) Topic(id string) (*pb.Topic, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, topic.TableTopics, id, &pb.Topic{})
}

// ListTopics gives a page of topics by id, without what they hold.
func (r *Registry) ListTopics(req *pb.ListTopicsRequest, projects func(string) bool) (*pb.ListTopicsResponse, error) {
	page, next, err := list(r.store, topic.TableTopics, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Topic { return &pb.Topic{} })
	return &pb.ListTopicsResponse{Topics: page, NextPageToken: next}, err
}

// DeleteTopic deletes a topic with all that it holds. From its first commit on nothing is published to it; where it is
// interrupted it goes on when it is called again.
func (r *Registry) DeleteTopic(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	if name, ok := strings.CutSuffix(id, notify.OutboxOf("")); ok {
		if _, there, err := r.store.Get(notify.TableNotifiers, name); err != nil || there {
			return errors.Join(invalid("/id", "it is the outbox of notifier %s: delete that", name), err)
		}
	}
	return r.deleteTopic(ctx, id)
}

func (r *Registry) deleteTopic(ctx context.Context, id string) error {
	t, err := get(r.store, topic.TableTopics, id, &pb.Topic{})
	if err != nil {
		return err
	}
	if !t.Deleting {
		t.Deleting = true
		t, err = put(ctx, r, "topic", topic.TableTopics, id, t, func() ([]storage.Guard, []storage.Write, error) { return nil, nil, nil })
		if err != nil {
			return err
		}
	}
	if err := r.e.streams.Drop(ctx, id, t.Revision); err != nil && !errors.Is(err, topic.ErrNotFound) {
		return fmt.Errorf("delete topic %s: %w", id, err)
	}
	return nil
}
