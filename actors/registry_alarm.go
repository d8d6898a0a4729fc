package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// RaiseAlarm raises an alarm, or says again that its reason is there.
func (r *Registry) RaiseAlarm(ctx context.Context, req *pb.RaiseAlarmRequest, by string) (*pb.Alarm, error) {
	id, err := CanonicalID(req.Id)
	if err != nil {
		return nil, err
	}
	project := ProjectOf(id)
	req = proto.Clone(req).(*pb.RaiseAlarmRequest)
	if err := completeID(project, "/twin", &req.Twin); err != nil {
		return nil, err
	}
	if req.Twin != "" && !r.e.known(req.Twin) {
		return nil, invalid("/twin", "there is no twin %s", req.Twin)
	}
	if err := completeEscalations(project, "/escalate", req.Escalate); err != nil {
		return nil, err
	}
	if err := notifiersOfAll("/escalate", req.Escalate, r.notifierThere(project)); err != nil {
		return nil, err
	}
	if err := r.e.automation.CheckEscalations("/escalate", req.Escalate, req.Twin != ""); err != nil {
		return nil, at(err)
	}
	m, err := r.e.automation.RaiseAlarm(ctx, automation.Raise{ID: id, Text: req.Text, Twin: req.Twin, By: by, Severity: req.Severity, Escalate: req.Escalate})
	return m, alarmError(id, err)
}

// alarmError makes errors of package automation this one's.
func alarmError(id string, err error) error {
	if errors.Is(err, automation.ErrNotFound) {
		return fmt.Errorf("alarm %s: %w", id, ErrNotFound)
	}
	return at(err)
}

func completeEscalations(project, path string, all []*pb.Escalation) error {
	for i, e := range all {
		if err := completeTargets(project, fmt.Sprintf("%s/%d/actions", path, i), e.Actions); err != nil {
			return err
		}
	}
	return nil
}

// Alarm gives an alarm.
func (r *Registry) Alarm(id string) (*pb.Alarm, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := get(r.store, automation.TableAlarms, id, &pb.Alarm{})
	if err != nil {
		return nil, err
	}
	m.Id = id
	if m.Active && m.Twin != "" {
		r.e.automation.Groups(ProjectOf(id)).Note(m)
	}
	return m, nil
}

// ChangeAlarm acknowledges, assigns, shelves or clears an alarm.
func (r *Registry) ChangeAlarm(ctx context.Context, req *pb.ChangeAlarmRequest, by string) (*pb.Alarm, error) {
	id, err := CanonicalID(req.Id)
	if err != nil {
		return nil, err
	}
	req = proto.Clone(req).(*pb.ChangeAlarmRequest)
	req.Id = id
	m, err := r.e.automation.ChangeAlarm(ctx, req, by)
	return m, alarmError(id, err)
}

// DeleteAlarm forgets an alarm.
func (r *Registry) DeleteAlarm(ctx context.Context, id string) error {
	return r.deleteUnit(ctx, automation.KindAlarm, automation.TableAlarms, id)
}

// attention says whether somebody should look at an alarm.
func (r *Registry) attention(m *pb.Alarm) bool {
	return (m.Active || !m.Acknowledged) && m.SuppressedBy == "" && (m.ShelvedUntil == nil || !m.ShelvedUntil.AsTime().After(r.e.now()))
}

// ListAlarms gives a page of alarms by id: those that need attention, or all.
func (r *Registry) ListAlarms(req *pb.ListAlarmsRequest, projects func(string) bool) (*pb.ListAlarmsResponse, error) {
	res := &pb.ListAlarmsResponse{}
	limit, prefix := pageSize(req.PageSize), ""
	if req.Project != "" {
		prefix = req.Project + "/"
	}
	groups := map[string]*automation.Groups{}
	last := ""
	for rec, err := range r.store.Scan(automation.TableAlarms, prefix, req.PageToken) {
		if err != nil {
			return nil, fmt.Errorf("list alarms: %w", err)
		}
		project := ProjectOf(rec.Key)
		if projects != nil && !projects(project) {
			continue
		}
		m, err := decode(rec, &pb.Alarm{})
		if err != nil {
			return nil, err
		}
		m.Id = rec.Key
		if m.Active && m.Twin != "" {
			if groups[project] == nil {
				groups[project] = r.e.automation.Groups(project)
			}
			groups[project].Note(m)
		}
		if !r.listed(m, req) {
			continue
		}
		if len(res.Alarms) == limit {
			res.NextPageToken = last
			break
		}
		res.Alarms = append(res.Alarms, m)
		last = rec.Key
	}
	return res, nil
}

func (r *Registry) listed(m *pb.Alarm, req *pb.ListAlarmsRequest) bool {
	project := ProjectOf(m.Id)
	return (req.All || r.attention(m)) && m.Severity >= req.Severity && (req.Twin == "" || m.Twin == within(project, req.Twin)) &&
		(req.Zone == "" || r.e.world.inZone(m.Zone, within(project, req.Zone)))
}

// maxCounted is how many twins CountAlarms names.
const maxCounted = 1000

// CountAlarms counts the alarms of a project whose reason is there.
func (r *Registry) CountAlarms(project string, projects func(string) bool) (*pb.CountAlarmsResponse, error) {
	res := &pb.CountAlarmsResponse{BySeverity: map[string]uint32{}, ByZone: map[string]uint32{}, ByTwin: map[string]uint32{}}
	prefix := ""
	if project != "" {
		prefix = project + "/"
	}
	for rec, err := range r.store.Scan(automation.TableAlarms, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("count alarms: %w", err)
		}
		m, err := decode(rec, &pb.Alarm{})
		if err != nil || projects != nil && !projects(ProjectOf(rec.Key)) {
			continue
		}
		if !m.Acknowledged {
			res.Unacknowledged++
		}
		if !m.Active {
			continue
		}
		res.Active++
		res.BySeverity[strings.ToLower(strings.TrimPrefix(m.Severity.String(), "ALARM_SEVERITY_"))]++
		if m.Zone != "" {
			res.ByZone[m.Zone]++
		}
		if m.Twin != "" {
			res.ByTwin[m.Twin]++
		}
	}
	if len(res.ByTwin) > maxCounted {
		ids := make([]string, 0, len(res.ByTwin))
		for id := range res.ByTwin {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(a, b string) int { return int(res.ByTwin[b]) - int(res.ByTwin[a]) })
		for _, id := range ids[maxCounted:] {
			delete(res.ByTwin, id)
		}
	}
	return res, nil
}
