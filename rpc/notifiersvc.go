package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// notifierService keeps notifiers and shows their outboxes.
type notifierService struct{ s *Server }

func (s *notifierService) CreateNotifier(ctx context.Context, r *connect.Request[pb.CreateNotifierRequest]) (*connect.Response[pb.CreateNotifierResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.CreateNotifierResponse, error) {
		r.Msg.Notifier.Revision = 0
		m, err := s.s.o.Registry.PutNotifier(ctx, r.Msg.Notifier)
		return &pb.CreateNotifierResponse{Notifier: m}, err
	})
}

func (s *notifierService) GetNotifier(ctx context.Context, r *connect.Request[pb.GetNotifierRequest]) (*connect.Response[pb.GetNotifierResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.GetNotifierResponse, error) {
		m, err := s.s.o.Registry.Notifier(ctx, r.Msg.Id)
		return &pb.GetNotifierResponse{Notifier: m}, err
	})
}

func (s *notifierService) ListNotifiers(ctx context.Context, r *connect.Request[pb.ListNotifiersRequest]) (*connect.Response[pb.ListNotifiersResponse], error) {
	res, err := paged("notifier", &r.Msg.PageToken, func() (*pb.ListNotifiersResponse, error) {
		return s.s.o.Registry.ListNotifiers(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListNotifiersResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *notifierService) UpdateNotifier(ctx context.Context, r *connect.Request[pb.UpdateNotifierRequest]) (*connect.Response[pb.UpdateNotifierResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.UpdateNotifierResponse, error) {
		m, err := s.s.o.Registry.UpdateNotifier(ctx, r.Msg.Notifier, r.Msg.RemoveSecret)
		return &pb.UpdateNotifierResponse{Notifier: m}, err
	})
}

func (s *notifierService) DeleteNotifier(ctx context.Context, r *connect.Request[pb.DeleteNotifierRequest]) (*connect.Response[pb.DeleteNotifierResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.DeleteNotifierResponse, error) {
		return &pb.DeleteNotifierResponse{}, s.s.o.Registry.DeleteNotifier(ctx, r.Msg.Id)
	})
}

func (s *notifierService) TestNotifier(ctx context.Context, r *connect.Request[pb.TestNotifierRequest]) (*connect.Response[pb.TestNotifierResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.TestNotifierResponse, error) {
		o, err := s.s.o.Registry.TestNotifier(ctx, r.Msg, principalFrom(ctx).Name)
		return &pb.TestNotifierResponse{Outcome: o}, err
	})
}

func (s *notifierService) Notify(ctx context.Context, r *connect.Request[pb.NotifyRequest]) (*connect.Response[pb.NotifyResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.NotifyResponse, error) {
		offset, err := s.s.o.Registry.Notify(ctx, r.Msg.Notification, principalFrom(ctx).Name)
		return &pb.NotifyResponse{Offset: offset}, err
	})
}

func (s *notifierService) ListNotifications(ctx context.Context, r *connect.Request[pb.ListNotificationsRequest]) (*connect.Response[pb.ListNotificationsResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.ListNotificationsResponse, error) {
		return paged("notification", &r.Msg.PageToken, func() (*pb.ListNotificationsResponse, error) {
			return s.s.o.Registry.Notifications(ctx, r.Msg)
		}, func(res *pb.ListNotificationsResponse) *string { return &res.NextPageToken })
	})
}

// series answers what attachments ask of the history, on this node's own behalf.
func (s *Server) series(ctx context.Context, m *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error) {
	ctx = context.WithValue(ctx, principalKey{}, &Principal{ID: s.o.Peers.Self(), Name: "node", Role: RoleViewer})
	res, err := (&historyService{s}).QuerySeries(ctx, connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// notifierProcedures are the lines of the table for notifiers: to configure them is an admin's work, as for sinks; to tell somebody by
// one is an operator's.
func notifierProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.NotifierServiceCreateNotifierProcedure: {action: ActionTopicWrite, resource: notifierConfig(func(m *pb.CreateNotifierRequest) *pb.Notifier { return m.Notifier })},
		rpcv1.NotifierServiceUpdateNotifierProcedure: {action: ActionTopicWrite, resource: notifierConfig(func(m *pb.UpdateNotifierRequest) *pb.Notifier { return m.Notifier })},
		rpcv1.NotifierServiceDeleteNotifierProcedure: {action: ActionTopicWrite, resource: one("notifier", func(m *pb.DeleteNotifierRequest) *string { return &m.Id })},
		rpcv1.NotifierServiceGetNotifierProcedure:    {action: ActionTopicRead, resource: one("notifier", func(m *pb.GetNotifierRequest) *string { return &m.Id })},
		rpcv1.NotifierServiceListNotifiersProcedure:  {action: ActionTopicRead, resource: listed("notifier", func(m *pb.ListNotifiersRequest) *string { return &m.Project })},
		rpcv1.NotifierServiceTestNotifierProcedure:   {action: ActionTwinUse, resource: one("notifier", func(m *pb.TestNotifierRequest) *string { return &m.Id })},
		rpcv1.NotifierServiceNotifyProcedure: {action: ActionTwinUse, resource: one("notifier", func(m *pb.NotifyRequest) *string {
			return idOf(m.Notification == nil, func() *string { return &m.Notification.Notifier })
		})},
		rpcv1.NotifierServiceListNotificationsProcedure: {action: ActionTopicRead, resource: one("notifier", func(m *pb.ListNotificationsRequest) *string { return &m.Notifier })},
	}
}

func notifierConfig[M any](conf func(M) *pb.Notifier) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		x := conf(msg)
		return named("notifier", "notifier.id", idOf(x == nil, func() *string { return &x.Id }))
	}
}
