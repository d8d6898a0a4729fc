package actors

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	maxLabels   = 64
	maxAliases  = 32
	maxSettings = 64 << 10
)

var labelPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,62}$`)

func protoUint64(v uint64) protoreflect.Value { return protoreflect.ValueOfUint64(v) }

// present makes of a record what callers see: secrets masked, the driver's version resolved.
func (r *Registry) present(t *pb.Twin) *pb.Twin {
	s, err := r.e.catalog.forTwin(t)
	if err != nil {
		// Without the schema nobody knows what is secret.
		for k := range t.Settings.GetFields() {
			t.Settings.Fields[k] = structpb.NewStringValue(secretMask)
		}
		return t
	}
	if !s.bare() {
		t.DriverDigest, t.DriverVersion = s.digest, s.version
	}
	if len(t.Settings.GetFields()) > 0 {
		shown := t.Settings.AsMap()
		maskSecrets(s.model, shown)
		maskSealed(shown)
		if masked, err := structpb.NewStruct(shown); err == nil {
			t.Settings = masked
		}
	}
	return t
}

// prepared is a twin's configuration, checked, with the records that index it.
type prepared struct {
	twin    *pb.Twin
	spec    *spec
	indexes map[storage.Table]map[string][]byte
	guards  []storage.Guard
}

// prepare checks a twin's configuration. old is what it replaces, or nil; at is where the twin lives.
func (r *Registry) prepare(ctx context.Context, t, old *pb.Twin, at place) (*prepared, error) {
	t = proto.Clone(t).(*pb.Twin)
	t.State, t.DriverDigest, t.DriverVersion, t.Revision = nil, "", "", 0
	p := &prepared{twin: t, guards: []storage.Guard{at.guard}}
	err := r.checkPlace(p) // first: zones have settings, and may have versions of their own
	if err != nil {
		return nil, err
	}
	if err := checkKind(t, old); err != nil {
		return nil, err
	}
	if p.spec, err = r.e.catalog.forTwin(t); err != nil {
		return nil, noSpec(t, err)
	}
	full, err := r.checkSettings(ctx, t, old, p.spec)
	if err != nil {
		return nil, err
	}
	for _, check := range []func() error{
		func() error { return checkLabels(t.Labels) },
		func() error { return checkURI(t.Uri, p.spec) },
		func() error { return r.e.derivations.check(t) },
		func() error { return r.checkReads(t, p.spec) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if p.indexes, err = indexes(t, p.spec, full, at.slot); err != nil {
		return nil, err
	}
	if err := r.ownTopics(t.Id, p.indexes, func() map[storage.Table]map[string][]byte {
		if old == nil {
			return nil
		}
		return r.indexesOf(old, at.slot)
	}); err != nil {
		return nil, err
	}
	if p.spec.ownBroker(t.Uri) { // its topics may name settings of others
		guards, err := r.e.layers.guards(t, p.spec.name)
		if err != nil {
			return nil, err
		}
		p.guards = append(p.guards, guards...)
	}
	return p, r.holdSpec(p)
}

// holdSpec has the transaction guard what the twin is of: its driver's version, or its model.
func (r *Registry) holdSpec(p *prepared) error {
	table, kind, key := tableDrivers, "driver", driverKey(p.spec.name, p.spec.version)
	if p.spec.bare() {
		table, kind, key = tableThings, "model", p.spec.name
	}
	rec, ok, err := r.store.Get(table, key)
	if err != nil {
		return err
	}
	if !ok {
		return noSpec(p.twin, ErrNotFound)
	}
	p.guards = append(p.guards, storage.Guard{Table: table, Key: key, Revision: rec.Revision},
		storage.Guard{Table: tableHolds, Key: holdKey(kind, key)})
	return nil
}

// checkSettings gives all settings that the twin will have, and seals the secrets of its own.
func (r *Registry) checkSettings(ctx context.Context, t, old *pb.Twin, s *spec) (map[string]any, error) {
	given, scope := t.Settings.AsMap(), "twin/"+t.Id
	if err := refuseSealed("/settings", given); err != nil {
		return nil, err
	}
	was, err := r.e.layers.opened(scope, old.GetSettings())
	if err != nil || was == nil {
		was = &layer{} // what cannot be opened has to be given anew
	}
	for _, name := range unmaskSecrets(s.model.Secrets(), given, was.values) {
		stored := false
		visitSecret(old.GetSettings().AsMap(), name, func(map[string]any, string) { stored = true })
		if !stored {
			return nil, noSecret("/settings/" + name)
		}
	}
	if t.Settings, err = structpb.NewStruct(given); err != nil {
		return nil, invalid("/settings", "%v", err)
	}
	full, err := r.e.fullSettings(t, s)
	if err != nil {
		return nil, err
	}
	if len(given) == 0 {
		t.Settings = nil
		return full, nil
	}
	if reflect.DeepEqual(given, was.values) && sealedAlready(s.model, old.GetSettings().AsMap()) {
		t.Settings = old.Settings // sealed as it is
		return full, nil
	}
	if err := r.e.sealer.sealSettings(ctx, scope, s.model.Secrets(), given); err != nil {
		return nil, err
	}
	if t.Settings, err = structpb.NewStruct(given); err != nil {
		return nil, invalid("/settings", "%v", err)
	}
	if n := proto.Size(t.Settings); n > maxSettings {
		return nil, invalid("/settings", "%d bytes, %d are allowed", n, maxSettings)
	}
	return full, nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("/labels", "%d labels, %d are allowed", len(labels), maxLabels)
	}
	for k, v := range labels {
		if !labelPattern.MatchString(k) || len(v) > 128 {
			return invalid("/labels/"+k, "a name of a-z, 0-9, '.', '_', '/', '-' and a value of at most 128 bytes are allowed")
		}
	}
	return nil
}

// checkURI compares the address with what the driver's transports need.
func checkURI(uri string, s *spec) error {
	if uri == "" {
		if len(s.manifest.Transports) == 0 || s.via("") != nil {
			return nil
		}
		return invalid("/uri", "the driver %s needs one, such as %s", s.name, transport.Example(s.manifest.Transports[0].Scheme))
	}
	scheme, _, _ := strings.Cut(uri, ":")
	tr := s.via(uri)
	switch {
	case len(s.manifest.Transports) == 0:
		return invalid("/uri", "the driver %s needs none", s.name)
	case tr == nil:
		return invalid("/uri", "scheme %q, the driver %s speaks %s", scheme, s.name, strings.Join(s.manifest.SchemeNames(), ", "))
	}
	if err := transport.CheckAddress(uri, tr); err != nil {
		return invalid("/uri", "%v", err)
	}
	return nil
}

// checkPlace looks at the records that the twin names: zone, gateway, aliases.
func (r *Registry) checkPlace(p *prepared) error {
	t := p.twin
	needs := func(kind string, table storage.Table, field, id string) (string, error) {
		full, err := CanonicalID(id)
		if err != nil {
			return "", invalid(field, "%q is no id", id)
		}
		if ProjectOf(full) != ProjectOf(t.Id) {
			return "", invalid(field, "%s is in another project", full)
		}
		rec, ok, err := r.store.Get(table, full)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", invalid(field, "there is no %s", full)
		}
		p.guards = append(p.guards, storage.Guard{Table: table, Key: full, Revision: rec.Revision},
			storage.Guard{Table: tableHolds, Key: holdKey(kind, full)})
		return full, nil
	}
	var err error
	if t.Zone != "" {
		if t.Zone, err = needs("zone", tableZones, "/zone", t.Zone); err != nil {
			return err
		}
	}
	// The system may come later, and names this twin perhaps.
	if err := completeID(ProjectOf(t.Id), "/system", &t.System); err != nil {
		return err
	}
	if t.Via != "" {
		if t.Via, err = needs("twin", tableTwins, "/via", t.Via); err != nil {
			return err
		}
		if t.Via == t.Id {
			return invalid("/via", "a twin is not its own gateway")
		}
	}
	if len(t.Aliases) > maxAliases {
		return invalid("/aliases", "%d aliases, %d are allowed", len(t.Aliases), maxAliases)
	}
	for i, a := range t.Aliases {
		if a.GetNetwork() == "" || a.GetKey() == "" || a.GetValue() == "" || len(a.Network)+len(a.Key)+len(a.Value) > 512 {
			return invalid(fmt.Sprintf("/aliases/%d", i), "network, key and value are needed, of at most 512 bytes together")
		}
	}
	return nil
}

// CreateTwin commits a twin's configuration. Errors: ErrInvalid with the path, ErrExists for the id or an alias.
func (r *Registry) CreateTwin(ctx context.Context, t *pb.Twin) (*pb.Twin, error) {
	id, err := CanonicalID(t.GetId())
	if err != nil {
		return nil, err
	}
	if err := r.waitGone(ctx, id); err != nil {
		return nil, err
	}
	t = proto.Clone(t).(*pb.Twin)
	t.Id = id
	now := r.e.timestamp()
	t.CreateTime, t.UpdateTime = now, now
	class, err := r.class(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("create twin %s: %w", id, err)
	}
	// Until the record is there nobody has the twin; from then on the owner of the class's slot.
	at := place{class, class.SlotOf(id), storage.Guard{Table: tablePlace, Key: id}}
	var made *pb.Twin
	revision, err := r.change(ctx, func() (txn *storage.Txn, err error) {
		if err := r.checkTwinQuota(ProjectOf(id), 0); err != nil {
			return nil, err
		}
		made, txn, err = r.creation(ctx, t, at)
		return txn, err
	}, r.twinGuard(id, ErrExists))
	if err != nil {
		return nil, fmt.Errorf("create twin %s: %w", id, err)
	}
	made.Revision = revision
	return r.present(made), nil
}

// creation makes the transaction of a new twin.
func (r *Registry) creation(ctx context.Context, t *pb.Twin, at place) (*pb.Twin, *storage.Txn, error) {
	p, err := r.prepare(ctx, t, nil, at)
	if err != nil {
		return nil, nil, err
	}
	value, err := encode(p.twin)
	if err != nil {
		return nil, nil, err
	}
	id := p.twin.Id
	txn := &storage.Txn{Guards: append([]storage.Guard{{Table: tableTwins, Key: id}, {Table: tableGone, Key: slotIDKey(cluster.SlotOf(id), id)}}, p.guards...)}
	txn.Guards = append(txn.Guards, freeAliases(p, nil)...)
	txn.Writes = append(r.diff(nil, p.indexes), storage.Write{Table: tableTwins, Key: id, Value: value})
	txn.Writes = append(txn.Writes, joins("", p.twin.Via)...)
	if at.class != 0 {
		txn.Writes = append(txn.Writes, storage.Write{Table: tablePlace, Key: id, Value: cluster.EncodeClass(at.class)})
	}
	txn.Writes = append(txn.Writes, r.unlisted(p, nil)...)
	return p.twin, txn, nil
}

// unlisted takes out of the inbox what is the twin's by its topics, and by the aliases that it had not before. Of those it is not asked whether
// they are in it: a message may put one there meanwhile.
func (r *Registry) unlisted(p *prepared, old map[storage.Table]map[string][]byte) (writes []storage.Write) {
	for key := range p.indexes[tableAliases] {
		if _, mine := old[tableAliases][key]; !mine {
			writes = append(writes, storage.Write{Table: tableInbox, Key: key})
		}
	}
	for _, key := range r.claims(p) {
		if _, written := p.indexes[tableAliases][key]; !written {
			writes = append(writes, storage.Write{Table: tableInbox, Key: key})
		}
	}
	return writes
}

// twinGuard translates the guards that a caller can do something about.
func (r *Registry) twinGuard(id string, own error) func(*storage.GuardError) error {
	return func(g *storage.GuardError) error {
		switch {
		case g.Table == tableTwins && g.Key == id:
			return own
		case g.Table == tableAliases:
			return fmt.Errorf("alias %s: %w", g.Key, ErrExists)
		case g.Table == tableGone, g.Table == tablePlace && own == ErrExists:
			return fmt.Errorf("the former twin is being removed: %w", ErrExists)
		}
		return nil
	}
}

// waitGone waits until what a former twin of the id left is removed, which its owner does within moments.
func (r *Registry) waitGone(ctx context.Context, id string) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		at, err := r.e.placeOf(id)
		if err != nil {
			return err
		}
		_, gone, err := r.store.Get(tableGone, slotIDKey(at.slot, id))
		if err != nil || !gone {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("create twin %s: the former twin is being removed: %w", id, ErrExists)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// GetTwin gives a twin's configuration, secrets as "***"; its state comes from the Client.
func (r *Registry) GetTwin(id string) (*pb.Twin, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	t, err := get(r.store, tableTwins, id, &pb.Twin{})
	if err != nil {
		return nil, err
	}
	return r.present(t), nil
}

// UpdateTwin replaces a twin's configuration. t.Revision is the one that the caller read, else ErrRevision. A secret
// that reads "***" keeps its value.
func (r *Registry) UpdateTwin(ctx context.Context, t *pb.Twin) (*pb.Twin, error) {
	id, err := CanonicalID(t.GetId())
	if err != nil {
		return nil, err
	}
	if t.Revision == 0 {
		return nil, invalid("/twin/revision", "the revision that was read is needed")
	}
	t = proto.Clone(t).(*pb.Twin)
	class, err := r.class(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("update twin %s: %w", id, err)
	}
	var made *pb.Twin
	revision, err := r.change(ctx, func() (*storage.Txn, error) {
		old, err := get(r.store, tableTwins, id, &pb.Twin{})
		if err != nil {
			return nil, err
		}
		at, err := r.e.placeOf(id)
		if err != nil {
			return nil, err
		}
		if old.Revision != t.Revision {
			return nil, ErrRevision
		}
		var txn *storage.Txn
		made, txn, err = r.replacement(ctx, t, old, at, class)
		return txn, err
	}, r.twinGuard(id, ErrRevision))
	if err != nil {
		return nil, fmt.Errorf("update twin %s: %w", id, err)
	}
	r.e.noticed(id)
	made.Revision = revision
	return r.present(made), nil
}

// replacement makes the transaction that puts t in the place of old, which lives at a place and shall be in a class.
func (r *Registry) replacement(ctx context.Context, t, old *pb.Twin, at place, class cluster.Class) (*pb.Twin, *storage.Txn, error) {
	id := old.Id
	now := proto.Clone(t).(*pb.Twin)
	now.Id, now.CreateTime, now.UpdateTime = id, old.CreateTime, r.e.timestamp()
	p, err := r.prepare(ctx, now, old, at)
	if err != nil {
		return nil, nil, err
	}
	value, err := encode(p.twin)
	if err != nil {
		return nil, nil, err
	}
	was := r.indexesOf(old, at.slot)
	writes := append(r.diff(was, p.indexes), joins(old.Via, p.twin.Via)...)
	versions, version, err := r.twinVersion(old, p.twin)
	if err != nil {
		return nil, nil, err
	}
	writes, p.guards = append(writes, version...), append(p.guards, versions...)
	writes = append(writes, r.unlisted(p, was)...)
	txn := &storage.Txn{
		Guards: append(append([]storage.Guard{{Table: tableTwins, Key: id, Revision: old.Revision}}, p.guards...), freeAliases(p, was)...),
		Writes: append(writes, storage.Write{Table: tableTwins, Key: id, Value: value}),
	}
	if old.Selector != p.twin.Selector {
		at.settle(txn, id, class)
	}
	return p.twin, txn, nil
}

// DeleteTwin deletes a twin; its owner then unloads the driver and removes state and timers. revision 0: whatever it
// is now. A gateway that others name is in use. The twin's relations go with it.
func (r *Registry) DeleteTwin(ctx context.Context, id string, revision uint64) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	_, err = r.change(ctx, func() (*storage.Txn, error) {
		old, err := get(r.store, tableTwins, id, &pb.Twin{})
		if err != nil {
			return nil, err
		}
		if revision != 0 && old.Revision != revision {
			return nil, ErrRevision
		}
		if err := r.unused(id); err != nil {
			return nil, err
		}
		// Its mark is read before the users are looked at once more: whoever joins them later writes it, and this deletion is looked at
		// anew.
		mark, unrelated, err := r.unrelate(ctx, end{"twin", id})
		if err != nil {
			return nil, err
		}
		if err := r.unused(id); err != nil {
			return nil, err
		}
		at, err := r.e.placeOf(id)
		if err != nil {
			return nil, err
		}
		writes := append(r.diff(r.indexesOf(old, at.slot), nil), storage.Write{Table: tableTwins, Key: id},
			storage.Write{Table: tableGone, Key: slotIDKey(at.slot, id), Value: []byte{1}})
		if old.Selector != "" || at.class != 0 {
			writes = append(writes, r.settleGone(at, id))
		}
		writes = append(writes, storage.Write{Table: tableSettings, Key: "twin/" + id})
		return &storage.Txn{Guards: []storage.Guard{{Table: tableTwins, Key: id, Revision: old.Revision}, mark, at.guard},
			Writes: append(writes, unrelated...)}, nil
	}, func(g *storage.GuardError) error {
		if revision != 0 && g.Table == tableTwins {
			return ErrRevision
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete twin %s: %w", id, err)
	}
	r.e.noticed(id)
	return nil
}

// unused says who is behind a gateway, as an error.
func (r *Registry) unused(id string) error {
	users, err := r.users("twin", id)
	if err == nil && len(users) > 0 {
		err = &InUseError{What: "twin " + id, Users: users}
	}
	return err
}
