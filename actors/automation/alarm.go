package automation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// KindAlarm is the kind of the actors that escalate alarms. An alarm itself is a record, which any node changes by its revision.
const KindAlarm = "alarm"

// TableAlarms: id → pb.Alarm.
const TableAlarms storage.Table = "alarm"

const (
	// maxChanges is how many changes an alarm remembers.
	maxChanges = 20
	// maxAlarms of a project; one more cannot be raised.
	maxAlarms = 50_000
	// suppressedEvery is how often a suppressed alarm looks whether it still is.
	suppressedEvery = 20 * time.Second
	// maxGateways is how many gateways behind each other are looked at.
	maxGateways = 8
)

// ErrTooManyAlarms: a project has as many as it may.
var ErrTooManyAlarms = errors.New("too many alarms: delete some that are over")

// Raise is what an alarm is raised with.
type Raise struct {
	// ID is complete. Twin is the id of the one that it is about, or "".
	ID, Text, Twin, By string
	// Key tells a repetition of the same telling; empty: it is none.
	Key      string
	Severity pb.AlarmSeverity
	Escalate []*pb.Escalation
}

// RaiseAlarm raises an alarm, or says again that its reason is there, and returns when that is committed.
func (h *Host) RaiseAlarm(ctx context.Context, r Raise) (*pb.Alarm, error) {
	return h.changeAlarm(ctx, r.ID, true, func(m *pb.Alarm, now *timestamppb.Timestamp) (bool, error) {
		if r.Key != "" && m.Key == r.Key {
			return false, nil
		}
		fresh := !m.Active
		m.Key, m.Text, m.Severity, m.Twin, m.Zone, m.By, m.Escalate = r.Key, r.Text, r.Severity, r.Twin, "", r.By, r.Escalate
		if m.Severity == pb.AlarmSeverity_ALARM_SEVERITY_UNSPECIFIED {
			m.Severity = pb.AlarmSeverity_ALARM_SEVERITY_WARNING
		}
		if v, ok := h.o.World.View(r.Twin); ok && r.Twin != "" {
			m.Zone = v.Config.Zone
		}
		m.Told++
		if fresh {
			m.Active, m.Acknowledged, m.AcknowledgedBy, m.AcknowledgeTime, m.RaiseTime, m.ClearTime = true, false, "", nil, now, nil
			m.Raised++
			note(m, now, "raised", r.By, "")
		}
		return true, nil
	})
}

// ClearAlarm says that an alarm's reason is gone. One that is not there is nothing.
func (h *Host) ClearAlarm(ctx context.Context, id, by, text string) (*pb.Alarm, error) {
	return h.changeAlarm(ctx, id, false, func(m *pb.Alarm, now *timestamppb.Timestamp) (bool, error) {
		if !m.Active {
			return false, nil
		}
		m.Active, m.ClearTime, m.Key = false, now, ""
		note(m, now, "cleared", by, text)
		return true, nil
	})
}

// ChangeAlarm acknowledges, assigns, shelves or clears an alarm, and returns when that is committed.
func (h *Host) ChangeAlarm(ctx context.Context, req *pb.ChangeAlarmRequest, by string) (*pb.Alarm, error) {
	if _, clear := req.Change.(*pb.ChangeAlarmRequest_Clear); clear {
		return h.ClearAlarm(ctx, req.Id, by, req.Note)
	}
	return h.changeAlarm(ctx, req.Id, false, func(m *pb.Alarm, now *timestamppb.Timestamp) (bool, error) {
		switch x := req.Change.(type) {
		case *pb.ChangeAlarmRequest_Acknowledge:
			if m.Acknowledged {
				return false, nil
			}
			m.Acknowledged, m.AcknowledgedBy, m.AcknowledgeTime = true, by, now
			note(m, now, "acknowledged", by, req.Note)
		case *pb.ChangeAlarmRequest_Assign:
			m.AssignedTo = x.Assign
			note(m, now, "assigned", by, strings.TrimSpace("to "+x.Assign+" "+req.Note))
		case *pb.ChangeAlarmRequest_Shelve:
			d := x.Shelve.AsDuration()
			if d == 0 {
				m.ShelvedUntil = nil
				note(m, now, "unshelved", by, req.Note)
				break
			}
			m.ShelvedUntil = timestamppb.New(now.AsTime().Add(d))
			note(m, now, "shelved", by, strings.TrimSpace("for "+d.String()+" "+req.Note))
		default:
			return false, wrong("/change", "name one of acknowledge, assign, shelve, clear")
		}
		return true, nil
	})
}

func note(m *pb.Alarm, now *timestamppb.Timestamp, what, by, text string) {
	m.Changes = append([]*pb.AlarmChange{{Time: now, What: what, By: by, Note: text}}, m.Changes...)
	m.Changes = m.Changes[:min(len(m.Changes), maxChanges)]
}

// changeAlarm commits what change makes of an alarm; where somebody else was faster it is made again.
func (h *Host) changeAlarm(ctx context.Context, id string, create bool, change func(*pb.Alarm, *timestamppb.Timestamp) (bool, error)) (*pb.Alarm, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		rec, ok, err := h.o.Store.Get(TableAlarms, id)
		if err != nil {
			return nil, fmt.Errorf("alarm %s: %w", id, err)
		}
		if !ok && !create {
			return nil, fmt.Errorf("alarm %s: %w", id, ErrNotFound)
		}
		m := &pb.Alarm{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return nil, fmt.Errorf("record of alarm %s: %w", id, err)
		}
		m.Id, m.Revision = id, 0
		if !ok {
			project, _, _ := strings.Cut(id, "/")
			if n, err := h.o.Store.Count(TableAlarms, project+"/"); err != nil || n >= maxAlarms {
				return nil, errors.Join(fmt.Errorf("alarm %s: %w", id, ErrTooManyAlarms), err)
			}
		}
		now := timestamppb.New(h.o.Now())
		yes, err := change(m, now)
		if err != nil || !yes {
			m.Revision = rec.Revision
			return m, err
		}
		value, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		revision, err := h.o.Store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: TableAlarms, Key: id, Revision: rec.Revision}},
			Writes: []storage.Write{{Table: TableAlarms, Key: id, Value: value}, h.Born(KindAlarm, id)}, Journal: h.told(m, now)})
		if err == nil {
			m.Revision = revision
			return m, nil
		}
		if !errors.Is(err, storage.ErrGuard) && !errors.Is(err, storage.ErrBusy) {
			return nil, fmt.Errorf("alarm %s: %w", id, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("alarm %s: %w", id, ctx.Err())
		}
	}
}

// suppressor gives the active alarm of the gateway of an alarm's twin, or "". active has the active alarms by their twins.
func (h *Host) suppressor(m *pb.Alarm, active map[string]string) string {
	at := m.Twin
	for range maxGateways {
		v, ok := h.o.World.View(at)
		if at == "" || !ok || v.Config.Via == "" {
			return ""
		}
		at = v.Config.Via
		if id := active[at]; id != "" && id != m.Id {
			return id
		}
	}
	return ""
}

// byTwin gives alarms by their twins: the first of each.
func byTwin(alarms []*pb.Alarm) map[string]string {
	all := map[string]string{}
	for _, m := range alarms {
		if all[m.Twin] == "" {
			all[m.Twin] = m.Id
		}
	}
	return all
}

// active gives the active alarms of a project that are about twins, by their ids.
func (h *Host) active(project string) (all []*pb.Alarm) {
	for rec, err := range h.o.Store.Scan(TableAlarms, project+"/", "") {
		m := &pb.Alarm{}
		if err != nil || proto.Unmarshal(rec.Value, m) != nil {
			break
		}
		if m.Active && m.Twin != "" {
			m.Id = rec.Key
			all = append(all, m)
		}
	}
	return all
}

// Groups are the alarms of a project by the one of the gateway that they stand behind.
type Groups struct {
	by     map[string]string
	behind map[string]uint32
}

// Groups works out which active alarms of a project are suppressed, and by which.
func (h *Host) Groups(project string) *Groups {
	g, all := &Groups{by: map[string]string{}, behind: map[string]uint32{}}, h.active(project)
	twins := byTwin(all)
	for _, m := range all {
		if by := h.suppressor(m, twins); by != "" {
			g.by[m.Id] = by
		}
	}
	for _, by := range g.by {
		for n := 0; by != "" && n < maxGateways; n++ { // and that which stands behind another one
			g.behind[by]++
			by = g.by[by]
		}
	}
	return g
}

// Note sets what is known of an alarm by its group.
func (g *Groups) Note(m *pb.Alarm) {
	if m.Active {
		m.SuppressedBy, m.Suppresses = g.by[m.Id], g.behind[m.Id]
	}
}

// alarm is the logic of an alarm's escalation.
type alarm struct {
	u    *unit
	conf *pb.Alarm
	// suppressed: its gateway has an alarm; looked is when that was found out.
	suppressed string
	looked     int64
}

func (a *alarm) configure(t *turn) (bool, error) {
	rec, ok, err := a.u.h.o.Store.Get(TableAlarms, a.u.id)
	if err != nil || !ok {
		return false, err
	}
	a.conf, a.looked = &pb.Alarm{}, 0
	if err := proto.Unmarshal(rec.Value, a.conf); err != nil {
		return false, fmt.Errorf("record of alarm %s: %w", a.u.id, err)
	}
	a.conf.Id = a.u.id
	if a.u.rec.Raised != a.conf.Raised {
		a.u.rec.Raised, a.u.rec.Escalated, a.u.rec.Shifted, t.dirty = a.conf.Raised, 0, 0, true
	}
	return true, nil
}

// next is when the next escalation is due; 0: there is none.
func (a *alarm) next() int64 {
	n := int(a.u.rec.Escalated)
	if !a.conf.Active || a.conf.Acknowledged || n >= len(a.conf.Escalate) {
		return 0
	}
	due := notBefore(a.conf.RaiseTime.AsTime().Add(a.conf.Escalate[n].After.AsDuration())) + a.u.rec.Shifted
	if a.conf.ShelvedUntil != nil {
		due = max(due, notBefore(a.conf.ShelvedUntil.AsTime()))
	}
	return due
}

// notBefore is the first millisecond that is not before a time.
func notBefore(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

func (a *alarm) due() int64 {
	due := a.next()
	if due > 0 && a.suppressed != "" {
		due = max(due, a.looked+suppressedEvery.Milliseconds())
	}
	return due
}

func (a *alarm) tick(t *turn) {
	for a.next() > 0 && a.next() <= t.ms {
		if a.suppressed == "" || t.ms-a.looked >= suppressedEvery.Milliseconds() {
			project, _, _ := strings.Cut(a.u.id, "/")
			a.suppressed, a.looked = a.u.h.suppressor(a.conf, byTwin(a.u.h.active(project))), t.ms
		}
		if a.suppressed != "" {
			return
		}
		n := a.u.rec.Escalated
		a.u.rec.Escalated++
		a.u.rec.Firings++
		t.dirty = true
		run := &pb.Run{Subject: a.conf.Twin, Part: n, Cause: fmt.Sprintf("not acknowledged for %s", a.conf.Escalate[n].After.AsDuration()),
			Values: map[string]string{"kind": jsonOf("alarm"), "name": jsonOf(a.conf.Id), "value": jsonOf(map[string]any{"text": a.conf.Text,
				"severity": severityWord(a.conf.Severity), "raised": a.conf.Raised, "by": a.conf.By})}}
		if a.conf.Escalate[n].After.AsDuration() == 0 {
			run.Cause = "raised"
		}
		if err := a.u.fire(t, run); err != nil {
			a.u.h.o.Logger.Error("alarm", "id", a.u.id, "err", err)
			return
		}
	}
}

func severityWord(s pb.AlarmSeverity) string {
	if s == pb.AlarmSeverity_ALARM_SEVERITY_UNSPECIFIED {
		s = pb.AlarmSeverity_ALARM_SEVERITY_WARNING // as it is raised
	}
	return strings.ToLower(strings.TrimPrefix(s.String(), "ALARM_SEVERITY_"))
}

func (a *alarm) handle(t *turn, x item) {
	if _, ok := x.env.Message.(*actorv1.UnitQuery); !ok {
		x.fail(fmt.Errorf("alarm %s: a %T: %w", a.u.id, x.env.Message, ErrNotFound))
		return
	}
	t.answer(x, &actorv1.UnitAnswer{Runs: a.u.runsOf(20)})
}

func (a *alarm) actions(run *pb.Run) []*pb.Action {
	if int(run.Part) >= len(a.conf.GetEscalate()) {
		return nil
	}
	return a.conf.Escalate[run.Part].Actions
}

// alarmed is the twin that an alarm is about. Which of many twins had a rule with one state for all begin or cease to hold says nothing of the others.
func (r *runner) alarmed() string {
	if r.shared {
		return ""
	}
	return r.scope.subject
}

// alarmOf gives the id of the alarm that an action names: its name, or that of who acts, with the twin's where it is about one.
func (r *runner) alarmOf(name string) string {
	if name == "" {
		name = r.scope.name
	}
	if _, twin, ok := strings.Cut(r.alarmed(), "/"); ok {
		name += "." + twin
	}
	return r.scope.project + "/" + name[:min(len(name), 128)]
}
