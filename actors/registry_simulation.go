package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxSimulations of a project. Each has a goroutine.
const maxSimulations = 100

// CreateSimulation keeps a simulation, which begins unless it is paused. What was recorded has to be in it.
func (r *Registry) CreateSimulation(ctx context.Context, m *pb.Simulation) (*pb.Simulation, error) {
	return r.putSimulation(ctx, m, 0)
}

// UpdateSimulation replaces a simulation of the revision given. It begins again where another scenario is to be played, or the same
// from another time.
func (r *Registry) UpdateSimulation(ctx context.Context, m *pb.Simulation) (*pb.Simulation, error) {
	if m.GetRevision() == 0 {
		return nil, invalid("/simulation/revision", "is missing: read the simulation first")
	}
	return r.putSimulation(ctx, m, m.Revision)
}

func (r *Registry) putSimulation(ctx context.Context, m *pb.Simulation, revision uint64) (*pb.Simulation, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Simulation)
	m.Id, m.Revision = id, revision
	if m, err = r.wholeSimulation(m); err != nil {
		return nil, err
	}
	return r.writeSimulation(ctx, m)
}

// writeSimulation commits a simulation that is checked.
func (r *Registry) writeSimulation(ctx context.Context, m *pb.Simulation) (*pb.Simulation, error) {
	m, err := put(ctx, r, "simulation", simulation.TableSimulations, m.Id, m,
		func() ([]storage.Guard, []storage.Write, error) { return r.simulationRefs(m) })
	if err != nil {
		return nil, err
	}
	return m, r.stateOfSimulation(m)
}

// wholeSimulation checks a simulation and completes it. Where the same is played since the same time, it goes on where it is.
func (r *Registry) wholeSimulation(m *pb.Simulation) (*pb.Simulation, error) {
	m.State, m.BeginTime = nil, timestamppb.Now()
	var bad *scenario.Error
	if _, err := simulation.Read(m); errors.As(err, &bad) {
		return nil, invalid("/simulation/scenario", "%s", bad)
	} else if err != nil {
		return nil, invalid("/simulation/scenario", "%v", err)
	}
	if m.From != nil && m.From.AsTime().After(m.BeginTime.AsTime()) {
		return nil, invalid("/simulation/from", "%s is not in the past", m.From.AsTime())
	}
	if m.Model != "" {
		if err := completeID(ProjectOf(m.Id), "/simulation/model", &m.Model); err != nil {
			return nil, err
		}
		if _, ok, err := r.store.Get(tableThings, m.Model); err != nil || !ok {
			return nil, errors.Join(invalid("/simulation/model", "there is no model %s", m.Model), err)
		}
	}
	old, err := get(r.store, simulation.TableSimulations, m.Id, &pb.Simulation{})
	if errors.Is(err, ErrNotFound) {
		if n, err := r.store.Count(simulation.TableSimulations, ProjectOf(m.Id)+"/"); err == nil && n >= maxSimulations {
			return nil, invalid("/simulation/id", "project %s has %d simulations, which are as many as may be", ProjectOf(m.Id), n)
		}
		return m, nil
	}
	if err == nil && old.Scenario == m.Scenario && old.Csv == m.Csv && proto.Equal(old.From, m.From) {
		m.BeginTime = old.BeginTime
	}
	return m, err
}

// simulationRefs gives a new simulation the record of its state, which is there as long as the simulation.
func (r *Registry) simulationRefs(m *pb.Simulation) ([]storage.Guard, []storage.Write, error) {
	if m.Revision != 0 {
		return nil, nil, nil
	}
	value, err := encode(&pb.SimulationState{BeginTime: m.BeginTime})
	return nil, []storage.Write{{Table: simulation.TableStates, Key: m.Id, Value: value, Quiet: true}}, err
}

// Simulation gives a simulation with where it is.
func (r *Registry) Simulation(id string) (*pb.Simulation, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := get(r.store, simulation.TableSimulations, id, &pb.Simulation{})
	if err != nil {
		return nil, err
	}
	return m, r.stateOfSimulation(m)
}

// stateOfSimulation adds where it is. One that was reset and did not begin yet is nowhere.
func (r *Registry) stateOfSimulation(m *pb.Simulation) error {
	m.State = &pb.SimulationState{}
	rec, ok, err := r.store.Get(simulation.TableStates, m.Id)
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, m.State)
	}
	if err != nil {
		return fmt.Errorf("state of simulation %s: %w", m.Id, err)
	}
	if !proto.Equal(m.State.BeginTime, m.BeginTime) {
		m.State = &pb.SimulationState{BeginTime: m.BeginTime}
	}
	return nil
}

// ListSimulations gives a page of simulations by id, with where they are and without what was recorded.
func (r *Registry) ListSimulations(req *pb.ListSimulationsRequest, projects func(string) bool) (*pb.ListSimulationsResponse, error) {
	page, next, err := list(r.store, simulation.TableSimulations, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Simulation { return &pb.Simulation{} })
	for _, m := range page {
		if m.Csv = ""; err == nil {
			err = r.stateOfSimulation(m)
		}
	}
	return &pb.ListSimulationsResponse{Simulations: page, NextPageToken: next}, err
}

// DeleteSimulation ends a simulation. Its twins stay.
func (r *Registry) DeleteSimulation(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	old, err := get(r.store, simulation.TableSimulations, id, &pb.Simulation{})
	if err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: simulation.TableSimulations, Key: id, Revision: old.Revision}},
		Writes: []storage.Write{{Table: simulation.TableSimulations, Key: id}, {Table: simulation.TableStates, Key: id, Quiet: true}}}); err != nil {
		return fmt.Errorf("delete simulation %s: %w", id, err)
	}
	return nil
}

// SteerSimulations starts, pauses and resets simulations of a project and changes their speed; none named: all of the project. It ends
// with the first that it cannot change.
func (r *Registry) SteerSimulations(ctx context.Context, req *pb.SteerSimulationsRequest) ([]*pb.Simulation, error) {
	ids := slices.Clone(req.Ids)
	for i, id := range ids {
		if ids[i] = within(req.Project, id); ProjectOf(ids[i]) != req.Project {
			return nil, invalid(fmt.Sprintf("/ids/%d", i), "%s is in another project than %s", id, req.Project)
		}
	}
	if len(ids) == 0 {
		for rec, err := range r.store.Scan(simulation.TableSimulations, req.Project+"/", "") {
			if err != nil {
				return nil, fmt.Errorf("list simulations: %w", err)
			}
			ids = append(ids, rec.Key)
		}
	}
	var out []*pb.Simulation
	for _, id := range ids {
		m, err := r.steerSimulation(ctx, id, req)
		if err != nil {
			return nil, err
		}
		m.Csv = ""
		out = append(out, m)
	}
	return out, nil
}

func (r *Registry) steerSimulation(ctx context.Context, id string, req *pb.SteerSimulationsRequest) (*pb.Simulation, error) {
	for try := 1; ; try++ {
		m, err := get(r.store, simulation.TableSimulations, id, &pb.Simulation{})
		if err != nil {
			return nil, err
		}
		old := proto.Clone(m)
		if req.Paused != nil {
			m.Paused = *req.Paused
		}
		if req.Speed != nil {
			m.Speed = req.Speed
		}
		if req.Reset_ {
			m.BeginTime = timestamppb.Now()
		}
		if proto.Equal(old, m) {
			return m, r.stateOfSimulation(m)
		}
		if m, err = r.writeSimulation(ctx, m); !errors.Is(err, ErrRevision) || try == attempts {
			return m, err
		}
	}
}

// simulated takes in what a simulation says.
func (e *Engine) simulated(m *simulation.Message, done func(simulation.Result)) {
	e.Ingest(&Ingest{Door: "simulation", Project: m.Project, Twin: m.Twin, Payload: m.Payload, Time: m.Time, Historical: m.Historical, ID: m.ID, Commit: true},
		func(r IngestResult) { done(simulation.Result{Outcome: r.Outcome, Reason: r.Reason}) })
}

// simulatedTwin makes a twin for a simulation, where there is none.
func (e *Engine) simulatedTwin(ctx context.Context, id, model string) error {
	if _, ok, err := e.store.Get(tableTwins, id); err != nil || ok {
		return err
	}
	_, err := e.registry.CreateTwin(ctx, &pb.Twin{Id: id, Model: model})
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// simulatedModel gives the model by which a twin reads what a simulation sends; empty: it has a driver. ok is false where the twin is not there.
func (e *Engine) simulatedModel(id string) (model string, ok bool) {
	t, err := get(e.store, tableTwins, id, &pb.Twin{})
	return t.GetModel(), err == nil
}

// simulatedThing gives a model's Thing Model; empty: there is no such model.
func (e *Engine) simulatedThing(id string) string {
	m, err := get(e.store, tableThings, id, &pb.Model{})
	if err != nil {
		return ""
	}
	return m.ThingJson
}
