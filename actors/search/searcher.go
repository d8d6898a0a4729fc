package search

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/storage"
)

// Options of a Searcher. All but Logger and Metrics are needed.
type Options struct {
	Store *storage.Store
	// Sources are the kinds of records, in the order in which they are read: those whose titles others have come first.
	Sources []Source
	// States is the table of twins' states.
	States storage.Table
	// Sight gives a twin as expressions see it, with its state as last committed; nil: there is none of that id.
	Sight func(id string) (*expr.Twin, error)
	// Since gives the revision since which a twin's owner has its slot.
	Since func(id string) uint64
	// Idle is how long nobody asks before the index is given up; 0: 30 min.
	Idle    time.Duration
	Logger  *slog.Logger
	Metrics *metrics.Set
}

const (
	// chunk is how many entries are made before the work rests as long as it took: half a processor is the most.
	chunk = 64
	// look is how often what twins say is looked at, while somebody searches.
	look = 5 * time.Second
	// wake is for how long after a question that goes on.
	wake = time.Minute
	// patience is how long the first question waits for the index to be whole.
	patience = 10 * time.Second
	// maxTried is how many entries an expression is evaluated on for one question.
	maxTried = 20_000
	// MaxHits is how far a list of hits can be paged through.
	MaxHits = 10_000
)

// Searcher answers questions from an index that follows the store. It makes the index when it is first asked, and gives it up when
// nobody asks any more: a node that nobody searches on pays nothing. Safe for concurrent use.
type Searcher struct {
	o     Options
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	asked atomic.Int64 // nanoseconds since 1970

	mu     sync.Mutex
	live   *live
	closed bool
}

// live is an index and who keeps it right.
type live struct {
	s      *Searcher
	x      *index
	ctx    context.Context
	stop   context.CancelFunc
	whole  chan struct{} // closed when all that there was is in the index
	titles sync.Map      // kind/id → title
	again  again
	making sync.Mutex
	states struct {
		sync.Mutex
		version uint64
		at      time.Time
	}
}

// New makes a Searcher. Close it.
func New(o Options) *Searcher {
	if o.Idle == 0 {
		o.Idle = 30 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Searcher{o: o}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if o.Metrics != nil {
		o.Metrics.NewGauge("pollux_search_entries", func() float64 { return float64(s.Entries()) })
	}
	return s
}

// Close gives the index up, and waits for who keeps it.
func (s *Searcher) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}

// Entries is how many entries the index has; 0: there is none.
func (s *Searcher) Entries() int {
	s.mu.Lock()
	l := s.live
	s.mu.Unlock()
	if l == nil {
		return 0
	}
	return l.x.size()
}

// index gives the live one, made where there is none.
func (s *Searcher) index() (*live, error) {
	s.asked.Store(time.Now().UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, storage.ErrClosed
	}
	if s.live != nil {
		return s.live, nil
	}
	l := &live{s: s, x: newIndex(), whole: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(s.ctx)
	s.live = l
	s.run(l.build)
	s.run(l.reindex)
	s.run(l.watchStates)
	return l, nil
}

// run has f run until the Searcher closes; its caller holds the lock, or is run so itself.
func (s *Searcher) run(f func()) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f()
	}()
}

// idle gives the index up where nobody has asked for long.
func (s *Searcher) idle(l *live) bool {
	if time.Since(time.Unix(0, s.asked.Load())) < s.o.Idle {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == l {
		s.live = nil
	}
	l.stop()
	return true
}

// Hit is an entry that was found.
type Hit struct {
	Kind, ID, Title, Detail     string
	Model, Driver, Zone, Status string
	Labels                      []string // key=value
	At                          *expr.Point
	Score                       uint32
	Distance                    float64 // metres from Query.Near
}

// Result is what was found.
type Result struct {
	Hits []Hit
	// Total is how many entries match.
	Total int
	// Facets are counted where asked for: the most frequent values of each.
	Facets map[string][]Count
	// Truncated: the expression was evaluated on so many entries, and others were not looked at.
	Truncated bool
	// Building: the index is being made, and what is not in it yet is not found. Entries are those that it has.
	Building bool
	Entries  int
}

// Search answers a question. The first one waits a few seconds for the index, or for ctx.
func (s *Searcher) Search(ctx context.Context, q *Query) (*Result, error) {
	l, err := s.index()
	if err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	building := false
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-l.whole:
	case <-wait.C:
		building = true
	case <-ctx.Done():
		return nil, fmt.Errorf("search: %w", ctx.Err())
	}
	if wantsStates(q) {
		l.lookFresh()
	}
	all := l.x.match(q)
	res := &Result{Building: building, Entries: l.x.size()}
	if q.Where != nil {
		if all, res.Truncated, err = s.where(ctx, l, q, all); err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}
	}
	res.Total = len(all)
	page := best(all, min(q.Offset+q.Limit, MaxHits))
	for _, f := range page[min(q.Offset, len(page)):] {
		res.Hits = append(res.Hits, l.hit(f, q))
	}
	if q.Count {
		res.Facets = l.x.facets(all)
	}
	return res, nil
}

// wantsStates says whether the question is one of what twins say, which the index learns a little later than records.
func wantsStates(q *Query) bool {
	if q.Near != nil || len(q.Within) > 0 || q.Count {
		return true
	}
	for _, f := range q.Facets {
		if f.Name == "status" {
			return true
		}
	}
	return false
}

// hit is what is shown of an entry: of a twin, with its status and place as they are.
func (l *live) hit(f found, q *Query) Hit {
	if f.kind == KindTwin {
		if rec, ok, err := l.s.o.Store.Get(l.s.o.States, f.id); err == nil && ok {
			l.saw(rec)
		}
	}
	t := &l.x.text
	h := Hit{Kind: f.as, ID: f.id, Title: f.title, Detail: f.detail, Model: t.at(f.model), Driver: t.at(f.driver), Zone: t.at(f.zone),
		Status: t.at(f.status.Load()), Score: f.score}
	for _, label := range f.labels {
		h.Labels = append(h.Labels, t.at(label))
	}
	if p, ok := unpack(f.place.Load()); ok {
		h.At = &p
		if q.Near != nil {
			h.Distance = expr.Distance(p, *q.Near)
		}
	}
	return h
}

// where evaluates an expression on what the index found, the best first where they are too many.
func (s *Searcher) where(ctx context.Context, l *live, q *Query, all []found) (kept []found, truncated bool, err error) {
	if len(all) > maxTried {
		all, truncated = best(all, maxTried), true
	}
	uses := q.Where.Uses()
	in := &expr.Input{Now: time.Now()}
	for i, f := range all {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		in.Twin, in.Entry = nil, nil
		if uses.Word("twin") && f.kind == KindTwin { // of what is none the expression may hold by its other words
			if in.Twin, err = s.o.Sight(f.id); err != nil {
				return nil, false, err
			}
			if in.Twin == nil {
				continue
			}
		}
		if uses.Word("entry") {
			in.Entry = l.entry(f.doc)
		}
		if q.Where.Matches(in) {
			kept = append(kept, f)
		}
	}
	return kept, truncated, nil
}

// entry is a doc as expressions see it.
func (l *live) entry(d *doc) *expr.Entry {
	t := &l.x.text
	e := &expr.Entry{Kind: d.as, ID: d.id, Title: d.title, Text: d.detail, Zone: t.at(d.zone), Model: t.at(d.model), Driver: t.at(d.driver),
		Status: t.at(d.status.Load())}
	if len(d.labels) > 0 {
		e.Labels = map[string]string{}
		for _, label := range d.labels {
			k, v := pair(t.at(label))
			e.Labels[k] = v
		}
	}
	return e
}

// statusOf is the word for how a twin is: fault, or the one of its connection.
func statusOf(r *state.Record, since uint64) string {
	if r.Fault != "" {
		return "fault"
	}
	return expr.StatusWord(r.Shown(since))
}
