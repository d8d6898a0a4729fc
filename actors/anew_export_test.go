package actors

import (
	"context"
	"time"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// SayTo has a twin be told a property of another, which it subscribed to by that name, or which it computes one of (name is ""), as that
// twin would. It gives the answer.
func (e *Engine) SayTo(subscriber, source, name, property, value string) error {
	system := ""
	if name == "" {
		name, system = source, derivedSystem
	}
	n := &actorv1.Notice{Sequence: 1, Name: name, System: system, Property: property, Value: value, Quality: pb.Quality_QUALITY_GOOD, Time: 1}
	answer := make(chan error, 1)
	e.cluster.Call(&cluster.Envelope{ID: newCallID(), Target: cluster.Target{Kind: "twin", ID: subscriber}, Deadline: time.Now().Add(askTimeout),
		Principal: principalOf(source), Message: &actorv1.Notices{Twin: source, Stream: 1, Notices: []*actorv1.Notice{n}}},
		func(a cluster.Reply) { answer <- a.Err })
	return <-answer
}

// LoseSource has a twin that computes a property hear late that one of those that it computes it of was deleted.
func (e *Engine) LoseSource(subscriber, source, property string) {
	e.lose(follow{subscriber: subscriber, system: derivedSystem, name: source, property: property})
}

// DeleteZoneWhile deletes a zone, and has something happen between the two steps of that.
func (r *Registry) DeleteZoneWhile(ctx context.Context, id string, meanwhile func()) error {
	return r.deleteUnused(ctx, "zone", tableZones, id, func() ([]string, error) {
		meanwhile()
		return nil, nil
	}, nil)
}
