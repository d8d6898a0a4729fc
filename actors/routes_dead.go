package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// countDead notes how many dead letters a route has. A list whose owner does not answer counts as none.
func (r *Registry) countDead(ctx context.Context, m *pb.Route) {
	list := topic.DeadOfRoute(m.Id)
	if _, ok, err := r.store.Get(topic.TableTopics, list); err != nil || !ok {
		return
	}
	m.Counts.DeadLetters = list
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if s, err := r.e.streams.State(ctx, list); err == nil {
		m.Counts.Dead = s.Messages
	}
}

// ReplayRoute takes dead letters of a route through it again, the oldest first; limit 0: all that are there now. What fails again is
// behind the others, with the new reason.
func (r *Registry) ReplayRoute(ctx context.Context, id string, limit int) (*pb.ReplayRouteResponse, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := get(r.store, tableRoutes, id, &pb.Route{})
	if err != nil {
		return nil, err
	}
	x := &route{Route: m}
	x.when, x.broken = compileRoute(m.When)
	out := &pb.ReplayRouteResponse{}
	list := topic.DeadOfRoute(id)
	_, err = r.e.streams.Replay(ctx, list, limit, func(letter *pb.TopicMessage) error { return r.replayLetter(ctx, x, list, letter, out) })
	if err != nil {
		return nil, fmt.Errorf("dead letters of route %s: %d went: %w", id, out.Published+out.PassedOver+out.Failed, err)
	}
	return out, nil
}

// replayLetter does with one letter what the route does with what it is told.
func (r *Registry) replayLetter(ctx context.Context, x *route, list string, m *pb.TopicMessage, out *pb.ReplayRouteResponse) error {
	to := m.Headers[topic.HeaderTopic]
	delete(m.Headers, topic.HeaderTopic)
	yes, err := r.retold(x, m)
	switch {
	case err == nil && !yes:
		out.PassedOver++
		return nil
	case err == nil && strings.HasPrefix(to, runTopic):
		if err = r.rejudge(ctx, x, m); err == nil {
			out.Published++
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	case err == nil:
		if _, err = r.e.streams.Publish(ctx, &pb.PublishRequest{Topic: to, Messages: []*pb.TopicMessage{m}}); err == nil {
			out.Published++
			return nil
		}
		if !unpublishable(err) {
			return err
		}
	}
	if err := r.e.streams.BuryIn(ctx, list, to, m, err.Error()); err != nil {
		return err
	}
	out.Failed++
	return nil
}

// retold says whether a route's condition holds for a message that it gave up.
func (r *Registry) retold(x *route, m *pb.TopicMessage) (bool, error) {
	var said struct {
		Twin, Kind, Name string
		Value            json.RawMessage
		Time             time.Time
	}
	if err := json.Unmarshal(m.Payload, &said); err != nil {
		return false, fmt.Errorf("message: %w", err)
	}
	v, err := state.ParseValue(said.Value)
	if err != nil {
		return false, fmt.Errorf("value: %w", err)
	}
	t, err := get(r.store, tableTwins, said.Twin, &pb.Twin{})
	if errors.Is(err, ErrNotFound) {
		t, err = &pb.Twin{Id: said.Twin}, nil
	}
	if err != nil {
		return false, err
	}
	st, since := r.e.stored(said.Twin)
	sight := r.e.sight(t, st, since)
	return x.holds(&expr.Input{Now: r.e.now(), Twin: &sight,
		Change: &expr.Change{Kind: said.Kind, Name: said.Name, Value: v, Time: said.Time.UnixMilli()}})
}

// unpublishable says whether a message cannot be published, now or later, as things are.
func unpublishable(err error) bool {
	return errors.Is(err, topic.ErrNotFound) || errors.Is(err, topic.ErrDeleting) || errors.Is(err, topic.ErrTooLarge)
}
