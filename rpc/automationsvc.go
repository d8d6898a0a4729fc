package rpc

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/automation"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// automationService keeps schedules and rules.
type automationService struct{ s *Server }

func (a *automationService) host() *automation.Host { return a.s.o.Client.Automation() }

// nextFirings is how many of the next firings are given where the caller does not say.
const nextFirings = 10

func (a *automationService) PutSchedule(ctx context.Context, r *connect.Request[pb.PutScheduleRequest]) (*connect.Response[pb.PutScheduleResponse], error) {
	r.Msg.Schedule.UpdateBy = principalFrom(ctx).Name
	m, err := a.s.o.Registry.PutSchedule(ctx, r.Msg.Schedule)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutScheduleResponse{Schedule: m, Notes: a.s.o.Registry.ScheduleNotes(m)}), nil
}

func (a *automationService) GetSchedule(ctx context.Context, r *connect.Request[pb.GetScheduleRequest]) (*connect.Response[pb.GetScheduleResponse], error) {
	m, err := a.s.o.Registry.Schedule(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, func(ctx context.Context) (*pb.GetScheduleResponse, error) {
		st, err := a.host().State(ctx, automation.KindSchedule, m.Id, &actorv1.UnitQuery{Runs: true})
		if err != nil {
			return nil, err
		}
		res := &pb.GetScheduleResponse{Schedule: m, State: st.Schedule, Runs: st.Runs}
		n := int(r.Msg.Next)
		if n == 0 {
			n = nextFirings
		}
		if !m.Paused {
			all, err := a.host().NextFirings(m, time.Now(), n)
			if err != nil {
				return nil, err
			}
			for _, at := range all {
				res.Next = append(res.Next, timestamppb.New(at))
			}
		}
		return res, nil
	})
}

func (a *automationService) ListSchedules(ctx context.Context, r *connect.Request[pb.ListSchedulesRequest]) (*connect.Response[pb.ListSchedulesResponse], error) {
	res, err := paged("schedule", &r.Msg.PageToken, func() (*pb.ListSchedulesResponse, error) {
		return a.s.o.Registry.ListSchedules(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListSchedulesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	for _, m := range res.Schedules {
		next := &timestamppb.Timestamp{}
		if all, err := a.host().NextFirings(m, time.Now(), 1); err == nil && len(all) > 0 && !m.Paused {
			next = timestamppb.New(all[0])
		}
		res.Next = append(res.Next, next)
	}
	return connect.NewResponse(res), nil
}

func (a *automationService) DeleteSchedule(ctx context.Context, r *connect.Request[pb.DeleteScheduleRequest]) (*connect.Response[pb.DeleteScheduleResponse], error) {
	if err := a.s.o.Registry.DeleteSchedule(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteScheduleResponse{}), nil
}

func (a *automationService) CancelSchedules(ctx context.Context, r *connect.Request[pb.CancelSchedulesRequest]) (*connect.Response[pb.CancelSchedulesResponse], error) {
	res, err := a.s.o.Registry.CancelSchedules(ctx, r.Msg.Twin)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (a *automationService) PutRule(ctx context.Context, r *connect.Request[pb.PutRuleRequest]) (*connect.Response[pb.PutRuleResponse], error) {
	r.Msg.Rule.UpdateBy = principalFrom(ctx).Name
	m, err := a.s.o.Registry.PutRule(ctx, r.Msg.Rule)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutRuleResponse{Rule: m, Notes: a.s.o.Registry.RuleNotes(m)}), nil
}

func (a *automationService) GetRule(ctx context.Context, r *connect.Request[pb.GetRuleRequest]) (*connect.Response[pb.GetRuleResponse], error) {
	m, err := a.s.o.Registry.Rule(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, func(ctx context.Context) (*pb.GetRuleResponse, error) {
		st, err := a.host().State(ctx, automation.KindRule, m.Id, &actorv1.UnitQuery{})
		if err != nil {
			return nil, err
		}
		return &pb.GetRuleResponse{Rule: m, State: st.Rule}, nil
	})
}

func (a *automationService) ListRules(ctx context.Context, r *connect.Request[pb.ListRulesRequest]) (*connect.Response[pb.ListRulesResponse], error) {
	res, err := paged("rule", &r.Msg.PageToken, func() (*pb.ListRulesResponse, error) {
		return a.s.o.Registry.ListRules(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListRulesResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	for _, m := range res.Rules {
		res.States = append(res.States, a.host().Committed(m.Id))
	}
	return connect.NewResponse(res), nil
}

func (a *automationService) DeleteRule(ctx context.Context, r *connect.Request[pb.DeleteRuleRequest]) (*connect.Response[pb.DeleteRuleResponse], error) {
	if err := a.s.o.Registry.DeleteRule(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteRuleResponse{}), nil
}

func (a *automationService) WhyRule(ctx context.Context, r *connect.Request[pb.WhyRuleRequest]) (*connect.Response[pb.WhyRuleResponse], error) {
	m, err := a.s.o.Registry.Rule(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, func(ctx context.Context) (*pb.WhyRuleResponse, error) {
		st, err := a.host().State(ctx, automation.KindRule, m.Id, &actorv1.UnitQuery{Runs: true, Why: true, Subject: r.Msg.Subject})
		if err != nil {
			return nil, err
		}
		return &pb.WhyRuleResponse{State: st.Rule, Evaluations: st.Evaluations, Runs: st.Runs, Now: st.Now, Notes: a.s.o.Registry.RuleNotes(m)}, nil
	})
}

func (a *automationService) TestRule(_ context.Context, r *connect.Request[pb.TestRuleRequest]) (*connect.Response[pb.TestRuleResponse], error) {
	m, err := a.meant(r.Msg.Id, r.Msg.Rule)
	if err != nil {
		return nil, err
	}
	ev, does, err := a.host().Test(m, r.Msg.Twin, r.Msg.Name, r.Msg.Values)
	var field *automation.FieldError
	switch {
	case errors.Is(err, automation.ErrNotFound):
		return nil, invalid("twin", "there is no twin "+r.Msg.Twin)
	case errors.As(err, &field):
		return nil, invalid(field.Path, field.Reason)
	case err != nil:
		return nil, err
	}
	return connect.NewResponse(&pb.TestRuleResponse{Evaluation: ev, Actions: does}), nil
}

// automationProcedures are the lines of the table for what acts by itself. Who makes a rule has things done, so he has to be one who may
// configure twins.
func automationProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.AutomationServicePutScheduleProcedure: {action: ActionTwinConfigure, resource: one("schedule", func(m *pb.PutScheduleRequest) *string {
			return idOf(m.GetSchedule() == nil, func() *string { return &m.Schedule.Id })
		})},
		rpcv1.AutomationServiceGetScheduleProcedure: {action: ActionTwinRead, resource: one("schedule", func(m *pb.GetScheduleRequest) *string { return &m.Id })},
		rpcv1.AutomationServiceListSchedulesProcedure: {action: ActionTwinRead, resource: listed("schedule", func(m *pb.ListSchedulesRequest) *string {
			return &m.Project
		})},
		rpcv1.AutomationServiceDeleteScheduleProcedure: {action: ActionTwinConfigure, resource: one("schedule", func(m *pb.DeleteScheduleRequest) *string {
			return &m.Id
		})},
		rpcv1.AutomationServiceCancelSchedulesProcedure: {action: ActionTwinConfigure, resource: one("twin", func(m *pb.CancelSchedulesRequest) *string {
			return &m.Twin
		})},
		rpcv1.AutomationServicePutRuleProcedure: {action: ActionTwinConfigure, resource: one("rule", func(m *pb.PutRuleRequest) *string {
			return idOf(m.GetRule() == nil, func() *string { return &m.Rule.Id })
		})},
		rpcv1.AutomationServiceGetRuleProcedure:    {action: ActionTwinRead, resource: one("rule", func(m *pb.GetRuleRequest) *string { return &m.Id })},
		rpcv1.AutomationServiceListRulesProcedure:  {action: ActionTwinRead, resource: listed("rule", func(m *pb.ListRulesRequest) *string { return &m.Project })},
		rpcv1.AutomationServiceDeleteRuleProcedure: {action: ActionTwinConfigure, resource: one("rule", func(m *pb.DeleteRuleRequest) *string { return &m.Id })},
		rpcv1.AutomationServiceWhyRuleProcedure: {action: ActionTwinRead, resource: func(m any, p *Principal) (Resource, error) {
			msg, ok := m.(*pb.WhyRuleRequest)
			if !ok {
				return Resource{}, errWrongMessage
			}
			r, err := named("rule", "id", &msg.Id)
			if err == nil {
				err = sameProject(r.Project, "subject", &msg.Subject)
			}
			return r, err
		}},
		rpcv1.AutomationServiceTestRuleProcedure:          {action: ActionTwinRead, resource: testedRule},
		rpcv1.AutomationServiceDryRunRuleProcedure:        {action: ActionTwinRead, resource: rehearsedRule},
		rpcv1.AutomationServiceListRuleTemplatesProcedure: {action: ActionTwinRead, resource: own("rule")},
		rpcv1.AutomationServiceFillRuleTemplateProcedure:  {action: ActionTwinRead, resource: filledRule},
	}
}

// testedRule: the rule that the request names, or has in it; its twin is in the same project.
func testedRule(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.TestRuleRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	id, path := &msg.Id, "id"
	if msg.Rule != nil {
		id, path = &msg.Rule.Id, "rule.id"
	}
	r, err := named("rule", path, id)
	if err == nil {
		err = sameProject(r.Project, "twin", &msg.Twin)
	}
	return r, err
}
