package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// aliasService keeps the outside names of twins.
type aliasService struct{ s *Server }

func (s *aliasService) CreateAlias(ctx context.Context, r *connect.Request[pb.CreateAliasRequest]) (*connect.Response[pb.CreateAliasResponse], error) {
	m, err := s.s.o.Registry.CreateAlias(ctx, r.Msg.Project, r.Msg.Named)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateAliasResponse{Named: m}), nil
}

func (s *aliasService) GetAlias(_ context.Context, r *connect.Request[pb.GetAliasRequest]) (*connect.Response[pb.GetAliasResponse], error) {
	m, err := s.s.o.Registry.Alias(r.Msg.Project, r.Msg.Alias)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetAliasResponse{Named: m}), nil
}

func (s *aliasService) ListAliases(ctx context.Context, r *connect.Request[pb.ListAliasesRequest]) (*connect.Response[pb.ListAliasesResponse], error) {
	res, err := paged("alias", &r.Msg.PageToken, func() (*pb.ListAliasesResponse, error) {
		return s.s.o.Registry.ListAliases(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListAliasesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *aliasService) UpdateAlias(ctx context.Context, r *connect.Request[pb.UpdateAliasRequest]) (*connect.Response[pb.UpdateAliasResponse], error) {
	m, err := s.s.o.Registry.UpdateAlias(ctx, r.Msg.Project, r.Msg.Named)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateAliasResponse{Named: m}), nil
}

func (s *aliasService) DeleteAlias(ctx context.Context, r *connect.Request[pb.DeleteAliasRequest]) (*connect.Response[pb.DeleteAliasResponse], error) {
	if err := s.s.o.Registry.DeleteAlias(ctx, r.Msg.Project, r.Msg.Alias); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteAliasResponse{}), nil
}

// aliasProcedures are the lines of the table for aliases.
func aliasProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.AliasServiceCreateAliasProcedure: {action: ActionTwinConfigure, resource: aliasIn(func(m *pb.CreateAliasRequest) *string { return &m.Project })},
		rpcv1.AliasServiceGetAliasProcedure:    {action: ActionTwinRead, resource: aliasIn(func(m *pb.GetAliasRequest) *string { return &m.Project })},
		rpcv1.AliasServiceListAliasesProcedure: {action: ActionTwinRead, resource: listed("alias", func(m *pb.ListAliasesRequest) *string { return &m.Project })},
		rpcv1.AliasServiceUpdateAliasProcedure: {action: ActionTwinConfigure, resource: aliasIn(func(m *pb.UpdateAliasRequest) *string { return &m.Project })},
		rpcv1.AliasServiceDeleteAliasProcedure: {action: ActionTwinConfigure, resource: aliasIn(func(m *pb.DeleteAliasRequest) *string { return &m.Project })},
	}
}

// aliasIn: the aliases of one project.
func aliasIn[M any](project func(M) *string) func(any, *Principal) (Resource, error) {
	return func(m any, p *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		return ofOneProject("alias", project(msg), p)
	}
}
