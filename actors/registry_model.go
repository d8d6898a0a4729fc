package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/polluxhq/pollux/actors/model"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// checkModel reads a model as it shall be: its Thing Model must be one.
func (r *Registry) checkModel(m *pb.Model) (*pb.Model, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Model)
	m.Id, m.Title, m.Description, m.Twins = id, "", "", 0
	text, err := model.FromDescription([]byte(m.ThingJson))
	if err == nil {
		err = model.Check(text)
	}
	if err != nil {
		return nil, modelError(err)
	}
	m.ThingJson = string(text)
	return m, r.e.derivations.checkModel(m)
}

// modelError leads to the place in the request.
func modelError(err error) error {
	var e *model.Error
	if errors.As(err, &e) {
		return &InvalidError{Path: "/thing_json" + e.Path, Reason: e.Reason}
	}
	return err
}

// presentModel fills in what callers see besides the record.
func presentModel(m *pb.Model) *pb.Model {
	var thing struct{ Title, Description string }
	if json.Unmarshal([]byte(m.ThingJson), &thing) == nil {
		m.Title, m.Description = thing.Title, thing.Description
	}
	return m
}

// CreateModel commits a new model. Errors: ErrInvalid with the path, ErrExists.
func (r *Registry) CreateModel(ctx context.Context, m *pb.Model) (*pb.Model, error) {
	m, err := r.checkModel(m)
	if err != nil {
		return nil, err
	}
	m.Revision = 0
	m.CreateTime = r.e.timestamp()
	m.UpdateTime = m.CreateTime
	made, err := put(ctx, r, "model", tableThings, m.Id, m, func() ([]storage.Guard, []storage.Write, error) {
		// Whoever deletes a former one holds it: the hold ends with it.
		return []storage.Guard{{Table: tableHolds, Key: holdKey("model", m.Id)}}, nil, nil
	})
	if err != nil {
		return nil, err
	}
	return r.countedModel(made)
}

// GetModel gives a model with the number of its twins.
func (r *Registry) GetModel(id string) (*pb.Model, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := get(r.store, tableThings, id, &pb.Model{})
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", id, errOr(err, ErrNotFound))
	}
	return r.countedModel(m)
}

// errOr gives what a caller branches on where err is that, without the table's name in its text; else err.
func errOr(err, known error) error {
	if errors.Is(err, known) {
		return known
	}
	return err
}

func (r *Registry) countedModel(m *pb.Model) (*pb.Model, error) {
	n, err := r.store.Count(tableUses, usePrefix("model", m.Id))
	if err != nil {
		return nil, fmt.Errorf("count the twins of model %s: %w", m.Id, err)
	}
	m.Twins = uint64(n)
	return presentModel(m), nil
}

// ListModels gives a page of models by id.
func (r *Registry) ListModels(req *pb.ListModelsRequest, projects func(string) bool) (*pb.ListModelsResponse, error) {
	page, next, err := list(r.store, tableThings, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Model { return &pb.Model{} })
	if err != nil {
		return nil, err
	}
	for _, m := range page {
		if _, err := r.countedModel(m); err != nil {
			return nil, err
		}
	}
	return &pb.ListModelsResponse{Models: page, NextPageToken: next}, nil
}

// UpdateModel replaces a Thing Model; its twins go over to it, and keep what they know. m.Revision is the one that the caller
// read, else ErrRevision.
func (r *Registry) UpdateModel(ctx context.Context, m *pb.Model) (*pb.Model, error) {
	m, err := r.checkModel(m)
	if err != nil {
		return nil, err
	}
	if m.Revision == 0 {
		return nil, invalid("/model/revision", "the revision that was read is needed")
	}
	old, err := r.GetModel(m.Id)
	if err != nil {
		return nil, err
	}
	m.CreateTime, m.UpdateTime = old.CreateTime, r.e.timestamp()
	made, err := put(ctx, r, "model", tableThings, m.Id, m, func() ([]storage.Guard, []storage.Write, error) { return nil, nil, nil })
	if err != nil {
		return nil, err
	}
	return r.countedModel(made)
}

// DeleteModel deletes a model that no twin has. revision 0: whatever it is now.
func (r *Registry) DeleteModel(ctx context.Context, id string, revision uint64) error {
	m, err := r.GetModel(id)
	if err != nil {
		return err
	}
	if revision != 0 && revision != m.Revision {
		return fmt.Errorf("delete model %s: %w", m.Id, ErrRevision)
	}
	return r.deleteUnused(ctx, "model", tableThings, m.Id, func() ([]string, error) { return r.users("model", m.Id) }, nil)
}

// checkKind sees that a twin has a driver or a model, and keeps what it has.
func checkKind(t, old *pb.Twin) error {
	switch {
	case t.Driver == "" && t.Model == "":
		return invalid("/driver", "a driver is needed, or a model")
	case t.Driver != "" && t.Model != "":
		return invalid("/model", "a twin has a driver or a model, and not both")
	case old != nil && (old.Model == "") != (t.Model == ""):
		return invalid("/model", "a twin goes over to another driver or to another model, but not from the one to the other: delete it, and create it anew")
	case t.Model == "":
		return nil
	}
	id, err := CanonicalID(t.Model)
	if err != nil {
		return invalid("/model", "%q is no id", t.Model)
	}
	if ProjectOf(id) != ProjectOf(t.Id) {
		return invalid("/model", "%s is in another project", id)
	}
	t.Model = id
	return nil
}

// noSpec words that what a twin is of is not there.
func noSpec(t *pb.Twin, err error) error {
	switch {
	case !errors.Is(err, ErrNotFound):
		return err
	case t.Model != "":
		return invalid("/model", "there is no model %q", t.Model)
	}
	return invalid("/driver", "there is no driver %q", t.Driver)
}
