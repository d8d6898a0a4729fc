package actors

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// maxSources is how many twins the properties that a twin computes may be computed of.
	maxSources = 10_000
	// derivePause gathers changes of configuration before sets are looked for anew.
	derivePause = 50 * time.Millisecond
	// derivedSystem stands for the system in follows for derived properties: no system has such a name.
	derivedSystem = "\x00derived"
)

// derivation is a property that is computed, with the twins that its sets are now. It does not change.
type derivation struct {
	property string
	formula  *derive.Formula
	sets     [][]string // of each aggregate, sorted
	err      string     // why it is not computed
}

// derived are the properties that a twin computes. It does not change.
type derived struct {
	id     string
	list   []*derivation
	zones  []string // whose twins matter, with all below
	named  bool     // sets of systems or of models matter
	absent []string // who would be counted and is no twin
}

// derivations know, on every node alike, which properties are computed of which: from the records of twins, models, zones, systems and
// relations. So whoever owns a twin knows who is to be told of its properties, and nothing of it is stored.
type derivations struct {
	e    *Engine
	wake chan struct{}

	mu       sync.RWMutex
	byTwin   map[string]*derived
	bySource map[string]map[string]bool       // those computed of a twin, by its id
	byZone   map[string]map[string]bool       // those with a set in a zone, or in one below
	bySlot   map[cluster.Slot]map[string]bool // modulo ClassSlots, which are the same whatever their class
	dirty    map[string]bool
	formulas map[string]*compiled // by their texts

	heard atomic.Uint64 // rises with each change of configuration, before it is looked at whom it concerns
}

// compiled is a formula, or what is wrong with it.
type compiled struct {
	f   *derive.Formula
	err error
}

func newDerivations(e *Engine) *derivations {
	return &derivations{e: e, wake: make(chan struct{}, 1), byTwin: map[string]*derived{}, bySource: map[string]map[string]bool{},
		byZone: map[string]map[string]bool{}, bySlot: map[cluster.Slot]map[string]bool{}, dirty: map[string]bool{}, formulas: map[string]*compiled{}}
}

// of gives the properties that a twin computes; nil: none.
func (d *derivations) of(id string) *derived {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.byTwin[id]
}

// ids of the twins that compute something and satisfy fn.
func (d *derivations) ids(fn func(string) bool) (ids []string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for id := range d.byTwin {
		if fn(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// look has twins' derivations made anew.
func (d *derivations) look(ids ...string) {
	if len(ids) == 0 {
		return
	}
	d.mu.Lock()
	for _, id := range ids {
		d.dirty[id] = true
	}
	d.mu.Unlock()
	signal(d.wake)
}

// load finds all twins that compute something.
func (d *derivations) load() {
	var ids []string
	for rec, err := range d.e.store.Scan(tableUses, usePrefix("derived", ""), "") {
		if err != nil {
			d.e.log.Error("derived properties", "err", err)
			break
		}
		ids = append(ids, strings.TrimPrefix(rec.Key, usePrefix("derived", "")))
	}
	for rec, err := range d.e.store.Scan(tableThings, "", "") {
		if err != nil {
			d.e.log.Error("derived properties", "err", err)
			break
		}
		if strings.Contains(string(rec.Value), "pollux:derived") {
			ids = append(ids, d.ofModel(rec.Key)...)
		}
	}
	d.look(append(ids, d.ids(func(string) bool { return true })...)...)
}

// ofModel are the twins of a model.
func (d *derivations) ofModel(id string) (ids []string) {
	prefix := usePrefix("model", id)
	for rec, err := range d.e.store.Scan(tableUses, prefix, "") {
		if err != nil {
			return ids
		}
		ids = append(ids, strings.TrimPrefix(rec.Key, prefix))
	}
	return ids
}

// run makes derivations anew as configuration changes.
func (d *derivations) run() {
	for {
		select {
		case <-d.e.ctx.Done():
			return
		case <-d.wake:
		}
		if !d.e.pause(derivePause) {
			return
		}
		d.mu.Lock()
		dirty := d.dirty
		d.dirty = map[string]bool{}
		d.mu.Unlock()
		began := time.Now()
		for id := range dirty {
			d.renew(id)
		}
		// Where very much changes it takes a tenth of a processor at most.
		if spent := time.Since(began); spent > derivePause && !d.e.pause(min(9*spent, 5*time.Second)) {
			return
		}
	}
}

// renew makes the derivations of one twin anew, and tells the twins that it concerns.
func (d *derivations) renew(id string) {
	heard := d.heard.Load()
	t, err := d.e.readTwin(id)
	if err != nil {
		d.e.log.Error("derived properties", "twin", id, "err", err)
		return
	}
	var now *derived
	if t != nil {
		now = d.build(t)
	}
	d.mu.Lock()
	old := d.byTwin[id]
	d.index(old, false)
	if now == nil {
		delete(d.byTwin, id)
	} else {
		d.byTwin[id] = now
	}
	d.index(now, true)
	again := d.circlesLocked(now)
	same := old.same(now)
	if old != nil && !same {
		again = append(again, d.stoppedLocked(id)...) // a circle may have been opened, also before this one was found to be on it
	}
	if !same && d.heard.Load() != heard {
		again = append(again, id) // what changed meanwhile was not found to concern it
	}
	d.mu.Unlock()
	if now == nil && old == nil {
		return
	}
	for _, source := range d.e.followers.derive(id, now.follows()) {
		d.e.refollow(source)
	}
	d.look(again...)
	d.e.activate(id, &rederive{old.without(now)})
}

// stopped says whether something is not computed.
func (x *derived) stopped() bool {
	return x != nil && slices.ContainsFunc(x.list, func(y *derivation) bool { return y.err != "" })
}

// same says whether the same is computed of the same twins, and found by the same changes.
func (x *derived) same(y *derived) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.named == y.named && slices.Equal(x.zones, y.zones) && slices.Equal(x.absent, y.absent) && slices.EqualFunc(x.list, y.list, func(a, b *derivation) bool {
		return a.property == b.property && a.text() == b.text() && a.err == b.err && slices.EqualFunc(a.sets, b.sets, slices.Equal)
	})
}

// without are the properties that x computes and y does not.
func (x *derived) without(y *derived) (gone []string) {
	if x == nil {
		return nil
	}
	for _, a := range x.list {
		if y == nil || !slices.ContainsFunc(y.list, func(b *derivation) bool { return a.property == b.property }) {
			gone = append(gone, a.property)
		}
	}
	return gone
}

// text is the formula as it is written, where it can be read.
func (y *derivation) text() string {
	if y.formula == nil {
		return ""
	}
	return y.formula.String()
}

// stoppedLocked are the other twins of a twin's project of which something is not computed.
func (d *derivations) stoppedLocked(but string) (ids []string) {
	for id, x := range d.byTwin {
		if id != but && ProjectOf(id) == ProjectOf(but) && x.stopped() {
			ids = append(ids, id)
		}
	}
	return ids
}

// index notes, or forgets, by what a twin's derivations are found.
func (d *derivations) index(x *derived, there bool) {
	if x == nil {
		return
	}
	note(d.bySlot, cluster.SlotOf(x.id)%cluster.ClassSlots, x.id, there)
	for _, zone := range x.zones {
		note(d.byZone, zone, x.id, there)
	}
	for _, id := range x.absent {
		note(d.bySource, id, x.id, there)
	}
	for _, y := range x.list {
		for _, set := range y.sets {
			for _, source := range set {
				note(d.bySource, source, x.id, there)
			}
		}
	}
}

// note puts an id under a key, or takes it away.
func note[K comparable](in map[K]map[string]bool, key K, id string, there bool) {
	switch {
	case there && in[key] == nil:
		in[key] = map[string]bool{id: true}
	case there:
		in[key][id] = true
	default:
		if delete(in[key], id); len(in[key]) == 0 {
			delete(in, key)
		}
	}
}

// in gives the twins of a slot that compute something.
func (d *derivations) in(slot cluster.Slot) (ids []string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for id := range d.bySlot[slot%cluster.ClassSlots] {
		if d.e.slotOf(id) == slot {
			ids = append(ids, id)
		}
	}
	return ids
}

// follows are what the twin is to be told of.
func (x *derived) follows() map[string][]follow {
	all := map[string][]follow{}
	if x == nil {
		return all
	}
	for _, y := range x.list {
		if y.err != "" {
			continue
		}
		for i, set := range y.sets {
			property := y.formula.Aggregates[i].Property
			if property == "" {
				continue
			}
			for _, source := range set {
				f := follow{subscriber: x.id, system: derivedSystem, name: source, property: property}
				if !slices.Contains(all[source], f) {
					all[source] = append(all[source], f)
				}
			}
		}
	}
	return all
}

// What follows is told by the watches of records.

func (d *derivations) twinChanged(c storage.Change, t *pb.Twin) {
	d.heard.Add(1)
	d.mu.RLock()
	ids := slices.Collect(maps.Keys(d.bySource[c.Key]))
	if d.byTwin[c.Key] != nil {
		ids = append(ids, c.Key)
	}
	zones := len(d.byZone)
	d.mu.RUnlock()
	if t != nil {
		if len(t.Derived) > 0 || t.Model != "" && len(d.texts(t)) > 0 {
			ids = append(ids, c.Key)
		}
		if zones > 0 && t.Zone != "" {
			ids = append(ids, d.above(t.Zone)...)
		}
	}
	d.look(ids...)
}

// above are those with a set in a zone, or in one that it is in.
func (d *derivations) above(zone string) (ids []string) {
	for depth := 0; zone != "" && depth < maxDepth; depth++ {
		d.mu.RLock()
		for id := range d.byZone[zone] {
			ids = append(ids, id)
		}
		d.mu.RUnlock()
		z, err := d.e.registry.GetZone(zone)
		if err != nil {
			break
		}
		zone = z.Parent
	}
	return ids
}

func (d *derivations) relationChanged(c storage.Change) {
	from, _, to, err := splitRelation(c.Key)
	if err != nil {
		return
	}
	d.heard.Add(1)
	d.look(d.ids(func(id string) bool { return id == from.id && from.kind == "twin" || id == to.id && to.kind == "twin" })...)
}

// zoneChanged: the tree may be another one.
func (d *derivations) zoneChanged(c storage.Change) {
	d.heard.Add(1)
	project := ProjectOf(c.Key)
	d.look(d.ids(func(id string) bool { return ProjectOf(id) == project && len(d.byTwin[id].zones) > 0 })...)
}

// groupsChanged: a system or a model came, was changed, or went.
func (d *derivations) groupsChanged(c storage.Change) {
	d.heard.Add(1)
	project := ProjectOf(c.Key)
	d.look(d.ids(func(id string) bool { return ProjectOf(id) == project && d.byTwin[id].named })...)
}

func (d *derivations) modelChanged(c storage.Change) {
	d.groupsChanged(c)
	users := d.ofModel(c.Key)
	if strings.Contains(string(c.Value), "pollux:derived") {
		d.look(users...)
		return
	}
	for _, id := range users { // one that was derived before
		if d.of(id) != nil {
			d.look(id)
		}
	}
}
