package rpc

import (
	"context"

	"connectrpc.com/connect"

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

func (d *driverService) GetRollout(_ context.Context, r *connect.Request[pb.GetRolloutRequest]) (*connect.Response[pb.GetRolloutResponse], error) {
	o, err := d.s.o.Registry.GetRollout(r.Msg.Driver, r.Msg.Number)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetRolloutResponse{Rollout: o}), nil
}

func (d *driverService) ListRollouts(_ context.Context, r *connect.Request[pb.ListRolloutsRequest]) (*connect.Response[pb.ListRolloutsResponse], error) {
	all, err := d.s.o.Registry.ListRollouts(r.Msg.Driver)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListRolloutsResponse{Rollouts: all}), nil
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
