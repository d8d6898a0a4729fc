package actors

import (
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ProjectNames gives the projects that there are: the one that is named, or else all of those that projects lets through (nil: all).
func (r *Registry) ProjectNames(project string, projects func(string) bool) (all []string, err error) {
	if project != "" {
		return []string{project}, nil
	}
	for name := ""; ; {
		if name, err = r.projectAfter(name); err != nil || name == "" {
			return all, err
		}
		if projects == nil || projects(name) {
			all = append(all, name)
		}
	}
}

// AlarmsOf calls fn with each alarm of a project, until it fails.
func (r *Registry) AlarmsOf(project string, fn func(*pb.Alarm) error) error {
	for rec, err := range r.store.Scan(automation.TableAlarms, project+"/", "") {
		if err != nil {
			return fmt.Errorf("alarms of %s: %w", project, err)
		}
		m, err := decode(rec, &pb.Alarm{})
		if err != nil {
			return err
		}
		m.Id = rec.Key
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// AlarmMeant says whether a filter means the alarm of a spell; its times are not looked at.
func (r *Registry) AlarmMeant(f *pb.AlarmFilter, s *pb.AlarmSpell) bool {
	project := ProjectOf(s.Alarm)
	by := f.GetBy()
	if by != "" && !strings.Contains(by, "/") {
		by = automation.Address(automation.KindRule, project+"/"+by)
	}
	return (f.GetProject() == "" || project == f.Project) && (f.GetAlarm() == "" || s.Alarm == within(project, f.Alarm)) && (f.GetTwin() == "" || s.Twin == within(project, f.Twin)) &&
		s.Severity >= f.GetSeverity() && (by == "" || s.By == by || s.By == f.By) && (f.GetZone() == "" || r.e.world.inZone(s.Zone, within(project, f.Zone)))
}
