package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// modelService keeps the models of twins without a driver.
type modelService struct{ s *Server }

func (m *modelService) CreateModel(ctx context.Context, r *connect.Request[pb.CreateModelRequest]) (*connect.Response[pb.CreateModelResponse], error) {
	r.Msg.Model.UpdateBy = principalFrom(ctx).Name
	made, err := m.s.o.Registry.CreateModel(ctx, r.Msg.Model)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateModelResponse{Model: made}), nil
}

func (m *modelService) GetModel(_ context.Context, r *connect.Request[pb.GetModelRequest]) (*connect.Response[pb.GetModelResponse], error) {
	found, err := m.s.o.Registry.GetModel(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetModelResponse{Model: found}), nil
}

func (m *modelService) ListModels(ctx context.Context, r *connect.Request[pb.ListModelsRequest]) (*connect.Response[pb.ListModelsResponse], error) {
	res, err := paged("model", &r.Msg.PageToken, func() (*pb.ListModelsResponse, error) {
		return m.s.o.Registry.ListModels(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListModelsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (m *modelService) UpdateModel(ctx context.Context, r *connect.Request[pb.UpdateModelRequest]) (*connect.Response[pb.UpdateModelResponse], error) {
	r.Msg.Model.UpdateBy = principalFrom(ctx).Name
	made, err := m.s.o.Registry.UpdateModel(ctx, r.Msg.Model)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateModelResponse{Model: made}), nil
}

func (m *modelService) DeleteModel(ctx context.Context, r *connect.Request[pb.DeleteModelRequest]) (*connect.Response[pb.DeleteModelResponse], error) {
	if err := m.s.o.Registry.DeleteModel(ctx, r.Msg.Id, r.Msg.Revision); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteModelResponse{}), nil
}
