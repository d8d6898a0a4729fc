package actors_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/test/harness"
)

// TestSieveModel: values come at random, in time, late, twice at once, for history alone; values are asked for, time passes, and the node starts
// again. State, quality, history, counts and what is confirmed are what model/DESIGN.md says of the filters, as sieveTwin has it.
func TestSieveModel(t *testing.T) {
	harness.Seeds(t, 3, func(t *testing.T, seed uint64) {
		t.Parallel()
		w := &sieveWalk{t: t, fs: vfs.NewMem(), rnd: rand.New(rand.NewPCG(seed, 5)), of: map[string]*sieveTwin{}, counts: map[string]uint64{}}
		w.clock.at = time.Date(2026, 3, 1, 7, 0, 30, 0, time.UTC)
		w.run()
	})
}

// sieved are the properties of the walk: what their model says, and the same for sieveTwin.
var sieved = []struct {
	name, terms string
	sieve
}{
	{"near", `"type":"number","pollux:deadband":5`, sieve{deadband: 5}},
	{"slow", `"type":"number","pollux:rate":0.1`, sieve{spacing: 10_000, deadband: -1}},
	{"restless", `"type":"number","pollux:flap":{"changes":4,"seconds":60},"maximum":15`, sieve{flaps: 4, window: 60_000, deadband: -1, most: 15}},
	{"switch", `"type":"boolean","pollux:flap":{"changes":2,"seconds":30}`, sieve{flaps: 2, window: 30_000, deadband: -1}},
	{"all", `"type":"number","pollux:deadband":2,"pollux:rate":0.1,"pollux:flap":{"changes":3,"seconds":60}`,
		sieve{deadband: 2, spacing: 10_000, flaps: 3, window: 60_000}},
	{"told", `"type":"number","pollux:deadband":2,"pollux:stale":40,"pollux:quality":"/q"`, sieve{deadband: 2, stale: 40_000}},
}

type sieve struct {
	deadband, most         float64
	spacing, window, stale int64
	flaps                  int
}

// sieveTwin is a property as the document has it.
type sieveTwin struct {
	sieve
	known   bool
	value   float64
	quality pb.Quality
	at      int64
	// samples as history has them, time and value.
	samples []string
	sampled int64 // when the last was that counts for the rate; 0: unknown
	owed    bool  // the value is not in history
	since   int64 // and when that was last so
	changes []int64
	flaps   bool
	asked   *float64
	done    bool
}

// lives again: what filters remember is gone.
func (s *sieveTwin) again() { s.sampled, s.owed, s.changes, s.flaps = 0, false, nil, false }

// pay: no other value comes in the place of the one that history is owed.
func (s *sieveTwin) pay() {
	if !s.owed {
		return
	}
	s.sample(s.value, s.at)
	s.owed = false
	if s.sampled != 0 {
		s.sampled = s.at
	}
}

// take has a value come. sent is its time, 0: none. It gives what a filter did with it.
func (s *sieveTwin) take(v float64, q pb.Quality, sent, now int64, historical bool) (why string) {
	at := sent
	if at == 0 {
		at = now
	}
	if historical || s.known && sent != 0 && sent < s.at {
		s.sample(v, at)
		if historical {
			return ""
		}
		return "late"
	}
	if s.most > 0 && v > s.most && q == pb.Quality_QUALITY_GOOD {
		q = pb.Quality_QUALITY_UNCERTAIN
	}
	same := s.known && v == s.value
	near := s.known && math.Abs(v-s.value) <= s.deadband
	if near && !same && q == s.quality && !s.owed && !(s.asked != nil && *s.asked == v) {
		s.at = max(s.at, at)
		return "deadband"
	}
	if s.asked != nil && *s.asked == v {
		s.asked, s.done = nil, true
	}
	history := true
	if s.restless(v, same || near, at) {
		why, history, q = "flap", false, pb.Quality_QUALITY_UNCERTAIN
	} else if s.spacing > 0 && s.known {
		if s.sampled == 0 {
			s.sampled = s.at
		}
		if at-s.sampled < s.spacing && at >= s.sampled {
			why, history = "rate", false
		}
	}
	if same && q == s.quality && at/60_000 == s.at/60_000 && !(history && s.owed) {
		s.at = max(s.at, at)
		return why
	}
	stamp := at
	if s.known && sent == 0 && at <= s.at && s.at-at < 1000 {
		stamp = s.at + 1
	}
	s.known, s.value, s.quality, s.at = true, v, q, stamp
	if history {
		s.sample(v, stamp)
		s.sampled, s.owed = at, false
	} else if !same {
		s.owed, s.since = true, now
	}
	return why
}

func (s *sieveTwin) sample(v float64, at int64) {
	s.samples = append(s.samples, fmt.Sprintf("%d %v", at, v))
}

// restless counts a change, and says whether there are too many.
func (s *sieveTwin) restless(v float64, same bool, at int64) bool {
	if s.sieve.flaps == 0 || !s.known {
		return false
	}
	if !same {
		s.changes = append(s.changes, at)
	}
	within := 0
	for _, c := range s.changes {
		if c > at-s.window {
			within++
		}
	}
	if s.flaps {
		s.flaps = within > s.sieve.flaps/2
	} else {
		s.flaps = within > s.sieve.flaps
	}
	return s.flaps
}

type sieveWalk struct {
	t      *testing.T
	fs     vfs.FS
	rnd    *rand.Rand
	n      *node
	lives  uint64
	clock  handClock
	of     map[string]*sieveTwin
	counts map[string]uint64 // in this life
	log    []string
}

func (w *sieveWalk) run() {
	w.open()
	var terms []string
	for _, p := range sieved {
		terms = append(terms, fmt.Sprintf("%q:{%s}", p.name, p.terms))
		w.of[p.name] = &sieveTwin{sieve: p.sieve}
	}
	w.n.model("m", thing("M", strings.Join(terms, ",")))
	w.n.twin(`{"id":"m","model":"m"}`)
	for range 150 {
		w.step()
		w.check()
	}
}

func (w *sieveWalk) open() {
	w.lives++
	w.n = open(w.t, w.fs, w.lives, func(o *actors.Options) { o.Clock = &w.clock })
}

func (w *sieveWalk) now() int64 { return w.clock.Now().UnixMilli() }

func (w *sieveWalk) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%d ", w.now())+fmt.Sprintf(format, args...))
}

func (w *sieveWalk) step() {
	switch n := w.rnd.IntN(40); {
	case n == 0:
		planned := w.rnd.IntN(2) == 0
		w.note("start again, planned %v", planned)
		if planned {
			if err := w.n.engine.Drain(w.t.Context()); err != nil {
				w.t.Fatal(err)
			}
		}
		w.n.close()
		w.open()
		clear(w.counts)
		for _, s := range w.of {
			if planned {
				s.pay()
			}
			s.again()
		}
		return
	case n < 4:
		name := pick(w.rnd, []string{"near", "all", "slow"})
		s, v := w.of[name], float64(w.rnd.IntN(8))
		if s.known && w.rnd.IntN(2) == 0 {
			v = s.value // which is not said yet of what is asked now
		}
		w.note("ask %s %v", name, v)
		if _, err := w.n.set("m", name, fmt.Sprint(v), 24*time.Hour); err != nil {
			w.t.Fatal(err)
		}
		s.asked, s.done = &v, false
		return
	case n < 34:
		w.pass(time.Duration(w.rnd.IntN(9)) * time.Second)
	case n < 36:
		w.pass(time.Duration(20+w.rnd.IntN(60)) * time.Second)
	}
	now := w.now()
	sent := pick(w.rnd, []int64{0, 0, now, now, now, now - 3000, now - int64(w.rnd.IntN(30_000))})
	historical := w.rnd.IntN(12) == 0
	message := map[string]any{}
	for _, p := range sieved {
		if w.rnd.IntN(3) > 0 {
			continue
		}
		s := w.of[p.name]
		v, q := float64(pick(w.rnd, []int{0, 1, 2, 7, 8, 20, 21})), pb.Quality_QUALITY_GOOD
		message[p.name] = v
		switch p.name {
		case "switch":
			v = float64(w.rnd.IntN(2))
			message[p.name] = v == 1
		case "told":
			q = pick(w.rnd, []pb.Quality{q, q, q, pb.Quality_QUALITY_UNCERTAIN})
			message["q"] = strings.ToLower(strings.TrimPrefix(q.String(), "QUALITY_"))
		}
		if why := s.take(v, q, sent, now, historical); why != "" {
			w.counts[why]++
		}
	}
	if len(message) == 0 {
		return
	}
	text, _ := json.Marshal(message)
	w.note("%s at %d, historical %v", text, sent, historical)
	if r := w.n.engine.Absorb("m", string(text), sent, historical); r.Err != nil || len(r.Refused) > 0 {
		w.t.Fatalf("%s: %+v", text, r)
	}
}

// pass lets time pass; what is owed or goes stale by then does so before anything else comes.
func (w *sieveWalk) pass(d time.Duration) {
	w.clock.to(w.t, w.clock.Now().Add(d).Format(time.RFC3339), w.n)
	for name, s := range w.of {
		if !s.owed || s.since+max(s.spacing, s.window) > w.now() {
			continue
		}
		s.pay()
		w.note("%s is silent", name)
		until(w.t, "what is owed is in history", func() bool {
			w.n.engine.Tick()
			w.n.engine.Absorb("m", "{}", 0, false) // comes to an end with the commit of all that the twin has
			return len(w.samples()[name]) >= len(s.samples)
		})
	}
	s := w.of["told"]
	if !s.known || s.quality == pb.Quality_QUALITY_STALE || s.at+s.stale > w.now() {
		return
	}
	s.quality = pb.Quality_QUALITY_STALE
	w.note("told goes stale")
	until(w.t, "it is stale", func() bool {
		w.n.engine.Tick()
		return w.n.state("m").Properties["told"].Quality == pb.Quality_QUALITY_STALE
	})
}

// samples are what is in history, of each property time and value.
func (w *sieveWalk) samples() map[string][]string {
	got := map[string][]string{}
	if _, err := w.n.store.ReadSamples(0, func(_ uint64, all []storage.TwinSamples) error {
		for _, s := range all {
			for _, p := range s.Samples {
				got[p.Property] = append(got[p.Property], fmt.Sprintf("%d %v", p.Time, p.Value))
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return got
}

// check compares the twin with what it is to be.
func (w *sieveWalk) check() {
	got, st, wrong := w.samples(), w.n.state("m"), []string{}
	for name, s := range w.of {
		p := st.Properties[name]
		if s.known != (p != nil) {
			wrong = append(wrong, fmt.Sprintf("%s is known: %v", name, p != nil))
			continue
		}
		v := p.GetValue().GetNumberValue()
		if p.GetValue().GetBoolValue() {
			v = 1
		}
		if s.known && (v != s.value || p.Quality != s.quality || p.Time.AsTime().UnixMilli() != s.at) {
			wrong = append(wrong, fmt.Sprintf("%s is %v %v at %d, want %v %v at %d", name, v, p.Quality, p.Time.AsTime().UnixMilli(), s.value, s.quality, s.at))
		}
		if !slices.Equal(got[name], s.samples) {
			wrong = append(wrong, fmt.Sprintf("history of %s\n%v, want\n%v", name, got[name], s.samples))
		}
		if confirmed := st.Desired[name].GetProgress() == pb.Progress_PROGRESS_CONFIRMED; confirmed != s.done {
			wrong = append(wrong, fmt.Sprintf("what is asked of %s is confirmed: %v", name, confirmed))
		}
	}
	counts := maps.Clone(st.Filtered)
	if len(counts)+len(w.counts) > 0 && !maps.Equal(counts, w.counts) {
		wrong = append(wrong, fmt.Sprintf("counts %v, want %v", counts, w.counts))
	}
	if len(wrong) > 0 {
		w.t.Fatalf("%s\nafter\n%s", strings.Join(wrong, "\n"), strings.Join(w.log, "\n"))
	}
}
