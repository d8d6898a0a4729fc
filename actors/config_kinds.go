package actors

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// ConfigKind is a kind of record that Apply and Export know. To add one: a field in ConfigRecord, and a line in configKinds.
type ConfigKind struct {
	// Name is that of its field in ConfigRecord, which is what documents call it.
	Name string
	// Refs calls ref with each record that one names: its kind, and its id as it is written there. Records that name others of
	// their own kind are applied behind these.
	Refs func(rec *pb.ConfigRecord, ref func(kind, id string))

	draft  func(ctx context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error
	export func(ctx context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error
}

// ConfigKinds gives the kinds in the order in which they are applied: what is named comes before who names it.
func ConfigKinds() []ConfigKind { return slices.Clone(configKinds) }

// configKinds is the list of kinds, in their order.
var configKinds = []ConfigKind{
	modelKind(),
	tableKind[*pb.Zone]{name: "zone", table: tableZones, whole: func(_ *Registry, z *pb.Zone) (*pb.Zone, error) { return wholeZone(z) },
		refs: (*Registry).zoneRefs, names: func(z *pb.Zone, ref func(kind, id string)) { ref("zone", z.Parent) }, export: exportZones}.kind(),
	settingsKind("zone"),
	tableKind[*pb.ProjectSettings]{name: "project", table: tableProjects, whole: (*Registry).wholeProjectSettings, one: true,
		names: func(s *pb.ProjectSettings, ref func(kind, id string)) {
			for _, rule := range s.Rules {
				ref("model", rule.Model)
				ref("zone", rule.Zone)
			}
		}}.kind(),
	tableKind[*pb.Topic]{name: "topic", table: topic.TableTopics, output: []string{"state", "deleting"}, whole: (*Registry).wholeTopic,
		leave: unlisted}.kind(),
	channelKind(),
	twinKind(),
	tableKind[*pb.Route]{name: "route", table: tableRoutes, whole: (*Registry).wholeRoute, after: (*Engine).routesLost,
		names: func(x *pb.Route, ref func(kind, id string)) {
			for _, t := range x.Topics {
				ref("topic", t)
			}
			ref("twin", x.Run)
		}}.kind(),
	tableKind[*pb.System]{name: "system", table: tableSystems, whole: (*Registry).wholeSystem, refs: (*Registry).systemRefs,
		names: func(s *pb.System, ref func(kind, id string)) {
			ref("zone", s.Zone)
			for _, m := range s.Members {
				ref("twin", m.Twin)
			}
		}}.kind(),
	settingsKind("system"),
	relationKind(),
	tableKind[*pb.Notifier]{name: "notifier", table: notify.TableNotifiers, output: []string{"state", "has_secret"}, whole: (*Registry).wholeNotifier,
		names: func(m *pb.Notifier, ref func(kind, id string)) { ref("twin", m.GetLogic().GetLogic()) },
		refs:  (*Registry).notifierRefs, secret: func(ctx context.Context, r *Registry, m, old *pb.Notifier) error {
			return r.keepNotifierSecret(ctx, m, old)
		}}.kind(),
	tableKind[*pb.Schedule]{name: "schedule", table: automation.TableSchedules, output: []string{"update_by", "update_time"}, whole: (*Registry).wholeSchedule,
		names: func(m *pb.Schedule, ref func(kind, id string)) { refNotifiers(ref, m.Actions) },
		refs: func(r *Registry, m *pb.Schedule) ([]storage.Guard, []storage.Write, error) {
			return nil, r.born(automation.KindSchedule, m.Id), nil
		}}.kind(),
	tableKind[*pb.Rule]{name: "rule", table: automation.TableRules, output: []string{"update_by", "update_time"}, whole: (*Registry).wholeRule, after: (*Engine).rulesLost,
		names: func(m *pb.Rule, ref func(kind, id string)) { refNotifiers(ref, m.Then, m.Otherwise) },
		refs: func(r *Registry, m *pb.Rule) ([]storage.Guard, []storage.Write, error) {
			return nil, r.born(automation.KindRule, m.Id), nil
		}}.kind(),
	tableKind[*pb.Sink]{name: "sink", table: sink.TableSinks, output: []string{"has_secret", "state"}, whole: (*Registry).wholeSink, refs: (*Registry).sinkBegins,
		names: func(m *pb.Sink, ref func(kind, id string)) { ref("topic", m.Topic) },
		secret: func(ctx context.Context, r *Registry, m, old *pb.Sink) error {
			return r.keepSecret(ctx, "sink", m, &m.Secret, old, sink.SameHost(old.GetUrl(), m.GetUrl()))
		}}.kind(),
	tableKind[*pb.Source]{name: "source", table: inflow.TableSources, output: []string{"has_secret", "state"}, whole: (*Registry).wholeSource, refs: (*Registry).sourceRefs,
		secret: func(ctx context.Context, r *Registry, m, old *pb.Source) error {
			return r.keepSecret(ctx, "source", m, &m.Secret, old, sink.SameHost(old.GetUrl(), m.GetUrl()))
		}}.kind(),
	tableKind[*pb.Simulation]{name: "simulation", table: simulation.TableSimulations, output: []string{"begin_time", "state"}, whole: (*Registry).wholeSimulation,
		refs: (*Registry).simulationRefs, names: func(m *pb.Simulation, ref func(kind, id string)) { ref("model", m.Model) }}.kind(),
	tableKind[*pb.Detector]{name: "detector", table: tableDetectors, output: []string{"create_time"}, whole: (*Registry).wholeDetector, after: (*Engine).detectorsLost,
		names: func(m *pb.Detector, ref func(kind, id string)) {
			for _, id := range m.GetOf().GetTwins() {
				ref("twin", id)
			}
			ref("twin", m.Logic)
			ref("zone", m.GetOf().GetZone())
			ref("system", m.GetOf().GetSystem())
		}}.kind(),
}

// unlisted topics are no configuration: those that go, and outboxes, which come and go with their notifiers.
func unlisted(t *pb.Topic) bool { return t.Deleting || notify.IsOutbox(t.Id) }

// kindOf gives the kind of a record.
func kindOf(rec *pb.ConfigRecord) (ConfigKind, bool) {
	name, _ := inRecord(rec)
	i := slices.IndexFunc(configKinds, func(k ConfigKind) bool { return k.Name == name })
	if i < 0 {
		return ConfigKind{}, false
	}
	return configKinds[i], true
}

// NameRecord gives the kind of a record, its id within a project, and calls ref with each record that it names, by their complete
// ids. A record without a kind has none.
func NameRecord(rec *pb.ConfigRecord, project string, ref func(kind, id string)) (kind, id string) {
	k, ok := kindOf(rec)
	if !ok {
		return "", ""
	}
	switch _, m := inRecord(rec); m := m.(type) {
	case *pb.PutChannelRequest:
		id = withinOrNone(project, m.Topic) + "/" + m.Name
	case *pb.ProjectSettings:
		id = cmp.Or(m.Project, project)
	case *pb.Relation:
		id = strings.Join([]string{m.From, m.Type, m.To}, " ")
		if w, err := wholeRelation(project, m); err == nil {
			id = w.Id
		}
	case interface{ GetId() string }:
		id = withinOrNone(project, m.GetId())
	}
	k.Refs(rec, func(kind, id string) {
		if id != "" {
			ref(kind, within(project, id))
		}
	})
	return k.Name, id
}

// inRecord gives the field that a record has, and the message in it.
func inRecord(rec *pb.ConfigRecord) (name string, m proto.Message) {
	x := rec.ProtoReflect()
	f := x.WhichOneof(x.Descriptor().Oneofs().ByName("record"))
	if f == nil {
		return "", nil
	}
	return string(f.Name()), x.Get(f).Message().Interface()
}

// recordOf is the message as a record of the kind.
func recordOf(name string, m proto.Message) *pb.ConfigRecord {
	rec := &pb.ConfigRecord{}
	x := rec.ProtoReflect()
	x.Set(x.Descriptor().Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOfMessage(m.ProtoReflect()))
	return rec
}

// tableKind is a kind whose records are in one table under their ids, as messages of the API.
type tableKind[M revised] struct {
	name  string
	table storage.Table
	// one: a project has one record, under its name, and not many under their ids.
	one bool
	// output are the fields that callers do not set: they are neither compared nor exported.
	output []string
	// whole completes and checks a record whose id is complete already.
	whole func(r *Registry, m M) (M, error)
	// refs gives what the record's transaction guards and writes besides the record; nil: nothing.
	refs func(r *Registry, m M) ([]storage.Guard, []storage.Write, error)
	// names calls ref with what the record names; nil: it names nothing.
	names func(m M, ref func(kind, id string))
	// leave says which records are not exported; nil: all are.
	leave func(M) bool
	// after is called when the record is committed.
	after func(*Engine)
	// secret is the record's secret; nil: it has none. It is sealed, and exported as "***", which keeps what is there.
	secret func(ctx context.Context, r *Registry, m, old M) error
	// export replaces the way records are exported: by their ids.
	export func(r *Registry, project string, yield func([]*pb.ConfigRecord) error) error
}

func (k tableKind[M]) kind() ConfigKind {
	return ConfigKind{Name: k.name, draft: k.draft,
		Refs: func(rec *pb.ConfigRecord, ref func(kind, id string)) {
			if _, m := inRecord(rec); k.names != nil {
				k.names(m.(M), ref)
			}
		},
		export: func(_ context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
			if k.export != nil {
				return k.export(r, project, yield)
			}
			return k.exportAll(r, project, yield)
		}}
}

// idField is the field of a record's id.
func (k tableKind[M]) idField() string {
	if k.one {
		return "project"
	}
	return "id"
}

func (k tableKind[M]) draft(ctx context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error {
	_, given := inRecord(rec)
	m := proto.Clone(given).(M)
	x := m.ProtoReflect()
	field := x.Descriptor().Fields().ByName(protoreflect.Name(k.idField()))
	id := x.Get(field).String()
	if err := k.named(d, a.project, &id); err != nil {
		return err
	}
	x.Set(field, protoreflect.ValueOfString(id))
	cleared(m, k.output)
	m, err := k.whole(r, m)
	if err != nil {
		return err
	}
	old, err := get(r.store, k.table, id, m.ProtoReflect().New().Interface().(M))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	revision := old.GetRevision()
	if k.secret != nil {
		if err := k.secret(ctx, r, m, old); err != nil {
			return err
		}
	}
	x = m.ProtoReflect()
	x.Set(x.Descriptor().Fields().ByName("revision"), protoUint64(revision))
	if err := d.compare(old, m, append(slices.Clone(k.output), k.idField())...); err != nil {
		return err
	}
	for _, c := range d.result.Changes {
		if k.secret != nil && c.Field == secretField {
			c.Old, c.New = masked(c.Old), masked(c.New)
		}
	}
	if d.outcome(revision != 0) {
		d.result.Revision = revision
		return nil
	}
	if k.after != nil {
		d.after = func() { k.after(r.e) }
	}
	d.txn, err = putTxn(k.table, id, m, func() ([]storage.Guard, []storage.Write, error) {
		if k.refs == nil {
			return nil, nil, nil
		}
		return k.refs(r, m)
	})
	return err
}

// named completes the id. A record that each project has one of may leave the project out.
func (k tableKind[M]) named(d *draft, project string, id *string) error {
	if !k.one {
		return d.name(k.name, project, id)
	}
	*id = cmp.Or(*id, project)
	if d.result.Kind, d.result.Id = k.name, *id; *id != project {
		return invalid("/project", "%s is another project than %s", *id, project)
	}
	return nil
}

func (k tableKind[M]) exportAll(r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
	var none M
	fresh := func() M { return none.ProtoReflect().New().Interface().(M) }
	wrap := func(m M) *pb.ConfigRecord {
		if k.leave != nil && k.leave(m) {
			return nil
		}
		cleared(m, append(slices.Clone(k.output), "revision"))
		if k.secret != nil {
			maskSecret(m)
		}
		return recordOf(k.name, m)
	}
	if !k.one {
		return exportEach(r, k.table, project, fresh, wrap, yield)
	}
	m, err := get(r.store, k.table, project, fresh())
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	cleared(m, []string{k.idField()}) // it can be applied to another project
	return yield([]*pb.ConfigRecord{wrap(m)})
}

// cleared empties fields of a message.
func cleared(m proto.Message, fields []string) {
	x := m.ProtoReflect()
	for _, name := range fields {
		x.Clear(x.Descriptor().Fields().ByName(protoreflect.Name(name)))
	}
}
