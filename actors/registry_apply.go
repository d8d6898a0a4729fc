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

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// draft is a record as it shall be, with the transaction that makes it so.
type draft struct {
	result *pb.ApplyResult
	txn    *storage.Txn // nil: nothing is to be done
	after  func()
	// call does what is not in the group's transaction, behind it.
	call func(context.Context) error
}

// applying is what is known of all records of a group.
type applying struct {
	project, by string
	// each: what is wrong with one keeps no other from being committed.
	each bool
	// dry: it is all done on a fork of the store, and nothing elsewhere.
	dry bool
	// twins is how many new ones come before the record.
	twins *uint64
}

// Apply makes records what is asked, in one transaction. by is who asks. It gives a result for each; an error only where
// nothing can be said of them, such as storage.ErrTooLarge: fewer may do. Records that somebody else changes meanwhile are looked at again.
func (r *Registry) Apply(ctx context.Context, req *pb.ApplyRequest, by string) ([]*pb.ApplyResult, error) {
	if req.DryRun {
		return nil, invalid("/dry_run", "a dry run is asked for by DryRun")
	}
	a := applying{project: req.Project, by: by, each: req.Each}
	for n := 1; ; n++ {
		results, g := r.drafts(ctx, req.Records, a)
		if g.left {
			return results, nil
		}
		if len(g.txn.Writes) == 0 {
			return results, g.finish(ctx)
		}
		txn, after := g.txn, g.after
		revision, err := r.store.Commit(ctx, txn)
		if err == nil {
			r.e.wrote(txn.Writes)
			r.e.layers.changed()
			for _, f := range after {
				f()
			}
			for _, res := range results {
				if res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CREATED || res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CHANGED {
					res.Revision = revision
				}
			}
			return results, g.finish(ctx)
		}
		switch {
		case errors.Is(err, storage.ErrTooLarge):
			return nil, fmt.Errorf("apply %d records together: %w", len(req.Records), err)
		case !errors.Is(err, storage.ErrGuard):
			return nil, fmt.Errorf("apply: %w", err)
		case n == attempts:
			return nil, fmt.Errorf("apply: %w: %w", ErrRevision, err)
		}
	}
}

// drafts looks at all records, and gives what makes those that are right what is asked.
func (r *Registry) drafts(ctx context.Context, records []*pb.ConfigRecord, a applying) (results []*pb.ApplyResult, g *group) {
	g = &group{seen: map[string]bool{}, guards: map[string]bool{}, txn: &storage.Txn{}}
	a.twins = new(uint64)
	for _, rec := range records {
		d, err := r.draft(ctx, rec, a)
		if err == nil {
			err = g.add(d)
		}
		if err != nil {
			g.left = !a.each
			d.result.Outcome, d.result.Changes = pb.ApplyOutcome_APPLY_OUTCOME_REFUSED, nil
			d.result.Error = err.Error()
			var where *InvalidError
			if errors.As(err, &where) {
				d.result.Path = where.Path
			}
		} else if d.result.Kind == "twin" && d.result.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CREATED {
			*a.twins++
		}
		results = append(results, d.result)
	}
	for _, res := range results {
		if g.left && (res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CREATED || res.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CHANGED) {
			res.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_LEFT
		}
	}
	return results, g
}

// group is the transaction of several drafts.
type group struct {
	txn *storage.Txn
	// left: one is wrong, and so none is committed.
	left   bool
	seen   map[string]bool // records and aliases that are written
	guards map[string]bool
	after  []func()
	calls  []func(context.Context) error
}

// finish does what is not in the transaction, in the records' order.
func (g *group) finish(ctx context.Context) error {
	for _, call := range g.calls {
		if err := call(ctx); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
	}
	return nil
}

// add takes a draft in, unless it writes what another one writes.
func (g *group) add(d *draft) error {
	name := d.result.Kind + "/" + d.result.Id
	if g.seen[name] {
		return invalid("/id", "%s %s is there twice", d.result.Kind, d.result.Id)
	}
	g.seen[name] = true
	if d.call != nil {
		g.calls = append(g.calls, d.call)
	}
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
func (r *Registry) draft(ctx context.Context, rec *pb.ConfigRecord, a applying) (*draft, error) {
	d := &draft{result: &pb.ApplyResult{}}
	k, ok := kindOf(rec)
	if !ok {
		return d, invalid("/records", "a record without a kind")
	}
	d.result.Kind = k.Name
	return d, k.draft(ctx, r, d, rec, a)
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

// flatten gives a message's fields as JSON by their names, those of objects joined by dots. An object without any is one itself: a place at 0, 0 is a place.
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
		if object, ok := v.(map[string]any); ok && (len(object) > 0 || prefix == "") {
			for k, v := range object {
				walk(strings.TrimPrefix(prefix+"."+k, "."), v)
			}
			return
		}
		var text strings.Builder
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(v) // it has been JSON
		into[prefix] = strings.TrimSuffix(text.String(), "\n")
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

func (r *Registry) draftModel(d *draft, m *pb.Model, project string) error {
	m = proto.Clone(m).(*pb.Model)
	if err := d.name("model", project, &m.Id); err != nil {
		return err
	}
	m, err := r.checkModel(m)
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
	d.after = r.e.catalog.changed // what is applied next goes by the new one
	d.txn, err = putTxn(tableThings, m.Id, m, func() ([]storage.Guard, []storage.Write, error) { return []storage.Guard{hold}, nil, nil })
	return err
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
