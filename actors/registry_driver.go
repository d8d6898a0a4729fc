package actors

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// PutDriver commits a driver's version, whose file was verified, and its manifest read from it. The same file again is no
// error, and not created. Another file of the same version is ErrExists. Where the version is newer than what the twins
// have that ask for none, these go over to it, unless a rollout goes on.
func (r *Registry) PutDriver(ctx context.Context, m *drivers.Manifest, file []byte, by string) (d *pb.Driver, created bool, err error) {
	d, created, err = r.putDriver(ctx, m, file, by, false)
	return r.presented(d, created, err)
}

// StageDriver is PutDriver of a version that no twin goes over to by itself: a rollout brings it to them, or its name in
// their configuration. The first version of a driver is the current one in any case.
func (r *Registry) StageDriver(ctx context.Context, m *drivers.Manifest, file []byte, by string) (d *pb.Driver, created bool, err error) {
	d, created, err = r.putDriver(ctx, m, file, by, true)
	return r.presented(d, created, err)
}

func (r *Registry) putDriver(ctx context.Context, m *drivers.Manifest, file []byte, by string, stage bool) (d *pb.Driver, created bool, err error) {
	d, err = r.describe(m, file, by)
	if err != nil {
		return nil, false, err
	}
	key := driverKey(m.Name, m.Version)
	if old, err := findDriver(r.store, m.Name, m.Version); err == nil {
		return r.sameDriver(old, d, file)
	} else if !errors.Is(err, ErrNotFound) {
		return nil, false, err
	}
	before, _ := r.e.catalog.resolve(m.Name)
	if d.Digest, err = r.putBlob(ctx, file); err != nil {
		return nil, false, fmt.Errorf("put driver %s: %w", key, err)
	}
	err = r.commitDriver(ctx, d, stage)
	if errors.Is(err, ErrExists) {
		old, err := findDriver(r.store, m.Name, m.Version)
		if err != nil {
			return nil, false, err
		}
		return r.sameDriver(old, d, file)
	}
	if err != nil {
		return nil, false, fmt.Errorf("put driver %s: %w", key, err)
	}
	r.e.catalog.changed()
	if err := r.reindex(ctx, m.Name, before); err != nil {
		return nil, false, fmt.Errorf("put driver %s: %w", key, err)
	}
	return d, true, nil
}

// putBlob keeps a file, where there is room for it.
func (r *Registry) putBlob(ctx context.Context, file []byte) (digest string, err error) {
	if err := r.e.o.Full(); err != nil {
		return "", err
	}
	return r.store.PutBlob(ctx, file)
}

// describe makes a version's record of its manifest.
func (r *Registry) describe(m *drivers.Manifest, file []byte, by string) (*pb.Driver, error) {
	if !namePattern.MatchString(m.Name) {
		return nil, invalid("/manifest/name", "%q is not a driver's name", m.Name)
	}
	if !versionPattern.MatchString(m.Version) {
		return nil, invalid("/manifest/version", "%q is not a semantic version", m.Version)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("put driver %s: %w", m.Name, err)
	}
	sum := sha256.Sum256(file)
	d := &pb.Driver{Name: m.Name, Version: m.Version, Digest: hex.EncodeToString(sum[:]), Size: uint64(len(file)), Title: m.Title,
		Description: m.Description, Capabilities: m.Capabilities, ManifestJson: string(raw), CreateTime: r.e.timestamp(), CreateBy: by,
		Interfaces: m.Interfaces, Transports: m.SchemeNames(), Source: drivers.IsSource(file)}
	if _, err := parseSpec(d); err != nil {
		return nil, invalid("/manifest", "%v", err)
	}
	return d, nil
}

// commitDriver commits a version whose file is there, with what it means for the driver's release. ErrExists: the version
// came meanwhile.
func (r *Registry) commitDriver(ctx context.Context, d *pb.Driver, stage bool) error {
	key := driverKey(d.Name, d.Version)
	value, err := encode(d)
	if err != nil {
		return err
	}
	d.Revision, err = r.change(ctx, func() (*storage.Txn, error) {
		guards, writes, err := r.released(d.Name, d.Version, stage)
		if err != nil {
			return nil, err
		}
		return &storage.Txn{
			Guards: append(guards, storage.Guard{Table: tableDrivers, Key: key}),
			Writes: append(writes, storage.Write{Table: tableDrivers, Key: key, Value: value},
				storage.Write{Table: tableHolds, Key: holdKey("driver", key)}, storage.PendingWrite(d.Digest))}, nil
	}, func(g *storage.GuardError) error {
		if g.Table == tableDrivers {
			return ErrExists
		}
		return nil
	})
	return err
}

// Digests calls name for the file of every driver's record in the view: the blobs that must stay.
func (r *Registry) Digests(v *storage.View, name func(digest string)) error {
	for rec, err := range v.Scan(tableDrivers, "", "") {
		if err != nil {
			return fmt.Errorf("list the drivers' files: %w", err)
		}
		d, err := decodeDriver(rec)
		if err != nil {
			return err
		}
		name(d.Digest)
		if d.TestsDigest != "" {
			name(d.TestsDigest)
		}
	}
	return nil
}

// sameDriver answers an upload of a version that is there. The same file again mends a damaged one on this node's disk.
func (r *Registry) sameDriver(old, d *pb.Driver, file []byte) (*pb.Driver, bool, error) {
	if old.Digest == d.Digest {
		if err := r.store.HoldBlob(d.Digest, file); err != nil {
			return nil, false, fmt.Errorf("put driver %s %s: %w", d.Name, d.Version, err)
		}
		return old, false, nil
	}
	return nil, false, fmt.Errorf("driver %s %s is there with another file: raise the version: %w", d.Name, d.Version, ErrExists)
}

// reindex writes the index records of the twins that go over to another version, where it listens to other topics.
func (r *Registry) reindex(ctx context.Context, name string, before *spec) error {
	now, err := r.e.catalog.resolve(name)
	if err != nil || before == nil || now == before || sameBinding(before, now) {
		return nil
	}
	for use, err := range r.store.Scan(tableUses, usePrefix("driver", name), "") {
		if err != nil {
			return err
		}
		if len(use.Value) > 0 {
			continue // pinned to a version
		}
		id := strings.TrimPrefix(use.Key, usePrefix("driver", name))
		if err := r.reindexTwin(ctx, id, before, now); err != nil {
			return err
		}
	}
	return nil
}

// reindexTwin writes the index records of one twin that goes over to another version.
func (r *Registry) reindexTwin(ctx context.Context, id string, before, now *spec) error {
	_, err := r.change(ctx, func() (*storage.Txn, error) {
		t, err := get(r.store, tableTwins, id, &pb.Twin{})
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		at, err := r.e.placeOf(id)
		if err != nil {
			return nil, err
		}
		writes := r.diff(r.indexesWith(t, before, at.slot), r.indexesWith(t, now, at.slot))
		if len(writes) == 0 {
			return nil, nil
		}
		return &storage.Txn{Guards: []storage.Guard{{Table: tableTwins, Key: id, Revision: t.Revision}, at.guard}, Writes: writes}, nil
	}, func(*storage.GuardError) error { return nil })
	if err != nil {
		return fmt.Errorf("topics of %s: %w", id, err)
	}
	return nil
}

func (r *Registry) indexesWith(t *pb.Twin, s *spec, slot cluster.Slot) map[storage.Table]map[string][]byte {
	given, err := r.e.layers.settingsOf(t, s, nil)
	if err != nil {
		given = map[string]any{} // the twin will show this as its fault
	}
	return r.indexesGiven(t, s, given, slot)
}

// indexesGiven are the index records of a twin with the settings that it is given.
func (r *Registry) indexesGiven(t *pb.Twin, s *spec, given map[string]any, slot cluster.Slot) map[storage.Table]map[string][]byte {
	full, err := s.applyMap(given)
	if err != nil {
		full = given // the twin will show this as its fault
	}
	ix, err := indexes(t, s, full, slot)
	if err != nil {
		ix, _ = indexes(t, &spec{name: s.name}, nil, slot)
	}
	return ix
}

// sameBinding says whether two versions bind their twins to the same topics and transports.
func sameBinding(a, b *spec) bool {
	if !slices.Equal(a.manifest.SchemeNames(), b.manifest.SchemeNames()) {
		return false // others may hold a connection of their own now
	}
	x, y := a.via(""), b.via("")
	if x == nil || y == nil {
		return x == y
	}
	will := func(t *drivers.TransportOptions) string {
		if t.Will == nil {
			return ""
		}
		return t.Will.Topic
	}
	return x.Scheme == y.Scheme && slices.Equal(x.Subscribe, y.Subscribe) && will(x) == will(y) &&
		string(a.manifest.Settings) == string(b.manifest.Settings)
}

// GetDriver gives a driver's version; version "" means the newest.
func (r *Registry) GetDriver(name, version string) (*pb.Driver, error) {
	d, err := findDriver(r.store, name, version)
	if err != nil {
		return nil, err
	}
	err = r.presentDriver(d)
	return d, err
}

// ListDrivers gives a page of the versions of all drivers, or of one.
func (r *Registry) ListDrivers(req *pb.ListDriversRequest) (*pb.ListDriversResponse, error) {
	page, next, err := list(r.store, tableDrivers, req.GetName(), req.GetPageToken(), req.GetPageSize(), nil,
		func() *pb.Driver { return &pb.Driver{} })
	if err != nil {
		return nil, err
	}
	for _, d := range page {
		if err := r.presentDriver(d); err != nil {
			return nil, err
		}
	}
	return &pb.ListDriversResponse{Drivers: page, NextPageToken: next}, nil
}

// DeleteDriver deletes a version; version "" means all, which no twin may use. Twins that are pinned to the version stand
// against it; those that ask for the newest go over to the next one, and stand against the last one only. Errors:
// InUseError naming some of the twins.
func (r *Registry) DeleteDriver(ctx context.Context, name, version string) error {
	if version != "" {
		return r.deleteVersion(ctx, name, version, false)
	}
	var versions []string
	for rec, err := range r.store.Scan(tableDrivers, name+"/", "") {
		if err != nil {
			return fmt.Errorf("delete driver %s: %w", name, err)
		}
		versions = append(versions, strings.TrimPrefix(rec.Key, name+"/"))
	}
	if len(versions) == 0 {
		return fmt.Errorf("driver %s: %w", name, ErrNotFound)
	}
	users, err := r.users("driver", name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return &InUseError{What: "driver " + name, Users: users}
	}
	for _, v := range versions {
		if err := r.deleteVersion(ctx, name, v, true); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// lastWrites are what goes with the last version of a driver: its release, its settings, and what nodes counted in its rollouts. One of that
// name that is uploaded later has nothing of it.
func (r *Registry) lastWrites(name, version string) ([]storage.Write, error) {
	for rec, err := range r.store.Scan(tableDrivers, name+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("versions of driver %s: %w", name, err)
		}
		if rec.Key != driverKey(name, version) {
			return nil, nil
		}
	}
	writes := []storage.Write{{Table: tableReleases, Key: name}, {Table: tableSettings, Key: "driver/" + name}}
	for rec, err := range r.store.Scan(tableTallies, name+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("rollouts of driver %s: %w", name, err)
		}
		writes = append(writes, storage.Write{Table: tableTallies, Key: rec.Key, Quiet: true})
	}
	return writes, nil
}

// deleteVersion deletes one version. anyUse: whatever uses the driver at all stands against it.
func (r *Registry) deleteVersion(ctx context.Context, name, version string, anyUse bool) error {
	before, _ := r.e.catalog.resolve(name)
	defer r.e.layers.changed()
	err := r.deleteUnused(ctx, "driver", tableDrivers, driverKey(name, version), func() ([]string, error) {
		last, err := r.lastVersion(name, version)
		if err != nil {
			return nil, err
		}
		rel, err := readRelease(r.store, name)
		if err != nil {
			return nil, err
		}
		if o := active(rel); o != nil && !anyUse && (o.Version == version || o.FromVersion == version) {
			return []string{fmt.Sprintf("the rollout of %s, which goes on", o.Version)}, nil
		}
		last = last || rel.GetVersion() == version // what it is current by is a decision, and not its number
		var users []string
		prefix := usePrefix("driver", name)
		for rec, err := range r.store.Scan(tableUses, prefix, "") {
			if err != nil {
				return nil, err
			}
			pin := string(rec.Value)
			if anyUse || pin == version || pin == "" && last {
				users = append(users, strings.TrimPrefix(rec.Key, prefix))
			}
			if len(users) == 10 {
				break
			}
		}
		return users, nil
	}, func() ([]storage.Write, error) { return r.lastWrites(name, version) })
	if err != nil {
		return err
	}
	r.e.catalog.changed()
	if err := r.reindex(ctx, name, before); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete driver %s: %w", driverKey(name, version), err)
	}
	return nil
}

// lastVersion says whether no other version of the driver will stay. One that is held may be about to be deleted, too:
// of two deletions at a time at most one counts on the other's version.
func (r *Registry) lastVersion(name, version string) (bool, error) {
	for rec, err := range r.store.Scan(tableDrivers, name+"/", "") {
		if err != nil {
			return false, fmt.Errorf("versions of driver %s: %w", name, err)
		}
		if rec.Key == driverKey(name, version) {
			continue
		}
		_, held, err := r.store.Get(tableHolds, holdKey("driver", rec.Key))
		if err != nil {
			return false, fmt.Errorf("versions of driver %s: %w", name, err)
		}
		if !held {
			return false, nil
		}
	}
	return true, nil
}
