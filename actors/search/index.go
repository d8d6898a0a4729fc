package search

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/btree"

	"github.com/polluxhq/pollux/actors/expr"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// index is an inverted index in memory. Safe for concurrent use: one lock, which is held for microseconds to write and a few
// milliseconds to match; everything else works on docs, which do not change.
type index struct {
	mu    sync.RWMutex
	terms *btree.BTreeG[*term]
	docs  []*doc // by number; nil: free
	free  []uint32
	byKey map[string]*doc // kind, slash, id
	count map[string]int  // by kind
	text  interner
}

// term is a word, and the numbers of the docs that have it: in their names, and elsewhere. Both are sorted.
type term struct {
	text        string
	names, rest []uint32
}

// doc is an entry in the index. It does not change, but for what the device says.
type doc struct {
	num                    uint32
	name                   uint8  // where the id's name begins
	kind, as               string // of its source, and as what it is shown
	id, title, detail      string
	sort                   uint32 // as, interned
	project, model, driver uint32
	zone                   uint32
	labels                 []uint32
	names, rest            []*term
	stopped                bool
	status                 atomic.Uint32 // interned; 0: none
	place                  atomic.Uint64 // packed; 0: none
	own                    uint64        // the place that its record says
	stateRevision          atomic.Uint64
}

func newIndex() *index {
	x := &index{byKey: map[string]*doc{}, count: map[string]int{}}
	x.terms = btree.NewG(64, func(a, b *term) bool { return a.text < b.text })
	x.text.of("")
	return x
}

func keyOf(kind, id string) string { return kind + "/" + id }

// put adds an entry, or takes the place of the one that is there, at once: there is no moment without it.
func (x *index) put(kind string, e *Entry, titles func(kind, id string) string) {
	as := cmp.Or(e.As, kind)
	d := &doc{kind: kind, as: as, sort: x.text.of(as), name: uint8(strings.IndexByte(e.ID, '/') + 1), id: e.ID, title: e.Title, detail: e.Detail, stopped: e.Stopped, project: x.text.of(projectOf(e.ID)),
		driver: x.text.of(e.Driver), zone: x.text.of(e.Zone)}
	model := e.Model
	if model == "" && e.Driver != "" {
		model = titles(KindDriver, e.Driver)
	}
	d.model = x.text.of(model)
	for k, v := range e.Labels {
		d.labels = append(d.labels, x.text.of(k+"="+v))
	}
	slices.Sort(d.labels)
	if e.At != nil {
		d.own = pack(*e.At)
		d.place.Store(d.own)
	}
	if d.stopped {
		d.status.Store(x.text.of("stopped"))
	}
	names := collect(append([]string{e.ID, e.Title}, e.Names...))
	rest := collect(append([]string{e.Detail, e.Driver, e.Zone, e.Model, titles(KindModel, e.Model), titles(KindDriver, e.Driver),
		titles(KindZone, e.Zone)}, e.Words...), labelTexts(e.Labels)...)
	key := keyOf(kind, e.ID)
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.byKey[key]
	switch {
	case old != nil:
		d.num = old.num
		d.stateRevision.Store(old.stateRevision.Load())
		if !d.stopped {
			d.status.Store(old.status.Load())
		}
		if p := old.place.Load(); p != old.own {
			d.place.Store(p)
		}
		if old.stopped != d.stopped {
			d.stateRevision.Store(0) // look at its state again
			d.status.Store(0)
		}
	case len(x.free) > 0:
		d.num = x.free[len(x.free)-1]
		x.free = x.free[:len(x.free)-1]
	default:
		d.num = uint32(len(x.docs))
		x.docs = append(x.docs, nil)
	}
	if d.stopped {
		d.status.Store(x.text.of("stopped"))
	}
	d.names, d.rest = x.termsOf(names), x.termsOf(rest)
	x.link(d, old)
	if old == nil {
		x.count[kind]++
	}
	x.docs[d.num], x.byKey[key] = d, d
}

// link brings the doc into the lists of its terms, and the old one out of those that it does not share with it.
func (x *index) link(d, old *doc) {
	var names, rest []*term
	if old != nil {
		names, rest = old.names, old.rest
	}
	for _, t := range d.names {
		if !slices.Contains(names, t) {
			t.names = insert(t.names, d.num)
		}
	}
	for _, t := range d.rest {
		if !slices.Contains(rest, t) {
			t.rest = insert(t.rest, d.num)
		}
	}
	if old == nil {
		return
	}
	for _, t := range old.names {
		if !slices.Contains(d.names, t) {
			t.names = without(t.names, d.num)
			x.tidy(t)
		}
	}
	for _, t := range old.rest {
		if !slices.Contains(d.rest, t) {
			t.rest = without(t.rest, d.num)
			x.tidy(t)
		}
	}
}

func (x *index) tidy(t *term) {
	if len(t.names) == 0 && len(t.rest) == 0 {
		x.terms.Delete(t)
	}
}

// remove takes an entry out.
func (x *index) remove(kind, id string) {
	key := keyOf(kind, id)
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.byKey[key]
	if d == nil {
		return
	}
	for _, t := range d.names {
		t.names = without(t.names, d.num)
		x.tidy(t)
	}
	for _, t := range d.rest {
		t.rest = without(t.rest, d.num)
		x.tidy(t)
	}
	delete(x.byKey, key)
	x.docs[d.num] = nil
	x.free = append(x.free, d.num)
	x.count[kind]--
}

func (x *index) get(kind, id string) *doc {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byKey[keyOf(kind, id)]
}

// unseen takes back what a twin's state said: it has none, and so no connection.
func (x *index) unseen(id string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	d := x.byKey[keyOf(KindTwin, id)]
	if d == nil {
		return
	}
	if !d.stopped {
		d.status.Store(x.text.of(expr.StatusWord(pb.Connection_CONNECTION_NONE)))
	}
	d.place.Store(d.own)
	d.stateRevision.Store(0)
}

// of gives the docs that match, as they are now.
func (x *index) of(match func(*doc) bool) []*doc {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var all []*doc
	for _, d := range x.docs {
		if d != nil && match(d) {
			all = append(all, d)
		}
	}
	return all
}

func (x *index) size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.byKey)
}

func (x *index) termsOf(words []string) []*term {
	all := make([]*term, 0, len(words))
	for _, w := range words {
		t, ok := x.terms.Get(&term{text: w})
		if !ok {
			t = &term{text: w}
			x.terms.ReplaceOrInsert(t)
		}
		all = append(all, t)
	}
	return all
}

// collect gives the words of texts, each once.
func collect(texts []string, more ...string) []string {
	var all []string
	for _, s := range append(texts, more...) {
		if s != "" {
			all = append(all, words(s)...)
		}
		if len(all) > maxWords {
			all = all[:maxWords]
			break
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func labelTexts(labels map[string]string) (all []string) {
	for k, v := range labels {
		all = append(all, k, v)
	}
	return all
}

func insert(list []uint32, n uint32) []uint32 {
	if len(list) == 0 || list[len(list)-1] < n {
		return append(list, n)
	}
	at, found := slices.BinarySearch(list, n)
	if found {
		return list
	}
	return slices.Insert(list, at, n)
}

func without(list []uint32, n uint32) []uint32 {
	at, found := slices.BinarySearch(list, n)
	if !found {
		return list
	}
	return slices.Delete(list, at, at+1)
}

func projectOf(id string) string {
	project, _, ok := strings.Cut(id, "/")
	if !ok {
		return ""
	}
	return project
}

// fine is how many parts of a degree a place is kept to: eleven millimetres. So places that are written with seven decimals are what they were,
// and on the edge of a box that is written likewise.
const fine = 1e7

// pack keeps a place in eight bytes; 0 is none.
func pack(p expr.Point) uint64 {
	return uint64(1+math.Round((p.Lat+90)*fine))<<32 | uint64(math.Round((p.Lon+180)*fine))
}

func unpack(v uint64) (expr.Point, bool) {
	return expr.Point{Lat: float64(int64(v>>32)-1-90*fine) / fine, Lon: float64(int64(uint32(v))-180*fine) / fine}, v != 0
}

// interner gives texts that many docs have numbers; 0 is the empty one. They are few, and kept as long as the index.
type interner struct {
	mu    sync.RWMutex
	ids   map[string]uint32
	texts []string
}

func (n *interner) of(s string) uint32 {
	n.mu.RLock()
	id, ok := n.ids[s]
	n.mu.RUnlock()
	if ok {
		return id
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, ok = n.ids[s]; ok {
		return id
	}
	if n.ids == nil {
		n.ids = map[string]uint32{}
	}
	id = uint32(len(n.texts))
	n.texts = append(n.texts, s)
	n.ids[s] = id
	return id
}

// known is of for a text that may be no doc's.
func (n *interner) known(s string) (uint32, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok := n.ids[s]
	return id, ok
}

func (n *interner) at(id uint32) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.texts[id]
}

func (n *interner) size() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.texts)
}
