package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// tableRoutes: id → pb.Route.
const tableRoutes storage.Table = "route"

const (
	// maxRoutes of a project.
	maxRoutes = 200
	// maxRouteName leaves room for the name of the list of dead letters.
	maxRouteName = 100
)

// routes are the records of all routes, ready to be matched. Safe for concurrent use.
type routes struct {
	store *storage.Store
	// generation rises with each change; 0 routes cost an atomic load per change of a property.
	generation atomic.Uint64
	count      atomic.Int64

	reading   sync.Mutex // one reads at a time, so that what was read earlier does not take the place of what was read later
	mu        sync.Mutex
	byProject map[string][]*route // sorted by id
	byID      map[string]*route
	counts    map[string]*routeCounts // by id; a route that is changed goes on with its counts
}

// route is a record with its condition compiled. One whose condition cannot be compiled any more has broken, and gives what it would
// pass on to its dead letters.
type route struct {
	*pb.Route
	when   *expr.Expr
	broken error
	counts *routeCounts
	// to is where its messages go first: its topics, or the lane of its logic.
	to []string
}

// routeCounts is what passed a route's steps on this node since it started: seen, and of these matched and failed; then what its logic
// said.
type routeCounts struct {
	seen, matched, failed                atomic.Uint64
	passed, replaced, stopped, runFailed atomic.Uint64
}

func (c *routeCounts) proto() *pb.RouteCounts {
	return &pb.RouteCounts{Seen: c.seen.Load(), Matched: c.matched.Load(), Failed: c.failed.Load(), Nodes: 1,
		Passed: c.passed.Load(), Replaced: c.replaced.Load(), Stopped: c.stopped.Load(), RunFailed: c.runFailed.Load()}
}

// said is what a twin says: a property's new value, or an event.
type said struct {
	kind, name      string
	value, previous state.Value
	at              int64 // milliseconds since 1970
	// by is on whose behalf what led to it was done, where that is known.
	by string
}

// routing is what a twin knows of the routes that may match it, and how their conditions see it.
type routing struct {
	generation, revision uint64
	routes               []*route
	listened             uint64 // generation of the rules
	rules                []automation.Listener
	// by is on whose behalf a command runs whose effects are being taken.
	by     string
	twin   expr.Twin
	change expr.Change
	in     expr.Input
}

func newRoutes(s *storage.Store) *routes {
	r := &routes{store: s, byProject: map[string][]*route{}}
	return r
}

// compileRoute makes a condition ready; nil for none.
func compileRoute(when string) (*expr.Expr, error) {
	return condition(saidWords, "/route/when", when)
}

// load reads all routes.
func (r *routes) load() error {
	r.reading.Lock()
	defer r.reading.Unlock()
	all, byID, n := map[string][]*route{}, map[string]*route{}, 0
	counts := map[string]*routeCounts{}
	for rec, err := range r.store.Scan(tableRoutes, "", "") {
		if err != nil {
			return fmt.Errorf("read routes: %w", err)
		}
		m, err := decode(rec, &pb.Route{})
		if err != nil {
			return err
		}
		when, broken := compileRoute(m.When)
		project := ProjectOf(rec.Key)
		counts[rec.Key] = r.countsOf(rec.Key)
		x := &route{Route: m, when: when, broken: broken, counts: counts[rec.Key], to: m.Topics}
		if m.Run != "" {
			x.to = []string{runTopic + m.Id}
		}
		all[project], byID[rec.Key] = append(all[project], x), x
		n++
	}
	r.mu.Lock()
	r.byProject, r.byID, r.counts = all, byID, counts
	r.mu.Unlock()
	r.count.Store(int64(n))
	r.generation.Add(1)
	return nil
}

// get gives a route by its id, or nil.
func (r *routes) get(id string) *route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

// countsOf gives the counts that a route goes on with, or new ones.
func (r *routes) countsOf(id string) *routeCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.counts[id]; c != nil {
		return c
	}
	return &routeCounts{}
}

// routeChanged: a route's record was written or removed. They are few, and read anew.
func (e *Engine) routeChanged(storage.Change) { e.routesLost() }

func (e *Engine) routesLost() {
	if err := e.routes.load(); err != nil {
		e.log.Error("routes", "err", err)
	}
}

// of gives the routes of a project that match a twin.
func (r *routes) of(t *pb.Twin, c *catalog) []*route {
	r.mu.Lock()
	all := r.byProject[ProjectOf(t.Id)]
	r.mu.Unlock()
	var match []*route
	for _, x := range all {
		if len(x.Twins) > 0 && !slices.Contains(x.Twins, t.Id) {
			continue
		}
		if matchFilter(&pb.TwinFilter{Zone: x.Zone, Labels: x.Labels, Driver: x.Driver, Model: x.Model}, t, c) {
			match = append(match, x)
		}
	}
	return match
}

// wants says whether the route is for a property or event of this name.
func (x *route) wants(s *said) bool {
	switch {
	case len(x.Properties) == 0 && len(x.Events) == 0:
		return true
	case s.kind == "event":
		return slices.Contains(x.Events, s.name)
	}
	return slices.Contains(x.Properties, s.name)
}

// holds evaluates the route's condition.
func (x *route) holds(in *expr.Input) (bool, error) {
	if x.when == nil {
		return x.broken == nil, x.broken
	}
	return x.when.Holds(in)
}

// say sends what the twin says where its routes lead: with the next transaction, which is the one that commits it.
func (t *twin) say(s said) {
	e := t.e
	t.tellRules(&s)
	if e.routes.count.Load() == 0 || t.cfg == nil {
		return
	}
	r := t.outlook()
	if r == nil {
		return
	}
	r.change = expr.Change{Kind: s.kind, Name: s.name, Value: s.value, Previous: s.previous, Time: s.at}
	var payload []byte
	for _, x := range r.routes {
		if !x.wants(&s) {
			continue
		}
		x.counts.seen.Add(1)
		yes, err := x.holds(&r.in)
		if err == nil && !yes {
			continue
		}
		if err == nil {
			x.counts.matched.Add(1)
		} else {
			x.counts.failed.Add(1)
		}
		if payload == nil {
			payload = s.encode(t.en.id)
		}
		refused := ""
		if err != nil {
			refused = err.Error()
		} else if x.Run != "" {
			if refused = e.outbox.crowded(x.to[0], x.Run); refused != "" {
				refused = "route " + x.Id + ": " + refused
				x.counts.runFailed.Add(1)
			}
		}
		for _, to := range x.to {
			t.post(to, x.Id, payload, s.at, refused)
		}
		if err == nil && x.Terminate {
			return
		}
	}
}

// outlook gives what the twin's routes and watchers evaluate their expressions with; nil where its record cannot be read. What a twin says that is
// deleted, and has not heard of it, goes where it went before.
func (t *twin) outlook() *routing {
	e, g, l := t.e, t.e.routes.generation.Load(), t.e.rules.Generation.Load()
	if t.cfg == nil {
		return nil
	}
	if r := t.routing; r != nil && r.generation == g && r.listened == l && r.revision == t.cfg.revision {
		r.in.Now = e.now()
		return r
	}
	if rec, err := e.readTwin(t.en.id); err == nil && rec != nil {
		return t.lookOut(rec)
	}
	if t.routing != nil {
		t.routing.in.Now = e.now()
	}
	return t.routing
}

// lookOut finds out who wants to hear of the twin whose record that is.
func (t *twin) lookOut(rec *pb.Twin) *routing {
	e, g, l := t.e, t.e.routes.generation.Load(), t.e.rules.Generation.Load()
	r := &routing{generation: g, listened: l, revision: t.cfg.revision, routes: e.routes.of(rec, e.catalog), twin: e.sight(rec, &t.st, t.own.Since)}
	r.in = expr.Input{Now: e.now(), Twin: &r.twin, Change: &r.change}
	r.rules = e.listeners(rec)
	if t.routing != nil {
		r.by = t.routing.by
	}
	t.routing = r
	return r
}

// encode is the message's payload.
func (s *said) encode(id string) []byte {
	b := append([]byte(nil), `{"twin":`...)
	b = appendString(b, id)
	b = append(b, `,"kind":`...)
	b = appendString(b, s.kind)
	b = append(b, `,"name":`...)
	b = appendString(b, s.name)
	b = append(b, `,"value":`...)
	b = s.value.AppendJSON(b)
	b = append(b, `,"time":`...)
	b = appendString(b, time.UnixMilli(s.at).UTC().Format("2006-01-02T15:04:05.000Z"))
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	v, err := structpb.NewStringValue(s).MarshalJSON()
	if err != nil {
		return append(b, `""`...) // it is no UTF-8
	}
	return append(b, v...)
}

// PutRoute creates a route (revision 0), or replaces the one of the revision given. Its topics must be there.
func (r *Registry) PutRoute(ctx context.Context, m *pb.Route) (*pb.Route, error) {
	id, err := CanonicalID(m.GetId())
	if err != nil {
		return nil, err
	}
	m = proto.Clone(m).(*pb.Route)
	m.Id = id
	if m, err = r.wholeRoute(m); err != nil {
		return nil, err
	}
	m, err = put(ctx, r, "route", tableRoutes, id, m, func() ([]storage.Guard, []storage.Write, error) { return nil, nil, nil })
	if err == nil {
		r.e.routesLost()
	}
	return m, err
}

// wholeRoute checks a route, and completes the ids in it.
func (r *Registry) wholeRoute(m *pb.Route) (*pb.Route, error) {
	m.Counts = nil
	if len(NameOf(m.Id)) > maxRouteName {
		return nil, invalid("/route/id", "%s is longer than %d", NameOf(m.Id), maxRouteName)
	}
	if _, err := compileRoute(m.When); err != nil {
		return nil, err
	}
	return m, r.checkRoute(m)
}

func (r *Registry) checkRoute(m *pb.Route) error {
	project := ProjectOf(m.Id)
	complete := func(path string, id *string) (err error) {
		if !strings.Contains(*id, "/") {
			*id = project + "/" + *id
		}
		if *id, err = CanonicalID(*id); err != nil {
			return invalid(path, "%q is no id", *id)
		}
		if ProjectOf(*id) != project {
			return invalid(path, "%s is in another project", *id)
		}
		return nil
	}
	for i := range m.Topics {
		path := fmt.Sprintf("/route/topics/%d", i)
		if err := complete(path, &m.Topics[i]); err != nil {
			return err
		}
		if _, ok, err := r.store.Get(topic.TableTopics, m.Topics[i]); err != nil || !ok {
			return invalid(path, "there is no topic %s", m.Topics[i])
		}
	}
	for i := range m.Twins {
		if err := complete(fmt.Sprintf("/route/twins/%d", i), &m.Twins[i]); err != nil {
			return err
		}
	}
	if len(m.Topics) == 0 && m.Run == "" {
		return invalid("/route/topics", "name one at least, or a logic by run")
	}
	if m.Run != "" {
		if err := r.logicThere(project, "/route/run", &m.Run); err != nil {
			return err
		}
	}
	if m.Zone != "" {
		if err := complete("/route/zone", &m.Zone); err != nil {
			return err
		}
	}
	if _, there, err := r.store.Get(tableRoutes, m.Id); err != nil || there {
		return err
	}
	if n, err := r.store.Count(tableRoutes, project+"/"); err == nil && n >= maxRoutes {
		return invalid("/route/id", "project %s has %d routes, which are as many as may be", project, n)
	}
	return nil
}

// ListRoutes gives a page of routes by id, with what passed them on this node, and where all is set with the dead letters that they have.
func (r *Registry) ListRoutes(ctx context.Context, req *pb.ListRoutesRequest, all bool, projects func(string) bool) (*pb.ListRoutesResponse, error) {
	page, next, err := list(r.store, tableRoutes, req.GetProject(), req.GetPageToken(), req.GetPageSize(), projects,
		func() *pb.Route { return &pb.Route{} })
	for _, m := range page {
		m.Counts = r.e.routes.countsOf(m.Id).proto()
		if all {
			r.countDead(ctx, m)
		}
	}
	return &pb.ListRoutesResponse{Routes: page, NextPageToken: next}, err
}

// DeleteRoute deletes a route. What is on its way to a topic arrives; what waits for the route's logic is dropped, and counted.
func (r *Registry) DeleteRoute(ctx context.Context, id string) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	old, err := get(r.store, tableRoutes, id, &pb.Route{})
	if err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: tableRoutes, Key: id, Revision: old.Revision}},
		Writes: []storage.Write{{Table: tableRoutes, Key: id}}}); err != nil {
		return fmt.Errorf("delete route %s: %w", id, err)
	}
	r.e.routesLost()
	return nil
}
