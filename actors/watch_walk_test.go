package actors_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestWatchWalk: twins change, come and go, lose their devices and fall asleep, while watchers with all kinds of filters stop to read for a while, or
// leave and come back. Each hears the values in their order, and in the end knows the state of the twins that its filter lets through, and of
// none that it would not.
func TestWatchWalk(t *testing.T) {
	harness.Seeds(t, 3, func(t *testing.T, seed uint64) {
		n := newNode(t, func(o *actors.Options) {
			o.WatchQueue, o.IdleTimeout, o.CheckpointMin = 8, 30*time.Millisecond, 10*time.Millisecond
		})
		n.driver("probe", "1.0.0", "")
		n.driver("bus", "1.0.0", mqttTransport)
		w := &watchWalk{t: t, n: n, rnd: rand.New(rand.NewPCG(seed, 21))}
		for i := range 4 {
			w.make(i)
		}
		for _, r := range []*pb.WatchTwinsRequest{
			{},
			{Properties: []string{"count"}},
			{Filter: &pb.TwinFilter{Ids: []string{"bus0", "probe1"}}},
			{Filter: &pb.TwinFilter{Connection: pb.Connection_CONNECTION_CONNECTED}},
			{Filter: &pb.TwinFilter{Connection: pb.Connection_CONNECTION_DISCONNECTED}},
			{Filter: &pb.TwinFilter{Where: "twin.properties.level > 50"}},
			{Filter: &pb.TwinFilter{Where: "twin.properties.level < 30"}, Properties: []string{"level", "count"}},
		} {
			w.readers = append(w.readers, &walkReader{w: w, req: r, mayRead: make(chan bool, 1)})
		}
		w.run()
	})
}

type watchWalk struct {
	t       *testing.T
	n       *node
	rnd     *rand.Rand
	last    int
	readers []*walkReader
}

// walkReader is a watcher, with what it knows.
type walkReader struct {
	w       *watchWalk
	req     *pb.WatchTwinsRequest
	mayRead chan bool // holds something while it may read

	mu    sync.Mutex
	known map[string]*pb.TwinState
	wrong error
}

func (w *watchWalk) make(i int) {
	if i%2 == 0 {
		w.n.twin(fmt.Sprintf(`{"id":"bus%d","driver":"bus","settings":{"topic":"b%d"}}`, i, i))
		w.n.deliver(fmt.Sprintf("dev/b%d/lwt", i), "Online", 1)
		return
	}
	w.n.twin(fmt.Sprintf(`{"id":"probe%d","driver":"probe"}`, i))
}

func (w *watchWalk) run() {
	over, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for _, r := range w.readers {
		r.mayRead <- true
		seed := w.rnd.Uint64()
		all.Go(func() { r.read(over, rand.New(rand.NewPCG(seed, 1))) })
	}
	for range 300 {
		w.step()
	}
	for _, r := range w.readers {
		r.let(true)
	}
	for i, r := range w.readers {
		why := fmt.Errorf("not looked")
		until(w.t, fmt.Sprintf("watcher %d of %v knows all", i, r.req), func() bool {
			why = r.lacks()
			return why == nil || r.failed()
		})
		if why != nil {
			w.t.Fatal(why)
		}
	}
}

// step changes something of a twin, or of a reader.
func (w *watchWalk) step() {
	i := w.rnd.IntN(4)
	id := fmt.Sprintf("%s%d", []string{"bus", "probe"}[i%2], i)
	w.last++
	values := fmt.Sprintf(`{"level":%d,"count":%d}`, w.rnd.IntN(100), w.last)
	switch k := w.rnd.IntN(40); {
	case k == 0:
		if err := w.n.reg.DeleteTwin(ctx(w.t), id, 0); err != nil {
			w.t.Fatal(err)
		}
		if w.rnd.IntN(2) == 0 {
			until(w.t, id+" is gone", func() bool { return w.n.records("gone", "") == 0 })
		}
		w.make(i)
	case k == 1:
		until(w.t, "twins sleep", func() bool { return w.n.engine.Stats().Active <= 2 })
	case k < 12:
		w.readers[w.rnd.IntN(len(w.readers))].let(k < 7)
	case i%2 == 1:
		w.n.must(id, "report", values)
	case k < 20:
		w.n.deliver(fmt.Sprintf("dev/b%d/lwt", i), []string{"Offline", "Online"}[w.rnd.IntN(2)], 1)
	default:
		w.n.deliver(fmt.Sprintf("dev/b%d/state", i), values, 1)
	}
}

// let has a reader read, or stop to.
func (r *walkReader) let(read bool) {
	select {
	case <-r.mayRead:
	default:
	}
	if read {
		r.mayRead <- true
	}
}

// read watches, and at times leaves and comes back.
func (r *walkReader) read(over context.Context, rnd *rand.Rand) {
	for over.Err() == nil {
		s, err := r.w.n.client.Watch(over, r.req, nil)
		if err != nil {
			r.fail(err)
			return
		}
		r.mu.Lock()
		r.known = map[string]*pb.TwinState{}
		r.mu.Unlock()
		for range 50 + rnd.IntN(300) {
			select {
			case <-r.mayRead:
			case <-over.Done():
				s.Close()
				return
			}
			m, err := s.Poll()
			select {
			case r.mayRead <- true:
			default:
			}
			if err != nil {
				r.fail(err)
				return
			}
			if m != nil {
				r.hear(m)
				continue
			}
			select {
			case <-s.Ready():
			case <-over.Done():
			}
		}
		s.Close()
	}
}

func (r *walkReader) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong != nil
}

func (r *walkReader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mistake("%w", err)
}

func (r *walkReader) mistake(format string, args ...any) {
	if r.wrong == nil {
		r.wrong = fmt.Errorf("watcher of %v: "+format, append([]any{r.req}, args...)...)
	}
}

func (r *walkReader) hear(m *actors.Told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := r.known[m.Id]
	switch {
	case m.Missed > 0 && m.GetDelta() != nil:
		r.mistake("after a gap comes no whole state: %v", m)
		return
	case m.GetDeleted():
		delete(r.known, m.Id)
		return
	case m.GetState() != nil:
		r.known[m.Id] = proto.CloneOf(m.GetState())
	case m.GetDelta() != nil && had == nil:
		r.mistake("a change of a twin that it was not given: %v", m)
		return
	case m.GetDelta() != nil:
		now := proto.CloneOf(had)
		if now.Properties == nil {
			now.Properties = map[string]*pb.Property{}
		}
		maps.Copy(now.Properties, m.GetDelta().Properties)
		if s := m.GetDelta().Status; s != nil {
			now.Status = s
		}
		r.known[m.Id] = now
	default:
		return
	}
	if was, is := countOf(had), countOf(r.known[m.Id]); is < was && m.Missed == 0 {
		r.mistake("after %v comes %v of %s: %v", was, is, m.Id, m)
	}
	if !r.passes(m.Id, r.known[m.Id]) {
		delete(r.known, m.Id) // it hears no more of it until it comes back
	}
}

func countOf(s *pb.TwinState) float64 { return s.GetProperties()["count"].GetValue().GetNumberValue() }

func levelOf(s *pb.TwinState) float64 { return s.GetProperties()["level"].GetValue().GetNumberValue() }

// passes says whether the reader's filter lets a twin through in that state.
func (r *walkReader) passes(id string, s *pb.TwinState) bool {
	switch f := r.req.Filter; {
	case f == nil:
	case len(f.Ids) > 0:
		return slices.Contains(f.Ids, strings.TrimPrefix(id, "default/"))
	case f.Connection != 0:
		return s.GetStatus().GetConnection() == f.Connection
	case strings.Contains(f.Where, "<"):
		return s.GetProperties()["level"] != nil && levelOf(s) < 30
	default:
		return levelOf(s) > 50
	}
	return true
}

// lacks says in what the reader is mistaken about the twins.
func (r *walkReader) lacks() error {
	for i := range 4 {
		id := fmt.Sprintf("default/%s%d", []string{"bus", "probe"}[i%2], i)
		now := r.w.n.state(id)
		r.mu.Lock()
		known, wrong := r.known[id], r.wrong
		r.mu.Unlock()
		switch {
		case wrong != nil:
			return wrong
		case !r.passes(id, now):
			if known != nil {
				return fmt.Errorf("%s has left %v, and it knows %v", id, r.req, known)
			}
		case known == nil:
			return fmt.Errorf("%s is in %v, and it knows nothing", id, r.req)
		case countOf(known) != countOf(now) || known.GetStatus().GetConnection() != now.GetStatus().GetConnection():
			return fmt.Errorf("%s is %v, and the watcher of %v knows %v", id, now, r.req, known)
		}
	}
	return nil
}
