package actors

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// follow is a durable subscription: a record that every node knows.
type follow struct {
	// subscriber is a twin's id.
	subscriber string
	// name is what the subscriber calls the twin: a name or an id, or with system a name in that.
	system, name, property string
}

// aim is a follow that is to a twin now. Where it was to nobody or to another twin in between it has another since, so that a twin
// which did not see that tells its value again.
type aim struct {
	follow
	since uint64
}

// key of the follow's record.
func (f *follow) key() string {
	return f.system + "\x00" + f.name + "\x00" + f.property + "\x00" + f.subscriber
}

func parseFollow(key string) (follow, bool) {
	p := strings.Split(key, "\x00")
	if len(p) != 4 {
		return follow{}, false
	}
	return follow{system: p[0], name: p[1], property: p[2], subscriber: p[3]}, true
}

// direct is the id of the twin that a follow without a system names.
func (f *follow) direct() string { return within(ProjectOf(f.subscriber), f.name) }

// within completes a bare name by a project.
func within(project, name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return project + "/" + name
}

// followers are the durable subscriptions of all twins, by the twin whose property they are to. Names in systems are
// resolved as the systems' records say, so that a subscription goes over to another twin with them.
type followers struct {
	store *storage.Store

	mu sync.RWMutex
	// byTwin has them by what they name now, bySystem those that name a twin in a system.
	byTwin   map[string]map[follow]uint64 // to when it was aimed there
	bySystem map[string]map[follow]string // to the id of the twin that the name means now, or ""
	// slots has the ids of byTwin by their slots modulo ClassSlots, which are the same whatever their class.
	slots map[cluster.Slot]map[string]bool
	// derived are the follows for properties that are computed, by who computes and of whom: they are no records, but follow from
	// the configuration.
	derived map[string]map[string][]follow
	aims    uint64 // so far
}

func newFollowers(s *storage.Store) *followers {
	return &followers{store: s, byTwin: map[string]map[follow]uint64{}, bySystem: map[string]map[follow]string{},
		slots: map[cluster.Slot]map[string]bool{}, derived: map[string]map[string][]follow{}}
}

// load reads all records anew. It gives the twins that had followers, or have some now.
func (f *followers) load() (touched []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.byTwin {
		touched = append(touched, id)
	}
	clear(f.byTwin) // what is read again is new: nobody knows what was in between
	clear(f.bySystem)
	clear(f.slots)
	for rec, err := range f.store.Scan(tableFollows, "", "") {
		if err != nil {
			return nil, fmt.Errorf("read subscriptions: %w", err)
		}
		if x, ok := parseFollow(rec.Key); ok {
			f.put(x)
		}
	}
	for _, sources := range f.derived {
		for source, follows := range sources {
			for _, x := range follows {
				f.aim(x, source)
			}
		}
	}
	for id := range f.byTwin {
		touched = append(touched, id)
	}
	slices.Sort(touched)
	return slices.Compact(touched), nil
}

// derive replaces the follows of a twin for what it computes, by the twins that they are to. It gives the twins whose followers changed.
func (f *followers) derive(subscriber string, now map[string][]follow) (touched []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.derived[subscriber]
	for source, follows := range old {
		if slices.Equal(follows, now[source]) {
			continue
		}
		for _, x := range follows {
			f.drop(x, source)
		}
		touched = append(touched, source)
	}
	for source, follows := range now {
		if slices.Equal(follows, old[source]) {
			continue
		}
		for _, x := range follows {
			f.aim(x, source)
		}
		touched = append(touched, source)
	}
	if f.derived[subscriber] = now; len(now) == 0 {
		delete(f.derived, subscriber)
	}
	slices.Sort(touched)
	return slices.Compact(touched)
}

// put adds a follow, and gives the twin that it is to; "" where its name means none.
func (f *followers) put(x follow) string {
	id := x.direct()
	if x.system != "" {
		id = f.member(x.system, x.name)
		if f.bySystem[x.system] == nil {
			f.bySystem[x.system] = map[follow]string{}
		}
		f.bySystem[x.system][x] = id
	}
	f.aim(x, id)
	return id
}

func (f *followers) aim(x follow, id string) {
	if id == "" {
		return
	}
	if f.byTwin[id] == nil {
		f.byTwin[id] = map[follow]uint64{}
		slot := cluster.SlotOf(id) % cluster.ClassSlots
		if f.slots[slot] == nil {
			f.slots[slot] = map[string]bool{}
		}
		f.slots[slot][id] = true
	}
	if f.byTwin[id][x] == 0 {
		f.aims++
		f.byTwin[id][x] = f.aims
	}
}

func (f *followers) drop(x follow, id string) {
	if delete(f.byTwin[id], x); len(f.byTwin[id]) == 0 {
		delete(f.byTwin, id)
		slot := cluster.SlotOf(id) % cluster.ClassSlots
		if delete(f.slots[slot], id); len(f.slots[slot]) == 0 {
			delete(f.slots, slot)
		}
	}
}

// changed takes a record of the table, and gives the twin whose followers changed, or "".
func (f *followers) changed(key string, deleted bool) string {
	x, ok := parseFollow(key)
	if !ok {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !deleted {
		return f.put(x)
	}
	id := x.direct()
	if x.system != "" {
		id = f.bySystem[x.system][x]
		if delete(f.bySystem[x.system], x); len(f.bySystem[x.system]) == 0 {
			delete(f.bySystem, x.system)
		}
	}
	f.drop(x, id)
	return id
}

// remapped resolves the names in a system anew. It gives the twins whose followers changed, and the follows that are to
// nobody now.
func (f *followers) remapped(system string) (touched []string, lost []follow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := map[string]string{}
	for x, was := range f.bySystem[system] {
		now, known := names[x.name]
		if !known {
			now = f.member(system, x.name)
			names[x.name] = now
		}
		if now == was {
			continue
		}
		f.drop(x, was)
		f.aim(x, now)
		f.bySystem[system][x] = now
		if now == "" {
			lost = append(lost, x)
		} else {
			touched = append(touched, now)
		}
		if was != "" {
			touched = append(touched, was)
		}
	}
	slices.Sort(touched)
	return slices.Compact(touched), lost
}

// member is the id of the twin that a name in a system means, or "".
func (f *followers) member(system, name string) string {
	id, err := memberOf(f.store, system, name)
	if err != nil {
		return ""
	}
	return id
}

// memberOf gives the id of the twin that a name in a system means.
func memberOf(s *storage.Store, system, name string) (string, error) {
	rec, ok, err := s.Get(tableSystems, system)
	if err != nil {
		return "", fmt.Errorf("read system %s: %w", system, err)
	}
	if !ok {
		return "", fmt.Errorf("system %s: %w", system, ErrNotFound)
	}
	sys := &pb.System{}
	if err := proto.Unmarshal(rec.Value, sys); err != nil {
		return "", fmt.Errorf("system record %s: %w", system, err)
	}
	for _, m := range sys.Members {
		if m.Name == name {
			return m.Twin, nil
		}
	}
	return "", fmt.Errorf("%s in system %s: %w", name, system, ErrNotFound)
}

// of gives the follows of a twin's properties.
func (f *followers) of(id string) []aim {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := make([]aim, 0, len(f.byTwin[id]))
	for x, since := range f.byTwin[id] {
		all = append(all, aim{x, since})
	}
	return all
}

// aimed gives a follow as it is to a twin now; false: it is not.
func (f *followers) aimed(id string, x follow) (aim, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	since := f.byTwin[id][x]
	return aim{x, since}, since > 0
}

// in gives the twins of a slot that have followers.
func (f *followers) in(slot cluster.Slot, slotOf func(id string) cluster.Slot) []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var ids []string
	for id := range f.slots[slot%cluster.ClassSlots] {
		if slotOf(id) == slot {
			ids = append(ids, id)
		}
	}
	return ids
}

// names says whether anybody follows the twin.
func (f *followers) names(id string) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.byTwin[id]) > 0
}

// followChanged: a subscription was made or ended.
func (e *Engine) followChanged(c storage.Change) { e.followed(c.Key, c.Deleted) }

func (e *Engine) followed(key string, ended bool) {
	id := e.followers.changed(key, ended)
	if x, ok := parseFollow(key); ok && id != "" {
		e.send(&shardTurn{id: id, turn: &refollow{&x}, activate: !ended})
	}
}

// marked: index records of a twin that lives here were committed. Its subscriptions are in force here at once; other nodes
// learn of them by the watch.
func (e *Engine) marked(marks map[mark]bool) {
	for m, there := range marks {
		if m.table == tableFollows {
			e.followed(m.key, !there)
		}
	}
}

// systemChanged: a system's record was written or removed.
func (e *Engine) systemChanged(c storage.Change) {
	touched, lost := e.followers.remapped(c.Key)
	for _, id := range touched {
		e.refollow(id)
	}
	for _, x := range lost {
		e.lose(x)
	}
}

// unfollowed: a twin was deleted that others follow.
func (e *Engine) unfollowed(id string) {
	for _, x := range e.followers.of(id) {
		e.lose(x.follow)
	}
}

// lose tells a subscriber that its follow is to nobody now.
func (e *Engine) lose(x follow) { e.activate(x.subscriber, &orphaned{x}) }

// refollow has a twin look at its followers, if it lives here. Those that are new get the first value.
func (e *Engine) refollow(id string) {
	if !e.followers.names(id) {
		e.send(&shardTurn{id: id, turn: &refollow{}})
		return
	}
	e.activate(id, &refollow{})
}

func (e *Engine) followsLost() {
	touched, err := e.followers.load()
	if err != nil {
		e.log.Error("subscriptions", "err", err)
		return
	}
	for _, id := range touched {
		e.refollow(id)
	}
}
