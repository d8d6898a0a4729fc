package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type siteService struct{ s *Server }

func (s *siteService) PutZone(ctx context.Context, r *connect.Request[pb.PutZoneRequest]) (*connect.Response[pb.PutZoneResponse], error) {
	zone, err := s.s.o.Registry.PutZone(ctx, r.Msg.Zone)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutZoneResponse{Zone: zone}), nil
}

func (s *siteService) ListZones(ctx context.Context, r *connect.Request[pb.ListZonesRequest]) (*connect.Response[pb.ListZonesResponse], error) {
	res, err := paged("zone", &r.Msg.PageToken, func() (*pb.ListZonesResponse, error) {
		return s.s.o.Registry.ListZones(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListZonesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *siteService) DeleteZone(ctx context.Context, r *connect.Request[pb.DeleteZoneRequest]) (*connect.Response[pb.DeleteZoneResponse], error) {
	if err := s.s.o.Registry.DeleteZone(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteZoneResponse{}), nil
}

func (s *siteService) PutSystem(ctx context.Context, r *connect.Request[pb.PutSystemRequest]) (*connect.Response[pb.PutSystemResponse], error) {
	system, err := s.s.o.Registry.PutSystem(ctx, r.Msg.System)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutSystemResponse{System: system}), nil
}

func (s *siteService) ListSystems(ctx context.Context, r *connect.Request[pb.ListSystemsRequest]) (*connect.Response[pb.ListSystemsResponse], error) {
	res, err := paged("system", &r.Msg.PageToken, func() (*pb.ListSystemsResponse, error) {
		return s.s.o.Registry.ListSystems(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListSystemsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *siteService) DeleteSystem(ctx context.Context, r *connect.Request[pb.DeleteSystemRequest]) (*connect.Response[pb.DeleteSystemResponse], error) {
	if err := s.s.o.Registry.DeleteSystem(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteSystemResponse{}), nil
}

func (s *siteService) ListInbox(ctx context.Context, r *connect.Request[pb.ListInboxRequest]) (*connect.Response[pb.ListInboxResponse], error) {
	res, err := paged("inbox", &r.Msg.PageToken, func() (*pb.ListInboxResponse, error) {
		return s.s.o.Registry.ListInbox(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListInboxResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *siteService) ClaimInbox(ctx context.Context, r *connect.Request[pb.ClaimInboxRequest]) (*connect.Response[pb.ClaimInboxResponse], error) {
	twin, err := s.s.o.Registry.ClaimInbox(ctx, r.Msg.Id, r.Msg.Twin)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ClaimInboxResponse{Twin: twin}), nil
}

func (s *siteService) IgnoreInbox(ctx context.Context, r *connect.Request[pb.IgnoreInboxRequest]) (*connect.Response[pb.IgnoreInboxResponse], error) {
	entry, err := s.s.o.Registry.IgnoreInbox(ctx, r.Msg.Id, r.Msg.Undo)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.IgnoreInboxResponse{Entry: entry}), nil
}
