package rpc

import (
	"cmp"
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// logicService shows and tries logic.
type logicService struct{ s *Server }

// tryTimeout bounds the loading of a file that is tried.
const tryTimeout = 30 * time.Second

// ListLogics gives logics with what they did on all nodes: a run counts where it is called.
func (l *logicService) ListLogics(ctx context.Context, r *connect.Request[pb.ListLogicsRequest]) (*connect.Response[pb.ListLogicsResponse], error) {
	asked := proto.Clone(r.Msg).(*pb.ListLogicsRequest) // with the token as it came
	res, err := paged("logic", &r.Msg.PageToken, func() (*pb.ListLogicsResponse, error) {
		return l.s.o.Registry.ListLogics(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListLogicsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	if len(res.Logics) > 0 && !isLocal(ctx) {
		l.countElsewhere(ctx, asked, res.Logics)
	}
	return connect.NewResponse(res), nil
}

// countElsewhere adds what the other nodes counted.
func (l *logicService) countElsewhere(ctx context.Context, asked *pb.ListLogicsRequest, all []*pb.Logic) {
	for _, a := range ask(ctx, l.s, l.s.others(), func(ctx context.Context, p *peerClients) (map[string]*pb.Logic, error) {
		res, err := p.logics.ListLogics(ctx, connect.NewRequest(asked))
		if err != nil {
			return nil, err
		}
		theirs := map[string]*pb.Logic{}
		for _, m := range res.Msg.Logics {
			theirs[m.Id] = m
		}
		return theirs, nil
	}) {
		for _, m := range all {
			if x := a.value[m.Id]; a.err == nil && x != nil {
				actors.AddLogicCounts(m.Counts, x.Counts)
				if m.Fault == "" {
					m.Fault = x.Fault // that its run is left alone there
				}
			} else {
				m.Counts.Silent++
			}
		}
	}
}

func (l *logicService) RunLogic(ctx context.Context, r *connect.Request[pb.RunLogicRequest]) (*connect.Response[pb.RunLogicResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.RunLogicResponse, error) {
		return l.s.o.Client.Logic(ctx, r.Msg, principalFrom(ctx).Name)
	})
}

func (l *logicService) TryLogic(ctx context.Context, r *connect.Request[pb.TryLogicRequest]) (*connect.Response[pb.TryLogicResponse], error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	m := r.Msg
	if len(m.File) == 0 {
		res, err := l.s.o.Registry.TryLogic(ctx, nil, m)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(res), nil
	}
	if l.s.o.Load == nil {
		return nil, errors.New("this node runs no drivers")
	}
	if !drivers.IsSource(m.File) {
		return nil, &invalidError{path: "file", text: "it is no file of JavaScript; a module is tried by its id once it is uploaded"}
	}
	run, err := l.s.o.Load(ctx, m.File)
	if err != nil {
		return nil, &invalidError{path: "file", text: err.Error()}
	}
	defer func() { _ = run.Close() }()
	res, err := l.s.o.Registry.TryLogic(ctx, run, m)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func logicProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.LogicServiceListLogicsProcedure: {action: ActionTwinRead, resource: listed("logic", func(m *pb.ListLogicsRequest) *string { return &m.Project })},
		rpcv1.LogicServiceRunLogicProcedure: {action: ActionTwinUse, resource: func(m any, p *Principal) (Resource, error) {
			msg, ok := m.(*pb.RunLogicRequest)
			if !ok {
				return Resource{}, errWrongMessage
			}
			r, err := named("logic", "id", &msg.Id)
			if err == nil {
				err = sameProject(r.Project, "twin", &msg.Twin)
			}
			return r, err
		}},
		rpcv1.LogicServiceTryLogicProcedure: {action: ActionTwinConfigure, reads: true, resource: func(m any, p *Principal) (Resource, error) {
			msg, ok := m.(*pb.TryLogicRequest)
			if !ok {
				return Resource{}, errWrongMessage
			}
			if msg.Project == "" && (p == nil || p.Project == "") { // a try is in one project
				msg.Project, _, _ = splitID(cmp.Or(msg.Id, msg.Twin))
				msg.Project = cmp.Or(msg.Project, DefaultProject)
			}
			r, err := listed("logic", func(m *pb.TryLogicRequest) *string { return &m.Project })(m, p)
			if err == nil {
				err = sameProject(r.Project, "id", &msg.Id)
			}
			if err == nil {
				err = sameProject(r.Project, "twin", &msg.Twin)
			}
			return r, err
		}},
	}
}
