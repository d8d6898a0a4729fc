package actors

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/types/known/structpb"
)

// leaves gives nested settings by their joined names. An empty object is a leaf.
func leaves(settings map[string]any) map[string]any {
	out := map[string]any{}
	var walk func(prefix string, in map[string]any)
	walk = func(prefix string, in map[string]any) {
		for k, v := range in {
			if inner, ok := v.(map[string]any); ok && len(inner) > 0 {
				walk(prefix+k+"/", inner)
			} else {
				out[prefix+k] = v
			}
		}
	}
	walk("", settings)
	return out
}

// secret says whether a leaf is, or is below, one of the secrets.
func secretLeaf(name string, secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool { return name == s || strings.HasPrefix(name, s+"/") })
}

// valuesOf gives all settings of a twin with where each comes from.
func (r *Registry) valuesOf(id string) ([]*pb.SettingValue, error) {
	t, err := get(r.store, tableTwins, id, &pb.Twin{})
	if err != nil {
		return nil, err
	}
	s, err := r.e.catalog.forTwin(t)
	if err != nil {
		return nil, err
	}
	all, err := r.e.layers.of(t, s, nil)
	if err != nil {
		return nil, err
	}
	given := merged(all)
	full, err := s.applyMap(given)
	if err != nil {
		full = given // what does not fit is the twin's fault; here it is shown
	}
	flat := make([]map[string]any, len(all))
	secrets := slices.Clone(s.model.Secrets())
	for i, l := range all {
		flat[i] = leaves(l.values)
		if rec, err := get(r.store, tableSettings, l.scope, &pb.SettingsRecord{}); err == nil {
			secrets = append(secrets, rec.Secrets...)
		}
	}
	titles := s.model.SettingTitles()
	values := leaves(full)
	var out []*pb.SettingValue
	for _, name := range slices.Sorted(maps.Keys(values)) {
		v := &pb.SettingValue{Name: name, Source: "default", Secret: secretLeaf(name, secrets), Title: titles[name]}
		for i := range slices.Backward(all) {
			if _, ok := flat[i][name]; ok {
				v.Source = strings.Replace(all[i].scope, "/", " ", 1)
				break
			}
		}
		if v.Value, err = shownValue(values[name], v.Secret); err != nil {
			return nil, fmt.Errorf("setting %s of %s: %w", name, id, err)
		}
		out = append(out, v)
	}
	return out, nil
}

func shownValue(v any, secret bool) (*structpb.Value, error) {
	if secret && v != "" { // that there is none is no secret
		return structpb.NewStringValue(secretMask), nil
	}
	return structpb.NewValue(v)
}

// DiffSettings compares two versions of what a scope sets: to 0 is the present one, from 0 the one before it. Of secrets it
// shows only that they differ.
func (r *Registry) DiffSettings(p *pb.SettingsScope, from, to uint64) (*pb.DiffSettingsResponse, error) {
	s, rec, secrets, err := r.readSettings(p)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	fail := func(err error) (*pb.DiffSettingsResponse, error) {
		return nil, fmt.Errorf("settings of %s: %w", s.about, err)
	}
	b, err := versionAt(rec, to)
	if err != nil {
		return fail(err)
	}
	a := &pb.SettingsVersion{}
	if from == 0 && b.GetVersion() > 1 {
		from = b.Version - 1
	}
	if from != 0 {
		if a, err = versionAt(rec, from); err != nil {
			return fail(err)
		}
	}
	res := &pb.DiffSettingsResponse{From: a.GetVersion(), To: b.GetVersion()}
	sides := [2]map[string]any{}
	for i, v := range []*pb.SettingsVersion{a, b} {
		one, err := r.e.layers.opened(s.key(), v.GetValues())
		if err != nil {
			return fail(err)
		}
		sides[i] = map[string]any{}
		if one != nil {
			sides[i] = leaves(one.values)
		}
	}
	if res.Changes, err = changes(sides[0], sides[1], secrets); err != nil {
		return fail(err)
	}
	return res, nil
}

// changes lists the leaves that differ.
func changes(was, now map[string]any, secrets []string) (out []*pb.SettingChange, err error) {
	names := map[string]bool{}
	for name := range was {
		names[name] = true
	}
	for name := range now {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, had := was[name]
		y, has := now[name]
		if had == has && reflect.DeepEqual(x, y) {
			continue
		}
		c := &pb.SettingChange{Name: name, Secret: secretLeaf(name, secrets)}
		if had {
			if c.Before, err = shownValue(x, c.Secret); err != nil {
				return nil, err
			}
		}
		if has {
			if c.After, err = shownValue(y, c.Secret); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}
