package automation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// fire has the actions run, unless something speaks against it. It says whether the subject's state changed.
func (r *rule) fire(t *turn, ev *pb.Evaluation, sc *scope, s Said, subject string, otherwise bool) bool {
	m := r.instance(subject)
	say := func(text string) {
		if ev.Verdict != "" && !strings.HasSuffix(ev.Verdict, "; ") {
			text = "; " + text
		}
		ev.Verdict += text
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
		if m.Active {
			m.Repeat = m.Fired + d // an alarm of what still holds then is not lost
		}
		return true
	}
	if !r.mayFire(t.ms) {
		say(fmt.Sprintf("left out: it fired %d times within a minute", len(r.fires)))
		r.storm(t)
		return true
	}
	run := &pb.Run{Subject: s.Twin, Cause: ev.Trigger, Values: maps.Clone(ev.Values), Otherwise: otherwise, Chain: chainOf(s.By)}
	switch s.Kind {
	case SaidProperty:
		run.Cause = s.Name + " = " + string(orNull(s.Now))
	case saidAbsent:
		run.Cause = silence(s.Name, m, t.ms)
	}
	if err := r.u.fire(t, run); err != nil {
		ev.Error = err.Error()
		return true
	}
	r.u.rec.Firings++
	if ev.Run = run.Number; !otherwise {
		m.Fired = t.ms
	}
	say("fired")
	if n := r.conf.DisableAfter; n > 0 && !otherwise && r.u.rec.Firings >= uint64(n) {
		r.u.rec.Stopped = fmt.Sprintf("it has fired %d times, as often as it may", n)
	}
	return true
}

// silence says in words what an absence fires for: alarms and messages without a text of their own say it.
func silence(property string, m *actorv1.Instance, now int64) string {
	what := "nothing"
	if property != "" {
		what = "no " + property
	}
	switch {
	case !m.Absent:
		return "heard again"
	case m.Heard == 0:
		return what + " was ever heard"
	}
	return fmt.Sprintf("%s was heard for %s", what, (time.Duration(now-m.Heard) * time.Millisecond).Round(time.Second))
}

func (r *rule) limit() int {
	if r.conf.Limit == 0 {
		return defaultLimit
	}
	return int(r.conf.Limit)
}

// mayFire counts the firings of the last minute.
func (r *rule) mayFire(now int64) bool {
	limit := r.limit()
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
