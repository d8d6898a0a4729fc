package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// Registry keeps the configuration records: drivers, twins, zones, systems, the inbox. It validates, and commits each
// change in one transaction with the records that index it. Reads are from the local store. Safe for concurrent use.
type Registry struct {
	e     *Engine
	store *storage.Store

	mu     sync.Mutex
	counts map[string]*counted

	projects knownProjects
	inbox    inboxes
	scans    chan struct{} // holds a token for each that goes on
}

// attempts is how often a change is tried where records that it refers to changed meanwhile.
const attempts = 5

func newRegistry(e *Engine) *Registry {
	return &Registry{e: e, store: e.store, counts: map[string]*counted{}, inbox: inboxes{byProject: map[string]*inbox{}},
		scans: make(chan struct{}, maxScans)}
}

func slotOf(id string) cluster.Slot { return cluster.SlotOf(id) }

// Kind of record, for watching it.
type Kind struct {
	Table storage.Table
	// Decode gives the record as its service's Get would, secrets masked.
	Decode func(storage.Record) (proto.Message, error)
}

// Kind gives a kind by its name: driver, model, twin, zone, system, relation, project, topic, route, schedule, rule, detector, alarm, source, sink, simulation, inbox.
func (r *Registry) Kind(kind string) (Kind, bool) {
	switch kind {
	case "driver":
		return Kind{tableDrivers, func(rec storage.Record) (proto.Message, error) { return decodeDriver(rec) }}, true
	case "twin":
		return Kind{tableTwins, func(rec storage.Record) (proto.Message, error) {
			t, err := decodeTwin(rec)
			if err != nil {
				return nil, err
			}
			return r.present(t), nil
		}}, true
	case "zone":
		return Kind{tableZones, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Zone{}) }}, true
	case "system":
		return Kind{tableSystems, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.System{}) }}, true
	case "topic":
		return Kind{topic.TableTopics, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Topic{}) }}, true
	case "model":
		return Kind{tableThings, func(rec storage.Record) (proto.Message, error) {
			m, err := decode(rec, &pb.Model{})
			if err != nil {
				return nil, err
			}
			return presentModel(m), nil
		}}, true
	case "relation":
		return Kind{tableRelations, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Relation{}) }}, true
	case "project":
		return Kind{tableProjects, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.ProjectSettings{}) }}, true
	case "route":
		return Kind{tableRoutes, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Route{}) }}, true
	case "source":
		return Kind{inflow.TableSources, func(rec storage.Record) (proto.Message, error) {
			m, err := decode(rec, &pb.Source{})
			return shownSource(m), err
		}}, true
	case "notifier":
		return Kind{notify.TableNotifiers, func(rec storage.Record) (proto.Message, error) {
			m, err := decode(rec, &pb.Notifier{})
			return shownNotifier(m), err
		}}, true
	case "sink":
		return Kind{sink.TableSinks, func(rec storage.Record) (proto.Message, error) {
			m, err := decode(rec, &pb.Sink{})
			return shownSink(m), err
		}}, true
	case "alias":
		return Kind{tableAliases, func(rec storage.Record) (proto.Message, error) { return decodeAlias(rec), nil }}, true
	case "simulation":
		return Kind{simulation.TableSimulations, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Simulation{}) }}, true
	case "schedule":
		return Kind{automation.TableSchedules, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Schedule{}) }}, true
	case "alarm":
		return Kind{automation.TableAlarms, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Alarm{}) }}, true
	case "rule":
		return Kind{automation.TableRules, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Rule{}) }}, true
	case "detector":
		return Kind{tableDetectors, func(rec storage.Record) (proto.Message, error) { return decode(rec, &pb.Detector{}) }}, true
	case "inbox":
		return Kind{tableInbox, func(rec storage.Record) (proto.Message, error) {
			x, err := decode(rec, &pb.InboxEntry{})
			x.MessageIds = nil
			return x, err
		}}, true
	}
	return Kind{}, false
}

// revised is a message that shows the revision of its record.
type revised interface {
	proto.Message
	GetRevision() uint64
}

func decode[M revised](rec storage.Record, m M) (M, error) {
	if err := proto.Unmarshal(rec.Value, m); err != nil {
		return m, fmt.Errorf("record %s: %w", rec.Key, err)
	}
	r := m.ProtoReflect()
	if f := r.Descriptor().Fields().ByName("revision"); f != nil {
		r.Set(f, protoUint64(rec.Revision))
	}
	return m, nil
}

func decodeTwin(rec storage.Record) (*pb.Twin, error) { return decode(rec, &pb.Twin{}) }

// get reads a record, or gives ErrNotFound.
func get[M revised](s *storage.Store, table storage.Table, key string, m M) (M, error) {
	rec, ok, err := s.Get(table, key)
	if err != nil {
		return m, fmt.Errorf("read %s %s: %w", noun(m), key, err)
	}
	if !ok {
		return m, fmt.Errorf("%s %s: %w", noun(m), key, ErrNotFound)
	}
	return decode(rec, m)
}

// noun is what users call a record: the name of its message, in words.
func noun(m proto.Message) string {
	name := []byte(strings.TrimSuffix(string(m.ProtoReflect().Descriptor().Name()), "Settings"))
	words := make([]byte, 0, len(name)+4)
	for i, b := range name {
		if b >= 'A' && b <= 'Z' {
			if b += 'a' - 'A'; i > 0 {
				words = append(words, ' ')
			}
		}
		words = append(words, b)
	}
	return string(words)
}

// encode makes a record's value. The revision is the record's own, and not in it.
func encode(m proto.Message) ([]byte, error) {
	m = proto.Clone(m)
	r := m.ProtoReflect()
	if f := r.Descriptor().Fields().ByName("revision"); f != nil {
		r.Clear(f)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err == nil && b == nil {
		b = []byte{}
	}
	return b, err
}

// change commits what build makes. Where records that it refers to changed meanwhile, it is built again; errors of
// guards that the caller minds are translated by the names of their tables.
func (r *Registry) change(ctx context.Context, build func() (*storage.Txn, error), guarded func(g *storage.GuardError) error) (uint64, error) {
	for n := 1; ; n++ {
		txn, err := build()
		if err != nil {
			return 0, err
		}
		if txn == nil {
			return 0, nil
		}
		revision, err := r.store.Commit(ctx, txn)
		var g *storage.GuardError
		if !errors.As(err, &g) {
			r.e.wrote(txn.Writes)
			return revision, err
		}
		if err := guarded(g); err != nil {
			return 0, err
		}
		if n == attempts {
			return 0, fmt.Errorf("%w: %w", ErrRevision, err)
		}
	}
}

// counted is what is found by reading many records, and so is not found anew at each asking. mu is held while it is read.
type counted struct {
	mu       sync.Mutex
	value    map[string]uint64 // nil: it was not read yet
	revision uint64
	// began is when the reading did, until is how long its result stands.
	began, until time.Time
}

const (
	// oldestCount is how old a count is at most that nobody wants fresh, and countEvery how many times as long as reading it took it stands: on a
	// busy machine that takes long, and those who watch a number have to see it move.
	oldestCount = 10 * time.Second
	countEvery  = 20
	maxCounts   = 1000
)

// count gives what read finds, as long as that is not too old; fresh: as of now or later.
func (r *Registry) count(key string, fresh bool, read func() (map[string]uint64, error)) (map[string]uint64, error) {
	asked := time.Now()
	r.mu.Lock()
	c := r.counts[key]
	if c == nil {
		if len(r.counts) >= maxCounts {
			clear(r.counts)
		}
		c = &counted{}
		r.counts[key] = c
	}
	r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	revision := r.store.Revision()
	if c.value != nil && (c.revision == revision || c.began.After(asked) || !fresh && time.Now().Before(c.until)) {
		return c.value, nil
	}
	began := time.Now()
	value, err := read()
	if err != nil {
		return nil, err
	}
	c.value, c.revision, c.began, c.until = value, revision, began, time.Now().Add(min(countEvery*time.Since(began), oldestCount))
	return value, nil
}

func (r *Registry) countTable(t storage.Table) (uint64, error) {
	c, err := r.count(string(t), false, func() (map[string]uint64, error) {
		n, err := r.store.Count(t, "")
		return map[string]uint64{"": uint64(n)}, err
	})
	return c[""], err
}

// CountTwins counts the twins of all projects. With very many the figure may be some seconds old.
func (r *Registry) CountTwins() (uint64, error) { return r.countTable(tableTwins) }

// CountDrivers counts the versions of all drivers.
func (r *Registry) CountDrivers() (uint64, error) { return r.countTable(tableDrivers) }

// list reads a page of a table: records of the project, behind the token, that the caller may see.
func list[M revised](s *storage.Store, table storage.Table, project, token string, size uint32, projects func(string) bool,
	make func() M) (page []M, next string, err error) {
	limit := pageSize(size)
	prefix := ""
	if project != "" {
		prefix = project + "/"
	}
	last := ""
	for rec, err := range s.Scan(table, prefix, token) {
		if err != nil {
			return nil, "", fmt.Errorf("list %s: %w", table, err)
		}
		if projects != nil && !projects(ProjectOf(rec.Key)) {
			continue
		}
		if len(page) == limit {
			return page, last, nil
		}
		m, err := decode(rec, make())
		if err != nil {
			return nil, "", err
		}
		page = append(page, m)
		last = rec.Key
	}
	return page, "", nil
}

func pageSize(size uint32) int {
	if size == 0 {
		return 100
	}
	return int(min(size, 1000))
}

// deleteUnused deletes a record that nobody needs. First it holds the record, so that no new use can begin; then it
// looks; then it deletes, with what else goes, or lets go again. also may be nil: what it gives goes in the same transaction.
func (r *Registry) deleteUnused(ctx context.Context, kind string, table storage.Table, key string, used func() ([]string, error),
	also func() ([]storage.Write, error)) error {
	rec, ok, err := r.store.Get(table, key)
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", kind, key, err)
	}
	if !ok {
		return fmt.Errorf("%s %s: %w", kind, key, ErrNotFound)
	}
	hold := holdKey(kind, key)
	exists := storage.Guard{Table: table, Key: key, Revision: rec.Revision}
	held, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{exists},
		Writes: []storage.Write{{Table: tableHolds, Key: hold, Value: []byte{1}}}})
	if err != nil {
		return deleteError(kind, key, err)
	}
	letGo := func(why error) error {
		_, err := r.store.Commit(context.WithoutCancel(ctx), &storage.Txn{Guards: []storage.Guard{{Table: tableHolds, Key: hold, Revision: held}},
			Writes: []storage.Write{{Table: tableHolds, Key: hold}}})
		if errors.Is(err, storage.ErrGuard) {
			err = nil // somebody else holds it by now
		}
		return errors.Join(why, err)
	}
	users, err := used()
	if err == nil && len(users) > 0 {
		err = &InUseError{What: kind + " " + key, Users: users}
	}
	txn := &storage.Txn{Guards: []storage.Guard{exists}, Writes: []storage.Write{{Table: table, Key: key}, {Table: tableHolds, Key: hold}}}
	if err == nil && also != nil {
		var writes []storage.Write
		writes, err = also()
		txn.Writes = append(txn.Writes, writes...)
	}
	if err != nil {
		return letGo(err)
	}
	_, err = r.store.Commit(context.WithoutCancel(ctx), txn)
	if errors.Is(err, storage.ErrGuard) {
		return letGo(deleteError(kind, key, err)) // it was changed meanwhile, and stays
	}
	return deleteError(kind, key, err)
}

func deleteError(kind, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrGuard):
		return fmt.Errorf("delete %s %s: %w", kind, key, ErrRevision)
	}
	return fmt.Errorf("delete %s %s: %w", kind, key, err)
}

// users lists at most ten of those who need something.
func (r *Registry) users(kind, what string) ([]string, error) {
	var users []string
	prefix := usePrefix(kind, what)
	for rec, err := range r.store.Scan(tableUses, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("who uses %s %s: %w", kind, what, err)
		}
		users = append(users, strings.TrimPrefix(rec.Key, prefix))
		if len(users) == 10 {
			break
		}
	}
	return users, nil
}
