package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// settingsKind is the kind of what zones, or systems, set for their twins. Each is set behind its group's transaction, one by one: whether
// the twins' settings fit depends on what the others set.
func settingsKind(of string) ConfigKind {
	name := of + "_settings"
	in := func(rec *pb.ConfigRecord) *pb.ScopeSettings {
		_, m := inRecord(rec)
		return m.(*pb.ScopeSettings)
	}
	return ConfigKind{Name: name, Refs: func(rec *pb.ConfigRecord, ref func(kind, id string)) { ref(of, in(rec).Id) },
		draft: func(ctx context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error {
			m := proto.Clone(in(rec)).(*pb.ScopeSettings)
			if err := d.name(name, a.project, &m.Id); err != nil {
				return err
			}
			return r.draftSettings(ctx, d, settingsScope{of, m.Id, of + " " + m.Id}, m, a)
		},
		export: func(_ context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
			return r.exportSettings(of, project, func(m *pb.ScopeSettings) error { return yield([]*pb.ConfigRecord{recordOf(name, m)}) })
		}}
}

func (r *Registry) draftSettings(ctx context.Context, d *draft, s settingsScope, m *pb.ScopeSettings, a applying) error {
	req := &pb.SetSettingsRequest{Scope: s.proto(), Values: m.Values, Secrets: m.Secrets, Replace: true}
	_, err := r.scopeOf(req.Scope)
	if err != nil {
		return err
	}
	c, err := r.scopeChange(s, req)
	if err != nil {
		return err
	}
	old, errOld := shownValues(c.before.values, c.secrets)
	now, errNow := shownValues(c.after.values, c.secrets)
	if err := errors.Join(errOld, errNow); err != nil {
		return err
	}
	if err := d.compare(&pb.ScopeSettings{Values: old, Secrets: c.named}, &pb.ScopeSettings{Values: now, Secrets: c.rec.Secrets}); err != nil {
		return err
	}
	d.compareHidden("values.", c.before.values, c.after.values)
	if d.outcome(len(c.before.values) > 0 || c.none()) {
		return nil
	}
	d.call = func(ctx context.Context) error {
		_, err := r.SetSettings(ctx, req, a.by)
		return err
	}
	return nil
}

// exportSettings gives what each zone, or system, of a project sets.
func (r *Registry) exportSettings(of, project string, yield func(*pb.ScopeSettings) error) error {
	for stored, err := range r.store.Scan(tableSettings, of+"/"+project+"/", "") {
		if err != nil {
			return fmt.Errorf("export settings: %w", err)
		}
		rec, err := decode(stored, &pb.SettingsRecord{})
		if err != nil {
			return err
		}
		s := settingsScope{kind: of, id: strings.TrimPrefix(stored.Key, of+"/")}
		last, err := versionAt(rec, 0)
		if err != nil {
			return err
		}
		secrets, err := r.secretsIn(s, rec)
		if err != nil {
			return err
		}
		values, err := shownValues(last.GetValues().AsMap(), secrets)
		if err != nil {
			return err
		}
		if len(values.GetFields()) == 0 {
			continue
		}
		if err := yield(&pb.ScopeSettings{Id: s.id, Values: values, Secrets: rec.Secrets}); err != nil {
			return err
		}
	}
	return nil
}
