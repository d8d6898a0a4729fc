package actors

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// maxVersions and maxVersionBytes bound the versions of a scope's settings that are kept.
	maxVersions     = 20
	maxVersionBytes = 256 << 10
	// maxChecked bounds the twins that are looked at before settings that they share are changed.
	maxChecked = 20_000
)

// settingsScope is a scope, checked.
type settingsScope struct {
	kind, id string
	// about names it in errors.
	about string
}

func (s settingsScope) key() string { return s.kind + "/" + s.id }

func (s settingsScope) proto() *pb.SettingsScope {
	switch s.kind {
	case "driver":
		return &pb.SettingsScope{Scope: &pb.SettingsScope_Driver{Driver: s.id}}
	case "zone":
		return &pb.SettingsScope{Scope: &pb.SettingsScope_Zone{Zone: s.id}}
	case "system":
		return &pb.SettingsScope{Scope: &pb.SettingsScope_System{System: s.id}}
	}
	return &pb.SettingsScope{Scope: &pb.SettingsScope_Twin{Twin: s.id}}
}

// scopeOf reads a scope, and sees that there is such a thing.
func (r *Registry) scopeOf(p *pb.SettingsScope) (s settingsScope, err error) {
	table := tableTwins
	switch x := p.GetScope().(type) {
	case *pb.SettingsScope_Driver:
		s.kind, s.id = "driver", x.Driver
		_, err := findDriver(r.store, s.id, "")
		s.about = "driver " + s.id
		return s, err
	case *pb.SettingsScope_Zone:
		s.kind, s.id, table = "zone", x.Zone, tableZones
	case *pb.SettingsScope_System:
		s.kind, s.id, table = "system", x.System, tableSystems
	case *pb.SettingsScope_Twin:
		s.kind, s.id = "twin", x.Twin
	default:
		return s, invalid("/scope", "is missing: name a driver, zone, system or twin")
	}
	if s.id, err = CanonicalID(s.id); err != nil {
		return s, invalid("/scope/"+s.kind, "%q is no id", s.id)
	}
	s.about = s.kind + " " + s.id
	_, ok, err := r.store.Get(table, s.id)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", s.about, ErrNotFound)
	}
	return s, err
}

// settingsRecord reads the versions of a scope's settings, the last one as it holds. Where a twin's were never changed
// there is no record: then those that it was created with are its first version.
func (r *Registry) settingsRecord(s settingsScope) (*pb.SettingsRecord, error) {
	rec, err := get(r.store, tableSettings, s.key(), &pb.SettingsRecord{})
	if err == nil || !errors.Is(err, ErrNotFound) {
		return rec, err
	}
	rec = &pb.SettingsRecord{}
	if s.kind != "twin" {
		return rec, nil
	}
	t, err := get(r.store, tableTwins, s.id, &pb.Twin{})
	if err == nil && len(t.Settings.GetFields()) > 0 {
		rec.Versions = []*pb.SettingsVersion{firstVersion(t)}
	}
	return rec, err
}

// firstVersion is what a twin has whose settings have no record yet.
func firstVersion(t *pb.Twin) *pb.SettingsVersion {
	return &pb.SettingsVersion{Version: 1, Time: t.UpdateTime, By: t.UpdateBy, Values: t.Settings}
}

// addVersion appends a version, and forgets the oldest ones.
func (r *Registry) addVersion(rec *pb.SettingsRecord, values *structpb.Struct, by string) {
	v := &pb.SettingsVersion{Version: 1, Time: r.e.timestamp(), By: by, Values: values}
	if n := len(rec.Versions); n > 0 {
		v.Version = rec.Versions[n-1].Version + 1
	}
	rec.Versions = append(rec.Versions, v)
	for len(rec.Versions) > 1 && (len(rec.Versions) > maxVersions || proto.Size(rec) > maxVersionBytes) {
		rec.Versions = rec.Versions[1:]
	}
}

// settingsWrite commits a scope's record, guarded by what was read.
func settingsWrite(s settingsScope, rec *pb.SettingsRecord) (storage.Guard, storage.Write, error) {
	value, err := encode(rec)
	return storage.Guard{Table: tableSettings, Key: s.key(), Revision: rec.Revision}, storage.Write{Table: tableSettings, Key: s.key(), Value: value}, err
}

// twinVersion gives what a change of a twin's settings adds to its versions; nothing where they did not change.
func (r *Registry) twinVersion(old, now *pb.Twin) ([]storage.Guard, []storage.Write, error) {
	if proto.Equal(old.Settings, now.Settings) || len(old.Settings.GetFields())+len(now.Settings.GetFields()) == 0 {
		return nil, nil, nil
	}
	s := settingsScope{kind: "twin", id: now.Id}
	rec, err := r.settingsRecord(s)
	if err != nil {
		return nil, nil, err
	}
	r.addVersion(rec, now.Settings, now.UpdateBy)
	guard, write, err := settingsWrite(s, rec)
	return []storage.Guard{guard}, []storage.Write{write}, err
}

// secretsIn names what is secret in a scope: what the schemas say of the drivers that may use it, and what the record says.
func (r *Registry) secretsIn(s settingsScope, rec *pb.SettingsRecord) ([]string, error) {
	names := map[string]bool{}
	for _, name := range rec.GetSecrets() {
		names[name] = true
	}
	prefix := ""
	switch s.kind {
	case "driver":
		prefix = s.id + "/"
	case "twin":
		t, err := get(r.store, tableTwins, s.id, &pb.Twin{})
		if err != nil {
			return nil, err
		}
		if t.Model != "" {
			return nil, nil // a model has no settings
		}
		name, _, err := parseRef(t.Driver)
		if err != nil {
			return nil, err
		}
		prefix = name + "/"
	}
	err := r.eachVersion(prefix, func(v *spec) {
		for _, name := range v.model.Secrets() {
			names[name] = true
		}
	})
	return slices.Sorted(maps.Keys(names)), err
}

// eachVersion calls fn with the drivers' versions whose keys have the prefix. What cannot be read is passed over.
func (r *Registry) eachVersion(prefix string, fn func(*spec)) error {
	for rec, err := range r.store.Scan(tableDrivers, prefix, "") {
		if err != nil {
			return fmt.Errorf("read drivers: %w", err)
		}
		name, version, _ := strings.Cut(rec.Key, "/")
		if s, err := r.e.catalog.resolve(name + "@" + version); err == nil {
			fn(s)
		}
	}
	return nil
}

// versionAt gives a version of a record; 0 means the last one. nil: nothing was ever set.
func versionAt(rec *pb.SettingsRecord, version uint64) (*pb.SettingsVersion, error) {
	n := len(rec.Versions)
	if version == 0 {
		if n == 0 {
			return nil, nil
		}
		return rec.Versions[n-1], nil
	}
	for _, v := range rec.Versions {
		if v.Version == version {
			return v, nil
		}
	}
	if n == 0 {
		return nil, fmt.Errorf("version %d: nothing was ever set: %w", version, ErrNotFound)
	}
	return nil, fmt.Errorf("version %d: %d to %d are kept: %w", version, rec.Versions[0].Version, rec.Versions[n-1].Version, ErrNotFound)
}

// shownValues gives settings as callers see them.
func shownValues(values map[string]any, secrets []string) (*structpb.Struct, error) {
	out, err := structpb.NewStruct(values)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	values = out.AsMap() // a copy
	for _, name := range secrets {
		visitSecret(values, name, func(in map[string]any, key string) { in[key] = secretMask })
	}
	maskSealed(values)
	return structpb.NewStruct(values)
}

// shown gives a version as callers see it.
func shown(s settingsScope, v *pb.SettingsVersion, secrets []string) (*pb.Settings, error) {
	out := &pb.Settings{Scope: s.proto()}
	if v == nil {
		return out, nil
	}
	var err error
	out.Values, err = shownValues(v.Values.AsMap(), secrets)
	out.Version, out.Time, out.By = v.Version, v.Time, v.By
	return out, err
}

// GetSettings gives what a scope sets, secrets as "***", and of a twin all that it has, with where it comes from. version 0
// is the present one.
func (r *Registry) GetSettings(p *pb.SettingsScope, version uint64) (*pb.GetSettingsResponse, error) {
	s, rec, secrets, err := r.readSettings(p)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	v, err := versionAt(rec, version)
	if err != nil {
		return nil, fmt.Errorf("settings of %s: %w", s.about, err)
	}
	res := &pb.GetSettingsResponse{}
	if res.Settings, err = shown(s, v, secrets); err != nil {
		return nil, err
	}
	if s.kind == "twin" && version == 0 {
		res.Values, err = r.valuesOf(s.id)
	}
	return res, err
}

func (r *Registry) readSettings(p *pb.SettingsScope) (s settingsScope, rec *pb.SettingsRecord, secrets []string, err error) {
	if s, err = r.scopeOf(p); err != nil {
		return s, nil, nil, err
	}
	if rec, err = r.settingsRecord(s); err == nil {
		secrets, err = r.secretsIn(s, rec)
	}
	return s, rec, secrets, err
}

// ListSettingsVersions gives the versions that are kept, the newest first.
func (r *Registry) ListSettingsVersions(p *pb.SettingsScope) ([]*pb.Settings, error) {
	s, rec, secrets, err := r.readSettings(p)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	var all []*pb.Settings
	for _, v := range slices.Backward(rec.Versions) {
		one, err := shown(s, v, secrets)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}
