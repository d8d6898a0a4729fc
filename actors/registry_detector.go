package actors

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/analytics"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// CreateDetector creates a detector.
func (r *Registry) CreateDetector(ctx context.Context, m *pb.Detector) (*pb.Detector, error) {
	m = proto.Clone(m).(*pb.Detector)
	m.Revision = 0
	return r.putDetector(ctx, m)
}

// UpdateDetector replaces a detector of the revision given.
func (r *Registry) UpdateDetector(ctx context.Context, m *pb.Detector) (*pb.Detector, error) {
	if m.GetRevision() == 0 {
		return nil, invalid("/detector/revision", "is missing: read the detector first")
	}
	if _, err := r.Detector(m.Id); err != nil {
		return nil, err
	}
	return r.putDetector(ctx, m)
}

func (r *Registry) putDetector(ctx context.Context, m *pb.Detector) (*pb.Detector, error) {
	m, err := r.CheckDetector(m)
	if err != nil {
		return nil, err
	}
	m, err = put(ctx, r, "detector", tableDetectors, m.Id, m, func() ([]storage.Guard, []storage.Write, error) { return nil, nil, nil })
	if err == nil {
		r.e.detectorsLost()
	}
	return m, err
}

// detectorsLost reads all detectors anew.
func (e *Engine) detectorsLost() {
	if err := e.detectors.load(); err != nil {
		e.log.Error("detectors", "err", err)
	}
}

// CheckDetector completes the ids of a detector, and says what is wrong with it.
func (r *Registry) CheckDetector(m *pb.Detector) (*pb.Detector, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Detector)
	m.Id = id
	return r.wholeDetector(m)
}

// wholeDetector completes and checks a detector whose id is complete.
func (r *Registry) wholeDetector(m *pb.Detector) (*pb.Detector, error) {
	if err := completeSelection(ProjectOf(m.Id), "/detector/of", m.Of); err != nil {
		return nil, err
	}
	if m.Property == "" {
		return nil, invalid("/detector/property", "is missing: which property is to be judged?")
	}
	if m.Logic != "" {
		if err := r.logicThere(ProjectOf(m.Id), "/detector/logic", &m.Logic); err != nil {
			return nil, err
		}
	}
	if _, err := compileDetector(m); err != nil {
		return nil, detectorError(err)
	}
	m.CreateTime = r.e.timestamp()
	if old, err := r.Detector(m.Id); err == nil {
		m.CreateTime = old.CreateTime
	}
	if n, err := r.store.Count(tableDetectors, ProjectOf(m.Id)+"/"); err == nil && m.Revision == 0 && n >= maxDetectors {
		if _, there, err := r.store.Get(tableDetectors, m.Id); err == nil && !there {
			return nil, invalid("/detector/id", "project %s has %d detectors, which are as many as may be", ProjectOf(m.Id), n)
		}
	}
	return m, nil
}

// detectorError says which field it is.
func detectorError(err error) error {
	var f *analytics.FieldError
	if errors.As(err, &f) {
		return &InvalidError{Path: "/detector/" + f.Field, Reason: f.Reason}
	}
	return err
}

// Detector gives a detector.
func (r *Registry) Detector(id string) (*pb.Detector, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, tableDetectors, id, &pb.Detector{})
}

// ListDetectors gives a page of detectors by id.
func (r *Registry) ListDetectors(req *pb.ListDetectorsRequest, projects func(string) bool) (*pb.ListDetectorsResponse, error) {
	page, next, err := list(r.store, tableDetectors, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Detector { return &pb.Detector{} })
	return &pb.ListDetectorsResponse{Detectors: page, NextPageToken: next}, err
}

// DeleteDetector deletes a detector. Twins forget what they have learned for it soon after.
func (r *Registry) DeleteDetector(ctx context.Context, id string) error {
	old, err := r.Detector(id)
	if err != nil {
		return err
	}
	defer r.e.detectorsLost()
	_, err = r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: tableDetectors, Key: old.Id, Revision: old.Revision}},
		Writes: []storage.Write{{Table: tableDetectors, Key: old.Id}}})
	return deleteError("detector", old.Id, err)
}
