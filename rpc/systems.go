package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (s *siteService) GetZone(_ context.Context, r *connect.Request[pb.GetZoneRequest]) (*connect.Response[pb.GetZoneResponse], error) {
	zone, err := s.s.o.Registry.GetZone(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetZoneResponse{Zone: zone}), nil
}

func (s *siteService) GetSystem(_ context.Context, r *connect.Request[pb.GetSystemRequest]) (*connect.Response[pb.GetSystemResponse], error) {
	system, err := s.s.o.Registry.GetSystem(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetSystemResponse{System: system}), nil
}

func (s *siteService) StartSystem(ctx context.Context, r *connect.Request[pb.StartSystemRequest]) (*connect.Response[pb.StartSystemResponse], error) {
	results, err := s.s.o.Registry.SetSystemStopped(ctx, r.Msg.Id, false, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.StartSystemResponse{Results: results}), nil
}

func (s *siteService) StopSystem(ctx context.Context, r *connect.Request[pb.StopSystemRequest]) (*connect.Response[pb.StopSystemResponse], error) {
	results, err := s.s.o.Registry.SetSystemStopped(ctx, r.Msg.Id, true, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.StopSystemResponse{Results: results}), nil
}

func (s *siteService) InvokeSystem(ctx context.Context, r *connect.Request[pb.InvokeSystemRequest]) (*connect.Response[pb.InvokeSystemResponse], error) {
	results, err := s.s.o.Client.InvokeSystem(ctx, r.Msg, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.InvokeSystemResponse{Results: results}), nil
}
