package actors

import (
	"context"
	"time"

	"github.com/polluxhq/pollux/actors/analytics"
	"github.com/polluxhq/pollux/actors/state"
)

// A detector that begins on a twin learns from what is recorded of it, so that it need not wait for hours or weeks. The history is asked beside the
// twin's turns; readings that come meanwhile are judged as they come, and learned again behind the past. A logic is given the past in a rehearsal; what it
// keeps of the twin then is committed if it has kept nothing else meanwhile, else it is given the past again, which by then has what came.

const (
	// primeSpan is how far back the past is read, and primeReadings how much of it: the newest.
	primeSpan     = 28 * 24 * time.Hour
	primeReadings = 10_000
	// primeWorkers ask the history side by side, primeLine is how many detectors wait for that; more begin without a past, and are counted.
	primeWorkers = 2
	primeLine    = 20_000
	primeWithin  = 30 * time.Second
)

// Reading is a value at a time in milliseconds since 1970.
type Reading struct {
	Time  int64
	Value float64
}

// Readings gives what is recorded of a property between two times, oldest first: the newest so many. It blocks until ctx ends.
type Readings func(ctx context.Context, twin, property string, start, end time.Time, most int) ([]Reading, error)

// SetReadings says who answers what detectors ask of the past. Without it they begin with nothing.
func (c *Client) SetReadings(f Readings) { c.e.readings.Store(&f) }

// primer asks the history for detectors that begin.
type primer struct {
	e    *Engine
	line chan *primed
}

func newPrimer(e *Engine) *primer { return &primer{e: e, line: make(chan *primed, primeLine)} }

func (p *primer) run() {
	for {
		select {
		case m := <-p.line:
			p.ask(m)
		case <-p.e.ctx.Done():
			return
		}
	}
}

func (p *primer) ask(m *primed) {
	ctx, cancel := context.WithTimeout(p.e.ctx, primeWithin)
	defer cancel()
	d := p.e.detectors.find(m.detector)
	if d == nil {
		return
	}
	var err error
	if d.settings.Kind == analytics.Module {
		err = p.rehearsed(ctx, d, m)
	} else if m.readings, err = p.past(ctx, m); len(m.readings) > 0 {
		p.e.activate(m.twin, m)
	}
	if err != nil {
		p.e.stats.drop(dropPriming)
		p.e.log.Warn("the past of a detector: it begins without", "detector", m.detector, "twin", m.twin, "err", err)
	}
}

// past reads what is recorded of the property.
func (p *primer) past(ctx context.Context, m *primed) ([]Reading, error) {
	now := p.e.now()
	return (*p.e.readings.Load())(ctx, m.twin, m.property, now.Add(-primeSpan), now, primeReadings)
}

// primed is the past of a property for one of a twin's detectors.
type primed struct {
	twin, detector, property string
	readings                 []Reading
	// Of a logic that has learned of it already: what it said last, and how often it said something.
	learned bool
	last    analytics.Verdict
	seen    uint64
}

// prime has a detector that begins learn of the past.
func (t *twin) prime(j *judge) {
	if t.e.readings.Load() == nil || t.st.Property(state.Intern(j.Property)) == nil {
		return
	}
	m := &primed{twin: t.en.id, detector: j.Id, property: j.Property}
	select {
	case t.e.primer.line <- m:
		j.asked = m
	default:
		t.e.stats.drop(dropPriming) // a line for each of a hundred thousand would say no more
		t.e.log.Debug("the past of a detector: too many wait, it begins without", "detector", j.Id, "twin", t.en.id)
	}
}

func (m *primed) run(t *twin) {
	j := t.detecting.find(m.detector)
	if t.mode != modeLive || j == nil || j.asked != m {
		return // it began anew meanwhile
	}
	if m.learned {
		j.asked = nil
		if j.seen == 0 { // else it has said something of now
			j.last = m.last
		}
		j.seen += m.seen
		j.wrote, j.dirty, t.touched = true, true, true // so it is done once
		t.soil()
		return
	}
	first := int64(0)
	for _, r := range j.since {
		if first == 0 || r.Time < first {
			first = r.Time
		}
	}
	s := analytics.New(j.settings)
	for _, r := range m.readings {
		if first == 0 || r.Time < first { // what came meanwhile may be recorded already
			s.Observe(r.Time, r.Value)
		}
	}
	for _, r := range j.since {
		s.Observe(r.Time, r.Value)
	}
	j.asked, j.since = nil, nil
	j.series, j.dirty, t.touched = s, true, true
	j.written = s.Changes() - 1
	t.soil()
}
