package rpc

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// projectService keeps projects.
type projectService struct{ s *Server }

func (s *projectService) CreateProject(ctx context.Context, r *connect.Request[pb.CreateProjectRequest]) (*connect.Response[pb.CreateProjectResponse], error) {
	p, err := s.s.o.Registry.CreateProject(ctx, r.Msg.Settings)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateProjectResponse{Project: p}), nil
}

func (s *projectService) GetProject(_ context.Context, r *connect.Request[pb.GetProjectRequest]) (*connect.Response[pb.GetProjectResponse], error) {
	p, err := s.s.o.Registry.Project(r.Msg.Project)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetProjectResponse{Project: p}), nil
}

func (s *projectService) ListProjects(ctx context.Context, r *connect.Request[pb.ListProjectsRequest]) (*connect.Response[pb.ListProjectsResponse], error) {
	res, err := paged("project", &r.Msg.PageToken, func() (*pb.ListProjectsResponse, error) {
		return s.s.o.Registry.ListProjects(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListProjectsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *projectService) DeleteProject(ctx context.Context, r *connect.Request[pb.DeleteProjectRequest]) (*connect.Response[pb.DeleteProjectResponse], error) {
	keys, err := s.keysOf(r.Msg.Project)
	if err != nil {
		return nil, err
	}
	if err := s.s.o.Registry.DeleteProject(ctx, r.Msg.Project, keys...); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteProjectResponse{}), nil
}

// keysOf says how many keys a project has of its own, where it has some: they would open the next one of its name.
func (s *projectService) keysOf(name string) ([]string, error) {
	n := 0
	for rec, err := range s.s.o.Store.Scan(TableKey, "", "") {
		if err != nil {
			return nil, fmt.Errorf("keys of project %s: %w", name, err)
		}
		key, err := decodeKey(rec.Value)
		if err != nil {
			return nil, err
		}
		if key.Project == name {
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	return []string{fmt.Sprintf("key (%d)", n)}, nil
}

// projectProcedures are the lines of the table for projects.
func projectProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.ProjectServiceCreateProjectProcedure: {action: ActionSiteWrite, resource: listed("project", func(m *pb.CreateProjectRequest) *string {
			return idOf(m.GetSettings() == nil, func() *string { return &m.Settings.Project })
		})},
		rpcv1.ProjectServiceGetProjectProcedure:    {action: ActionSiteRead, resource: listed("project", func(m *pb.GetProjectRequest) *string { return &m.Project })},
		rpcv1.ProjectServiceListProjectsProcedure:  {action: ActionSiteRead, resource: listed("project", func(m *pb.ListProjectsRequest) *string { return &m.Project })},
		rpcv1.ProjectServiceDeleteProjectProcedure: {action: ActionSiteWrite, resource: listed("project", func(m *pb.DeleteProjectRequest) *string { return &m.Project })},
	}
}
