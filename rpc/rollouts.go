package rpc

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/interfaces"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (d *driverService) StartRollout(ctx context.Context, r *connect.Request[pb.StartRolloutRequest]) (*connect.Response[pb.StartRolloutResponse], error) {
	o, err := d.s.o.Registry.StartRollout(ctx, r.Msg, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.StartRolloutResponse{Rollout: o}), nil
}

func (d *driverService) GetRollout(ctx context.Context, r *connect.Request[pb.GetRolloutRequest]) (*connect.Response[pb.GetRolloutResponse], error) {
	o, err := d.s.o.Registry.GetRollout(r.Msg.Driver, r.Msg.Number)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetRolloutResponse{Rollout: ofOthers(o, principalFrom(ctx))}), nil
}

func (d *driverService) ListRollouts(ctx context.Context, r *connect.Request[pb.ListRolloutsRequest]) (*connect.Response[pb.ListRolloutsResponse], error) {
	all, err := d.s.o.Registry.ListRollouts(r.Msg.Driver)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		ofOthers(o, principalFrom(ctx))
	}
	return connect.NewResponse(&pb.ListRolloutsResponse{Rollouts: all}), nil
}

// ofOthers leaves out of a rollout, in place, what it says of twins that are not of the caller's project: a driver is everybody's, which twins
// have it and what they fail at is not.
func ofOthers(o *pb.Rollout, p *Principal) *pb.Rollout {
	if p.Project == "" {
		return o
	}
	mine := p.Project + "/"
	for _, t := range []*pb.RolloutTally{o.Now, o.Before} {
		if t != nil && !strings.HasPrefix(t.Last, mine) {
			t.Last = ""
		}
	}
	if why, last, ok := strings.Cut(o.Reason, actors.RolloutLast); ok && !strings.HasPrefix(last, mine) {
		o.Reason = why
	}
	if s := o.Selector; s != nil {
		s.Ids = slices.DeleteFunc(s.Ids, func(id string) bool { return !strings.HasPrefix(id, mine) })
		if !strings.HasPrefix(s.Zone, mine) {
			s.Zone = ""
		}
	}
	return o
}

func (d *driverService) HaltRollout(ctx context.Context, r *connect.Request[pb.HaltRolloutRequest]) (*connect.Response[pb.HaltRolloutResponse], error) {
	o, err := d.s.o.Registry.HaltRollout(ctx, r.Msg.Driver, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.HaltRolloutResponse{Rollout: o}), nil
}

func (d *driverService) Rollback(ctx context.Context, r *connect.Request[pb.RollbackRequest]) (*connect.Response[pb.RollbackResponse], error) {
	o, err := d.s.o.Registry.Rollback(ctx, r.Msg.Driver, r.Msg.Version, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.RollbackResponse{Rollout: o}), nil
}

func (d *driverService) ListInterfaces(context.Context, *connect.Request[pb.ListInterfacesRequest]) (*connect.Response[pb.ListInterfacesResponse], error) {
	by, err := d.s.o.Registry.Implementers()
	if err != nil {
		return nil, err
	}
	res := &pb.ListInterfacesResponse{}
	for _, name := range interfaces.Names() {
		i, _ := interfaces.Get(name)
		res.Interfaces = append(res.Interfaces, &pb.Interface{Name: name, Title: i.Title, Description: i.Description, ModelJson: string(i.Model),
			Drivers: by[name]})
	}
	return connect.NewResponse(res), nil
}
