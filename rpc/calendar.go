package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	// maxCalendar is the longest span of a calendar: two months, in whole days.
	maxCalendar = 62 * 24 * time.Hour
	// firingsPerDay and firingsPerPage hold where the caller does not say.
	firingsPerDay, firingsPerPage = 12, 1000
	// schedulesPerPage bounds the schedules that a page looks at, due or not.
	schedulesPerPage = 500
)

func (a *automationService) ListFirings(ctx context.Context, r *connect.Request[pb.ListFiringsRequest]) (*connect.Response[pb.ListFiringsResponse], error) {
	m := r.Msg
	q := automation.FiringsQuery{Start: m.Start.AsTime(), End: m.End.AsTime(), Now: time.Now(), PerDay: firingsPerDay}
	switch d := q.End.Sub(q.Start); {
	case d <= 0:
		return nil, invalid("end", "is not after start")
	case d > maxCalendar:
		return nil, invalid("end", "is more than 62 days after start")
	}
	if m.PerDay > 0 {
		q.PerDay = int(m.PerDay)
	}
	var err error
	if q.Zone, err = cron.Zone(m.Zone); err != nil {
		return nil, invalid("zone", err.Error())
	}
	c := &calendarPage{a: a, q: q, res: &pb.ListFiringsResponse{Faults: map[string]string{}}, zones: map[string]bool{}}
	c.addZone(m.Zone)
	if m.Schedule != "" {
		s, err := a.s.o.Registry.Schedule(m.Schedule)
		if err != nil {
			return nil, err
		}
		c.add(s)
		return connect.NewResponse(c.res), nil
	}
	res, err := paged("firing", &m.PageToken, func() (*pb.ListFiringsResponse, error) {
		return c.fill(ctx, m, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListFiringsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// calendarPage is a page of ListFirings on its way.
type calendarPage struct {
	a     *automationService
	q     automation.FiringsQuery
	res   *pb.ListFiringsResponse
	zones map[string]bool
}

// fill adds schedules by their ids until the page is full.
func (c *calendarPage) fill(ctx context.Context, m *pb.ListFiringsRequest, projects func(string) bool) (*pb.ListFiringsResponse, error) {
	most := int(m.PageSize)
	if most == 0 {
		most = firingsPerPage
	}
	list, err := c.a.s.o.Registry.ListSchedules(&pb.ListSchedulesRequest{Project: m.Project, PageSize: schedulesPerPage, PageToken: m.PageToken}, projects)
	if err != nil {
		return nil, err
	}
	for i, s := range list.Schedules {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.add(s)
		if len(c.res.Firings) >= most && (i < len(list.Schedules)-1 || list.NextPageToken != "") {
			c.res.NextPageToken = s.Id
			return c.res, nil
		}
	}
	c.res.NextPageToken = list.NextPageToken
	return c.res, nil
}

func (c *calendarPage) add(s *pb.Schedule) {
	all, err := c.a.host().Firings(s, c.q)
	if err != nil {
		c.res.Faults[s.Id] = err.Error()
	}
	c.res.Firings = append(c.res.Firings, all...)
	if len(all) > 0 && (s.Timing.GetCron() != "" || s.Timing.GetCalendar() != nil) {
		c.addZone(s.Timing.Zone)
	}
}

// addZone adds the clock changes of a zone, once.
func (c *calendarPage) addZone(name string) {
	zone, err := cron.Zone(name)
	if err != nil || c.zones[name] {
		return
	}
	c.zones[name] = true
	c.res.ClockChanges = append(c.res.ClockChanges, automation.ClockChanges(zone, c.q.Start, c.q.End)...)
}

// firingsOf: the schedules of a project, or one of them.
func firingsOf(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.ListFiringsRequest)
	switch {
	case !ok:
		return Resource{}, errWrongMessage
	case msg.Schedule == "":
		return narrowed("schedule", &msg.Project, p)
	}
	if err := sameProjectOrOwn(&msg.Project, "schedule", &msg.Schedule); err != nil {
		return Resource{}, err
	}
	return named("schedule", "schedule", &msg.Schedule)
}

// sameProjectOrOwn is sameProject, where the project may be left to the id.
func sameProjectOrOwn(project *string, path string, id *string) error {
	if *project == "" {
		r, err := named("", path, id)
		*project = r.Project
		return err
	}
	return sameProject(*project, path, id)
}

// pastProcedures are the lines of the table for calendars and for what was.
func pastProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.AutomationServiceListFiringsProcedure:     {action: ActionTwinRead, resource: firingsOf},
		rpcv1.AutomationServiceListAlarmSpellsProcedure: {action: ActionTwinRead, resource: alarmsMeant(func(m *pb.ListAlarmSpellsRequest) **pb.AlarmFilter { return &m.Filter })},
		rpcv1.AutomationServiceGetAlarmStatisticsProcedure: {action: ActionTwinRead,
			resource: alarmsMeant(func(m *pb.GetAlarmStatisticsRequest) **pb.AlarmFilter { return &m.Filter })},
	}
}
