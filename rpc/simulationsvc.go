package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// simulationService keeps the scenarios that the cluster plays.
type simulationService struct{ s *Server }

func (s *simulationService) CreateSimulation(ctx context.Context, r *connect.Request[pb.CreateSimulationRequest]) (*connect.Response[pb.CreateSimulationResponse], error) {
	if err := s.recorded(ctx, r.Msg.Simulation); err != nil {
		return nil, err
	}
	m, err := s.s.o.Registry.CreateSimulation(ctx, r.Msg.Simulation)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateSimulationResponse{Simulation: m}), nil
}

func (s *simulationService) GetSimulation(_ context.Context, r *connect.Request[pb.GetSimulationRequest]) (*connect.Response[pb.GetSimulationResponse], error) {
	m, err := s.s.o.Registry.Simulation(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetSimulationResponse{Simulation: m}), nil
}

func (s *simulationService) ListSimulations(ctx context.Context, r *connect.Request[pb.ListSimulationsRequest]) (*connect.Response[pb.ListSimulationsResponse], error) {
	res, err := paged("simulation", &r.Msg.PageToken, func() (*pb.ListSimulationsResponse, error) {
		return s.s.o.Registry.ListSimulations(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListSimulationsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *simulationService) UpdateSimulation(ctx context.Context, r *connect.Request[pb.UpdateSimulationRequest]) (*connect.Response[pb.UpdateSimulationResponse], error) {
	if err := s.recorded(ctx, r.Msg.Simulation); err != nil {
		return nil, err
	}
	m, err := s.s.o.Registry.UpdateSimulation(ctx, r.Msg.Simulation)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateSimulationResponse{Simulation: m}), nil
}

func (s *simulationService) DeleteSimulation(ctx context.Context, r *connect.Request[pb.DeleteSimulationRequest]) (*connect.Response[pb.DeleteSimulationResponse], error) {
	if err := s.s.o.Registry.DeleteSimulation(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteSimulationResponse{}), nil
}

func (s *simulationService) SteerSimulations(ctx context.Context, r *connect.Request[pb.SteerSimulationsRequest]) (*connect.Response[pb.SteerSimulationsResponse], error) {
	all, err := s.s.o.Registry.SteerSimulations(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.SteerSimulationsResponse{Simulations: all}), nil
}

// simulationProcedures are the lines of the table for simulations.
func simulationProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.SimulationServiceCreateSimulationProcedure: {action: ActionTwinConfigure, resource: simulationConfig(func(m *pb.CreateSimulationRequest) *pb.Simulation { return m.Simulation })},
		rpcv1.SimulationServiceUpdateSimulationProcedure: {action: ActionTwinConfigure, resource: simulationConfig(func(m *pb.UpdateSimulationRequest) *pb.Simulation { return m.Simulation })},
		rpcv1.SimulationServiceDeleteSimulationProcedure: {action: ActionTwinConfigure, resource: one("simulation", func(m *pb.DeleteSimulationRequest) *string { return &m.Id })},
		rpcv1.SimulationServiceGetSimulationProcedure:    {action: ActionTwinRead, resource: one("simulation", func(m *pb.GetSimulationRequest) *string { return &m.Id })},
		rpcv1.SimulationServiceListSimulationsProcedure:  {action: ActionTwinRead, resource: listed("simulation", func(m *pb.ListSimulationsRequest) *string { return &m.Project })},
		rpcv1.SimulationServiceSteerSimulationsProcedure: {action: ActionTwinConfigure, resource: func(m any, p *Principal) (Resource, error) {
			msg, ok := m.(*pb.SteerSimulationsRequest)
			if !ok {
				return Resource{}, errWrongMessage
			}
			return ofOneProject("simulation", &msg.Project, p)
		}},
	}
}

func simulationConfig[M any](conf func(M) *pb.Simulation) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		x := conf(msg)
		return named("simulation", "simulation.id", idOf(x == nil, func() *string { return &x.Id }))
	}
}

// recorded gives a simulation the values of its record, where that is the history of a twin of its project.
func (s *simulationService) recorded(ctx context.Context, m *pb.Simulation) error {
	sc, err := scenario.Parse([]byte(m.Scenario))
	if err != nil || sc.Record == nil || sc.Record.Twin == "" || m.Csv != "" {
		return nil // the registry says what is wrong with it
	}
	rec, project, now := sc.Record, actors.ProjectOf(m.Id), time.Now()
	twin := rec.Twin
	if !strings.Contains(twin, "/") {
		twin = project + "/" + twin
	}
	if actors.ProjectOf(twin) != project {
		return invalid("simulation.scenario", "/record/twin: "+twin+" is in another project than the simulation")
	}
	if _, _, err := rec.Span(now); err != nil {
		return invalid("simulation.scenario", "/record: "+err.Error())
	}
	twins := &twinService{s.s}
	m.Csv, err = rec.Read(ctx, twins, twin, func(name string) (string, error) {
		prop, err := twins.property(ctx, twin, name)
		if prop.truth {
			return "boolean", err
		}
		return prop.unsampled, err
	}, now, maxRecorded)
	switch {
	case errors.Is(err, scenario.ErrLong):
		return invalid("simulation.scenario", fmt.Sprintf("/record: %v, %d KiB: give a step, or a shorter time", err, maxRecorded>>10))
	case errors.Is(err, scenario.ErrKind):
		return invalid("simulation.scenario", "/record/properties: "+err.Error())
	case errors.Is(err, scenario.ErrNothing):
		return fmt.Errorf("%w: %w", err, actors.ErrNotFound)
	}
	return err
}

// maxRecorded bytes of history in a simulation.
const maxRecorded = 320 << 10
