package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// sourceService keeps the doors at which Pollux fetches messages.
type sourceService struct{ s *Server }

func (s *sourceService) CreateSource(ctx context.Context, r *connect.Request[pb.CreateSourceRequest]) (*connect.Response[pb.CreateSourceResponse], error) {
	m, err := s.s.o.Registry.CreateSource(ctx, r.Msg.Source)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateSourceResponse{Source: m}), nil
}

func (s *sourceService) GetSource(_ context.Context, r *connect.Request[pb.GetSourceRequest]) (*connect.Response[pb.GetSourceResponse], error) {
	m, err := s.s.o.Registry.Source(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetSourceResponse{Source: m}), nil
}

func (s *sourceService) ListSources(ctx context.Context, r *connect.Request[pb.ListSourcesRequest]) (*connect.Response[pb.ListSourcesResponse], error) {
	res, err := paged("source", &r.Msg.PageToken, func() (*pb.ListSourcesResponse, error) {
		return s.s.o.Registry.ListSources(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListSourcesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *sourceService) UpdateSource(ctx context.Context, r *connect.Request[pb.UpdateSourceRequest]) (*connect.Response[pb.UpdateSourceResponse], error) {
	m, err := s.s.o.Registry.UpdateSource(ctx, r.Msg.Source, r.Msg.RemoveSecret)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateSourceResponse{Source: m}), nil
}

func (s *sourceService) DeleteSource(ctx context.Context, r *connect.Request[pb.DeleteSourceRequest]) (*connect.Response[pb.DeleteSourceResponse], error) {
	if err := s.s.o.Registry.DeleteSource(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteSourceResponse{}), nil
}

// sourceProcedures are the lines of the table for sources.
func sourceProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.SourceServiceCreateSourceProcedure: {action: ActionTopicWrite, resource: sourceConfig(func(m *pb.CreateSourceRequest) *pb.Source { return m.Source })},
		rpcv1.SourceServiceUpdateSourceProcedure: {action: ActionTopicWrite, resource: sourceConfig(func(m *pb.UpdateSourceRequest) *pb.Source { return m.Source })},
		rpcv1.SourceServiceDeleteSourceProcedure: {action: ActionTopicWrite, resource: one("source", func(m *pb.DeleteSourceRequest) *string { return &m.Id })},
		rpcv1.SourceServiceGetSourceProcedure:    {action: ActionTopicRead, resource: one("source", func(m *pb.GetSourceRequest) *string { return &m.Id })},
		rpcv1.SourceServiceListSourcesProcedure:  {action: ActionTopicRead, resource: listed("source", func(m *pb.ListSourcesRequest) *string { return &m.Project })},
	}
}

func sourceConfig[M any](conf func(M) *pb.Source) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		x := conf(msg)
		return named("source", "source.id", idOf(x == nil, func() *string { return &x.Id }))
	}
}
