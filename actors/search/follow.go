package search

import (
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/storage"
)

// throttle rests as long as the work took.
type throttle struct {
	begin time.Time
	n     int
}

func (t *throttle) done(stop <-chan struct{}) {
	if t.n == 0 {
		t.begin = time.Now()
	}
	if t.n++; t.n < chunk {
		return
	}
	t.n = 0
	select {
	case <-time.After(min(time.Since(t.begin), 100*time.Millisecond)):
	case <-stop:
	}
}

// build reads all records, one kind after the other, and has what changed meanwhile and later followed.
func (l *live) build() {
	after := l.s.o.Store.Revision()
	for i := range l.s.o.Sources {
		if !l.list(&l.s.o.Sources[i]) {
			return
		}
	}
	l.lookAll()
	close(l.whole)
	// Those that hang together in one table are told in its order.
	for i := range l.s.o.Sources {
		l.s.run(func() { l.follow(&l.s.o.Sources[i], after) })
	}
}

// list reads all records of a kind, and removes what is no longer there. What is there is never away.
func (l *live) list(src *Source) bool {
	var t throttle
	seen := map[string]bool{}
	for rec, err := range l.s.o.Store.Scan(src.Table, "", "") {
		if err != nil || l.ctx.Err() != nil {
			if err != nil && l.ctx.Err() == nil {
				l.s.o.Logger.Error("search: list", "kind", src.Kind, "err", err)
			}
			return false
		}
		if id := src.id(rec.Key); !seen[id] {
			seen[id] = true
			l.make(src, id)
			t.done(l.ctx.Done())
		}
	}
	for _, d := range l.x.of(func(d *doc) bool { return d.kind == src.Kind && !seen[d.id] }) {
		l.make(src, d.id)
	}
	return true
}

// make makes an entry anew from its records, or removes it. One at a time, lest an entry is made with a title that is being changed.
func (l *live) make(src *Source, id string) {
	l.making.Lock()
	defer l.making.Unlock()
	e, err := src.Read(id)
	if err != nil {
		l.s.o.Logger.Warn("search: record", "kind", src.Kind, "id", id, "err", err)
		return // what was found before stays
	}
	key := keyOf(src.Kind, id)
	before, _ := l.titles.Load(key)
	switch {
	case e == nil:
		l.x.remove(src.Kind, id)
		l.titles.Delete(key)
	default:
		if names[src.Kind] {
			l.titles.Store(key, e.Title)
		}
		l.x.put(src.Kind, e, l.title)
		if src.Kind == KindTwin {
			rec, ok, err := l.s.o.Store.Get(l.s.o.States, id)
			if err == nil && !ok { // what was seen is of another one that had its id
				l.x.unseen(id)
				rec, ok, err = l.s.o.Store.Get(l.s.o.States, id)
			}
			if err == nil && ok {
				l.saw(rec)
			}
		}
	}
	if names[src.Kind] && before != nil && (e == nil || e.Title != before) {
		l.again.add(l.dependents(src.Kind, id)...)
	}
}

// names are the kinds whose titles are found in other entries.
var names = map[string]bool{KindModel: true, KindDriver: true, KindZone: true}

func (l *live) title(kind, id string) string {
	if t, ok := l.titles.Load(keyOf(kind, id)); ok && id != "" {
		return t.(string)
	}
	return ""
}

// dependents are the entries that have the title of a model, driver or zone among their words.
func (l *live) dependents(kind, id string) (keys []string) {
	value, ok := l.x.text.known(id)
	if !ok {
		return nil
	}
	for _, d := range l.x.of(func(d *doc) bool { return d.facet(kind) == value }) {
		keys = append(keys, keyOf(d.kind, d.id))
	}
	return keys
}

// again are the keys of entries that have to be made anew, each once. They are no more than there are entries.
type again struct {
	mu    sync.Mutex
	keys  map[string]bool
	queue []string
}

func (a *again) add(keys ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range keys {
		if !a.keys[k] {
			if a.keys == nil {
				a.keys = map[string]bool{}
			}
			a.keys[k] = true
			a.queue = append(a.queue, k)
		}
	}
}

func (a *again) next() (key string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		a.queue = nil
		return "", false
	}
	key, a.queue = a.queue[0], a.queue[1:]
	delete(a.keys, key)
	return key, true
}

// reindex makes entries anew whose model, driver or zone has another title, gradually.
func (l *live) reindex() {
	sources := map[string]*Source{}
	for i := range l.s.o.Sources {
		sources[l.s.o.Sources[i].Kind] = &l.s.o.Sources[i]
	}
	for t := (throttle{}); l.pause(50 * time.Millisecond); {
		for key, ok := l.again.next(); ok && l.ctx.Err() == nil; key, ok = l.again.next() {
			kind, id, _ := strings.Cut(key, "/")
			l.make(sources[kind], id)
			t.done(l.ctx.Done())
		}
	}
}

// follow makes entries anew as their records change.
func (l *live) follow(src *Source, after uint64) {
	var t throttle
	for l.ctx.Err() == nil {
		now := l.s.o.Store.Revision()
		changes, err := l.s.o.Store.Watch(l.ctx, src.Table, "", after)
		if err != nil {
			// Changes are missed. All is read again, beside what there is.
			if !l.pause(100*time.Millisecond) || !l.list(src) {
				continue
			}
			after = now
			continue
		}
		for batch := range changes {
			for _, c := range batch {
				l.make(src, src.id(c.Key))
				after = c.Revision
				t.done(l.ctx.Done())
			}
		}
		l.pause(10 * time.Millisecond)
	}
}

// pause waits, and reports whether the index still lives.
func (l *live) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-l.ctx.Done():
		return false
	}
}

// watchStates looks at what twins say, while somebody searches, and gives the index up when nobody does for long.
func (l *live) watchStates() {
	for l.pause(look) {
		if l.s.idle(l) {
			return
		}
		if time.Since(time.Unix(0, l.s.asked.Load())) < wake {
			l.lookAll()
		}
	}
}

// lookFresh looks at what twins say, if the last look was some time ago.
func (l *live) lookFresh() {
	l.states.Lock()
	fresh := time.Since(l.states.at) < look
	l.states.Unlock()
	if !fresh {
		l.lookAll()
	}
}

// lookAll brings status and place of all twins whose state was written since the last look. States are written quietly, that is to
// say nobody is told of each: a scan costs less than a microsecond for each that has not changed.
func (l *live) lookAll() {
	l.states.Lock()
	defer l.states.Unlock()
	version := l.s.o.Store.Version(l.s.o.States)
	if !l.states.at.IsZero() && version == l.states.version {
		l.states.at = time.Now()
		return
	}
	for rec, err := range l.s.o.Store.Scan(l.s.o.States, "", "") {
		if err != nil || l.ctx.Err() != nil {
			return
		}
		l.saw(rec)
	}
	l.states.version, l.states.at = version, time.Now()
}

// saw notes a twin's status and place.
func (l *live) saw(rec storage.Record) {
	d := l.x.get(KindTwin, rec.Key)
	if d == nil || d.stateRevision.Load() == rec.Revision {
		return
	}
	st, err := state.Decode(rec.Value)
	if err != nil {
		return // a later version's
	}
	status := l.x.text.of(statusOf(st, l.s.o.Since(rec.Key)))
	at, ok := expr.Locate(st)
	// The doc may just be taking another's place: what it takes over and what is noted here must not miss each other.
	l.x.mu.RLock()
	defer l.x.mu.RUnlock()
	if d = l.x.byKey[keyOf(KindTwin, rec.Key)]; d == nil {
		return
	}
	if !d.stopped {
		d.status.Store(status)
	}
	switch {
	case ok:
		d.place.Store(pack(at))
	default:
		d.place.Store(d.own)
	}
	d.stateRevision.Store(rec.Revision)
}

func pair(label string) (key, value string) {
	key, value, _ = strings.Cut(label, "=")
	return key, value
}
