package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// planned are records that count as there though they are not: another group would make them. "kind/id"; nil: none.
type planned map[string]bool

func (p planned) has(kind, id string) bool { return p[kind+"/"+id] }

// draft is a record as it shall be, with the transaction that makes it so.
type draft struct {
	result *pb.ApplyResult
	txn    *storage.Txn // nil: nothing is to be done
	after  func()
}

// Apply makes records what is asked, in one transaction. by is who asks. It gives a result for each; an error only where
// nothing can be said of them. Records that somebody else changes meanwhile are looked at again.
func (r *Registry) Apply(ctx context.Context, req *pb.ApplyRequest, by string) ([]*pb.ApplyResult, error) {
	plan := planned{}
	for _, name := range req.Planned {
		plan[name] = true
	}
	for n := 1; ; n++ {
		results, txn, after := r.drafts(ctx, req, plan, by)
		if txn == nil || req.DryRun {
			return results, nil
		}
		revision, err := r.store.Commit(ctx, txn)
		if err == nil {
			r.e.topics.wrote(txn.Writes)
			r.e.layers.changed()
			for _, f := range after {
				f()
			}
			for _, res := range results {
				if res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CREATED || res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CHANGED {
					res.Revision = revision
				}
			}
			return results, nil
		}
		switch {
		case errors.Is(err, storage.ErrTooLarge):
			return nil, invalid("/records", "%d records are too many for one transaction: %v", len(req.Records), err)
		case !errors.Is(err, storage.ErrGuard):
			return nil, fmt.Errorf("apply: %w", err)
		case n == attempts:
			return nil, fmt.Errorf("apply: %w: %w", ErrRevision, err)
		}
	}
}

// drafts looks at all records, and gives the transaction that makes them what is asked; nil: there is nothing to do.
func (r *Registry) drafts(ctx context.Context, req *pb.ApplyRequest, plan planned, by string) (results []*pb.ApplyResult, txn *storage.Txn, after []func()) {
	g := group{seen: map[string]bool{}, guards: map[string]bool{}, txn: &storage.Txn{}}
	wrong := 0
	for _, rec := range req.Records {
		d, err := r.draft(ctx, rec, req, plan, by)
		if err == nil {
			err = g.add(d)
		}
		if err != nil {
			wrong++
			d.result.Outcome, d.result.Changes = pb.ApplyOutcome_APPLY_OUTCOME_REFUSED, nil
			d.result.Error = err.Error()
			var where *InvalidError
			if errors.As(err, &where) {
				d.result.Path = where.Path
			}
		}
		results = append(results, d.result)
	}
	if wrong > 0 && !req.Each {
		for _, res := range results {
			if res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CREATED || res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CHANGED {
				res.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_LEFT
			}
		}
		return results, nil, nil
	}
	if len(g.txn.Writes) == 0 {
		return results, nil, nil
	}
	return results, g.txn, g.after
}

// group is the transaction of several drafts.
type group struct {
	txn    *storage.Txn
	seen   map[string]bool // records and aliases that are written
	guards map[string]bool
	after  []func()
}

// add takes a draft in, unless it writes what another one writes.
func (g *group) add(d *draft) error {
	name := d.result.Kind + "/" + d.result.Id
	if g.seen[name] {
		return invalid("/id", "%s %s is there twice", d.result.Kind, d.result.Id)
	}
	g.seen[name] = true
	if d.txn == nil {
		return nil
	}
	for _, w := range d.txn.Writes {
		if w.Table == tableAliases && w.Value != nil && g.seen["alias/"+w.Key] {
			return fmt.Errorf("alias %s: another twin of the group has it: %w", w.Key, ErrExists)
		}
	}
	for _, w := range d.txn.Writes {
		if w.Table == tableAliases {
			g.seen["alias/"+w.Key] = true
		}
	}
	g.txn.Writes = append(g.txn.Writes, d.txn.Writes...)
	for _, guard := range d.txn.Guards {
		key := string(guard.Table) + "\x00" + guard.Key
		if !g.guards[key] {
			g.guards[key] = true
			g.txn.Guards = append(g.txn.Guards, guard)
		}
	}
	if d.after != nil {
		g.after = append(g.after, d.after)
	}
	return nil
}

// draft makes the draft of one record. It is never nil.
func (r *Registry) draft(ctx context.Context, rec *pb.ConfigRecord, req *pb.ApplyRequest, plan planned, by string) (*draft, error) {
	d := &draft{result: &pb.ApplyResult{}}
	var err error
	switch x := rec.Record.(type) {
	case *pb.ConfigRecord_Zone:
		err = r.draftZone(d, x.Zone, req.Project, plan)
	case *pb.ConfigRecord_Twin:
		err = r.draftTwin(ctx, d, x.Twin, req, plan, by)
	case *pb.ConfigRecord_System:
		err = r.draftSystem(d, x.System, req.Project, plan)
	case *pb.ConfigRecord_Model:
		err = r.draftModel(d, x.Model, req.Project)
	default:
		err = invalid("/records", "a record without a kind")
	}
	return d, err
}

// name says what the draft is of, and completes its id by the project.
func (d *draft) name(kind, project string, id *string) error {
	d.result.Kind, d.result.Id = kind, *id
	full, err := CanonicalID(within(project, *id))
	if err != nil {
		return err
	}
	*id, d.result.Id = full, full
	if ProjectOf(full) != project {
		return invalid("/id", "%s is in another project than %s", full, project)
	}
	return nil
}

// compare notes what changes. old is nil where there is nothing yet.
func (d *draft) compare(old, now proto.Message, hidden ...string) error {
	was := map[string]string{}
	if old != nil {
		if err := flatten(was, old, hidden); err != nil {
			return err
		}
	}
	is := map[string]string{}
	if err := flatten(is, now, hidden); err != nil {
		return err
	}
	names := make([]string, 0, len(is))
	for k := range is {
		names = append(names, k)
	}
	for k := range was {
		if _, both := is[k]; !both {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	for _, k := range names {
		if was[k] != is[k] {
			d.result.Changes = append(d.result.Changes, &pb.FieldChange{Field: k, Old: was[k], New: is[k]})
		}
	}
	return nil
}

// flatten gives a message's fields as JSON by their names, those of objects joined by dots.
func flatten(into map[string]string, m proto.Message, hidden []string) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	for _, name := range append(hidden, "id", "revision") {
		delete(fields, name)
	}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if object, ok := v.(map[string]any); ok {
			for k, v := range object {
				walk(strings.TrimPrefix(prefix+"."+k, "."), v)
			}
			return
		}
		text, _ := json.Marshal(v) // it has been JSON
		into[prefix] = string(text)
	}
	walk("", fields)
	return nil
}

// outcome says what it is, by what compare found.
func (d *draft) outcome(there bool) (unchanged bool) {
	switch {
	case !there:
		d.result.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_CREATED
	case len(d.result.Changes) == 0:
		d.result.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_UNCHANGED
		return true
	default:
		d.result.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_CHANGED
	}
	return false
}

func (r *Registry) draftZone(d *draft, z *pb.Zone, project string, plan planned) error {
	z = proto.Clone(z).(*pb.Zone)
	if err := d.name("zone", project, &z.Id); err != nil {
		return err
	}
	if z.Parent != "" {
		z.Parent = within(project, z.Parent)
	}
	z, err := wholeZone(z)
	if err != nil {
		return err
	}
	old, err := get(r.store, tableZones, z.Id, &pb.Zone{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	z.Revision = old.Revision
	if err := d.compare(old, z); err != nil {
		return err
	}
	if d.outcome(old.Revision != 0) {
		d.result.Revision = old.Revision
		return nil
	}
	d.txn, err = putTxn(tableZones, z.Id, z, func() ([]storage.Guard, []storage.Write, error) { return r.zoneRefs(z, plan) })
	return err
}

func (r *Registry) draftModel(d *draft, m *pb.Model, project string) error {
	m = proto.Clone(m).(*pb.Model)
	if err := d.name("model", project, &m.Id); err != nil {
		return err
	}
	m, err := checkModel(m)
	if err != nil {
		return err
	}
	old, err := get(r.store, tableThings, m.Id, &pb.Model{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if sameJSON(old.ThingJson, m.ThingJson) {
		m.ThingJson = old.ThingJson // laid out otherwise is no change
	}
	if err := d.compare(old, m, "create_time", "update_time", "update_by", "title", "description", "twins"); err != nil {
		return err
	}
	m.Revision, m.CreateTime, m.UpdateTime = old.Revision, old.CreateTime, r.e.timestamp()
	if d.outcome(old.Revision != 0) {
		d.result.Revision = old.Revision
		return nil
	}
	hold := storage.Guard{Table: tableHolds, Key: holdKey("model", m.Id)}
	if m.CreateTime == nil {
		m.CreateTime = m.UpdateTime
	}
	d.txn, err = putTxn(tableThings, m.Id, m, func() ([]storage.Guard, []storage.Write, error) { return []storage.Guard{hold}, nil, nil })
	return err
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

func (r *Registry) draftSystem(d *draft, s *pb.System, project string, plan planned) error {
	s = proto.Clone(s).(*pb.System)
	if err := d.name("system", project, &s.Id); err != nil {
		return err
	}
	if s.Zone != "" {
		s.Zone = within(project, s.Zone)
	}
	for _, m := range s.Members {
		m.Twin = within(project, m.Twin)
	}
	s, err := r.wholeSystem(s, plan)
	if err != nil {
		return err
	}
	old, err := get(r.store, tableSystems, s.Id, &pb.System{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	s.Revision = old.Revision
	if err := d.compare(old, s); err != nil {
		return err
	}
	if d.outcome(old.Revision != 0) {
		d.result.Revision = old.Revision
		return nil
	}
	d.txn, err = putTxn(tableSystems, s.Id, s, func() ([]storage.Guard, []storage.Write, error) { return r.systemRefs(s, plan) })
	return err
}

// ofTwinOnly are a twin's fields that are output only.
var ofTwinOnly = []string{"create_time", "update_time", "update_by", "driver_digest", "driver_version", "state"}

func (r *Registry) draftTwin(ctx context.Context, d *draft, t *pb.Twin, req *pb.ApplyRequest, plan planned, by string) error {
	t = proto.Clone(t).(*pb.Twin)
	if err := d.name("twin", req.Project, &t.Id); err != nil {
		return err
	}
	t.Zone, t.Via, t.Model = withinOrNone(req.Project, t.Zone), withinOrNone(req.Project, t.Via), withinOrNone(req.Project, t.Model)
	t.UpdateBy = by
	class, err := r.classFor(ctx, t, req.DryRun)
	if err != nil {
		return err
	}
	old, err := get(r.store, tableTwins, t.Id, &pb.Twin{})
	if errors.Is(err, ErrNotFound) {
		return r.draftNewTwin(ctx, d, t, class, req.DryRun, plan)
	}
	if err != nil {
		return err
	}
	at, err := r.e.placeOf(t.Id)
	if err != nil {
		return err
	}
	made, txn, err := r.replacement(ctx, t, old, at, class, plan)
	if err != nil {
		return err
	}
	if err := d.compareTwins(r, old, made); err != nil {
		return err
	}
	if d.outcome(true) {
		d.result.Revision = old.Revision
		return nil
	}
	d.txn, d.after = txn, func() { r.e.noticed(t.Id) }
	return r.aliasesTaken(txn)
}

// aliasesTaken says which alias that a transaction wants for its twin is another's, which else only the commit would find.
func (r *Registry) aliasesTaken(txn *storage.Txn) error {
	for _, g := range txn.Guards {
		if g.Table != tableAliases {
			continue
		}
		if _, taken, err := r.store.Get(g.Table, g.Key); err != nil || taken {
			return errors.Join(err, fmt.Errorf("alias %s: %w", g.Key, ErrExists))
		}
	}
	return nil
}

func (r *Registry) draftNewTwin(ctx context.Context, d *draft, t *pb.Twin, class cluster.Class, dry bool, plan planned) error {
	if !dry {
		if err := r.waitGone(ctx, t.Id); err != nil {
			return err
		}
	}
	if _, known, err := r.store.Get(tableThings, t.Model); err == nil && !known && plan.has("model", t.Model) {
		d.outcome(false) // as far as can be said without its model
		return d.compare(nil, t, ofTwinOnly...)
	}
	now := timestamppb.Now()
	t.CreateTime, t.UpdateTime = now, now
	at := place{class, class.SlotOf(t.Id), storage.Guard{Table: tablePlace, Key: t.Id}}
	made, txn, err := r.creation(ctx, t, at, plan)
	if err != nil {
		return err
	}
	if err := r.aliasesTaken(txn); err != nil {
		return err
	}
	d.txn = txn
	if err := d.compareTwins(r, nil, made); err != nil {
		return err
	}
	d.outcome(false)
	return nil
}

// compareTwins compares what callers see. A secret that changes is seen only as that.
func (d *draft) compareTwins(r *Registry, old, now *pb.Twin) error {
	shown := func(t *pb.Twin) proto.Message {
		if t == nil {
			return nil
		}
		return r.present(proto.Clone(t).(*pb.Twin))
	}
	if err := d.compare(shown(old), shown(now), ofTwinOnly...); err != nil {
		return err
	}
	if old == nil {
		return nil
	}
	scope := "twin/" + now.Id
	was, err := r.e.layers.opened(scope, old.Settings)
	if err != nil || was == nil {
		return nil // what cannot be opened was compared as it is shown
	}
	is, err := r.e.layers.opened(scope, now.Settings)
	if err != nil || is == nil {
		return err
	}
	for name, v := range is.values {
		field := "settings." + name
		if _, there := was.values[name]; there && !reflect.DeepEqual(v, was.values[name]) && !d.names(field) {
			d.result.Changes = append(d.result.Changes, &pb.FieldChange{Field: field, Old: `"` + secretMask + `"`, New: `"` + secretMask + `"`})
		}
	}
	return nil
}

// names says whether a change of the field, or of a part of it, is noted.
func (d *draft) names(field string) bool {
	return slices.ContainsFunc(d.result.Changes, func(c *pb.FieldChange) bool {
		return c.Field == field || strings.HasPrefix(c.Field, field+".")
	})
}

// classFor gives the class of a twin's selector; where it is only looked at, none is made.
func (r *Registry) classFor(ctx context.Context, t *pb.Twin, dry bool) (cluster.Class, error) {
	if !dry {
		return r.class(ctx, t)
	}
	s, err := cluster.ParseSelector(t.Selector)
	if err != nil {
		return 0, invalid("/selector", "%v", err)
	}
	t.Selector = s.String()
	return 0, nil
}

func withinOrNone(project, name string) string {
	if name == "" {
		return ""
	}
	return within(project, name)
}

// Export gives a project's records in an order in which they can be applied, some at a time: zones from the outermost,
// gateways before those behind them. Secrets read "***". It stops at the first error of yield.
func (r *Registry) Export(project string, yield func([]*pb.ConfigRecord) error) error {
	err := exportEach(r, tableThings, project, func() *pb.Model { return &pb.Model{} }, func(m *pb.Model) *pb.ConfigRecord {
		return &pb.ConfigRecord{Record: &pb.ConfigRecord_Model{Model: &pb.Model{Id: m.Id, ThingJson: m.ThingJson}}}
	}, yield)
	if err != nil {
		return err
	}
	if err := exportZones(r, project, yield); err != nil {
		return err
	}
	if err := exportTwins(r, project, yield); err != nil {
		return err
	}
	return exportEach(r, tableSystems, project, func() *pb.System { return &pb.System{} }, func(s *pb.System) *pb.ConfigRecord {
		s.Revision = 0
		return &pb.ConfigRecord{Record: &pb.ConfigRecord_System{System: s}}
	}, yield)
}

// exportPage is how many records are given at a time.
const exportPage = 100

func exportEach[M revised](r *Registry, table storage.Table, project string, make func() M, wrap func(M) *pb.ConfigRecord,
	yield func([]*pb.ConfigRecord) error) error {
	var page []*pb.ConfigRecord
	for rec, err := range r.store.Scan(table, project+"/", "") {
		if err != nil {
			return fmt.Errorf("export %s: %w", table, err)
		}
		m, err := decode(rec, make())
		if err != nil {
			return err
		}
		x := wrap(m)
		if x == nil {
			continue
		}
		if page = append(page, x); len(page) == exportPage {
			if err := yield(page); err != nil {
				return err
			}
			page = nil
		}
	}
	if len(page) == 0 {
		return nil
	}
	return yield(page)
}

// exportZones gives the outermost zones first, level by level.
func exportZones(r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
	byParent := map[string][]*pb.Zone{}
	err := exportEach(r, tableZones, project, func() *pb.Zone { return &pb.Zone{} }, func(z *pb.Zone) *pb.ConfigRecord {
		z.Revision = 0
		byParent[z.Parent] = append(byParent[z.Parent], z)
		return nil
	}, yield)
	if err != nil {
		return err
	}
	for level := byParent[""]; len(level) > 0; {
		var next []*pb.Zone
		for chunk := range slices.Chunk(level, exportPage) {
			page := make([]*pb.ConfigRecord, 0, len(chunk))
			for _, z := range chunk {
				page = append(page, &pb.ConfigRecord{Record: &pb.ConfigRecord_Zone{Zone: z}})
				next = append(next, byParent[z.Id]...)
			}
			if err := yield(page); err != nil {
				return err
			}
		}
		level = next
	}
	return nil
}

// exportTwins goes over the twins as often as gateways are behind gateways.
func exportTwins(r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
	given := map[string]int{"": 0} // gateways, by the round in which they were given
	for round := 1; round <= maxDepth; round++ {
		more := false
		err := exportEach(r, tableTwins, project, func() *pb.Twin { return &pb.Twin{} }, func(t *pb.Twin) *pb.ConfigRecord {
			if at, there := given[t.Via]; !there || at != round-1 {
				more = more || !there || at == round
				return nil
			}
			if users, err := r.users("twin", t.Id); err == nil && len(users) > 0 {
				given[t.Id] = round
			}
			t = r.present(t)
			t.Revision, t.CreateTime, t.UpdateTime, t.UpdateBy, t.DriverDigest, t.DriverVersion = 0, nil, nil, "", "", ""
			return &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: t}}
		}, yield)
		if err != nil || !more {
			return err
		}
	}
	return nil
}
