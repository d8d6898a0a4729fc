package automation

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

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
	ears      map[string]bool  // topics that are read
	timed     map[string]bool  // subjects with something that is due by time
	asking    map[string]bool  // twins that are asked when they spoke last
	last      map[string]Said  // the newest by subject, for why
	fault     string
	// replay: the rule lives through what was recorded; nothing runs beside its turns.
	replay bool
	// looked is when absent twins were looked for, absentDue when to do so next.
	absentDue int64
}

func newRule(u *unit) *rule {
	return &rule{u: u, instances: map[string]*actorv1.Instance{}, asking: map[string]bool{}, ears: map[string]bool{}, timed: map[string]bool{}, last: map[string]Said{}}
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
	if err := r.load(t); err != nil {
		return false, err
	}
	r.arrange()
	if r.u.rec.Revision != rec.Revision {
		r.u.rec.Revision, r.u.rec.Stopped, r.u.rec.Error, t.dirty = rec.Revision, "", "", true
		from := t.since(r.conf.UpdateTime, r.u.rec.Planned)
		r.u.rec.Last = from.UnixMilli()
		r.planNext(t, from)
		r.fires = nil
	}
	r.absentDue = t.ms
	r.forgetTopics(t)
	return true, nil
}

// arrange makes its windows and plans of a rule's configuration.
func (r *rule) arrange() {
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
}

func (r *rule) load(t *turn) error {
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
		r.mind(rec.Key[len(prefix):])
	}
	for subject := range r.instances {
		r.look(t, subject)
	}
	r.loaded = true
	return nil
}

// instance gives the state for a subject.
func (r *rule) instance(subject string) *actorv1.Instance {
	m := r.instances[subject]
	if m == nil {
		m = &actorv1.Instance{Made: r.u.h.o.World.Made(subject)}
		r.instances[subject] = m
	}
	return m
}

// renew forgets what is kept of an earlier twin of a subject's id. made is when the one that is there was made; 0: there is none.
func (r *rule) renew(t *turn, subject string, made int64) {
	switch m := r.instances[subject]; {
	case m == nil || made == 0:
	case m.Made == 0:
		m.Made = made // written with the next change
	case m.Made != made:
		r.forget(t, subject)
	}
}

// look forgets what is kept of a twin that is gone, or an earlier one.
func (r *rule) look(t *turn, subject string) {
	if subject == "" {
		return
	}
	made := r.u.h.o.World.Made(subject)
	if r.renew(t, subject, made); made == 0 {
		r.forget(t, subject)
	}
}

// forget removes what is kept of a subject.
func (r *rule) forget(t *turn, subject string) {
	delete(r.instances, subject)
	delete(r.timed, subject)
	delete(r.last, subject)
	t.write(TableInstances, r.u.address+"\x00"+subject, nil)
}

// mind notes whether something of a subject is due by time: of ten thousand few are.
func (r *rule) mind(subject string) {
	if m := r.instances[subject]; m != nil && (m.Settle > 0 || m.Until > 0 || m.Repeat > 0) {
		r.timed[subject] = true
	} else {
		delete(r.timed, subject)
	}
}

// put has a subject's state written.
func (r *rule) put(t *turn, subject string) {
	r.mind(subject)
	m := r.instances[subject]
	value, err := proto.Marshal(m)
	if err != nil {
		r.u.h.o.Logger.Error("rule", "id", r.u.id, "err", err)
		return
	}
	if proto.Equal(m, &actorv1.Instance{Made: m.GetMade()}) {
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
	r.renew(t, s.Twin, r.u.h.o.World.Made(s.Twin)) // the last words of a twin that is gone count as what it said before
	m := r.instance(s.Twin)
	if n.Id != "" {
		if n.Id <= m.Seen {
			return // it comes again
		}
		m.Seen = n.Id
	}
	r.consider(t, s, n.Payload)
}

// consider looks at what was said, or when it has been quiet for a while; payload is what was said, encoded.
func (r *rule) consider(t *turn, s Said, payload []byte) {
	if d := r.conf.Settle.AsDuration(); d > 0 {
		r.instance(s.Twin).Settle, r.instance(s.Twin).Pending = t.ms+d.Milliseconds(), payload
		r.put(t, s.Twin)
		return
	}
	r.evaluate(t, s)
}

func (r *rule) actions(run *pb.Run) []*pb.Action {
	if run.Part > 0 {
		return r.reporting(run.Part)
	}
	if run.Otherwise {
		return r.conf.GetOtherwise()
	}
	return r.conf.GetThen()
}
