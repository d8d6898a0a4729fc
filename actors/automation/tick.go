package automation

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (r *rule) planNext(t *turn, after time.Time) {
	next := int64(0)
	for _, p := range r.plans {
		if at := p.Next(after); !at.IsZero() && (next == 0 || at.UnixMilli() < next) {
			next = at.UnixMilli()
		}
	}
	if next != r.u.rec.Next {
		r.u.rec.Next, r.u.rec.Planned, t.dirty = next, t.ms, true
	}
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
	for subject := range r.timed {
		m := r.instances[subject]
		earlier(m.GetSettle())
		earlier(m.GetUntil())
		earlier(m.GetRepeat())
	}
	if r.u.rec.Storming > 0 {
		earlier(r.u.rec.Stormed + stormOver)
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
	for _, subject := range slices.Sorted(maps.Keys(r.timed)) {
		if m := r.instances[subject]; m == nil || !due(m, t.ms) {
			continue
		}
		r.look(t, subject)
		if m := r.instances[subject]; m != nil {
			r.tickOne(t, subject, m)
		}
	}
	if r.u.rec.Next > 0 && r.u.rec.Next <= t.ms {
		due := r.u.rec.Next
		r.planNext(t, t.now)
		r.evaluate(t, Said{Kind: saidTime, Time: due}) // what was missed counts once
	}
	r.calm(t)
	r.lookForAbsent(t)
	r.lookAtNodes(t)
	if !r.replay {
		r.listen(t)
	}
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

// due says whether something of a subject is.
func due(m *actorv1.Instance, now int64) bool {
	by := func(at int64) bool { return at > 0 && at <= now }
	return by(m.Settle) || by(m.Until) || by(m.Repeat)
}

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
		if m.Repeat = 0; m.Active && (d > 0 || r.conf.OncePer != nil) {
			if d > 0 {
				m.Repeat = t.ms + d
			} else {
				ev.Trigger = "once_per is over" // it was left out
			}
			r.fire(t, ev, r.scope(t.now, s), Said{Twin: subject, Kind: saidTime, Time: t.ms}, subject, false)
			r.keep(ev, s)
		}
		r.put(t, subject)
	}
}
