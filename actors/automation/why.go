package automation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/state"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

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

// Committed gives what is committed of a rule's state, without what is counted of its twins. It is read here, wherever the rule lives.
func (h *Host) Committed(id string) *pb.RuleState {
	rec, ok, err := h.o.Store.Get(TableUnits, Address(KindRule, id))
	m := &actorv1.Unit{}
	if err != nil || !ok || proto.Unmarshal(rec.Value, m) != nil {
		return &pb.RuleState{}
	}
	return &pb.RuleState{Firings: m.Firings, Evaluations: m.Evaluations, Dampened: m.Dampened, Outside: m.Outside, Storm: m.Storm, Stopped: m.Stopped,
		Error: m.Error, Storming: stampOf(m.Storming)}
}

// describe says what the rule knows of itself.
func (r *rule) describe(t *turn, q *actorv1.UnitQuery) *actorv1.UnitAnswer {
	rec := r.u.rec
	st := &pb.RuleState{Firings: rec.Firings, Evaluations: rec.Evaluations, Dampened: rec.Dampened, Outside: rec.Outside, Storm: rec.Storm,
		Stopped: rec.Stopped, Error: rec.Error, Node: r.u.h.o.Node, Storming: stampOf(rec.Storming)}
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
	if s.Kind == SaidProperty {
		s.Now = nil // as it is now: the twin does not tell of what changes nothing
	}
	if !known {
		s = r.unsaid(t, subject)
	}
	sc := r.scope(t.now, s)
	switch s.Kind {
	case saidAbsent:
		now = r.silenceNow(t, s)
	case SaidProperty, saidTime:
		now = examine(r.u.h.programs, r.conf, sc, s, t.now)
	default:
		if now = examine(r.u.h.programs, r.conf, sc, s, t.now); !known {
			now.Holds, now.Verdict, now.Error = false, "nothing has come yet: "+s.Kind, ""
		}
	}
	if r.held(s.Twin) && !now.Holds && r.conf.Until != "" {
		if over, err := r.u.h.programs.holds(r.conf.Until, sc); err == nil && !over {
			now.Verdict = "holds, as before: until does not"
		}
	}
	if why := r.off(); why != "" {
		now.Verdict = why
	} else if !r.closedUntil(t.now).IsZero() {
		now.Verdict = "outside of its windows"
	}
	return all, now
}

// unsaid is what a rule is looked at for of which nothing was said so far: of its first trigger, or of the first whose property a twin has that it is about.
func (r *rule) unsaid(t *turn, subject string) Said {
	project, _, _ := strings.Cut(r.u.id, "/")
	first := Said{}
	for _, x := range r.conf.When {
		s, of := saidBy(x)
		s.Twin, s.Time = subject, t.ms
		ids := []string{subject}
		if of != nil && subject == "" {
			ids, _ = r.u.h.o.World.Selected(project, of)
		}
		if first.Kind == "" {
			if first = s; len(ids) == 1 {
				first.Twin = ids[0]
			}
		}
		if s.Kind != SaidProperty && s.Kind != saidAbsent {
			continue
		}
		for _, id := range ids {
			if v, ok := r.u.h.o.World.View(id); ok && seenOf(v, s.Name) > 0 {
				s.Twin = id
				return s
			}
		}
	}
	return first
}

// saidBy is what a trigger would say, and of which twins.
func saidBy(x *pb.Trigger) (Said, *pb.Selection) {
	switch on := x.On.(type) {
	case *pb.Trigger_Absent:
		return Said{Kind: saidAbsent, Name: on.Absent.Property}, on.Absent.Of
	case *pb.Trigger_Schedule:
		return Said{Kind: saidTime}, nil
	case *pb.Trigger_Node:
		return Said{Kind: saidNode}, nil
	case *pb.Trigger_Webhook:
		return Said{Kind: SaidWebhook}, nil
	case *pb.Trigger_Topic:
		return Said{Kind: SaidTopic}, nil
	}
	kind, of, names := triggerOf(x)
	s := Said{Kind: kind}
	if len(names) > 0 {
		s.Name = names[0]
	}
	return s, of
}

// silenceNow says of an absence how long nothing was heard, as far as that is committed.
func (r *rule) silenceNow(t *turn, s Said) *pb.Evaluation {
	ev := &pb.Evaluation{Time: stampOf(t.ms), Subject: s.Twin, Trigger: strings.TrimSpace(s.Kind + " " + s.Name), Values: map[string]string{}}
	m := r.instances[s.Twin]
	if ev.Holds = m.GetAbsent(); ev.Holds {
		ev.Verdict = "holds: " + silence(s.Name, m, t.ms)
		return ev
	}
	what, at := "anything", int64(0)
	if s.Name != "" {
		what = s.Name
	}
	if v, ok := r.u.h.o.World.View(s.Twin); ok {
		at = seenOf(v, s.Name)
	}
	if ev.Verdict = "does not hold: " + what + " was not heard so far"; at > 0 {
		ev.Verdict = fmt.Sprintf("does not hold: %s was heard %s ago", what, (time.Duration(max(t.ms-at, 0)) * time.Millisecond).Round(time.Second))
	}
	return ev
}

// held says whether the condition holds for a subject, by the state of what was evaluated last.
func (r *rule) held(subject string) bool {
	if r.conf.AtLeast > 0 || r.conf.Together {
		subject = ""
	}
	return r.instances[subject].GetActive()
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
	if !ev.Holds && s.Kind == SaidProperty && sc.change.Value.Kind() == state.Null && p.reads(conf.If, "value") {
		ev.Verdict, ev.Error = "does not hold: "+cmp.Or(s.Name, "it")+" has no value yet", ""
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
