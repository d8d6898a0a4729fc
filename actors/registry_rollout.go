package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ErrNotNow: the record's present state does not allow it.
var ErrNotNow = errors.New("not possible now")

const (
	defaultSoak        = 5 * time.Minute
	defaultMinTraps    = 3
	defaultMinFailures = 5
	defaultFactor      = 2
)

// StartRollout begins to bring a version to a part of the twins that ask for its driver without a version, or has the
// rollout of that version go on. It returns when that is committed; every node then moves its twins at their next
// message boundary.
func (r *Registry) StartRollout(ctx context.Context, req *pb.StartRolloutRequest, by string) (*pb.Rollout, error) {
	steps, err := rolloutSteps(req)
	if err != nil {
		return nil, err
	}
	rel, err := r.changeRelease(ctx, req.Driver, func(rel *pb.Release) ([]storage.Guard, error) {
		version, guards, err := r.versionToRoll(req.Driver, req.Version)
		if err != nil {
			return nil, err
		}
		o := active(rel)
		switch {
		case o != nil && o.Version != version:
			return nil, fmt.Errorf("%s is being rolled out; let that end, or roll it back: %w", o.Version, ErrNotNow)
		case o != nil:
		case rel.Version == version:
			return nil, fmt.Errorf("the twins that ask for no version have %s already; push another version with --stage first: %w",
				version, ErrNotNow)
		default:
			o = &pb.Rollout{Driver: req.Driver, Version: version, FromVersion: rel.Version, By: by, CreateTime: r.e.timestamp()}
			addRollout(rel, o)
		}
		return guards, r.begin(o, req, steps)
	})
	if err != nil {
		return nil, fmt.Errorf("roll out driver %s: %w", req.Driver, err)
	}
	return r.GetRollout(req.Driver, rel.Rollouts[len(rel.Rollouts)-1].Number)
}

// begin sets a rollout to its first step.
func (r *Registry) begin(o *pb.Rollout, req *pb.StartRolloutRequest, steps []uint32) error {
	o.Selector = nil
	if req.Selector != nil {
		sel, err := r.canonicalSelector(req.Selector)
		if err != nil {
			return err
		}
		o.Selector, o.Share, steps = sel, 0, nil
	} else {
		// Of a rollout that goes on only what is more than its share is news.
		for len(req.Steps) == 0 && len(steps) > 1 && steps[0] <= o.Share {
			steps = steps[1:]
		}
		o.Share = steps[0]
	}
	o.Steps, o.Soak, o.Limits = steps, durationpb.New(defaultSoak), withDefaults(req.Limits)
	if d := req.Soak.AsDuration(); d > 0 {
		o.Soak = durationpb.New(d)
	}
	o.Phase, o.Reason, o.EndedBy, o.StepTime = pb.RolloutPhase_ROLLOUT_PHASE_RUNNING, "", "", r.e.timestamp()
	return nil
}

func (e *Engine) timestamp() *timestamppb.Timestamp { return timestamppb.New(e.now()) }

func rolloutSteps(req *pb.StartRolloutRequest) ([]uint32, error) {
	if req.Selector != nil {
		if len(req.Steps) > 0 {
			return nil, invalid("/steps", "a selector chooses the twins: give one of both")
		}
		if s := req.Selector; s.Zone == "" && len(s.Labels) == 0 && len(s.Ids) == 0 {
			return nil, invalid("/selector", "is empty: give a zone, labels or ids")
		}
		return nil, nil
	}
	if len(req.Steps) == 0 {
		return []uint32{10, 50, 100}, nil
	}
	for i, s := range req.Steps {
		if s < 1 || s > 100 || i > 0 && s <= req.Steps[i-1] {
			return nil, invalid(fmt.Sprintf("/steps/%d", i), "%d: percentages rise, from 1 to 100", s)
		}
	}
	return req.Steps, nil
}

func withDefaults(l *pb.RolloutLimits) *pb.RolloutLimits {
	out := &pb.RolloutLimits{MinTraps: defaultMinTraps, MinFailures: defaultMinFailures, Factor: defaultFactor,
		MaxTraps: l.GetMaxTraps(), MaxFailures: l.GetMaxFailures()}
	if n := l.GetMinTraps(); n > 0 {
		out.MinTraps = n
	}
	if n := l.GetMinFailures(); n > 0 {
		out.MinFailures = n
	}
	if f := l.GetFactor(); f > 0 {
		out.Factor = f
	}
	return out
}

func (r *Registry) canonicalSelector(sel *pb.RolloutSelector) (*pb.RolloutSelector, error) {
	sel = proto.Clone(sel).(*pb.RolloutSelector)
	var err error
	if sel.Zone != "" {
		if sel.Zone, err = CanonicalID(sel.Zone); err != nil {
			return nil, invalid("/selector/zone", "%q is no id", sel.Zone)
		}
		if _, ok, err := r.store.Get(tableZones, sel.Zone); err != nil || !ok {
			return nil, errors.Join(err, invalid("/selector/zone", "there is no zone %s", sel.Zone))
		}
	}
	for i, id := range sel.Ids {
		if sel.Ids[i], err = CanonicalID(id); err != nil {
			return nil, invalid(fmt.Sprintf("/selector/ids/%d", i), "%q is no id", id)
		}
	}
	return sel, nil
}

// versionToRoll gives the version that is meant, and guards that it stays.
func (r *Registry) versionToRoll(name, version string) (string, []storage.Guard, error) {
	d, err := findDriver(r.store, name, version)
	if err != nil {
		return "", nil, err
	}
	key := driverKey(name, d.Version)
	return d.Version, []storage.Guard{{Table: tableDrivers, Key: key, Revision: d.Revision},
		{Table: tableHolds, Key: holdKey("driver", key)}}, nil
}

// changeRelease commits a driver's release as edit leaves it; where there is none, edit gets what holds without one.
// Then the topics of those twins follow that have another version now.
func (r *Registry) changeRelease(ctx context.Context, name string, edit func(*pb.Release) ([]storage.Guard, error)) (*pb.Release, error) {
	var was, made *pb.Release
	revision, err := r.change(ctx, func() (*storage.Txn, error) {
		var err error
		if was, err = r.releaseOf(name); err != nil {
			return nil, err
		}
		made = proto.Clone(was).(*pb.Release)
		guards, err := edit(made)
		if err != nil {
			return nil, err
		}
		guard, write, err := releaseWrite(made)
		if err != nil {
			return nil, err
		}
		return &storage.Txn{Guards: append(guards, guard), Writes: []storage.Write{write}}, nil
	}, func(*storage.GuardError) error { return nil })
	if err != nil {
		return nil, err
	}
	made.Revision = revision
	r.e.catalog.changed()
	return made, r.moveTopics(ctx, was, made)
}

// releaseOf gives a driver's release or, where there is none, what holds without one: the newest version.
func (r *Registry) releaseOf(name string) (*pb.Release, error) {
	rel, err := readRelease(r.store, name)
	if err != nil || rel != nil {
		return rel, err
	}
	d, err := findDriver(r.store, name, "")
	if err != nil {
		return nil, err
	}
	return &pb.Release{Driver: name, Version: d.Version}, nil
}

// HaltRollout keeps a rollout where it is.
func (r *Registry) HaltRollout(ctx context.Context, name, by string) (*pb.Rollout, error) {
	rel, err := r.changeRelease(ctx, name, func(rel *pb.Release) ([]storage.Guard, error) {
		o := active(rel)
		if o == nil {
			return nil, fmt.Errorf("no rollout goes on: %w", ErrNotNow)
		}
		o.Phase, o.Reason, o.EndedBy = pb.RolloutPhase_ROLLOUT_PHASE_PAUSED, "halted by "+by, by
		return nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("halt rollout of driver %s: %w", name, err)
	}
	return r.GetRollout(name, rel.Rollouts[len(rel.Rollouts)-1].Number)
}

// Rollback ends the rollout that goes on and returns its twins. Where there is none, those that ask for no version get the
// one before, or the version given.
func (r *Registry) Rollback(ctx context.Context, name, version, by string) (*pb.Rollout, error) {
	rel, err := r.changeRelease(ctx, name, func(rel *pb.Release) ([]storage.Guard, error) {
		o := active(rel)
		if o != nil {
			if version != "" && version != o.FromVersion {
				return nil, fmt.Errorf("a rollout of %s goes on, from which there is a way back to %s only: %w", o.Version, o.FromVersion, ErrNotNow)
			}
			r.end(o, pb.RolloutPhase_ROLLOUT_PHASE_RETURNED, "rolled back by "+by, by)
			return nil, nil
		}
		to, guards, err := r.versionBefore(rel, version)
		if err != nil {
			return nil, err
		}
		addRollout(rel, &pb.Rollout{Driver: name, Version: to, FromVersion: rel.Version, Phase: pb.RolloutPhase_ROLLOUT_PHASE_DONE, Share: 100,
			Reason: "rolled back by " + by, By: by, CreateTime: r.e.timestamp(), EndTime: r.e.timestamp()})
		rel.Previous, rel.Version = rel.Version, to
		return guards, nil
	})
	if err != nil {
		return nil, fmt.Errorf("roll back driver %s: %w", name, err)
	}
	return r.GetRollout(name, rel.Rollouts[len(rel.Rollouts)-1].Number)
}

// versionBefore gives the version to return to, and guards that it stays.
func (r *Registry) versionBefore(rel *pb.Release, version string) (string, []storage.Guard, error) {
	if version == "" {
		version = rel.Previous
	}
	if version == "" {
		for rec, err := range r.store.Scan(tableDrivers, rel.Driver+"/", "") {
			if err != nil {
				return "", nil, err
			}
			v := strings.TrimPrefix(rec.Key, rel.Driver+"/")
			if compareVersions(v, rel.Version) < 0 && (version == "" || newer(v, version)) {
				version = v
			}
		}
	}
	switch version {
	case "":
		return "", nil, fmt.Errorf("there is no version before %s: %w", rel.Version, ErrNotNow)
	case rel.Version:
		return "", nil, fmt.Errorf("the twins that ask for no version have %s already: %w", version, ErrNotNow)
	}
	return r.versionToRoll(rel.Driver, version)
}

// end ends a rollout, with the figures that it ended with.
func (r *Registry) end(o *pb.Rollout, phase pb.RolloutPhase, why, by string) {
	now, before, err := r.tallies(o)
	if err == nil {
		o.Now, o.Before = now, before
	}
	o.Phase, o.Reason, o.EndedBy, o.EndTime = phase, why, by, r.e.timestamp()
}

// GetRollout gives a driver's rollout with its figures; number 0: the last one.
func (r *Registry) GetRollout(name string, number uint64) (*pb.Rollout, error) {
	rel, err := readRelease(r.store, name)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rel.GetRollouts(), func(o *pb.Rollout) bool { return o.Number == number })
	if number == 0 {
		i = len(rel.GetRollouts()) - 1
	}
	if i < 0 {
		return nil, fmt.Errorf("rollout of driver %s: %w", name, ErrNotFound)
	}
	o := rel.Rollouts[i]
	if goesOn(o) {
		if o.Now, o.Before, err = r.tallies(o); err != nil {
			return nil, err
		}
	}
	if i == len(rel.Rollouts)-1 {
		err = r.progress(o)
	}
	return o, err
}

// ListRollouts gives the rollouts that are kept, the newest first; of one driver, or of all.
func (r *Registry) ListRollouts(name string) ([]*pb.Rollout, error) {
	var all []*pb.Rollout
	for rec, err := range r.store.Scan(tableReleases, name, "") {
		if err != nil {
			return nil, fmt.Errorf("list rollouts: %w", err)
		}
		if name != "" && rec.Key != name {
			continue
		}
		rel, err := decode(rec, &pb.Release{})
		if err != nil {
			return nil, err
		}
		all = append(all, rel.Rollouts...)
	}
	slices.SortStableFunc(all, func(a, b *pb.Rollout) int { return b.CreateTime.AsTime().Compare(a.CreateTime.AsTime()) })
	return all, nil
}
