package rpc

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (s *topicService) PutRoute(ctx context.Context, r *connect.Request[pb.PutRouteRequest]) (*connect.Response[pb.PutRouteResponse], error) {
	m, err := s.s.o.Registry.PutRoute(ctx, r.Msg.Route)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutRouteResponse{Route: m}), nil
}

// GetRoute gives a route as the list does.
func (s *topicService) GetRoute(ctx context.Context, r *connect.Request[pb.GetRouteRequest]) (*connect.Response[pb.GetRouteResponse], error) {
	list := &pb.ListRoutesRequest{Project: actors.ProjectOf(r.Msg.Id), PageSize: 1000}
	for {
		res, err := s.ListRoutes(ctx, connect.NewRequest(proto.Clone(list).(*pb.ListRoutesRequest)))
		if err != nil {
			return nil, err
		}
		for _, m := range res.Msg.Routes {
			if m.Id == r.Msg.Id {
				return connect.NewResponse(&pb.GetRouteResponse{Route: m}), nil
			}
		}
		if list.PageToken = res.Msg.NextPageToken; list.PageToken == "" {
			return nil, fmt.Errorf("route %s: %w", r.Msg.Id, actors.ErrNotFound)
		}
	}
}

// ListRoutes gives routes with what passed them on all nodes: each twin counts where it lives.
func (s *topicService) ListRoutes(ctx context.Context, r *connect.Request[pb.ListRoutesRequest]) (*connect.Response[pb.ListRoutesResponse], error) {
	asked := proto.Clone(r.Msg).(*pb.ListRoutesRequest) // with the token as it came
	res, err := paged("route", &r.Msg.PageToken, func() (*pb.ListRoutesResponse, error) {
		return s.s.o.Registry.ListRoutes(ctx, r.Msg, !isLocal(ctx), projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListRoutesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	if len(res.Routes) > 0 && !isLocal(ctx) {
		s.countElsewhere(ctx, asked, res.Routes)
	}
	return connect.NewResponse(res), nil
}

// countElsewhere adds what the other nodes counted.
func (s *topicService) countElsewhere(ctx context.Context, asked *pb.ListRoutesRequest, routes []*pb.Route) {
	for _, a := range ask(ctx, s.s, s.s.others(), func(ctx context.Context, p *peerClients) (map[string]*pb.RouteCounts, error) {
		res, err := p.topics.ListRoutes(ctx, connect.NewRequest(asked))
		if err != nil {
			return nil, err
		}
		counts := map[string]*pb.RouteCounts{}
		for _, m := range res.Msg.Routes {
			counts[m.Id] = m.Counts
		}
		return counts, nil
	}) {
		for _, m := range routes {
			if c := a.value[m.Id]; a.err == nil && c != nil {
				m.Counts.Seen += c.Seen
				m.Counts.Matched += c.Matched
				m.Counts.Passed += c.Passed
				m.Counts.Replaced += c.Replaced
				m.Counts.Stopped += c.Stopped
				m.Counts.RunFailed += c.RunFailed
				m.Counts.Failed += c.Failed
				m.Counts.Nodes++
			} else {
				m.Counts.Silent++
			}
		}
	}
}

func (s *topicService) DeleteRoute(ctx context.Context, r *connect.Request[pb.DeleteRouteRequest]) (*connect.Response[pb.DeleteRouteResponse], error) {
	if err := s.s.o.Registry.DeleteRoute(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteRouteResponse{}), nil
}

// ReplayRoute takes dead letters of a route through it again.
func (s *topicService) ReplayRoute(ctx context.Context, r *connect.Request[pb.ReplayRouteRequest]) (*connect.Response[pb.ReplayRouteResponse], error) {
	res, err := s.s.o.Registry.ReplayRoute(ctx, r.Msg.Id, int(r.Msg.Limit))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func routeConfig(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.PutRouteRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	return named("route", "route.id", idOf(msg.Route == nil, func() *string { return &msg.Route.Id }))
}
