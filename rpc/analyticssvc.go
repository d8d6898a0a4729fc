package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/analytics"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/storage/history"
)

const (
	// trySpan is how far back a detector is tried where the caller does not say.
	trySpan = 14 * 24 * time.Hour
	// tryReadings is how many readings at most, and tryPoints how many of them are given where the caller does not say.
	tryReadings = 200_000
	tryPoints   = 1000
	// trySpans of anomalies are given at most.
	trySpans = 1000
)

// analyticsService keeps detectors.
type analyticsService struct{ s *Server }

func (a *analyticsService) CreateDetector(ctx context.Context, r *connect.Request[pb.CreateDetectorRequest]) (*connect.Response[pb.CreateDetectorResponse], error) {
	m, err := a.s.o.Registry.CreateDetector(ctx, r.Msg.Detector)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateDetectorResponse{Detector: m}), nil
}

func (a *analyticsService) GetDetector(_ context.Context, r *connect.Request[pb.GetDetectorRequest]) (*connect.Response[pb.GetDetectorResponse], error) {
	m, err := a.s.o.Registry.Detector(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetDetectorResponse{Detector: m}), nil
}

func (a *analyticsService) ListDetectors(ctx context.Context, r *connect.Request[pb.ListDetectorsRequest]) (*connect.Response[pb.ListDetectorsResponse], error) {
	res, err := paged("detector", &r.Msg.PageToken, func() (*pb.ListDetectorsResponse, error) {
		return a.s.o.Registry.ListDetectors(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListDetectorsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (a *analyticsService) UpdateDetector(ctx context.Context, r *connect.Request[pb.UpdateDetectorRequest]) (*connect.Response[pb.UpdateDetectorResponse], error) {
	m, err := a.s.o.Registry.UpdateDetector(ctx, r.Msg.Detector)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateDetectorResponse{Detector: m}), nil
}

func (a *analyticsService) DeleteDetector(ctx context.Context, r *connect.Request[pb.DeleteDetectorRequest]) (*connect.Response[pb.DeleteDetectorResponse], error) {
	if err := a.s.o.Registry.DeleteDetector(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteDetectorResponse{}), nil
}

func (a *analyticsService) GetDetectorState(ctx context.Context, r *connect.Request[pb.GetDetectorStateRequest]) (*connect.Response[pb.GetDetectorStateResponse], error) {
	if _, err := a.s.o.Registry.Detector(r.Msg.Id); err != nil {
		return nil, err
	}
	return bounded(ctx, func(ctx context.Context) (*pb.GetDetectorStateResponse, error) {
		st, err := a.s.o.Client.State(ctx, r.Msg.Twin, false)
		if err != nil {
			return nil, err
		}
		d := st.Detectors[r.Msg.Id]
		if d == nil {
			return nil, fmt.Errorf("detector %s is not for twin %s: %w", r.Msg.Id, r.Msg.Twin, actors.ErrNotFound)
		}
		return &pb.GetDetectorStateResponse{State: d}, nil
	})
}

func (a *analyticsService) TryDetector(ctx context.Context, r *connect.Request[pb.TryDetectorRequest]) (*connect.Response[pb.TryDetectorResponse], error) {
	if at := a.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, a.s, at, func(p *peerClients) (*connect.Response[pb.TryDetectorResponse], error) {
			return p.analytics.TryDetector(ctx, connect.NewRequest(r.Msg))
		})
	}
	project, name, err := splitID(r.Msg.Twin)
	if err != nil {
		return nil, invalid("twin", err.Error())
	}
	d := r.Msg.Detector
	switch {
	case (d == nil) == (r.Msg.Id == ""):
		return nil, invalid("detector", "give a detector, or the id of one")
	case d == nil:
		if d, err = a.s.o.Registry.Detector(r.Msg.Id); err != nil {
			return nil, err
		}
	default:
		if d.Id == "" {
			d.Id = project + "/try"
		}
		if d, err = a.s.o.Registry.CheckDetector(d); err != nil {
			return nil, err
		}
	}
	if _, err := a.s.o.Registry.GetTwin(r.Msg.Twin); err != nil {
		return nil, err
	}
	q := history.Query{Project: project, Twin: name, Property: d.Property, End: time.Now(), Limit: history.MaxLimit}
	if r.Msg.End != nil {
		q.End = r.Msg.End.AsTime()
	}
	if q.Start = q.End.Add(-trySpan); r.Msg.Start != nil {
		q.Start = r.Msg.Start.AsTime()
	}
	trial, err := a.s.o.Registry.TryDetector(ctx, d, r.Msg.Twin)
	if err != nil {
		return nil, err
	}
	end := q.End
	readings, truncated, err := a.readings(ctx, q)
	if err != nil {
		return nil, errors.Join(err, trial.Close())
	}
	if most := trial.Most(); most > 0 && len(readings) > most {
		readings, truncated = readings[len(readings)-most:], true
	}
	out := &pb.TryDetectorResponse{Truncated: truncated, Readings: uint64(len(readings))}
	tryOut(out, trial, readings, end.UnixMilli())
	if err := trial.Close(); err != nil {
		return nil, err
	}
	n := tryPoints
	if r.Msg.Points > 0 {
		n = int(r.Msg.Points)
	}
	out.Points = thinned(out.Points, n)
	return connect.NewResponse(out), nil
}

// readings reads the raw samples of a range, the newest of them.
func (a *analyticsService) readings(ctx context.Context, q history.Query) (all []history.Point, truncated bool, err error) {
	for {
		res, err := a.s.o.History.Query(ctx, q)
		if err != nil {
			return nil, false, err
		}
		all = append(slices.Clone(res.Points), all...)
		if !res.Truncated || len(res.Points) == 0 {
			return all, false, nil
		}
		if len(all) >= tryReadings {
			return all, true, nil
		}
		if q.End = time.UnixMilli(res.Points[0].Time - 1); !q.End.After(q.Start) {
			return all, false, nil
		}
	}
}

// tryOut runs a trial over readings, and notes all verdicts and when they were anomalies.
func tryOut(out *pb.TryDetectorResponse, x actors.Trial, readings []history.Point, end int64) {
	out.Points = make([]*pb.Judged, 0, len(readings))
	within := false
	take := func(at int64, v *analytics.Verdict, value float64, none bool) {
		p := &pb.Judged{Time: timestamppb.New(time.UnixMilli(at)), Value: value, Ready: v.Ready, Anomaly: v.Anomaly, None: none,
			Score: v.Number(analytics.OutputScore), Expected: v.Number(analytics.OutputExpected), Mean: v.Number(analytics.OutputMean),
			Sd: v.Number(analytics.OutputSD), Min: v.Min, Max: v.Max, Rate: v.Number(analytics.OutputRate)}
		out.Points = append(out.Points, p)
		if v.Ready && !none {
			out.Judged++
		}
		switch {
		case v.Anomaly && !within:
			out.Anomalies = append(out.Anomalies, &pb.AnomalySpan{Start: p.Time, End: p.Time, Score: p.Score})
		case within: // it ends with the reading that is none, where it is the silence before it
			span := out.Anomalies[len(out.Anomalies)-1]
			if v.Anomaly || out.Points[len(out.Points)-2].None {
				span.End, span.Score = p.Time, max(span.Score, p.Score)
			}
		}
		within = v.Anomaly
	}
	for i, r := range readings {
		if due := x.Due(); i > 0 && due > 0 && due < r.Time {
			v := x.Elapse(due)
			take(due, &v, readings[i-1].Value, true)
		}
		v := x.Observe(r.Time, r.Value)
		take(r.Time, &v, r.Value, false)
	}
	if due := x.Due(); due > 0 && due < end && len(readings) > 0 {
		v := x.Elapse(due)
		take(due, &v, readings[len(readings)-1].Value, true)
	}
	if n := len(out.Anomalies); n > trySpans {
		out.Anomalies = out.Anomalies[n-trySpans:]
	}
}

// thinned leaves n points at most: of each part of the whole the one with the highest score.
func thinned(points []*pb.Judged, n int) []*pb.Judged {
	if len(points) <= n {
		return points
	}
	out := make([]*pb.Judged, 0, n)
	for i := range n {
		part := points[i*len(points)/n : (i+1)*len(points)/n]
		out = append(out, slices.MaxFunc(part, func(a, b *pb.Judged) int {
			switch {
			case a.Anomaly != b.Anomaly && a.Anomaly, a.Anomaly == b.Anomaly && a.Score > b.Score:
				return 1
			case a.Anomaly == b.Anomaly && a.Score == b.Score:
				return 0
			}
			return -1
		}))
	}
	return out
}

// analyticsProcedures are the lines of the table for detectors.
func analyticsProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.AnalyticsServiceCreateDetectorProcedure: {action: ActionTwinConfigure, resource: detectorConfig(func(m *pb.CreateDetectorRequest) *pb.Detector { return m.Detector })},
		rpcv1.AnalyticsServiceUpdateDetectorProcedure: {action: ActionTwinConfigure, resource: detectorConfig(func(m *pb.UpdateDetectorRequest) *pb.Detector { return m.Detector })},
		rpcv1.AnalyticsServiceDeleteDetectorProcedure: {action: ActionTwinConfigure, resource: one("detector", func(m *pb.DeleteDetectorRequest) *string { return &m.Id })},
		rpcv1.AnalyticsServiceGetDetectorProcedure:    {action: ActionTwinRead, resource: one("detector", func(m *pb.GetDetectorRequest) *string { return &m.Id })},
		rpcv1.AnalyticsServiceListDetectorsProcedure:  {action: ActionTwinRead, resource: listed("detector", func(m *pb.ListDetectorsRequest) *string { return &m.Project })},
		rpcv1.AnalyticsServiceGetDetectorStateProcedure: {action: ActionTwinRead, resource: detectorOn(func(m *pb.GetDetectorStateRequest) (twin, id *string) {
			return &m.Twin, &m.Id
		})},
		rpcv1.AnalyticsServiceTryDetectorProcedure: {action: ActionTwinRead, resource: detectorOn(func(m *pb.TryDetectorRequest) (twin, id *string) {
			if m.Detector != nil && m.Id == "" {
				return &m.Twin, &m.Detector.Id
			}
			return &m.Twin, &m.Id
		})},
	}
}

func detectorConfig[M any](conf func(M) *pb.Detector) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		x := conf(msg)
		return named("detector", "detector.id", idOf(x == nil, func() *string { return &x.Id }))
	}
}

// detectorOn: a twin, and a detector of the same project, which may be none.
func detectorOn[M any](of func(M) (twin, id *string)) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		twin, id := of(msg)
		r, err := named("twin", "twin", twin)
		if err != nil || *id == "" {
			return r, err
		}
		if !strings.Contains(*id, "/") {
			*id = r.Project + "/" + *id
		}
		if d, err := named("detector", "id", id); err != nil || d.Project != r.Project {
			if err == nil {
				err = invalid("id", *id+" is in another project than "+*twin)
			}
			return r, err
		}
		return r, nil
	}
}
