package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// sinkService keeps the ways out of topics.
type sinkService struct{ s *Server }

func (s *sinkService) CreateSink(ctx context.Context, r *connect.Request[pb.CreateSinkRequest]) (*connect.Response[pb.CreateSinkResponse], error) {
	m, err := s.s.o.Registry.CreateSink(ctx, r.Msg.Sink)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateSinkResponse{Sink: m}), nil
}

func (s *sinkService) GetSink(ctx context.Context, r *connect.Request[pb.GetSinkRequest]) (*connect.Response[pb.GetSinkResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.GetSinkResponse, error) {
		m, err := s.s.o.Registry.Sink(ctx, r.Msg.Id)
		return &pb.GetSinkResponse{Sink: m}, err
	})
}

func (s *sinkService) ListSinks(ctx context.Context, r *connect.Request[pb.ListSinksRequest]) (*connect.Response[pb.ListSinksResponse], error) {
	res, err := paged("sink", &r.Msg.PageToken, func() (*pb.ListSinksResponse, error) {
		return s.s.o.Registry.ListSinks(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListSinksResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *sinkService) UpdateSink(ctx context.Context, r *connect.Request[pb.UpdateSinkRequest]) (*connect.Response[pb.UpdateSinkResponse], error) {
	m, err := s.s.o.Registry.UpdateSink(ctx, r.Msg.Sink, r.Msg.RemoveSecret)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateSinkResponse{Sink: m}), nil
}

func (s *sinkService) DeleteSink(ctx context.Context, r *connect.Request[pb.DeleteSinkRequest]) (*connect.Response[pb.DeleteSinkResponse], error) {
	if err := s.s.o.Registry.DeleteSink(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteSinkResponse{}), nil
}

// sinkProcedures are the lines of the table for sinks.
func sinkProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.SinkServiceCreateSinkProcedure: {action: ActionTopicWrite, resource: sinkConfig(func(m *pb.CreateSinkRequest) *pb.Sink { return m.Sink })},
		rpcv1.SinkServiceUpdateSinkProcedure: {action: ActionTopicWrite, resource: sinkConfig(func(m *pb.UpdateSinkRequest) *pb.Sink { return m.Sink })},
		rpcv1.SinkServiceDeleteSinkProcedure: {action: ActionTopicWrite, resource: one("sink", func(m *pb.DeleteSinkRequest) *string { return &m.Id })},
		rpcv1.SinkServiceGetSinkProcedure:    {action: ActionTopicRead, resource: one("sink", func(m *pb.GetSinkRequest) *string { return &m.Id })},
		rpcv1.SinkServiceListSinksProcedure:  {action: ActionTopicRead, resource: listed("sink", func(m *pb.ListSinksRequest) *string { return &m.Project })},
	}
}

func sinkConfig[M any](conf func(M) *pb.Sink) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		x := conf(msg)
		return named("sink", "sink.id", idOf(x == nil, func() *string { return &x.Id }))
	}
}
