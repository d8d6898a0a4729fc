package automation

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

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
		ev.Error, r.u.rec.Error = err.Error(), err.Error()
		if !errors.Is(err, expr.ErrMissing) {
			ev.Verdict = "the condition cannot be told"
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
		if !x.Holds || id == "" {
			continue
		}
		if made := r.u.h.o.World.Made(id); made > 0 && (x.Made == made || x.Made == 0) {
			n++
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
