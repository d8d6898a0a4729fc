package actors

import (
	"context"
	"fmt"
	"maps"
	"slices"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// maxDepth bounds the tree of zones.
const maxDepth = 32

// put commits a record. Its revision is the one that the caller read; 0 for a new one.
func put[M revised](ctx context.Context, r *Registry, kind string, table storage.Table, key string, m M,
	refs func() ([]storage.Guard, []storage.Write, error)) (M, error) {
	m = proto.Clone(m).(M)
	revision, err := r.change(ctx, func() (*storage.Txn, error) { return putTxn(table, key, m, refs) },
		func(g *storage.GuardError) error {
			if g.Table != table || g.Key != key {
				return nil
			}
			if m.GetRevision() == 0 {
				return ErrExists
			}
			return ErrRevision
		})
	if err != nil {
		return m, fmt.Errorf("put %s %s: %w", kind, key, err)
	}
	x := m.ProtoReflect()
	x.Set(x.Descriptor().Fields().ByName("revision"), protoUint64(revision))
	return m, nil
}

// putTxn makes the transaction of a record, with those that index it.
func putTxn(table storage.Table, key string, m revised, refs func() ([]storage.Guard, []storage.Write, error)) (*storage.Txn, error) {
	value, err := encode(m)
	if err != nil {
		return nil, err
	}
	guards, writes, err := refs()
	if err != nil {
		return nil, err
	}
	return &storage.Txn{
		Guards: append(guards, storage.Guard{Table: table, Key: key, Revision: m.GetRevision()}),
		Writes: append(writes, storage.Write{Table: table, Key: key, Value: value}),
	}, nil
}

// PutZone creates a zone (revision 0), or replaces the one of the revision given. Its parent must exist, and not be below it.
func (r *Registry) PutZone(ctx context.Context, z *pb.Zone) (*pb.Zone, error) {
	z, err := wholeZone(z)
	if err != nil {
		return nil, err
	}
	defer r.e.layers.changed()
	return put(ctx, r, "zone", tableZones, z.Id, z, func() ([]storage.Guard, []storage.Write, error) { return r.zoneRefs(z) })
}

// wholeZone completes the ids of a zone.
func wholeZone(z *pb.Zone) (*pb.Zone, error) {
	id, err := CanonicalID(z.GetId())
	if err != nil {
		return nil, err
	}
	z = proto.Clone(z).(*pb.Zone)
	z.Id = id
	if z.Parent != "" {
		if z.Parent, err = CanonicalID(within(ProjectOf(id), z.Parent)); err != nil {
			return nil, invalid("/zone/parent", "%q is no id", z.Parent)
		}
	}
	return z, nil
}

// zoneRefs are the guards of what a zone names, and its index.
func (r *Registry) zoneRefs(z *pb.Zone) ([]storage.Guard, []storage.Write, error) {
	var was string
	if old, err := get(r.store, tableZones, z.Id, &pb.Zone{}); err == nil {
		was = old.Parent
	}
	var writes []storage.Write
	if was != "" && was != z.Parent {
		writes = append(writes, storage.Write{Table: tableUses, Key: useKey("zone-parent", was, z.Id)})
	}
	if z.Parent == "" {
		return nil, writes, nil
	}
	guards, err := r.checkParents(z)
	writes = append(writes, storage.Write{Table: tableUses, Key: useKey("zone-parent", z.Parent, z.Id), Value: []byte{1}})
	return guards, writes, err
}

// checkParents walks up the tree, and guards it as it was seen: a circle closed by two at once is refused to one of them.
func (r *Registry) checkParents(z *pb.Zone) ([]storage.Guard, error) {
	var guards []storage.Guard
	for at, depth := z.Parent, 0; at != ""; depth++ {
		if at == z.Id || depth == maxDepth {
			return nil, invalid("/zone/parent", "%s is below %s, or the tree deeper than %d", z.Parent, z.Id, maxDepth)
		}
		if ProjectOf(at) != ProjectOf(z.Id) {
			return nil, invalid("/zone/parent", "%s is in another project", at)
		}
		up, err := get(r.store, tableZones, at, &pb.Zone{})
		if err != nil {
			return nil, invalid("/zone/parent", "there is no zone %s", at)
		}
		guards = append(guards, storage.Guard{Table: tableZones, Key: at, Revision: up.Revision},
			storage.Guard{Table: tableHolds, Key: holdKey("zone", at)})
		at = up.Parent
	}
	return guards, nil
}

// ListZones gives a page of zones by id.
func (r *Registry) ListZones(req *pb.ListZonesRequest, projects func(string) bool) (*pb.ListZonesResponse, error) {
	page, next, err := list(r.store, tableZones, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Zone { return &pb.Zone{} })
	return &pb.ListZonesResponse{Zones: page, NextPageToken: next}, err
}

// DeleteZone deletes a zone that no twin, system or other zone is in, with its relations.
func (r *Registry) DeleteZone(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	defer r.e.layers.changed()
	return r.deleteUnused(ctx, "zone", tableZones, id, func() ([]string, error) {
		var all []string
		for _, kind := range []string{"zone", "zone-parent", "zone-system"} {
			users, err := r.users(kind, id)
			if err != nil {
				return nil, err
			}
			all = append(all, users...)
		}
		return all, nil
	}, func() ([]storage.Write, error) {
		z, err := get(r.store, tableZones, id, &pb.Zone{})
		if err != nil {
			return nil, err
		}
		_, writes, err := r.unrelate(ctx, end{"zone", id}) // while the zone is held nothing can join it
		writes = append(writes, storage.Write{Table: tableSettings, Key: "zone/" + id})
		if z.Parent != "" {
			writes = append(writes, storage.Write{Table: tableUses, Key: useKey("zone-parent", z.Parent, id)})
		}
		return writes, err
	})
}

// PutSystem creates a system (revision 0), or replaces the one of the revision given. Its twins must exist.
func (r *Registry) PutSystem(ctx context.Context, s *pb.System) (*pb.System, error) {
	s, err := r.wholeSystem(s)
	if err != nil {
		return nil, err
	}
	defer r.e.layers.changed()
	return put(ctx, r, "system", tableSystems, s.Id, s, func() ([]storage.Guard, []storage.Write, error) { return r.systemRefs(s) })
}

// wholeSystem completes the ids of a system, and checks its members.
func (r *Registry) wholeSystem(s *pb.System) (*pb.System, error) {
	id, err := CanonicalID(s.GetId())
	if err != nil {
		return nil, err
	}
	s = proto.Clone(s).(*pb.System)
	s.Id = id
	if s.Zone != "" {
		if s.Zone, err = CanonicalID(within(ProjectOf(id), s.Zone)); err != nil {
			return nil, invalid("/system/zone", "%q is no id", s.Zone)
		}
	}
	names := map[string]bool{}
	for i, m := range s.Members {
		if m.Twin, err = CanonicalID(within(ProjectOf(id), m.GetTwin())); err != nil {
			return nil, invalid(fmt.Sprintf("/system/members/%d/twin", i), "%q is no id", m.GetTwin())
		}
		if m.Name == "" || len(m.Name) > 128 || names[m.Name] {
			return nil, invalid(fmt.Sprintf("/system/members/%d/name", i), "a name of its own is needed, %q is not", m.Name)
		}
		names[m.Name] = true
		_, ok, err := r.store.Get(tableTwins, m.Twin)
		if err != nil || !ok || ProjectOf(m.Twin) != ProjectOf(id) {
			return nil, invalid(fmt.Sprintf("/system/members/%d/twin", i), "there is no twin %s in the project", m.Twin)
		}
	}
	return s, nil
}

// systemRefs are the guards of what a system names, and its index.
func (r *Registry) systemRefs(s *pb.System) ([]storage.Guard, []storage.Write, error) {
	var writes []storage.Write
	old, err := get(r.store, tableSystems, s.Id, &pb.System{})
	if err == nil && old.Zone != "" && old.Zone != s.Zone {
		writes = append(writes, storage.Write{Table: tableUses, Key: useKey("zone-system", old.Zone, s.Id)})
	}
	writes = append(writes, memberWrites(old.GetMembers(), s.Members, s.Id)...)
	if s.Zone == "" {
		return nil, writes, nil
	}
	z, err := get(r.store, tableZones, s.Zone, &pb.Zone{})
	if err != nil {
		return nil, nil, invalid("/system/zone", "there is no zone %s", s.Zone)
	}
	return []storage.Guard{{Table: tableZones, Key: s.Zone, Revision: z.Revision}, {Table: tableHolds, Key: holdKey("zone", s.Zone)}},
		append(writes, storage.Write{Table: tableUses, Key: useKey("zone-system", s.Zone, s.Id), Value: []byte{1}}), nil
}

// memberWrites keep the index of the systems that a twin is in. All members are written: of a system from before there was
// the index none is in it.
func memberWrites(old, now []*pb.System_Member, system string) []storage.Write {
	keys := map[string]bool{}
	for _, m := range old {
		keys[useKey("member", m.Twin, system)] = false
	}
	for _, m := range now {
		keys[useKey("member", m.Twin, system)] = true
	}
	var writes []storage.Write
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		w := storage.Write{Table: tableUses, Key: key}
		if keys[key] {
			w.Value = []byte{1}
		}
		writes = append(writes, w)
	}
	return writes
}

// ListSystems gives a page of systems by id.
func (r *Registry) ListSystems(req *pb.ListSystemsRequest, projects func(string) bool) (*pb.ListSystemsResponse, error) {
	page, next, err := list(r.store, tableSystems, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.System { return &pb.System{} })
	return &pb.ListSystemsResponse{Systems: page, NextPageToken: next}, err
}

// DeleteSystem deletes a system with its relations; its twins stay.
func (r *Registry) DeleteSystem(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	_, err = r.change(ctx, func() (*storage.Txn, error) {
		s, err := get(r.store, tableSystems, id, &pb.System{})
		if err != nil {
			return nil, err
		}
		mark, unrelated, err := r.unrelate(ctx, end{"system", id})
		if err != nil {
			return nil, err
		}
		txn := &storage.Txn{Guards: []storage.Guard{{Table: tableSystems, Key: id, Revision: s.Revision}, mark},
			Writes: append(append(memberWrites(s.Members, nil, id), unrelated...), storage.Write{Table: tableSystems, Key: id},
				storage.Write{Table: tableSettings, Key: "system/" + id})}
		if s.Zone != "" {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableUses, Key: useKey("zone-system", s.Zone, id)})
		}
		return txn, nil
	}, func(*storage.GuardError) error { return nil })
	r.e.layers.changed()
	if err != nil {
		return fmt.Errorf("delete system %s: %w", id, err)
	}
	return nil
}

// ListInbox gives a page of what announced itself and is no twin yet.
func (r *Registry) ListInbox(req *pb.ListInboxRequest, projects func(string) bool) (*pb.ListInboxResponse, error) {
	page, next, err := list(r.store, tableInbox, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.InboxEntry { return &pb.InboxEntry{} })
	// A twin may have got the topics of a device by a change of its driver.
	page = slices.DeleteFunc(page, func(x *pb.InboxEntry) bool { return x.Ignored && !req.GetIgnored() || r.claimed(x) })
	for _, x := range page {
		x.MessageIds = nil
		x.Model = r.modelOf(x.Driver)
	}
	return &pb.ListInboxResponse{Entries: page, NextPageToken: next}, err
}
