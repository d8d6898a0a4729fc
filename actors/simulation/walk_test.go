package simulation_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/simulation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// played is what became of the messages of a simulation: by twin and id, and how often each was stored.
type played struct {
	mu     sync.Mutex
	said   map[string]string
	stored map[string]int
	wrong  []string
}

// take is a door that now and then is too busy.
func (p *played) take(r *rand.Rand, m *simulation.Message, done func(simulation.Result)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := m.ID[strings.LastIndex(m.ID, "/")+1:] + " " + m.Twin
	if was, ok := p.said[key]; ok && was != string(m.Payload) {
		p.wrong = append(p.wrong, fmt.Sprintf("%s: %s, then %s", key, was, m.Payload))
	}
	p.said[key] = string(m.Payload)
	outcome := pb.IngestOutcome_INGEST_OUTCOME_STORED
	n := r.IntN(100)
	if n < 5 {
		outcome = pb.IngestOutcome_INGEST_OUTCOME_UNSPECIFIED
	} else if p.stored[key]++; p.stored[key] > 1 {
		outcome = pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE
	}
	go done(simulation.Result{Outcome: outcome})
}

// TestWalk: scenarios at random are paused, edited, sped up and taken over while a door is too busy now and then. Each step is played once, with the
// values that its key frames and faults say, whoever plays it.
func TestWalk(t *testing.T) {
	harness.Seeds(t, 3, func(t *testing.T, seed uint64) {
		t.Parallel()
		walk(t, rand.New(rand.NewPCG(seed, 7)))
	})
}

func walk(t *testing.T, r *rand.Rand) {
	p := &played{said: map[string]string{}, stored: map[string]int{}}
	lock := &sync.Mutex{}
	dice := rand.New(rand.NewPCG(r.Uint64(), 1))
	every := []time.Duration{time.Second, 700 * time.Millisecond, 250 * time.Millisecond}[r.IntN(3)]
	// Key frames at random, some of them on steps.
	type key struct {
		at time.Duration
		x  float64
	}
	var keys []key
	at := time.Duration(0)
	var texts []string
	for range 2 + r.IntN(5) {
		k := key{at, float64(r.IntN(100))}
		keys = append(keys, k)
		texts = append(texts, fmt.Sprintf("%s: %v", k.at, k.x))
		at += time.Duration(1+r.IntN(40)) * 250 * time.Millisecond
	}
	kind := []string{"linear", "step", "smooth"}[r.IntN(3)]
	length := time.Duration(20+r.IntN(40)) * every
	from := time.Duration(r.IntN(20)) * every
	to := from + time.Duration(1+r.IntN(10))*every
	text := fmt.Sprintf("name: sim-{n}\ncount: 2\nevery: %s\nlength: %s\nrepeat: false\nseed: %d\nvalues:\n  x: {keys: {%s}, interpolate: %s}\n  n: {keys: {0s: 1}, noise: 3, spread: 2, faults: [{kind: stuck, from: %s, to: %s}]}\n"+
		"  d: {keys: {0s: 5}, faults: [{kind: dropout, from: %s, to: %s}, {kind: spike, from: %s, to: %s, by: 7}]}\n",
		every, length, r.IntN(100), strings.Join(texts, ", "), kind, from, to, from, to, from+every, to+every)
	speed := []float64{0, 1000, 300}[r.IntN(3)]
	b := newBench(t, func(b *bench, o *simulation.Options) {
		b.m.Scenario, b.m.Speed = text, proto.Float64(speed)
		o.Ingest = func(m *simulation.Message, done func(simulation.Result)) {
			lock.Lock()
			defer lock.Unlock()
			p.take(dice, m, done)
		}
	})
	for range 4 + r.IntN(6) {
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		switch r.IntN(4) {
		case 0:
			b.pause(true)
			time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
			b.pause(false)
		case 1:
			b.m.Title = fmt.Sprint(r.IntN(1000))
			b.pause(false)
		case 2:
			b.host.Close()
			b.host = simulation.New(b.o)
			b.host.Start()
		case 3:
			b.m.Speed = proto.Float64([]float64{0, 1000, 300}[r.IntN(3)])
			b.pause(false)
		}
	}
	b.until("it is over", func() bool { return b.state().Ended })
	s := b.state()
	b.host.Close()
	steps := int(length/every) + 1
	if s.Steps != uint64(steps) || s.Sent != s.Stored+s.Duplicate+s.Refused+s.Inbox {
		t.Errorf("it is at %v, of %d steps", s, steps)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if uint64(len(p.stored))+s.Skipped != uint64(2*steps) {
		t.Errorf("%d messages are stored, %d left out, of %d", len(p.stored), s.Skipped, 2*steps)
	}
	for k, text := range p.said {
		var n int
		var twin string
		fmt.Sscanf(k, "%d %s", &n, &twin)
		at := time.Duration(n) * every
		want := keys[len(keys)-1].x
		for i := len(keys) - 2; i >= 0; i-- {
			if at < keys[i+1].at {
				u := float64(at-keys[i].at) / float64(keys[i+1].at-keys[i].at)
				switch kind {
				case "step":
					u = 0
				case "smooth":
					u = u * u * (3 - 2*u)
				}
				want = keys[i].x + u*(keys[i+1].x-keys[i].x)
			}
		}
		var got struct{ X, N, D *float64 }
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if got.X == nil || math.Abs(*got.X-want) > 1e-9 {
			t.Errorf("%s (%s): x of %s, want %v", k, at, text, want)
		}
		d := 5.0
		if at >= from+every && at < to+every {
			d = 12
		}
		if out := at >= from && at < to; out != (got.D == nil) || !out && *got.D != d {
			t.Errorf("%s (%s): d of %s, want %v", k, at, text, d)
		}
		if got.N == nil {
			t.Errorf("%s: n of %s", k, text)
		}
	}
	for i, w := range p.wrong {
		if i < 3 {
			t.Error(w)
		}
	}
	if t.Failed() {
		t.Log(text, "\n", s)
	}
}
