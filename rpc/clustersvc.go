package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type clusterService struct{ s *Server }

func (c *clusterService) GetStatus(ctx context.Context, _ *connect.Request[pb.GetStatusRequest]) (*connect.Response[pb.GetStatusResponse], error) {
	res, err := c.s.o.Cluster.Status(ctx)
	if err != nil {
		return nil, err
	}
	if res.Refused == nil {
		res.Refused = map[string]uint64{}
	}
	for why, n := range c.s.Refused() {
		res.Refused["http "+why] += n
	}
	return connect.NewResponse(res), nil
}

func (c *clusterService) ListNodes(ctx context.Context, _ *connect.Request[pb.ListNodesRequest]) (*connect.Response[pb.ListNodesResponse], error) {
	nodes, err := c.s.o.Cluster.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListNodesResponse{Nodes: nodes}), nil
}

func (c *clusterService) GetPlacement(ctx context.Context, r *connect.Request[pb.GetPlacementRequest]) (*connect.Response[pb.GetPlacementResponse], error) {
	res, err := c.s.o.Cluster.Placement(ctx, r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}
