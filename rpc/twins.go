package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// defaultSpan is how far back a history query looks where it does not say.
const defaultSpan = time.Hour

type twinService struct{ s *Server }

// projectsOf is the actors' way to say which projects a caller may see; nil means all.
func projectsOf(p *Principal) func(string) bool {
	if p.Project == "" {
		return nil
	}
	return func(project string) bool { return project == p.Project }
}

func (t *twinService) CreateTwin(ctx context.Context, r *connect.Request[pb.CreateTwinRequest]) (*connect.Response[pb.CreateTwinResponse], error) {
	r.Msg.Twin.UpdateBy = principalFrom(ctx).Name
	twin, err := t.s.o.Registry.CreateTwin(ctx, r.Msg.Twin)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateTwinResponse{Twin: twin, Warnings: t.s.o.Registry.Warnings(twin)}), nil
}

// GetTwin gives the configuration, and the state where the twin can be reached: what is configured can be read also
// while nobody owns the twin.
func (t *twinService) GetTwin(ctx context.Context, r *connect.Request[pb.GetTwinRequest]) (*connect.Response[pb.GetTwinResponse], error) {
	twin, err := t.s.o.Registry.GetTwin(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	if r.Msg.Consistency == pb.Consistency_CONSISTENCY_LOCAL {
		twin.State, err = t.committed(r.Msg.Id)
	} else {
		twin.State, err = t.s.o.Client.State(ctx, r.Msg.Id, r.Msg.Model)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		twin.State = &pb.TwinState{Status: &pb.TwinStatus{Fault: "state cannot be read now: " + err.Error()}}
	}
	return connect.NewResponse(&pb.GetTwinResponse{Twin: twin}), nil
}

// committed gives a twin's state as this node's store has it.
func (t *twinService) committed(id string) (*pb.TwinState, error) {
	list, err := t.s.o.Registry.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{id}}, State: true}, nil)
	if err != nil {
		return nil, err
	}
	if len(list.Twins) == 0 {
		return nil, fmt.Errorf("twin %s: %w", id, actors.ErrNotFound)
	}
	return list.Twins[0].State, nil
}

func (t *twinService) ListTwins(ctx context.Context, r *connect.Request[pb.ListTwinsRequest]) (*connect.Response[pb.ListTwinsResponse], error) {
	res, err := paged("twin", &r.Msg.PageToken, func() (*pb.ListTwinsResponse, error) {
		return t.s.o.Registry.ListTwins(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListTwinsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (t *twinService) UpdateTwin(ctx context.Context, r *connect.Request[pb.UpdateTwinRequest]) (*connect.Response[pb.UpdateTwinResponse], error) {
	if r.Msg.Twin.Revision == 0 {
		return nil, invalid("twin.revision", "is missing: give the revision that you read, so that nobody's change is lost")
	}
	r.Msg.Twin.UpdateBy = principalFrom(ctx).Name
	twin, err := t.s.o.Registry.UpdateTwin(ctx, r.Msg.Twin)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateTwinResponse{Twin: twin, Warnings: t.s.o.Registry.Warnings(twin)}), nil
}

func (t *twinService) DeleteTwin(ctx context.Context, r *connect.Request[pb.DeleteTwinRequest]) (*connect.Response[pb.DeleteTwinResponse], error) {
	if err := t.s.o.Registry.DeleteTwin(ctx, r.Msg.Id, r.Msg.Revision); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteTwinResponse{}), nil
}

func (t *twinService) Invoke(ctx context.Context, r *connect.Request[pb.InvokeRequest]) (*connect.Response[pb.InvokeResponse], error) {
	res, err := t.s.o.Client.Invoke(ctx, r.Msg, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (t *twinService) SetDesired(ctx context.Context, r *connect.Request[pb.SetDesiredRequest]) (*connect.Response[pb.SetDesiredResponse], error) {
	res, err := t.s.o.Client.SetDesired(ctx, r.Msg, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (t *twinService) WatchTwins(ctx context.Context, r *connect.Request[pb.WatchTwinsRequest], out *connect.ServerStream[pb.WatchTwinsResponse]) error {
	conn := out.Conn() // what is sent is encoded once for all streams
	return t.s.watchTwins(ctx, principalFrom(ctx), r.Msg, func(m *actors.Told) error { return conn.Send(m) })
}

// watchTwins gives what the watch gives until ctx ends or send fails. It returns nil never.
func (s *Server) watchTwins(ctx context.Context, p *Principal, r *pb.WatchTwinsRequest, send func(*actors.Told) error) error {
	if !isLocal(ctx) && s.o.Peers != Peers(alone{}) {
		return s.watchAll(ctx, p, r, send)
	}
	sub, err := s.o.Client.Watch(ctx, r, projectsOf(p))
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if err := send(m); err != nil {
			return err
		}
	}
}

func (t *twinService) TraceTwin(ctx context.Context, r *connect.Request[pb.TraceTwinRequest], out *connect.ServerStream[pb.TraceTwinResponse]) error {
	if _, err := t.s.o.Registry.GetTwin(r.Msg.Id); err != nil {
		return err
	}
	return t.s.traceAll(ctx, r.Msg.Id, out.Send)
}

// property is what history asks of a twin's property.
type property struct {
	unit  string
	known bool
	// unsampled names the type of values that have no history; "" where they may have one.
	unsampled string
	// truth: its values are true and false, which are 1 and 0 in the history.
	truth bool
}

// property looks a property up in the twin's model as refined. Where the state cannot be had, the property counts as
// known.
func (t *twinService) property(ctx context.Context, id, name string) (property, error) {
	if _, err := t.s.o.Registry.GetTwin(id); err != nil {
		return property{}, err
	}
	state, err := t.s.o.Client.State(ctx, id, true)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return property{}, err
		}
		return property{known: true}, nil
	}
	var model struct {
		Properties map[string]struct {
			Unit string `json:"unit"`
			// A name, or a list of names.
			Type any `json:"type"`
		} `json:"properties"`
	}
	if err := json.Unmarshal([]byte(state.ModelJson), &model); err != nil {
		return property{known: true}, nil //nolint:nilerr // the model is the driver's; history does not depend on it
	}
	p, known := model.Properties[name]
	if _, reported := state.Properties[name]; reported {
		known = true
	}
	out := property{unit: p.Unit, known: known, truth: p.Type == "boolean"}
	if kind, one := p.Type.(string); one && (kind == "string" || kind == "object" || kind == "array" || kind == "null") {
		out.unsampled = kind
	}
	return out, nil
}
