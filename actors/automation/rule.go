package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/cron"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// defaultLimit is how many times a minute a rule fires that does not say.
	defaultLimit = 600
	// nodesEvery is how often a rule looks at the cluster's nodes without being told.
	nodesEvery = 10 * time.Second
	// maxEvaluations is how many of a rule are kept, in memory.
	maxEvaluations = 100
)

// Said is what a twin tells a rule.
type Said struct {
	Twin string          `json:"twin,omitempty"`
	Kind string          `json:"kind"`
	Name string          `json:"name,omitempty"`
	Now  json.RawMessage `json:"value,omitempty"`
	Was  json.RawMessage `json:"previous,omitempty"`
	// Time is in milliseconds since 1970.
	Time int64 `json:"time"`
	// By is on whose behalf what led to it was done; see World.
	By string `json:"by,omitempty"`
}

// rule is the logic of a rule. Its instances are its states for the twins, by their ids; that of all together has the id "".
type rule struct {
	u         *unit
	conf      *pb.Rule
	windows   []window
	plans     []*Plan
	instances map[string]*actorv1.Instance
	loaded    bool
	ring      []*pb.Evaluation // oldest first
	fires     []int64          // of the last minute
	asking    map[string]bool  // twins that are asked when they spoke last
	last      map[string]Said  // the newest by subject, for why
	fault     string
	// looked is when absent twins were looked for, absentDue when to do so next.
	absentDue int64
}

func newRule(u *unit) *rule {
	return &rule{u: u, instances: map[string]*actorv1.Instance{}, asking: map[string]bool{}, last: map[string]Said{}}
}

func (r *rule) configure(t *turn) (bool, error) {
	rec, ok, err := r.u.h.o.Store.Get(TableRules, r.u.id)
	if err != nil || !ok {
		return false, err
	}
	r.conf = &pb.Rule{}
	if err := proto.Unmarshal(rec.Value, r.conf); err != nil {
		return false, fmt.Errorf("record of rule %s: %w", r.u.id, err)
	}
	if err := r.load(); err != nil {
		return false, err
	}
	r.fault, r.plans = "", nil
	zone, err := cron.Zone(r.conf.Zone)
	if err == nil {
		r.windows, err = newWindows(r.conf.Windows, zone)
	}
	for _, x := range r.conf.When {
		if s := x.GetSchedule(); s != nil && err == nil {
			var p *Plan
			p, err = NewPlan(s, nil, r.u.h.o.World.Locate)
			r.plans = append(r.plans, p)
		}
	}
	if err != nil {
		r.fault = err.Error()
	}
	if r.u.rec.Revision != rec.Revision {
		r.u.rec.Revision, r.u.rec.Stopped, r.u.rec.Error, t.dirty = rec.Revision, "", "", true
		r.u.rec.Last = t.ms
		r.planNext(t, t.now)
		r.fires = nil
	}
	r.absentDue = t.ms
	return true, nil
}

func (r *rule) load() error {
	if r.loaded {
		return nil
	}
	prefix := r.u.address + "\x00"
	for rec, err := range r.u.h.o.Store.Scan(TableInstances, prefix, "") {
		if err != nil {
			return err
		}
		m := &actorv1.Instance{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return fmt.Errorf("instance %q: %w", rec.Key, err)
		}
		r.instances[rec.Key[len(prefix):]] = m
	}
	r.loaded = true
	return nil
}

func (r *rule) planNext(t *turn, after time.Time) {
	next := int64(0)
	for _, p := range r.plans {
		if at := p.Next(after); !at.IsZero() && (next == 0 || at.UnixMilli() < next) {
			next = at.UnixMilli()
		}
	}
	if next != r.u.rec.Next {
		r.u.rec.Next, t.dirty = next, true
	}
}

// instance gives the state for a subject.
func (r *rule) instance(subject string) *actorv1.Instance {
	m := r.instances[subject]
	if m == nil {
		m = &actorv1.Instance{}
		r.instances[subject] = m
	}
	return m
}

// put has a subject's state written.
func (r *rule) put(t *turn, subject string) {
	value, err := proto.Marshal(r.instances[subject])
	if err != nil {
		r.u.h.o.Logger.Error("rule", "id", r.u.id, "err", err)
		return
	}
	if len(value) == 0 {
		value = nil
		delete(r.instances, subject)
	}
	t.write(TableInstances, r.u.address+"\x00"+subject, value)
}

func (r *rule) off() string {
	switch {
	case r.conf.Paused:
		return "the rule is paused"
	case r.u.rec.Stopped != "":
		return "the rule has stopped: " + r.u.rec.Stopped
	}
	return r.fault
}

func (r *rule) handle(t *turn, x item) {
	switch m := x.env.Message.(type) {
	case *actorv1.UnitNotices:
		if r.u.h.o.Store.Revision() < m.Revision {
			x.fail(fmt.Errorf("rule %s: this node has yet to apply revision %d: %w", r.u.id, m.Revision, cluster.ErrOverloaded))
			return
		}
		for _, n := range m.Notices {
			r.hear(t, n)
		}
		t.answer(x, &actorv1.Taken{})
	case *actorv1.UnitQuery:
		t.answer(x, r.describe(t, m))
	default:
		x.fail(fmt.Errorf("rule %s: a %T: %w", r.u.id, x.env.Message, ErrNotFound))
	}
}

// hear takes what a twin said.
func (r *rule) hear(t *turn, n *actorv1.UnitNotice) {
	s := Said{}
	if err := json.Unmarshal(n.Payload, &s); err != nil {
		r.u.h.o.Logger.Error("message to a rule", "rule", r.u.id, "id", n.Id, "err", err)
		return
	}
	if why := r.off(); why != "" {
		return
	}
	m := r.instance(s.Twin)
	if n.Id != "" {
		if n.Id <= m.Seen {
			return // it comes again
		}
		m.Seen = n.Id
	}
	if d := r.conf.Settle.AsDuration(); d > 0 {
		m.Settle, m.Pending = t.ms+d.Milliseconds(), n.Payload
		r.put(t, s.Twin)
		return
	}
	r.evaluate(t, s)
}

// evaluate looks at the condition for what was said, and does what follows.
func (r *rule) evaluate(t *turn, s Said) {
	ev := &pb.Evaluation{Time: stampOf(t.ms), Subject: s.Twin, Trigger: strings.TrimSpace(s.Kind + " " + s.Name), Values: map[string]string{}}
	defer r.keep(ev, s)
	sc := r.scope(t.now, s)
	sc.read = ev.Values
	if opens := r.closedUntil(t.now); !opens.IsZero() {
		ev.Verdict = "outside of its windows"
		r.u.rec.Outside++
		m := r.instance(s.Twin)
		if at := opens.UnixMilli(); s.Kind == SaidProperty && opens.Before(t.now.AddDate(1, 0, 0)) && m.Settle != at {
			m.Settle, m.Pending = at, encodeSaid(s)
			r.put(t, s.Twin)
		}
		return
	}
	holds, err := r.holds(sc, s)
	ev.Holds = holds
	if err != nil {
		ev.Error, ev.Verdict = err.Error(), "the condition cannot be told"
		r.u.rec.Error = err.Error()
		if !errors.Is(err, expr.ErrMissing) {
			return
		}
	}
	subject := s.Twin
	if r.conf.AtLeast > 0 {
		holds = r.count(t, sc, subject, holds)
		ev.Verdict = fmt.Sprintf("%d of %d; ", sc.count, r.conf.AtLeast)
	}
	if r.conf.AtLeast > 0 || r.conf.Together {
		subject = ""
	}
	changed := r.decide(t, ev, sc, s, subject, holds)
	if changed {
		r.put(t, subject)
		if subject != s.Twin && r.instances[s.Twin] != nil {
			r.put(t, s.Twin) // what was seen of the twin
		}
	}
}

// closedUntil is when the rule's next window opens, zero where it is in one.
func (r *rule) closedUntil(now time.Time) time.Time {
	if within(r.windows, now) {
		return time.Time{}
	}
	if at := opening(r.windows, now); !at.IsZero() {
		return at
	}
	return now.AddDate(100, 0, 0)
}

func (r *rule) scope(now time.Time, s Said) *scope {
	project, name, _ := strings.Cut(r.u.id, "/")
	return newScope(r.u.h.o.World, project, name, now, s)
}

func newScope(w World, project, name string, now time.Time, s Said) *scope {
	sc := &scope{world: w, project: project, name: name, subject: s.Twin, now: now, due: time.UnixMilli(s.Time)}
	sc.change = expr.Change{Kind: s.Kind, Name: s.Name, Time: s.Time}
	sc.change.Value, _ = state.ParseValue(orNull(s.Now))
	sc.change.Previous, _ = state.ParseValue(orNull(s.Was))
	if s.Twin != "" {
		if v, ok := w.View(s.Twin); ok {
			sc.twin = v
		}
	}
	return sc
}

func orNull(b json.RawMessage) []byte {
	if len(b) == 0 {
		return []byte("null")
	}
	return b
}

func encodeSaid(s Said) []byte {
	b, _ := json.Marshal(s)
	return b
}

// holds evaluates the condition.
func (r *rule) holds(sc *scope, s Said) (bool, error) {
	r.u.rec.Evaluations++
	r.u.h.evaluations.Inc()
	sc.read["value"], sc.read["previous"] = string(orNull(s.Now)), string(orNull(s.Was))
	sc.read["kind"], sc.read["name"] = jsonOf(s.Kind), jsonOf(s.Name)
	switch {
	case s.Kind == saidAbsent:
		return string(s.Now) == "true", nil
	case r.conf.If == "":
		return true, nil
	}
	return r.u.h.programs.holds(r.conf.If, sc)
}

// count notes what the condition says of a twin, and says whether it holds for enough of them.
func (r *rule) count(t *turn, sc *scope, subject string, holds bool) bool {
	m := r.instance(subject)
	if m.Holds != holds {
		m.Holds = holds
		r.put(t, subject)
	}
	n := 0
	for id, x := range r.instances {
		if x.Holds && id != "" {
			if _, there := r.u.h.o.World.View(id); there {
				n++
			}
		}
	}
	sc.count = n
	return n >= int(r.conf.AtLeast)
}

// pulses says whether a trigger is a moment, not a state: the rule fires each time.
func (r *rule) pulses(s Said) bool {
	return r.conf.Each || s.Kind != SaidProperty && s.Kind != saidAbsent
}

// decide does what follows of a condition. It says whether the subject's state changed.
func (r *rule) decide(t *turn, ev *pb.Evaluation, sc *scope, s Said, subject string, holds bool) bool {
	m := r.instance(subject)
	if r.pulses(s) {
		if !holds {
			ev.Verdict += "does not hold"
			return false
		}
		return r.fire(t, ev, sc, s, subject, false)
	}
	if m.Active {
		if r.conf.Until != "" {
			over, err := r.u.h.programs.holds(r.conf.Until, sc)
			if err != nil && !errors.Is(err, expr.ErrMissing) {
				ev.Error = "until: " + err.Error()
			}
			holds = !over
		}
		if holds {
			ev.Verdict += "holds, as before"
			return false
		}
		m.Active, m.Since, m.Until, m.Repeat = false, 0, 0, 0
		ev.Verdict += "ceased to hold"
		if len(r.conf.Otherwise) > 0 {
			r.fire(t, ev, sc, s, subject, true)
		}
		return true
	}
	switch {
	case !holds && m.Until > 0:
		ev.Verdict += "ceased to hold before the time was over"
		m.Since, m.Until, m.Pending = 0, 0, nil
		return true
	case !holds:
		ev.Verdict += "does not hold"
		return false
	case r.conf.For.AsDuration() > 0 && m.Until == 0:
		m.Since, m.Until, m.Pending = t.ms, t.ms+r.conf.For.AsDuration().Milliseconds(), encodeSaid(s)
		ev.Verdict += "holds; fires if it does for " + r.conf.For.AsDuration().String()
		return true
	case r.conf.For.AsDuration() > 0 && t.ms < m.Until:
		ev.Verdict += "holds, since " + time.Duration((t.ms-m.Since)*int64(time.Millisecond)).Round(time.Millisecond).String()
		return false
	}
	m.Active, m.Since, m.Until, m.Pending = true, t.ms, 0, nil
	r.fire(t, ev, sc, s, subject, false)
	if d := r.conf.Repeat.AsDuration(); d > 0 && m.Active {
		m.Repeat = t.ms + d.Milliseconds()
	}
	return true
}

// fire has the actions run, unless something speaks against it. It says whether the subject's state changed.
func (r *rule) fire(t *turn, ev *pb.Evaluation, sc *scope, s Said, subject string, otherwise bool) bool {
	m := r.instance(subject)
	say := func(text string) { ev.Verdict = strings.TrimSuffix(ev.Verdict+"; "+text, "; ") }
	if ev.Verdict == "" {
		say = func(text string) { ev.Verdict = text }
	}
	if chain := chainOf(s.By); slices.Contains(chain, r.u.address) {
		way := append([]string{r.u.address}, chain[:slices.Index(chain, r.u.address)+1]...)
		slices.Reverse(way)
		r.u.rec.Stopped, t.dirty = "it leads to itself: "+strings.Join(way, " → "), true
		say(r.u.rec.Stopped)
		r.u.h.o.Logger.Warn("a rule has stopped", "rule", r.u.id, "why", r.u.rec.Stopped)
		return true
	}
	if d := r.conf.OncePer.AsDuration().Milliseconds(); d > 0 && !otherwise && m.Fired > 0 && t.ms-m.Fired < d && t.ms >= m.Fired {
		r.u.rec.Dampened++
		say(fmt.Sprintf("left out: it fired %s ago", time.Duration((t.ms-m.Fired)*int64(time.Millisecond)).Round(time.Millisecond)))
		return true
	}
	if !r.mayFire(t.ms) {
		r.u.rec.Storm++
		r.u.h.left.Inc()
		say(fmt.Sprintf("left out: it fired %d times within a minute", len(r.fires)))
		return true
	}
	run := &pb.Run{Subject: s.Twin, Cause: ev.Trigger, Values: maps.Clone(ev.Values), Otherwise: otherwise, Chain: chainOf(s.By)}
	if s.Kind == SaidProperty {
		run.Cause = s.Name + " = " + string(orNull(s.Now))
	}
	if err := r.u.fire(t, run); err != nil {
		ev.Error = err.Error()
		return true
	}
	r.u.rec.Firings++
	m.Fired, ev.Run = t.ms, run.Number
	say("fired")
	if n := r.conf.DisableAfter; n > 0 && !otherwise && r.u.rec.Firings >= uint64(n) {
		r.u.rec.Stopped = fmt.Sprintf("it has fired %d times, as often as it may", n)
	}
	return true
}

// mayFire counts the firings of the last minute.
func (r *rule) mayFire(now int64) bool {
	limit := int(r.conf.Limit)
	if limit == 0 {
		limit = defaultLimit
	}
	i := 0
	for i < len(r.fires) && (r.fires[i] <= now-60_000 || r.fires[i] > now) {
		i++
	}
	r.fires = r.fires[i:]
	if len(r.fires) >= limit {
		return false
	}
	r.fires = append(r.fires, now)
	return true
}

// chainOf gives the rules that are named in `by`.
func chainOf(by string) []string {
	var all []string
	for _, x := range strings.Split(by, " < ") {
		if IsAddress(x) && len(all) < 16 {
			all = append(all, x)
		}
	}
	return all
}

// keep remembers an evaluation.
func (r *rule) keep(ev *pb.Evaluation, s Said) {
	if len(r.ring) >= maxEvaluations {
		r.ring = slices.Delete(r.ring, 0, 1)
	}
	r.ring = append(r.ring, ev)
	if len(r.last) > 10_000 {
		clear(r.last)
	}
	r.last[s.Twin] = s
}

func (r *rule) actions(run *pb.Run) []*pb.Action {
	if run.Otherwise {
		return r.conf.GetOtherwise()
	}
	return r.conf.GetThen()
}

func (r *rule) due() int64 {
	if r.conf == nil || r.off() != "" {
		return 0
	}
	at := r.u.rec.Next
	earlier := func(due int64) {
		if due > 0 && (at == 0 || due < at) {
			at = due
		}
	}
	for _, m := range r.instances {
		earlier(m.Settle)
		earlier(m.Until)
		earlier(m.Repeat)
	}
	if r.has(func(t *pb.Trigger) bool { return t.GetAbsent() != nil }) {
		earlier(r.absentDue)
	}
	if r.has(func(t *pb.Trigger) bool { return t.GetNode() != nil }) {
		// A rule whose own node went looks when it is somewhere else.
		earlier(r.u.h.o.Now().Add(nodesEvery).Truncate(nodesEvery).UnixMilli())
	}
	return at
}

func (r *rule) tick(t *turn) {
	if r.off() != "" {
		return
	}
	for _, subject := range slices.Sorted(maps.Keys(r.instances)) {
		if m := r.instances[subject]; m != nil {
			r.tickOne(t, subject, m)
		}
	}
	if r.u.rec.Next > 0 && r.u.rec.Next <= t.ms {
		due := r.u.rec.Next
		r.planNext(t, t.now)
		r.evaluate(t, Said{Kind: saidTime, Time: due}) // what was missed counts once
	}
	r.lookForAbsent(t)
	r.lookAtNodes(t)
}

// lookAtNodes tells what has changed of the cluster's nodes since the rule looked last.
func (r *rule) lookAtNodes(t *turn) {
	if !r.has(func(x *pb.Trigger) bool { return x.GetNode() != nil }) {
		return
	}
	nodes := r.u.h.o.World.Nodes()
	known := r.u.rec.Nodes
	if maps.Equal(nodes, known) {
		return
	}
	r.u.rec.Nodes, t.dirty = nodes, true
	if known == nil {
		return // it sees them for the first time
	}
	names := map[string]bool{}
	for name := range nodes {
		names[name] = true
	}
	for name := range known {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if nodes[name] != known[name] {
			state := nodes[name]
			if state == "" {
				state = "removed"
			}
			r.evaluate(t, Said{Kind: saidNode, Name: name, Now: json.RawMessage(jsonOf(state)), Was: json.RawMessage(jsonOf(known[name])), Time: t.ms})
		}
	}
}

// has says whether the rule has such a trigger.
func (r *rule) has(is func(*pb.Trigger) bool) bool { return slices.ContainsFunc(r.conf.When, is) }

// tickOne does what is due for a subject.
func (r *rule) tickOne(t *turn, subject string, m *actorv1.Instance) {
	pending := func() (s Said) {
		_ = json.Unmarshal(m.Pending, &s) // it was written by this code
		return s
	}
	if m.Settle > 0 && m.Settle <= t.ms {
		s := pending()
		m.Settle, m.Pending = 0, nil
		r.put(t, subject)
		r.evaluate(t, s)
	}
	if m.Until > 0 && m.Until <= t.ms {
		if s := pending(); len(m.Pending) > 0 {
			r.evaluate(t, s)
		}
		if m = r.instances[subject]; m != nil && m.Until > 0 && m.Until <= t.ms {
			m.Until = 0 // it could not be told
			r.put(t, subject)
		}
	}
	if m = r.instances[subject]; m != nil && m.Repeat > 0 && m.Repeat <= t.ms {
		d := r.conf.Repeat.AsDuration().Milliseconds()
		s := r.last[subject]
		s.Twin, s.Kind = subject, SaidProperty
		ev := &pb.Evaluation{Time: stampOf(t.ms), Subject: subject, Trigger: "repeat", Values: map[string]string{}, Holds: true}
		if d > 0 && m.Active {
			m.Repeat = t.ms + d
			r.fire(t, ev, r.scope(t.now, s), Said{Twin: subject, Kind: saidTime, Time: t.ms}, subject, false)
			r.keep(ev, s)
		} else {
			m.Repeat = 0
		}
		r.put(t, subject)
	}
}

// lookForAbsent finds twins that have been silent for too long, or speak again.
func (r *rule) lookForAbsent(t *turn) {
	if t.ms < r.absentDue {
		return
	}
	next := int64(0)
	project, _, _ := strings.Cut(r.u.id, "/")
	for _, x := range r.conf.When {
		a := x.GetAbsent()
		if a == nil {
			continue
		}
		since := a.Since.AsDuration().Milliseconds()
		ids, err := r.u.h.o.World.Selected(project, a.Of)
		if err != nil {
			r.u.rec.Error = err.Error()
			continue
		}
		for _, id := range ids {
			due := r.absence(t, a, id, since)
			if next == 0 || due < next {
				next = due
			}
		}
	}
	if next == 0 {
		next = t.ms + 60_000
	}
	// Twins come and go: look at least once a minute.
	r.absentDue = min(max(next, t.ms+100), t.ms+60_000)
}

// absence looks at one twin, and says when to look again.
func (r *rule) absence(t *turn, a *pb.AbsentTrigger, id string, since int64) int64 {
	v, ok := r.u.h.o.World.View(id)
	if !ok || v.Config.Stopped {
		return t.ms + 60_000
	}
	seen := seenOf(v, a.Property)
	m := r.instances[id]
	if m.GetAbsent() {
		if seen > m.Heard && t.ms-seen < since {
			m.Absent, m.Heard = false, 0
			r.put(t, id)
			r.evaluate(t, Said{Twin: id, Kind: saidAbsent, Name: a.Property, Now: json.RawMessage("false"), Time: t.ms})
		}
		return t.ms + min(max(since/4, 1000), 10_000)
	}
	from := max(seen, r.u.rec.Last) // before the rule there was nobody to wait
	if t.ms-from < since {
		return from + since
	}
	r.inquire(id, a.Property, since)
	return t.ms + min(max(since/4, 1000), 10_000)
}

func seenOf(v *expr.Twin, property string) int64 {
	if v.State == nil {
		return 0
	}
	if property == "" {
		return v.State.LastSeen
	}
	if p := v.State.Property(state.Intern(property)); p != nil {
		return p.Time()
	}
	return 0
}

// inquire asks the twin itself: what is committed may lag behind.
func (r *rule) inquire(id, property string, since int64) {
	if r.asking[id] || len(r.asking) >= 64 {
		return
	}
	r.asking[id] = true
	u := r.u
	u.h.wg.Add(1)
	u.running.Add(1)
	go func() {
		defer u.h.wg.Done()
		ctx, cancel := context.WithTimeout(u.ctx, 10*time.Second)
		at, err := u.h.o.World.LastSeen(ctx, id, property)
		cancel()
		u.running.Add(-1)
		u.post(func(t *turn) {
			delete(r.asking, id)
			seen := max(at.UnixMilli(), r.u.rec.Last)
			m := r.instance(id)
			if err != nil || u.leaving.Load() || r.off() != "" || m.Absent || t.ms-seen < since {
				return
			}
			m.Absent, m.Heard = true, max(at.UnixMilli(), 0)
			r.put(t, id)
			r.evaluate(t, Said{Twin: id, Kind: saidAbsent, Name: property, Now: json.RawMessage("true"), Time: t.ms})
		})
	}()
}

// describe says what the rule knows of itself.
func (r *rule) describe(t *turn, q *actorv1.UnitQuery) *actorv1.UnitAnswer {
	rec := r.u.rec
	st := &pb.RuleState{Firings: rec.Firings, Evaluations: rec.Evaluations, Dampened: rec.Dampened, Outside: rec.Outside, Storm: rec.Storm,
		Stopped: rec.Stopped, Error: rec.Error, Node: r.u.h.o.Node}
	if st.Error == "" {
		st.Error = r.fault
	}
	var fired int64
	for _, m := range r.instances {
		if m.Active {
			st.Active++
		}
		if m.Until > 0 || m.Settle > 0 {
			st.Pending++
		}
		fired = max(fired, m.Fired)
	}
	st.Last = stampOf(fired)
	a := &actorv1.UnitAnswer{Rule: st}
	if q.Why {
		a.Evaluations, a.Now = r.why(t, q.Subject)
	}
	if q.Runs {
		for _, run := range r.u.runsOf(maxRuns) {
			if (q.Subject == "" || run.Subject == q.Subject) && len(a.Runs) < 20 {
				a.Runs = append(a.Runs, run)
			}
		}
	}
	return a
}

// why gives the last evaluations, and what the condition says now.
func (r *rule) why(t *turn, subject string) (all []*pb.Evaluation, now *pb.Evaluation) {
	for _, ev := range slices.Backward(r.ring) {
		if subject == "" || ev.Subject == subject {
			all = append(all, ev)
		}
	}
	s, known := r.last[subject]
	if subject == "" && len(all) > 0 {
		s, known = r.last[all[0].Subject]
	}
	if runs := r.u.runsOf(1); !known && subject == "" && len(runs) > 0 {
		subject = runs[0].Subject // nothing was evaluated since the rule came here
	}
	if !known {
		s = Said{Twin: subject, Kind: SaidProperty, Name: firstName(r.conf), Time: t.ms}
	}
	now = examine(r.u.h.programs, r.conf, r.scope(t.now, s), s, t.now)
	if why := r.off(); why != "" {
		now.Verdict = why
	} else if !r.closedUntil(t.now).IsZero() {
		now.Verdict = "outside of its windows"
	}
	return all, now
}

// examine evaluates a rule's condition for what was said, and does nothing.
func examine(p *programs, conf *pb.Rule, sc *scope, s Said, now time.Time) *pb.Evaluation {
	ev := &pb.Evaluation{Time: stampOf(now.UnixMilli()), Subject: s.Twin, Trigger: strings.TrimSpace(s.Kind + " " + s.Name), Values: map[string]string{}}
	sc.read = ev.Values
	if s.Kind == SaidProperty && len(s.Now) == 0 && sc.twin != nil && sc.twin.State != nil {
		if x := sc.twin.State.Property(state.Intern(s.Name)); x != nil {
			sc.change.Value = x.Value
		}
	}
	ev.Values["value"], ev.Values["previous"] = string(sc.change.Value.AppendJSON(nil)), string(sc.change.Previous.AppendJSON(nil))
	ev.Holds = true
	if conf.If != "" {
		holds, err := p.holds(conf.If, sc)
		if ev.Holds = holds; err != nil {
			ev.Error = err.Error()
		}
	}
	if ev.Verdict = "holds"; !ev.Holds {
		ev.Verdict = "does not hold"
	}
	return ev
}

// firstName is the property or event that a rule names first.
func firstName(conf *pb.Rule) string {
	for _, x := range conf.When {
		if _, _, names := triggerOf(x); len(names) > 0 {
			return names[0]
		}
	}
	return ""
}
