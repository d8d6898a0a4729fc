package rpc

import (
	"context"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors/automation"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

func (a *automationService) RaiseAlarm(ctx context.Context, r *connect.Request[pb.RaiseAlarmRequest]) (*connect.Response[pb.RaiseAlarmResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.RaiseAlarmResponse, error) {
		m, err := a.s.o.Registry.RaiseAlarm(ctx, r.Msg, principalFrom(ctx).Name)
		return &pb.RaiseAlarmResponse{Alarm: m}, err
	})
}

func (a *automationService) GetAlarm(ctx context.Context, r *connect.Request[pb.GetAlarmRequest]) (*connect.Response[pb.GetAlarmResponse], error) {
	m, err := a.s.o.Registry.Alarm(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, func(ctx context.Context) (*pb.GetAlarmResponse, error) {
		st, err := a.host().State(ctx, automation.KindAlarm, m.Id, &actorv1.UnitQuery{Runs: true})
		return &pb.GetAlarmResponse{Alarm: m, Runs: st.GetRuns()}, err
	})
}

func (a *automationService) ListAlarms(ctx context.Context, r *connect.Request[pb.ListAlarmsRequest]) (*connect.Response[pb.ListAlarmsResponse], error) {
	res, err := paged("alarm", &r.Msg.PageToken, func() (*pb.ListAlarmsResponse, error) {
		return a.s.o.Registry.ListAlarms(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListAlarmsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (a *automationService) ChangeAlarm(ctx context.Context, r *connect.Request[pb.ChangeAlarmRequest]) (*connect.Response[pb.ChangeAlarmResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.ChangeAlarmResponse, error) {
		m, err := a.s.o.Registry.ChangeAlarm(ctx, r.Msg, principalFrom(ctx).Name)
		return &pb.ChangeAlarmResponse{Alarm: m}, err
	})
}

func (a *automationService) DeleteAlarm(ctx context.Context, r *connect.Request[pb.DeleteAlarmRequest]) (*connect.Response[pb.DeleteAlarmResponse], error) {
	if err := a.s.o.Registry.DeleteAlarm(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteAlarmResponse{}), nil
}

func (a *automationService) CountAlarms(ctx context.Context, r *connect.Request[pb.CountAlarmsRequest]) (*connect.Response[pb.CountAlarmsResponse], error) {
	res, err := a.s.o.Registry.CountAlarms(r.Msg.Project, projectsOf(principalFrom(ctx)))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// alarmProcedures are the lines of the table for alarms: to raise, acknowledge and shelve them is an operator's work. What an alarm that is
// raised does when nobody looks is somebody's who may configure twins.
func alarmProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.AutomationServiceRaiseAlarmProcedure: {actionOf: func(m any) Action {
			switch r, ok := m.(*pb.RaiseAlarmRequest); {
			case !ok:
				return ActionNone
			case len(r.Escalate) > 0:
				return ActionTwinConfigure
			}
			return ActionTwinUse
		}, resource: one("alarm", func(m *pb.RaiseAlarmRequest) *string { return &m.Id })},
		rpcv1.AutomationServiceGetAlarmProcedure:    {action: ActionTwinRead, resource: one("alarm", func(m *pb.GetAlarmRequest) *string { return &m.Id })},
		rpcv1.AutomationServiceListAlarmsProcedure:  {action: ActionTwinRead, resource: listed("alarm", func(m *pb.ListAlarmsRequest) *string { return &m.Project })},
		rpcv1.AutomationServiceCountAlarmsProcedure: {action: ActionTwinRead, resource: listed("alarm", func(m *pb.CountAlarmsRequest) *string { return &m.Project })},
		rpcv1.AutomationServiceChangeAlarmProcedure: {action: ActionTwinUse, resource: one("alarm", func(m *pb.ChangeAlarmRequest) *string { return &m.Id })},
		rpcv1.AutomationServiceDeleteAlarmProcedure: {action: ActionTwinConfigure, resource: one("alarm", func(m *pb.DeleteAlarmRequest) *string { return &m.Id })},
	}
}
