package actors

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxInflows of a project. Each has a goroutine and connections.
const maxInflows = 50

// CreateSource creates a source.
func (r *Registry) CreateSource(ctx context.Context, m *pb.Source) (*pb.Source, error) {
	return r.putSource(ctx, m, &pb.Source{})
}

// UpdateSource replaces a source of the revision given. A secret that is not given stays, as long as the source reads from the same hosts, unless it is
// to be removed.
func (r *Registry) UpdateSource(ctx context.Context, m *pb.Source, removeSecret bool) (*pb.Source, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	old, err := get(r.store, inflow.TableSources, id, &pb.Source{})
	if err != nil {
		return nil, err
	}
	if m.Revision == 0 {
		return nil, invalid("/source/revision", "is missing: read the source first")
	}
	if removeSecret {
		if err := dropSecret(m, &old.Secret); err != nil {
			return nil, err
		}
	}
	return r.putSource(ctx, m, old)
}

func (r *Registry) putSource(ctx context.Context, m, old *pb.Source) (*pb.Source, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Source)
	m.Id, m.State, m.HasSecret = id, nil, false
	if old.Id == "" {
		m.Revision = 0
	}
	if m, err = r.wholeSource(m); err != nil {
		return nil, err
	}
	if err := r.keepSecret(ctx, "source", m, &m.Secret, old, sink.SameHost(old.GetUrl(), m.GetUrl())); err != nil {
		return nil, err
	}
	m, err = put(ctx, r, "source", inflow.TableSources, id, m, func() ([]storage.Guard, []storage.Write, error) { return r.sourceRefs(m) })
	if err != nil {
		return nil, err
	}
	return shownSource(m), nil
}

// sourceRefs gives a new source the record of its state, which is there as long as the source.
func (r *Registry) sourceRefs(m *pb.Source) ([]storage.Guard, []storage.Write, error) {
	if m.Revision != 0 {
		return nil, nil, nil
	}
	return nil, []storage.Write{{Table: inflow.TableStates, Key: m.Id, Value: []byte{}, Quiet: true}}, nil
}

// wholeSource checks a source.
func (r *Registry) wholeSource(m *pb.Source) (*pb.Source, error) {
	if err := inflow.Check(m.Url); err != nil {
		return nil, invalid("/source/url", "%s", err)
	}
	if _, there, err := r.store.Get(inflow.TableSources, m.Id); err != nil || there {
		return m, err
	}
	if n, err := r.store.Count(inflow.TableSources, ProjectOf(m.Id)+"/"); err == nil && n >= maxInflows {
		return nil, invalid("/source/id", "project %s has %d sources, which are as many as may be", ProjectOf(m.Id), n)
	}
	return m, nil
}

// shownSource is a source without its secret.
func shownSource(m *pb.Source) *pb.Source {
	m.HasSecret = m.Secret != ""
	m.Secret = ""
	return m
}

// Source gives a source with how it does.
func (r *Registry) Source(id string) (*pb.Source, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := get(r.store, inflow.TableSources, id, &pb.Source{})
	if err != nil {
		return nil, err
	}
	return shownSource(m), r.stateOfSource(m)
}

func (r *Registry) stateOfSource(m *pb.Source) error {
	m.State = &pb.SourceState{}
	rec, ok, err := r.store.Get(inflow.TableStates, m.Id)
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, m.State)
	}
	if err != nil {
		return fmt.Errorf("state of source %s: %w", m.Id, err)
	}
	return nil
}

// ListSources gives a page of sources by id, with how they do.
func (r *Registry) ListSources(req *pb.ListSourcesRequest, projects func(string) bool) (*pb.ListSourcesResponse, error) {
	page, next, err := list(r.store, inflow.TableSources, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Source { return &pb.Source{} })
	for _, m := range page {
		if err == nil {
			err = r.stateOfSource(m)
		}
		shownSource(m)
	}
	return &pb.ListSourcesResponse{Sources: page, NextPageToken: next}, err
}

// DeleteSource deletes a source. Its group's position stays in Kafka.
func (r *Registry) DeleteSource(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	old, err := get(r.store, inflow.TableSources, id, &pb.Source{})
	if err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: inflow.TableSources, Key: id, Revision: old.Revision}},
		Writes: []storage.Write{{Table: inflow.TableSources, Key: id}, {Table: inflow.TableStates, Key: id, Quiet: true}}}); err != nil {
		return fmt.Errorf("delete source %s: %w", id, err)
	}
	return nil
}

// fetched takes in what a source read.
func (e *Engine) fetched(m *inflow.Message, done func(error)) {
	e.Ingest(&Ingest{Door: "kafka", Project: m.Project, Twin: m.Twin, Alias: m.Alias, Payload: m.Payload, Time: m.Time, ID: m.ID, Commit: true},
		func(r IngestResult) { done(r.Err) })
}
