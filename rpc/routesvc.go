package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (s *topicService) PutRoute(ctx context.Context, r *connect.Request[pb.PutRouteRequest]) (*connect.Response[pb.PutRouteResponse], error) {
	m, err := s.s.o.Registry.PutRoute(ctx, r.Msg.Route)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutRouteResponse{Route: m}), nil
}

func (s *topicService) ListRoutes(ctx context.Context, r *connect.Request[pb.ListRoutesRequest]) (*connect.Response[pb.ListRoutesResponse], error) {
	res, err := paged("route", &r.Msg.PageToken, func() (*pb.ListRoutesResponse, error) {
		return s.s.o.Registry.ListRoutes(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListRoutesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *topicService) DeleteRoute(ctx context.Context, r *connect.Request[pb.DeleteRouteRequest]) (*connect.Response[pb.DeleteRouteResponse], error) {
	if err := s.s.o.Registry.DeleteRoute(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteRouteResponse{}), nil
}

func routeConfig(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.PutRouteRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	return named("route", "route.id", idOf(msg.Route == nil, func() *string { return &msg.Route.Id }))
}
