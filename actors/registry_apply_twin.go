package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// ofTwinOnly are a twin's fields that are output only.
var ofTwinOnly = []string{"create_time", "update_time", "update_by", "driver_digest", "driver_version", "state"}

func (r *Registry) draftTwin(ctx context.Context, d *draft, t *pb.Twin, a applying) error {
	t = proto.Clone(t).(*pb.Twin)
	if err := d.name("twin", a.project, &t.Id); err != nil {
		return err
	}
	t.Zone, t.Via, t.Model = withinOrNone(a.project, t.Zone), withinOrNone(a.project, t.Via), withinOrNone(a.project, t.Model)
	t.UpdateBy = a.by
	class, err := r.classFor(ctx, t, a.dry)
	if err != nil {
		return err
	}
	old, err := get(r.store, tableTwins, t.Id, &pb.Twin{})
	if errors.Is(err, ErrNotFound) {
		return r.draftNewTwin(ctx, d, t, class, a)
	}
	if err != nil {
		return err
	}
	at, err := r.e.placeOf(t.Id)
	if err != nil {
		return err
	}
	made, txn, err := r.replacement(ctx, t, old, at, class)
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

func (r *Registry) draftNewTwin(ctx context.Context, d *draft, t *pb.Twin, class cluster.Class, a applying) error {
	if err := r.waitGone(ctx, t.Id); err != nil {
		return err
	}
	if err := r.checkTwinQuota(a.project, *a.twins); err != nil {
		return err
	}
	now := r.e.timestamp()
	t.CreateTime, t.UpdateTime = now, now
	at := place{class, class.SlotOf(t.Id), storage.Guard{Table: tablePlace, Key: t.Id}}
	made, txn, err := r.creation(ctx, t, at)
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
	d.compareHidden("settings.", was.values, is.values)
	return nil
}

// compareHidden notes settings that differ, secrets open, where what is shown of them is the same.
func (d *draft) compareHidden(prefix string, was, is map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, there := was[name]; there && !reflect.DeepEqual(is[name], was[name]) && !d.names(prefix+name) {
			d.result.Changes = append(d.result.Changes, &pb.FieldChange{Field: prefix + name, Old: `"` + secretMask + `"`, New: `"` + secretMask + `"`})
		}
	}
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
