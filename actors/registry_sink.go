package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/actors/topic"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxSinks of a project. Each has a goroutine, and a batch in memory.
const maxSinks = 50

// CreateSink creates a sink. Its topic must be there.
func (r *Registry) CreateSink(ctx context.Context, m *pb.Sink) (*pb.Sink, error) {
	return r.putSink(ctx, m, &pb.Sink{})
}

// UpdateSink replaces a sink of the revision given. A secret that is not given stays, as long as the sink goes to the same host, unless it is to be removed.
func (r *Registry) UpdateSink(ctx context.Context, m *pb.Sink, removeSecret bool) (*pb.Sink, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	old, err := get(r.store, sink.TableSinks, id, &pb.Sink{})
	if err != nil {
		return nil, err
	}
	if m.Revision == 0 {
		return nil, invalid("/sink/revision", "is missing: read the sink first")
	}
	if removeSecret {
		if err := dropSecret(m, &old.Secret); err != nil {
			return nil, err
		}
	}
	return r.putSink(ctx, m, old)
}

func (r *Registry) putSink(ctx context.Context, m, old *pb.Sink) (*pb.Sink, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Sink)
	m.Id, m.State, m.HasSecret = id, nil, false
	if old.Id == "" {
		m.Revision = 0
	}
	if m, err = r.wholeSink(m); err != nil {
		return nil, err
	}
	if err := r.keepSecret(ctx, "sink", m, &m.Secret, old, sink.SameHost(old.GetUrl(), m.GetUrl())); err != nil {
		return nil, err
	}
	m, err = put(ctx, r, "sink", sink.TableSinks, id, m, func() ([]storage.Guard, []storage.Write, error) { return r.sinkBegins(m) })
	if err != nil {
		return nil, err
	}
	return shownSink(m), nil
}

// wholeSink checks a sink, and completes the ids in it.
func (r *Registry) wholeSink(m *pb.Sink) (*pb.Sink, error) {
	project := ProjectOf(m.Id)
	if !strings.Contains(m.Topic, "/") {
		m.Topic = project + "/" + m.Topic
	}
	t, err := CanonicalID(m.Topic)
	if err != nil {
		return nil, invalid("/sink/topic", "%q is no id", m.Topic)
	}
	if ProjectOf(t) != project {
		return nil, invalid("/sink/topic", "%s is in another project", t)
	}
	m.Topic = t
	if _, ok, err := r.store.Get(topic.TableTopics, t); err != nil || !ok {
		return nil, invalid("/sink/topic", "there is no topic %s", t)
	}
	var bad *sink.InvalidError
	if err := sink.Check(m.Url); errors.As(err, &bad) {
		return nil, invalid("/sink/url", "%s", bad.Reason)
	} else if err != nil {
		return nil, err
	}
	if _, there, err := r.store.Get(sink.TableSinks, m.Id); err != nil || there {
		return m, err
	}
	if n, err := r.store.Count(sink.TableSinks, project+"/"); err == nil && n >= maxSinks {
		return nil, invalid("/sink/id", "project %s has %d sinks, which are as many as may be", project, n)
	}
	return m, nil
}

// sinkBegins has a sink that is new, or given another topic, begin there in the transaction of its record: what is published when that is answered
// comes, however long it takes until the sink runs. A new one that begins with the oldest message finds that itself.
func (r *Registry) sinkBegins(m *pb.Sink) ([]storage.Guard, []storage.Write, error) {
	if m.Revision == 0 && m.Oldest {
		return nil, nil, nil
	}
	if m.Revision > 0 {
		old, err := get(r.store, sink.TableSinks, m.Id, &pb.Sink{})
		if err != nil || old.Topic == m.Topic {
			return nil, nil, err
		}
	}
	rec, _, err := r.store.Get(sink.TableCursors, m.Id)
	if err != nil {
		return nil, nil, fmt.Errorf("state of sink %s: %w", m.Id, err)
	}
	at, tail := &pb.SinkState{}, &actorv1.TopicRecord{First: 1, Next: 1}
	t, ok, err := r.store.Get(topic.TableTails, m.Topic)
	if err == nil && ok {
		err = proto.Unmarshal(t.Value, tail)
	}
	if err == nil {
		err = proto.Unmarshal(rec.Value, at)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("begin of sink %s: %w", m.Id, err)
	}
	at.Topic, at.Begun, at.Position, at.Until = m.Topic, uint64(time.Now().UnixNano()), tail.Next, 0
	if m.Oldest {
		at.Position = tail.First
	}
	value, err := proto.Marshal(at)
	return []storage.Guard{{Table: sink.TableCursors, Key: m.Id, Revision: rec.Revision}},
		[]storage.Write{{Table: sink.TableCursors, Key: m.Id, Value: value, Quiet: true}}, err
}

// shownSink is a sink without its secret.
func shownSink(m *pb.Sink) *pb.Sink {
	m.HasSecret = m.Secret != ""
	m.Secret = ""
	return m
}

// Sink gives a sink with how far it is.
func (r *Registry) Sink(ctx context.Context, id string) (*pb.Sink, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := get(r.store, sink.TableSinks, id, &pb.Sink{})
	if err != nil {
		return nil, err
	}
	if err := r.stateOfSink(m); err != nil {
		return nil, err
	}
	if s, err := r.e.streams.State(ctx, m.Topic); err == nil && m.State.Position > 0 && (m.State.Topic == m.Topic || m.State.Topic == "") {
		m.State.Lag = s.NextOffset - min(s.NextOffset, m.State.Position)
	}
	return shownSink(m), nil
}

func (r *Registry) stateOfSink(m *pb.Sink) error {
	m.State = &pb.SinkState{}
	rec, ok, err := r.store.Get(sink.TableCursors, m.Id)
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, m.State)
	}
	if err != nil {
		return fmt.Errorf("state of sink %s: %w", m.Id, err)
	}
	return nil
}

// ListSinks gives a page of sinks by id, with how far they are, but for what their topics have beyond.
func (r *Registry) ListSinks(req *pb.ListSinksRequest, projects func(string) bool) (*pb.ListSinksResponse, error) {
	page, next, err := list(r.store, sink.TableSinks, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Sink { return &pb.Sink{} })
	for _, m := range page {
		if err == nil {
			err = r.stateOfSink(m)
		}
		shownSink(m)
	}
	return &pb.ListSinksResponse{Sinks: page, NextPageToken: next}, err
}

// DeleteSink deletes a sink and its position. What it has delivered stays where it is.
func (r *Registry) DeleteSink(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	old, err := get(r.store, sink.TableSinks, id, &pb.Sink{})
	if err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: sink.TableSinks, Key: id, Revision: old.Revision}},
		Writes: []storage.Write{{Table: sink.TableSinks, Key: id}, {Table: sink.TableCursors, Key: id, Quiet: true}}}); err != nil {
		return fmt.Errorf("delete sink %s: %w", id, err)
	}
	return nil
}

// secretAt opens what is sealed at a place; nothing is nothing.
func (e *Engine) secretAt(place, sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	v, err := e.sealer.open(place, sealed)
	if err != nil {
		return "", err
	}
	text, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("secret %s: %w", place, errSealed)
	}
	return text, nil
}
