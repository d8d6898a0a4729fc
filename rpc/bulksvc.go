package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type bulkService struct{ s *Server }

func (b *bulkService) Apply(ctx context.Context, r *connect.Request[pb.ApplyRequest]) (*connect.Response[pb.ApplyResponse], error) {
	results, err := b.s.o.Registry.Apply(ctx, r.Msg, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ApplyResponse{Results: results}), nil
}

func (b *bulkService) DryRun(ctx context.Context, r *connect.Request[pb.DryRunRequest], out *connect.ServerStream[pb.DryRunResponse]) error {
	return b.s.o.Registry.DryRun(ctx, r.Msg, principalFrom(ctx).Name, func(results []*pb.ApplyResult) error {
		return out.Send(&pb.DryRunResponse{Results: results})
	})
}

func (b *bulkService) Export(ctx context.Context, r *connect.Request[pb.ExportRequest], out *connect.ServerStream[pb.ExportResponse]) error {
	return b.s.o.Registry.Export(ctx, r.Msg.Project, func(records []*pb.ConfigRecord) error {
		return out.Send(&pb.ExportResponse{Records: records})
	})
}

// applied: the project, whose records are looked at one by one where they are drafted. Who may configure its twins may
// change its zones and systems too.
func applied(m any, p *Principal) (Resource, error) {
	switch msg := m.(type) {
	case *pb.ApplyRequest:
		return ofOneProject("project", &msg.Project, p)
	case *pb.DryRunRequest:
		return ofOneProject("project", &msg.Project, p)
	}
	return Resource{}, errWrongMessage
}

func exported(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.ExportRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	return ofOneProject("project", &msg.Project, p)
}
