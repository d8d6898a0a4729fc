package rpc

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	start, end, err := rec.Span(now)
	if err != nil {
		return invalid("simulation.scenario", "/record: "+err.Error())
	}
	h := past{twin: twin, start: start, end: end, columns: rec.Properties, rows: map[int64][]string{}}
	for i, name := range rec.Properties {
		if err := s.column(ctx, &h, i, name, time.Duration(rec.Step)); err != nil {
			return fmt.Errorf("history of %s %s: %w", twin, name, err)
		}
	}
	m.Csv, err = h.csv()
	return err
}

// maxRecorded bytes of history in a simulation.
const maxRecorded = 320 << 10

// past is a part of a twin's past, as a table by time in milliseconds.
type past struct {
	twin       string
	start, end time.Time
	columns    []string
	rows       map[int64][]string
}

func (h *past) put(at int64, column int, text string) {
	if h.rows[at] == nil {
		h.rows[at] = make([]string, len(h.columns))
	}
	h.rows[at][column] = text
}

// column reads the past of a property, page by page from the newest back.
func (s *simulationService) column(ctx context.Context, h *past, i int, name string, step time.Duration) error {
	twins := &twinService{s.s}
	prop, err := twins.property(ctx, h.twin, name)
	if err != nil {
		return err
	}
	q := &pb.QueryHistoryRequest{Id: h.twin, Property: name, Start: timestamppb.New(h.start), End: timestamppb.New(h.end), Limit: 10_000}
	if step > 0 {
		q.Step = durationpb.New(step)
		if prop.unsampled != "" || prop.truth {
			q.Aggregate = "last"
		}
	}
	found := 0
	for {
		res, err := twins.QueryHistory(ctx, connect.NewRequest(q))
		if err != nil {
			return err
		}
		for _, x := range res.Msg.Samples {
			text, err := cell(x, prop.truth)
			if err != nil {
				return invalid("simulation.scenario", "/record/properties: "+name+" "+err.Error())
			}
			h.put(x.Time.AsTime().UnixMilli(), i, text)
		}
		if found += len(res.Msg.Samples); found > maxRecorded {
			return errLongHistory
		}
		if q.PageToken = res.Msg.NextPageToken; q.PageToken != "" {
			continue
		}
		if res.Msg.Truncated {
			return errLongHistory
		}
		if found == 0 {
			return fmt.Errorf("nothing between %s and %s: %w", h.start.Format(time.RFC3339), h.end.Format(time.RFC3339), actors.ErrNotFound)
		}
		return nil
	}
}

// cell is a sample as a scenario's CSV has it.
func cell(x *pb.Sample, truth bool) (string, error) {
	switch v := x.Data.GetKind().(type) {
	case nil:
		if truth {
			return strconv.FormatBool(x.Value != 0), nil
		}
		return strconv.FormatFloat(x.Value, 'g', -1, 64), nil
	case *structpb.Value_StringValue:
		return v.StringValue, nil
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(v.BoolValue), nil
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(v.NumberValue, 'g', -1, 64), nil
	}
	return "", errors.New("has values that are no number, text or truth")
}

var errLongHistory = invalid("simulation.scenario", "/record: more was recorded than a simulation keeps, 320 KiB: give a step, or a shorter time")

// csv gives the table as scenario.ReadCSV reads it, with times since the first one.
func (h *past) csv() (string, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(append([]string{"time"}, h.columns...)) // into memory
	times := make([]int64, 0, len(h.rows))
	for at := range h.rows {
		times = append(times, at)
	}
	slices.Sort(times)
	for _, at := range times {
		_ = w.Write(append([]string{strconv.FormatFloat(float64(at-times[0])/1000, 'f', -1, 64)}, h.rows[at]...))
	}
	if w.Flush(); b.Len() > maxRecorded {
		return "", errLongHistory
	}
	return b.String(), nil
}
