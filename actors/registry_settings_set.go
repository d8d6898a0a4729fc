package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// SetSettings changes what a scope sets, and says how many twins have other settings now. Nothing is changed where the
// settings of one of them would not fit its driver's schema any more.
func (r *Registry) SetSettings(ctx context.Context, req *pb.SetSettingsRequest, by string) (*pb.SetSettingsResponse, error) {
	s, err := r.scopeOf(req.Scope)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	twins := uint64(1)
	if s.kind == "twin" {
		err = r.setTwinSettings(ctx, s, req, by)
	} else {
		twins, err = r.setScopeSettings(ctx, s, req, by)
	}
	if err != nil {
		return nil, fmt.Errorf("settings of %s: %w", s.about, err)
	}
	res, err := r.GetSettings(req.Scope, 0)
	if err != nil {
		return nil, err
	}
	return &pb.SetSettingsResponse{Settings: res.Settings, Twins: twins}, nil
}

// asked gives what a scope shall set, secrets open: what it sets now, changed as the request says.
func (r *Registry) asked(s settingsScope, rec *pb.SettingsRecord, req *pb.SetSettingsRequest, secrets []string) (map[string]any, error) {
	last, err := versionAt(rec, 0)
	if err != nil {
		return nil, err
	}
	if req.Version != 0 && req.Version != last.GetVersion() {
		return nil, fmt.Errorf("it has version %d: %w", last.GetVersion(), ErrRevision)
	}
	was := map[string]any{}
	if now, err := r.e.layers.opened(s.key(), last.GetValues()); err != nil {
		return nil, err
	} else if now != nil {
		was = now.values
	}
	if req.Restore != 0 {
		v, err := versionAt(rec, req.Restore)
		if err != nil {
			return nil, err
		}
		back, err := r.e.layers.opened(s.key(), v.GetValues())
		if err != nil || back == nil {
			return map[string]any{}, err
		}
		return back.values, nil
	}
	patch := req.Values.AsMap()
	if err := refuseSealed("/values", patch); err != nil {
		return nil, err
	}
	for _, name := range unmaskSecrets(secrets, patch, was) {
		return nil, noSecret("/values/" + name)
	}
	if req.Replace {
		return patched(map[string]any{}, patch), nil
	}
	return patched(was, patch), nil
}

// patched applies a merge patch (RFC 7396) to a copy.
func patched(to, patch map[string]any) map[string]any {
	out := maps.Clone(to)
	for k, v := range patch {
		switch x := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			inner, _ := out[k].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
			}
			out[k] = patched(inner, x)
		default:
			out[k] = v
		}
	}
	return out
}

// setTwinSettings changes a twin's own settings.
func (r *Registry) setTwinSettings(ctx context.Context, s settingsScope, req *pb.SetSettingsRequest, by string) error {
	for n := 1; ; n++ {
		t, err := get(r.store, tableTwins, s.id, &pb.Twin{})
		if err != nil {
			return err
		}
		rec, err := r.settingsRecord(s)
		if err != nil {
			return err
		}
		secrets, err := r.secretsIn(s, rec)
		if err != nil {
			return err
		}
		values, err := r.asked(s, rec, req, secrets)
		if err != nil {
			return err
		}
		if t.Settings, err = structpb.NewStruct(values); err != nil {
			return invalid("/values", "%v", err)
		}
		t.UpdateBy = by
		if _, err = r.UpdateTwin(ctx, t); !errors.Is(err, ErrRevision) || n == attempts {
			return err
		}
	}
}

// setScopeSettings changes the settings of a driver, zone or system.
func (r *Registry) setScopeSettings(ctx context.Context, s settingsScope, req *pb.SetSettingsRequest, by string) (uint64, error) {
	var c scopeChange
	_, err := r.change(ctx, func() (*storage.Txn, error) {
		there, err := r.scopeGuard(s)
		if err != nil {
			return nil, err
		}
		if c, err = r.scopeChange(s, req); err != nil || c.none() {
			return nil, err
		}
		txn, err := r.scopeTxn(ctx, s, c.rec, c.after.values, c.secrets, by)
		if err != nil {
			return nil, err
		}
		txn.Guards = append(txn.Guards, there)
		return txn, nil
	}, func(*storage.GuardError) error { return nil })
	if err != nil {
		return 0, err
	}
	r.e.layers.changed()
	for _, t := range c.touched {
		if err := r.reindexSettings(ctx, t, c.before); err != nil {
			return 0, err
		}
	}
	return uint64(len(c.touched)), nil
}

// scopeGuard guards that the driver, zone or system is there: what is deleted leaves no settings to the next one of its name.
func (r *Registry) scopeGuard(s settingsScope) (storage.Guard, error) {
	table, key := map[string]storage.Table{"driver": tableDrivers, "zone": tableZones, "system": tableSystems}[s.kind], s.id
	if s.kind == "driver" {
		d, err := findDriver(r.store, s.id, "")
		if err != nil {
			return storage.Guard{}, err
		}
		key = driverKey(d.Name, d.Version)
	}
	rec, ok, err := r.store.Get(table, key)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", s.about, ErrNotFound)
	}
	return storage.Guard{Table: table, Key: key, Revision: rec.Revision}, err
}

// scopeChange is what a change of a scope's settings means: what it sets before and after, secrets open, and the twins that have others then.
type scopeChange struct {
	before, after *layer
	// rec is the scope's record, which names what is secret there after; named are those of before, and secrets all that are secret.
	rec            *pb.SettingsRecord
	named, secrets []string
	touched        []touchedTwin
}

// none says whether nothing changes.
func (c *scopeChange) none() bool {
	same := reflect.DeepEqual(c.before.values, c.after.values) || len(c.before.values)+len(c.after.values) == 0
	return same && len(c.named) == len(c.rec.Secrets)
}

// scopeChange looks at what a change of a scope's settings would mean. It fails where it is not possible.
func (r *Registry) scopeChange(s settingsScope, req *pb.SetSettingsRequest) (c scopeChange, err error) {
	if c.rec, err = r.settingsRecord(s); err != nil {
		return c, err
	}
	c.named = slices.Clone(c.rec.Secrets)
	for _, name := range req.Secrets {
		if !slices.Contains(c.rec.Secrets, name) {
			c.rec.Secrets = append(c.rec.Secrets, name)
		}
	}
	if c.secrets, err = r.secretsIn(s, c.rec); err != nil {
		return c, err
	}
	values, err := r.asked(s, c.rec, req, c.secrets)
	if err != nil {
		return c, err
	}
	if err := r.checkKnown(s, values); err != nil {
		return c, err
	}
	c.after = &layer{s.key(), values}
	last, _ := versionAt(c.rec, 0) // the last one is always there
	if c.before, err = r.e.layers.opened(s.key(), last.GetValues()); err != nil {
		return c, err
	}
	if c.before == nil {
		c.before = &layer{scope: s.key()}
	}
	c.touched, err = r.touchedBy(s, c.before, c.after)
	return c, err
}

// scopeTxn makes values the newest version of a scope's settings, secrets sealed.
func (r *Registry) scopeTxn(ctx context.Context, s settingsScope, rec *pb.SettingsRecord, values map[string]any, secrets []string, by string) (*storage.Txn, error) {
	if err := r.e.sealer.sealSettings(ctx, s.key(), secrets, values); err != nil {
		return nil, err
	}
	stored, err := structpb.NewStruct(values)
	if err != nil {
		return nil, invalid("/values", "%v", err)
	}
	if n := proto.Size(stored); n > maxSettings {
		return nil, invalid("/values", "%d bytes, %d are allowed", n, maxSettings)
	}
	r.addVersion(rec, stored, by)
	guard, write, err := settingsWrite(s, rec)
	return &storage.Txn{Guards: []storage.Guard{guard}, Writes: []storage.Write{write}}, err
}

// checkKnown says whether there is a driver for each setting, and the value fits one of those.
func (r *Registry) checkKnown(s settingsScope, values map[string]any) error {
	prefix, whose := "", "no installed driver has"
	if s.kind == "driver" {
		prefix, whose = s.id+"/", "the driver "+s.id+" does not have"
	}
	left := map[string]error{}
	for name := range values {
		left[name] = fmt.Errorf("%s such a setting", whose)
	}
	err := r.eachVersion(prefix, func(v *spec) {
		for name, why := range left {
			if why == nil || !v.model.HasSetting(name) {
				continue
			}
			text, err := structpb.NewValue(values[name])
			if err == nil {
				var raw []byte
				if raw, err = text.MarshalJSON(); err == nil {
					err = v.model.ValidateSetting(name, raw)
				}
			}
			left[name] = err
		}
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if left[name] != nil {
			return invalid("/values/"+name, "%v", left[name])
		}
	}
	return nil
}

// touchedTwin has other settings by a change.
type touchedTwin struct {
	id string
	// topics: it is bound to MQTT topics, which its settings may name.
	topics bool
}

// touchedBy gives the twins that have other settings with the one layer than with the other. It fails where one of them
// would have settings that do not fit, and has such that do.
func (r *Registry) touchedBy(s settingsScope, before, after *layer) ([]touchedTwin, error) {
	var all []touchedTwin
	seen := 0
	err := r.eachIn(s, func(t *pb.Twin) error {
		if seen++; seen > maxChecked {
			return nil
		}
		v, err := r.e.catalog.forTwin(t)
		if err != nil {
			return nil //nolint:nilerr // the twin shows it
		}
		was, err := r.e.layers.settingsOf(t, v, before)
		if err != nil {
			return err
		}
		now, err := r.e.layers.settingsOf(t, v, after)
		if err != nil {
			return err
		}
		if reflect.DeepEqual(was, now) {
			return nil
		}
		if _, err := v.applyMap(now); err != nil {
			if _, bad := v.applyMap(was); bad == nil {
				return fmt.Errorf("twin %s would have settings that do not fit: %w", t.Id, err)
			}
		}
		if err := r.ownTopics(t.Id, r.indexesGiven(t, v, now, 0), func() map[storage.Table]map[string][]byte { return r.indexesGiven(t, v, was, 0) }); err != nil {
			return fmt.Errorf("twin %s: %w", t.Id, err)
		}
		all = append(all, touchedTwin{t.Id, v.ownBroker(t.Uri)})
		return nil
	})
	return all, err
}

// eachIn calls fn with the twins of a scope.
func (r *Registry) eachIn(s settingsScope, fn func(*pb.Twin) error) error {
	switch s.kind {
	case "driver":
		return r.eachUser("driver", s.id, fn)
	case "zone":
		zones, err := r.zonesWithin(s.id)
		if err != nil {
			return err
		}
		for _, z := range zones {
			if err := r.eachUser("zone", z, fn); err != nil {
				return err
			}
		}
		return nil
	}
	sys, err := get(r.store, tableSystems, s.id, &pb.System{})
	if err != nil {
		return err
	}
	for _, m := range sys.Members {
		if err := r.visit(m.Twin, fn); err != nil {
			return err
		}
	}
	return nil
}

// eachUser calls fn with the twins that use something.
func (r *Registry) eachUser(kind, what string, fn func(*pb.Twin) error) error {
	prefix := usePrefix(kind, what)
	for rec, err := range r.store.Scan(tableUses, prefix, "") {
		if err != nil {
			return err
		}
		if err := r.visit(rec.Key[len(prefix):], fn); err != nil {
			return err
		}
	}
	return nil
}

// visit calls fn with a twin, if it is there.
func (r *Registry) visit(id string, fn func(*pb.Twin) error) error {
	t, err := get(r.store, tableTwins, id, &pb.Twin{})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fn(t)
}

// reindexSettings writes the index records of a twin whose settings name its topics, after a layer of them was changed.
func (r *Registry) reindexSettings(ctx context.Context, touched touchedTwin, before *layer) error {
	if !touched.topics {
		return nil
	}
	_, err := r.change(ctx, func() (*storage.Txn, error) {
		t, err := get(r.store, tableTwins, touched.id, &pb.Twin{})
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		s, err := r.e.catalog.forTwin(t)
		if err != nil {
			return nil, nil //nolint:nilerr // the twin shows it
		}
		was, errWas := r.e.layers.settingsOf(t, s, before)
		now, errNow := r.e.layers.settingsOf(t, s, nil)
		if err := errors.Join(errWas, errNow); err != nil {
			return nil, err
		}
		at, err := r.e.placeOf(t.Id)
		if err != nil {
			return nil, err
		}
		writes := r.diff(r.indexesGiven(t, s, was, at.slot), r.indexesGiven(t, s, now, at.slot))
		if len(writes) == 0 {
			return nil, nil
		}
		return &storage.Txn{Guards: []storage.Guard{{Table: tableTwins, Key: t.Id, Revision: t.Revision}, at.guard},
			Writes: writes}, nil
	}, func(*storage.GuardError) error { return nil })
	if err != nil {
		return fmt.Errorf("topics of %s: %w", touched.id, err)
	}
	return nil
}
