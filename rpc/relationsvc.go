package rpc

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// relationService keeps the links between things, and walks over them.
type relationService struct{ s *Server }

func (s *relationService) CreateRelation(ctx context.Context, r *connect.Request[pb.CreateRelationRequest]) (*connect.Response[pb.CreateRelationResponse], error) {
	m, err := s.s.o.Registry.CreateRelation(ctx, r.Msg.Relation, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateRelationResponse{Relation: m}), nil
}

func (s *relationService) GetRelation(_ context.Context, r *connect.Request[pb.GetRelationRequest]) (*connect.Response[pb.GetRelationResponse], error) {
	m, err := s.s.o.Registry.Relation(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetRelationResponse{Relation: m}), nil
}

func (s *relationService) ListRelations(ctx context.Context, r *connect.Request[pb.ListRelationsRequest]) (*connect.Response[pb.ListRelationsResponse], error) {
	res, err := paged("relation", &r.Msg.PageToken, func() (*pb.ListRelationsResponse, error) {
		return s.s.o.Registry.ListRelations(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListRelationsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *relationService) UpdateRelation(ctx context.Context, r *connect.Request[pb.UpdateRelationRequest]) (*connect.Response[pb.UpdateRelationResponse], error) {
	m, err := s.s.o.Registry.UpdateRelation(ctx, r.Msg.Relation, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateRelationResponse{Relation: m}), nil
}

func (s *relationService) DeleteRelation(ctx context.Context, r *connect.Request[pb.DeleteRelationRequest]) (*connect.Response[pb.DeleteRelationResponse], error) {
	if err := s.s.o.Registry.DeleteRelation(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteRelationResponse{}), nil
}

func (s *relationService) Walk(ctx context.Context, r *connect.Request[pb.WalkRequest]) (*connect.Response[pb.WalkResponse], error) {
	res, err := paged("walk", &r.Msg.PageToken, func() (*pb.WalkResponse, error) { return s.s.o.Registry.Walk(r.Msg) },
		func(res *pb.WalkResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	if res.Twin != nil && r.Msg.State { // of one it is asked, where it lives
		one, err := (&twinService{s.s}).GetTwin(ctx, connect.NewRequest(&pb.GetTwinRequest{Id: res.Twin.Id}))
		if err != nil {
			return nil, err
		}
		res.Twin = one.Msg.Twin
	}
	return connect.NewResponse(res), nil
}

// relationProcedures are the lines of the table for relations: what they say is of their project's places.
func relationProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.RelationServiceCreateRelationProcedure: {action: ActionSiteWrite, resource: relationConfig(func(m *pb.CreateRelationRequest) *pb.Relation { return m.GetRelation() })},
		rpcv1.RelationServiceUpdateRelationProcedure: {action: ActionSiteWrite, resource: relationConfig(func(m *pb.UpdateRelationRequest) *pb.Relation { return m.GetRelation() })},
		rpcv1.RelationServiceGetRelationProcedure:    {action: ActionSiteRead, resource: oneRelation(func(m *pb.GetRelationRequest) *string { return &m.Id })},
		rpcv1.RelationServiceDeleteRelationProcedure: {action: ActionSiteWrite, resource: oneRelation(func(m *pb.DeleteRelationRequest) *string { return &m.Id })},
		rpcv1.RelationServiceListRelationsProcedure:  {action: ActionSiteRead, resource: listed("relation", func(m *pb.ListRelationsRequest) *string { return &m.Project })},
		rpcv1.RelationServiceWalkProcedure:           {action: ActionTwinRead, resource: walked},
	}
}

func oneRelation[M any](id func(M) *string) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		at := id(msg)
		full, err := actors.RelationID(*at)
		if err != nil {
			return Resource{}, invalid("id", err.Error())
		}
		*at = full
		return Resource{Project: actors.ProjectOf(full), Kind: "relation", ID: full}, nil
	}
}

// relationConfig: the relation that the request is of; where it has no id, that of its ends.
func relationConfig[M any](of func(M) *pb.Relation) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		x := of(msg)
		if x == nil {
			return Resource{}, invalid("relation", "is missing")
		}
		whole, err := actors.CompleteRelation(x)
		if err != nil {
			return Resource{}, err
		}
		x.Id, x.From, x.To, x.Type = whole.Id, whole.From, whole.To, whole.Type
		return Resource{Project: actors.ProjectOf(x.Id), Kind: "relation", ID: x.Id}, nil
	}
}

// walked: the project that the path begins with.
func walked(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.WalkRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	project, _, _ := strings.Cut(strings.Trim(msg.Path, "/"), "/")
	if !validProject(project) {
		return Resource{}, invalid("path", "begins with no project's name")
	}
	return Resource{Project: project, Kind: "twin"}, nil
}
