package rpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/journal"
)

const (
	// alarmSpan is how far back spells are looked for where the caller does not say.
	alarmSpan = 30 * 24 * time.Hour
	// maxToldRead bounds the entries of the journal that one answer is made of, of each project. What is older is left out, and `since` says so.
	maxToldRead = 100_000
	// alarmPage is how many spells or groups a page has where the caller does not say.
	alarmPage = 100
)

// spells is what is known of a span: those that a filter means, from when on they are whole, and the span itself.
type spells struct {
	list              []*pb.AlarmSpell
	start, end, since time.Time
}

// spellsOf reads the spells of a filter: of the alarms' records, and of the journal.
func (a *automationService) spellsOf(ctx context.Context, f *pb.AlarmFilter) (*spells, error) {
	out := &spells{end: time.Now()}
	if f.GetEnd() != nil {
		out.end = f.End.AsTime()
	}
	if out.start = out.end.Add(-alarmSpan); f.GetStart() != nil {
		out.start = f.Start.AsTime()
	}
	if !out.start.Before(out.end) {
		return nil, invalid("filter.start", "is not before end")
	}
	projects, err := a.s.o.Registry.ProjectNames(f.GetProject(), projectsOf(principalFrom(ctx)))
	if err != nil {
		return nil, err
	}
	a.s.o.Journal.CatchUp(ctx, journalPatience)
	var all automation.Spells
	out.since = out.start
	for _, project := range projects {
		if err := a.s.o.Registry.AlarmsOf(project, func(m *pb.Alarm) error { all.Add(m); return ctx.Err() }); err != nil {
			return nil, err
		}
		since, err := a.told(ctx, project, out.start, &all)
		if err != nil {
			return nil, err
		}
		if since.After(out.since) {
			out.since = since
		}
	}
	out.list = all.Within(out.start, out.end, func(s *pb.AlarmSpell) bool { return a.s.o.Registry.AlarmMeant(f, s) })
	return out, nil
}

// told adds what the journal tells of a project's alarms from start on, also beyond the end of the span: that is where one says when it was cleared. It
// gives from when on it has all.
func (a *automationService) told(ctx context.Context, project string, start time.Time, all *automation.Spells) (since time.Time, err error) {
	q := journal.Query{Project: project, Own: true, Kinds: []string{automation.JournalAlarm}, Start: start.UnixMilli(), Newest: true, Limit: journal.MaxLimit}
	for n := 0; ; {
		page, err := a.s.o.Journal.List(ctx, q)
		if err != nil {
			return start, fmt.Errorf("alarms of %s in the journal: %w", project, err)
		}
		for i := range page.Entries {
			all.Tell(&page.Entries[i])
		}
		if q.After = page.Next; q.After == nil {
			return start, nil
		}
		if n += len(page.Entries); n >= maxToldRead {
			return time.UnixMilli(q.After.Time), nil
		}
	}
}

func (a *automationService) ListAlarmSpells(ctx context.Context, r *connect.Request[pb.ListAlarmSpellsRequest]) (*connect.Response[pb.ListAlarmSpellsResponse], error) {
	if at := a.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, a.s, at, func(p *peerClients) (*connect.Response[pb.ListAlarmSpellsResponse], error) {
			return p.rules.ListAlarmSpells(ctx, connect.NewRequest(r.Msg))
		})
	}
	const kind = "alarm spell"
	token, err := afterToken(kind, r.Msg.PageToken)
	if err != nil {
		return nil, err
	}
	s, err := a.spellsOf(ctx, r.Msg.Filter)
	if err != nil {
		return nil, err
	}
	res := &pb.ListAlarmSpellsResponse{Since: timestamppb.New(s.since)}
	rest := s.list
	if token != "" {
		var ms int64
		last := &pb.AlarmSpell{}
		if _, err := fmt.Sscanf(token, "%d %d %s", &ms, &last.Number, &last.Alarm); err != nil {
			return nil, invalid("page_token", "is not the next_page_token of such a list")
		}
		last.RaiseTime = timestamppb.New(time.UnixMilli(ms))
		for len(rest) > 0 && automation.CompareSpells(rest[0], last) <= 0 {
			rest = rest[1:]
		}
	}
	if limit := pageOf(r.Msg.PageSize); len(rest) > limit {
		rest = rest[:limit]
		last := rest[limit-1]
		res.NextPageToken = pageToken(kind, fmt.Sprintf("%d %d %s", last.RaiseTime.AsTime().UnixMilli(), last.Number, last.Alarm))
	}
	res.Spells = rest
	return connect.NewResponse(res), nil
}

func (a *automationService) GetAlarmStatistics(ctx context.Context, r *connect.Request[pb.GetAlarmStatisticsRequest]) (*connect.Response[pb.GetAlarmStatisticsResponse], error) {
	if at := a.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, a.s, at, func(p *peerClients) (*connect.Response[pb.GetAlarmStatisticsResponse], error) {
			return p.rules.GetAlarmStatistics(ctx, connect.NewRequest(r.Msg))
		})
	}
	kind := "alarm figures of " + r.Msg.Group.String()
	token, err := afterToken(kind, r.Msg.PageToken)
	if err != nil {
		return nil, err
	}
	skip := 0
	if token != "" {
		if skip, err = strconv.Atoi(token); err != nil || skip < 0 {
			return nil, invalid("page_token", "is not the next_page_token of such a list")
		}
	}
	zone, err := cron.Zone(r.Msg.Zone)
	if err != nil {
		return nil, invalid("zone", err.Error())
	}
	s, err := a.spellsOf(ctx, r.Msg.Filter)
	if err != nil {
		return nil, err
	}
	step := 24 * time.Hour
	if r.Msg.Step != nil {
		step = r.Msg.Step.AsDuration()
	}
	res := &pb.GetAlarmStatisticsResponse{Start: timestamppb.New(s.start), End: timestamppb.New(s.end), Since: timestamppb.New(s.since)}
	if res.Bars, err = automation.Bars(s.list, s.start, s.end, step, zone); err != nil {
		return nil, invalidField(err)
	}
	res.Total, res.Groups = automation.Figures(s.list, s.start, s.end, r.Msg.Group)
	res.Groups = res.Groups[min(skip, len(res.Groups)):]
	if limit := pageOf(r.Msg.PageSize); len(res.Groups) > limit {
		res.Groups = res.Groups[:limit]
		res.NextPageToken = pageToken(kind, strconv.Itoa(skip+limit))
	}
	return connect.NewResponse(res), nil
}

func pageOf(size uint32) int {
	if size == 0 {
		return alarmPage
	}
	return int(size)
}

// invalidField makes an error of package automation about a field one of the request.
func invalidField(err error) error {
	var field *automation.FieldError
	if errors.As(err, &field) {
		return invalid(strings.ReplaceAll(strings.TrimPrefix(field.Path, "/"), "/", "."), field.Reason)
	}
	return err
}

// alarmsMeant: the alarms of a filter, whose ids are all of one project. None named: the caller's projects.
func alarmsMeant[M any](filter func(M) **pb.AlarmFilter) func(any, *Principal) (Resource, error) {
	return func(m any, p *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		f := filter(msg)
		if *f == nil {
			*f = &pb.AlarmFilter{}
		}
		ids := map[string]*string{"filter.alarm": &(*f).Alarm, "filter.twin": &(*f).Twin, "filter.zone": &(*f).Zone}
		for path, id := range ids { // the first complete id says which project it is
			if (*f).Project != "" || *id == "" {
				continue
			}
			r, err := named("alarm", path, id)
			if err != nil {
				return Resource{}, err
			}
			(*f).Project = r.Project
		}
		for path, id := range ids {
			if err := sameProject((*f).Project, path, id); err != nil {
				return Resource{}, err
			}
		}
		return narrowed("alarm", &(*f).Project, p)
	}
}
