package automation

import (
	"fmt"
	"strings"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// stormOver is how long a rule has to keep below its limit, in milliseconds, for its storm to be over.
const stormOver = 60_000

// Parts of a rule's runs that are not its own actions: they report its storms, as durably as all runs.
const (
	partStorm = 1
	partCalm  = 2
)

// storm notes a firing that is left out because there were too many within a minute. The first of them is reported.
func (r *rule) storm(t *turn) {
	rec := r.u.rec
	rec.Storm++
	rec.Stormed, t.dirty = t.ms, true
	r.u.h.left.Inc()
	stops := r.conf.StopOnStorm && rec.Stopped == "" // also where it was told to only during the storm
	if r.replay || rec.Storming > 0 && !stops {
		return
	}
	if rec.Storming == 0 {
		rec.Storming = t.ms
		r.u.h.storms.Inc()
	}
	r.u.h.o.Logger.Warn("an action storm: firings are left out", "rule", r.u.id, "limit", r.limit(), "stopped", r.conf.StopOnStorm)
	if stops {
		rec.Stopped = fmt.Sprintf("an action storm: it would fire more than %d times a minute", r.limit())
	}
	r.report(t, partStorm, fmt.Sprintf("it would fire more than %d times a minute", r.limit()))
}

// calm has a storm be over that is.
func (r *rule) calm(t *turn) {
	rec := r.u.rec
	if rec.Storming == 0 || t.ms < rec.Stormed+stormOver {
		return
	}
	r.u.h.o.Logger.Info("an action storm is over", "rule", r.u.id, "took", time.Duration(rec.Stormed-rec.Storming)*time.Millisecond)
	rec.Storming, t.dirty = 0, true
	r.report(t, partCalm, "it fires no more than it may")
}

func (r *rule) report(t *turn, part uint32, cause string) {
	if err := r.u.fire(t, &pb.Run{Cause: cause, Part: part}); err != nil {
		r.u.h.o.Logger.Error("report of an action storm", "rule", r.u.id, "err", err)
	}
}

// reporting are the actions of a run that reports.
func (r *rule) reporting(part uint32) []*pb.Action {
	_, name, _ := strings.Cut(r.u.id, "/")
	alarm := "storm." + name
	if part == partCalm {
		return []*pb.Action{{Do: &pb.Action_Clear{Clear: &pb.ClearAction{Alarm: alarm}}}}
	}
	text := fmt.Sprintf("rule %s would fire more than %d times a minute: what is more is left out", r.u.id, r.limit())
	severity := pb.AlarmSeverity_ALARM_SEVERITY_WARNING
	if r.conf.StopOnStorm {
		text = fmt.Sprintf("rule %s would fire more than %d times a minute: it has stopped", r.u.id, r.limit())
		severity = pb.AlarmSeverity_ALARM_SEVERITY_ERROR
	}
	return []*pb.Action{{Do: &pb.Action_Raise{Raise: &pb.RaiseAction{Alarm: alarm, Severity: severity, Text: text}}}}
}
