package actors

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/analytics"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A twin's detectors judge its readings in the turn that takes them. What they say are properties of the twin, and what they have
// learned is written with its checkpoints, so score, training and reading are committed together.

// maxGrace in milliseconds: a life that begins gives readings this time to come, before it calls missing what a node that was
// away could not hear.
const maxGrace = 60_000

// detecting is what judges a twin.
type detecting struct {
	key    uint64 // see detectors.key
	judges []*judge
	// orphans are records of training that nobody needs any more; the first of them fly.
	orphans []string
	flying  int
	// telling: what detectors say is being taken, which none of them judges.
	telling bool
}

// judge is one detector on the twin.
type judge struct {
	*detector
	series *analytics.Series // nil: it does not judge
	error  string
	// tells: what its output is now, it said.
	tells bool
	// born is when this life began to listen, in milliseconds since 1970.
	born int64
	// dirty: it has learned what is not written; written is how often the long part had changed when it was.
	dirty   bool
	written uint32
	flying  bool
	bytes   int
	// asked: the past is asked for by this; since are the readings that came meanwhile.
	asked *primed
	since []Reading
	// asks: a logic judges. It said last, and as many; wrote: the record of training says so.
	asks  bool
	last  analytics.Verdict
	seen  uint64
	wrote bool
}

// works says whether it judges.
func (j *judge) works() bool { return j.series != nil || j.asks }

// redetect: detectors have changed.
type redetect struct{}

func (*redetect) run(t *twin) {
	if t.mode == modeLive && t.cfg != nil {
		t.redetect(true)
	}
}

// detectors gives what judges the twin now, or nil.
func (t *twin) detectors() *detecting {
	if t.cfg == nil || t.detecting == nil && t.e.detectors.count.Load() == 0 {
		return nil
	}
	if t.detecting == nil || t.detecting.key != t.e.detectors.key(t.cfg) {
		t.redetect(false)
	}
	return t.detecting
}

// redetect takes over what detectors the twin has. What goes on with the same settings keeps what it has learned. Where its project has
// no detectors, it looks for training of earlier ones only if it must.
func (t *twin) redetect(must bool) {
	x := t.e.detectors
	key := x.key(t.cfg) // before the records are read: what changes meanwhile is looked at again
	all := x.of(ProjectOf(t.en.id))
	if len(all) == 0 && t.detecting == nil && !must {
		t.detecting = &detecting{key: key}
		return
	}
	rec, err := t.e.readTwin(t.en.id)
	if err != nil || rec == nil {
		return
	}
	old := t.detecting
	d := &detecting{key: key}
	if old != nil {
		d.orphans, d.flying, d.telling = old.orphans, old.flying, old.telling
	}
	training := t.training()
	for _, c := range all {
		if !t.e.world.matches(ProjectOf(t.en.id), c.Of, rec) {
			continue
		}
		d.judges = append(d.judges, t.judgeOf(c, d, old.same(c), training))
		delete(training, c.who)
	}
	t.detecting = d
	for _, j := range old.gone(d) { // what it has learned is on its way to the store perhaps
		if _, there := training[j.who]; !there {
			training[j.who] = [2][]byte{j.head()}
		}
	}
	for name, rows := range training {
		if key := trainingKey(t.en.id, name); !slices.Contains(d.orphans, key) {
			d.orphans = append(d.orphans, key, key+"\x00")
		}
		output, _, _ := readHead(rows[0])
		t.spoilOutputs(output, d)
		t.soil()
	}
	if len(d.judges) == 0 && len(d.orphans) == 0 && x.count.Load() == 0 {
		t.detecting = nil
	}
	for _, j := range d.judges { // its name is somebody's again
		d.orphans = slices.DeleteFunc(d.orphans, func(key string) bool { _, who := splitTraining(key); return who == j.who && d.flying == 0 })
	}
}

// judgeOf begins a detector's work on the twin.
func (t *twin) judgeOf(c *detector, d *detecting, old *judge, training map[string][2][]byte) *judge {
	j := &judge{detector: c, born: t.stamp()}
	rows := training[c.who]
	was, property, short := readHead(rows[0])
	long := rows[1]
	if old != nil && old.asks && old.wrote {
		was, property = old.output, old.Property
	}
	if old != nil && old.series != nil {
		// What is in memory is newer than what is written.
		was, property, short, long = old.output, old.Property, old.series.Append(nil), old.series.AppendLong(nil)
		j.born = old.born
	}
	other := property != "" && property != c.Property // what was learned is of another one
	if was != "" && (was != c.output || other) {
		t.spoilOutputs(was, d)
	}
	if j.error = t.objection(c, d); j.error != "" || c.Paused {
		t.spoilOutputs(c.output, d)
		return j
	}
	if j.tells = was == c.output && !other; other {
		old, short, long = nil, nil, nil
	}
	if c.settings.Kind == analytics.Module {
		j.asks, j.wrote = true, was != ""
		if old != nil {
			j.last, j.seen, j.wrote, j.asked = old.last, old.seen, old.wrote, old.asked
		}
		if old == nil && !j.wrote || other || old != nil && old.Logic != c.Logic {
			t.prime(j)
		}
		j.dirty = j.wrote && (was != c.output || other || old != nil && (old.dirty || old.flying))
		return j
	}
	if len(short) > 0 {
		s, err := analytics.Restore(c.settings, short, long)
		if err != nil && !errors.Is(err, analytics.ErrFormat) {
			t.e.log.Error("training", "twin", t.en.id, "detector", c.Id, "err", err)
		}
		j.series = s
	}
	if j.series == nil {
		if j.series = analytics.New(c.settings); j.series != nil {
			t.prime(j)
		}
	} else if old != nil {
		j.asked, j.since = old.asked, old.since
	}
	j.dirty = old != nil && (old.dirty || old.flying) || other || was != c.output && was != ""
	j.written = j.series.Changes()
	if j.dirty {
		j.written-- // the long part too
	}
	return j
}

// objection says why a detector cannot judge the twin, or nothing.
func (t *twin) objection(c *detector, d *detecting) string {
	if c.broken != nil {
		return c.broken.Error()
	}
	if len(d.judges) >= maxJudges {
		return fmt.Sprintf("a twin has %d detectors at most", maxJudges)
	}
	for _, o := range d.judges {
		if o.works() && o.output == c.output {
			return fmt.Sprintf("detector %s writes %s_… here: give one of them another output", o.Id, c.output)
		}
	}
	for _, name := range c.names {
		if t.hasOwn(name) {
			return fmt.Sprintf("the twin has a property %s of its own: give another output", name)
		}
	}
	fresh := 0
	for _, name := range c.names {
		if t.st.Property(state.Intern(name)) == nil {
			fresh++
		}
	}
	if len(t.st.Properties)+fresh > maxProperties {
		return fmt.Sprintf("the twin would have more than %d properties", maxProperties)
	}
	return ""
}

// hasOwn says whether the twin's model, or a formula, has a property of this name.
func (t *twin) hasOwn(name string) bool {
	if t.deriving.find(name) != nil {
		return true
	}
	if t.spec == nil {
		return false
	}
	if t.spec.bare() {
		return t.spec.thing.Of(name) != nil
	}
	return t.model != nil && t.model.Property(name) != nil
}

func (d *detecting) find(id string) *judge {
	if d == nil {
		return nil
	}
	for _, j := range d.judges {
		if j.Id == id {
			return j
		}
	}
	return nil
}

// same gives the judge that goes on with a detector: that of the id, if it was not made anew.
func (d *detecting) same(c *detector) *judge {
	if j := d.find(c.Id); j != nil && j.who == c.who {
		return j
	}
	return nil
}

// gone are those that judged, and do not any more.
func (d *detecting) gone(now *detecting) (all []*judge) {
	if d == nil {
		return nil
	}
	for _, j := range d.judges {
		if j.works() && now.same(j.detector) == nil {
			all = append(all, j)
		}
	}
	return all
}

// spoilOutputs marks what a detector has said as no longer so, unless another one goes on saying it, or the twin has that of its own.
func (t *twin) spoilOutputs(output string, d *detecting) {
	if output == "" || slices.ContainsFunc(d.judges, func(j *judge) bool { return j.tells && j.output == output }) {
		return
	}
	for _, k := range []analytics.Kind{analytics.Statistics, analytics.EWMA} { // all outputs there are
		for _, o := range k.Outputs() {
			if name := output + "_" + string(o); !t.hasOwn(name) {
				t.spoil(name, drivers.QualityStale)
			}
		}
	}
}

// verdicts are the properties that detectors say at once.
type verdicts struct {
	changes []drivers.Change
	values  []state.Value
}

func (x *verdicts) add(j *judge, v *analytics.Verdict, at int64) {
	if !v.Ready {
		return
	}
	for i, o := range j.settings.Kind.Outputs() {
		if o == analytics.OutputExpected && math.IsNaN(v.Expected) {
			continue // it does not say
		}
		value := state.BoolValue(v.Anomaly)
		if o != analytics.OutputAnomaly {
			value = state.NumberValue(v.Number(o))
		}
		x.changes = append(x.changes, drivers.Change{Property: j.names[i], Time: at})
		x.values = append(x.values, value)
	}
}

// observed has the detectors of a property judge a reading, and adds what they say.
func (t *twin) observed(x *verdicts, c *drivers.Change, v state.Value, at int64) {
	if c.Quality != 0 && c.Quality != drivers.QualityGood {
		return
	}
	d := t.detectors()
	if d == nil || d.telling || len(d.judges) == 0 {
		return
	}
	number, ok := v.Sample()
	if !ok {
		return
	}
	for _, j := range d.judges {
		if j.asks && j.Property == c.Property {
			t.askLogic(j, at, number)
			continue
		}
		if j.series == nil || j.Property != c.Property {
			continue
		}
		verdict := j.series.Observe(at, number)
		if j.asked != nil {
			if j.since = append(j.since, Reading{at, number}); len(j.since) > 1000 {
				j.asked, j.since = nil, nil // it has learned enough by itself
			}
		}
		j.dirty, t.touched = true, true
		x.add(j, &verdict, at)
	}
}

// takeVerdicts takes what detectors say.
func (t *twin) takeVerdicts(x *verdicts) {
	if len(x.changes) == 0 {
		return
	}
	t.detecting.telling = true
	t.report(x.changes, x.values, nil)
	if t.detecting != nil {
		t.detecting.telling = false
	}
}

// nextSilence is when the next detector judges that nothing came, in milliseconds since 1970; 0: never.
func (t *twin) nextSilence() (next int64) {
	if t.detecting == nil || t.cfg == nil || t.cfg.stopped {
		return 0
	}
	for _, j := range t.detecting.judges {
		if at := j.due(); at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	return next
}

func (j *judge) due() int64 {
	if j.series == nil {
		return 0
	}
	at := j.series.Due()
	if at == 0 {
		return 0
	}
	return max(at, j.born+min(at-j.series.At(), maxGrace))
}

// elapse has detectors judge that nothing came.
func (t *twin) elapse() {
	now := t.stamp()
	if at := t.nextSilence(); at == 0 || at > now {
		return
	}
	d := t.detectors() // it may be nobody's to judge by now
	if d == nil {
		return
	}
	var x verdicts
	for _, j := range d.judges {
		if at := j.due(); at == 0 || at > now {
			continue
		}
		verdict := j.series.Elapse(now)
		j.dirty = true
		t.soil()
		x.add(j, &verdict, now)
	}
	t.takeVerdicts(&x)
}

// detected shows how the detectors do.
func (t *twin) detected() map[string]*pb.DetectorState {
	d := t.detectors()
	if d == nil || len(d.judges) == 0 {
		return nil
	}
	all := make(map[string]*pb.DetectorState, len(d.judges))
	for _, j := range d.judges {
		s := &pb.DetectorState{Output: j.output, Error: j.error}
		if j.asks {
			s.Ready, s.Anomaly, s.Readings, s.Score = j.last.Ready, j.last.Anomaly, j.seen, j.last.Number(analytics.OutputScore)
			if !math.IsNaN(j.last.Expected) {
				s.Expected = j.last.Number(analytics.OutputExpected)
			}
			s.Error = t.e.logics.troubled(j.Logic)
		} else if j.series != nil {
			v := j.series.Last()
			s.Ready, s.Anomaly, s.Readings = v.Ready, v.Anomaly, j.series.Seen()
			s.Score, s.Expected = v.Number(analytics.OutputScore), v.Number(analytics.OutputExpected)
			s.Bytes = uint32(len(j.series.Append(nil)) + len(j.series.AppendLong(nil)))
			if at := j.due(); at > 0 {
				s.Due = timestamppb.New(msTime(at))
			}
		} else if j.Paused && s.Error == "" {
			s.Error = "it is paused"
		}
		all[j.Id] = s
	}
	return all
}
