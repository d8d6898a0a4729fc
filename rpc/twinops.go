package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (t *twinService) ReleaseTwins(ctx context.Context, r *connect.Request[pb.ReleaseTwinsRequest]) (*connect.Response[pb.ReleaseTwinsResponse], error) {
	p := principalFrom(ctx)
	ids, err := t.s.o.Client.Release(ctx, r.Msg.Filter, projectsOf(p), p.Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ReleaseTwinsResponse{Ids: ids}), nil
}

func (t *twinService) ClearCommands(ctx context.Context, r *connect.Request[pb.ClearCommandsRequest]) (*connect.Response[pb.ClearCommandsResponse], error) {
	n, err := t.s.o.Client.ClearCommands(ctx, r.Msg.Id, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ClearCommandsResponse{Cleared: uint32(n)}), nil
}
