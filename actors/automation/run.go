package automation

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxRuns is how many runs of a unit are kept, besides those that are not at their end.
const maxRuns = 50

func runKey(address string, n uint64) string { return fmt.Sprintf("%s\x00%016x", address, n) }

// leaf is an action of a run: parallel ones have the same group.
type leaf struct {
	action *pb.Action
	group  int
	step   *pb.Step
}

// flatten gives the actions in the order of a run's steps.
func flatten(actions []*pb.Action) (all []leaf) {
	for g, a := range actions {
		if p := a.GetParallel(); p != nil {
			for _, x := range p.Actions {
				all = append(all, leaf{action: x, group: g})
			}
			continue
		}
		all = append(all, leaf{action: a, group: g})
	}
	return all
}

// fire adds a run to the turn: it begins when the turn is committed.
func (u *unit) fire(t *turn, run *pb.Run) error {
	u.rec.Run++
	run.Number, run.State = u.rec.Run, pb.RunState_RUN_STATE_OPEN
	if run.Time == nil {
		run.Time = timestamppb.New(t.now)
	}
	leaves := flatten(u.logic.actions(run))
	for i := range leaves {
		leaves[i].step = &pb.Step{Action: Describe(leaves[i].action)}
		run.Steps = append(run.Steps, leaves[i].step)
	}
	if len(run.Steps) == 0 {
		run.State = pb.RunState_RUN_STATE_DONE
	} else if len(u.h.runs) < cap(u.h.runs)/2 {
		t.started = append(t.started, run.Number)
		startFirst(leaves, t.now)
	}
	value, err := proto.Marshal(run)
	if err != nil {
		return fmt.Errorf("run of %s: %w", u.address, err)
	}
	t.write(TableRuns, runKey(u.address, run.Number), value)
	if old := run.Number - maxRuns; run.Number > maxRuns && !isOpen(u.rec.Open, old) {
		t.write(TableRuns, runKey(u.address, old), nil)
	}
	u.h.firings.Inc()
	if run.State == pb.RunState_RUN_STATE_OPEN {
		u.rec.Open = append(u.rec.Open, run.Number)
		t.begun = append(t.begun, run)
	}
	return nil
}

// startFirst starts the first steps of a run with the transaction that decides it: that saves the commit before them. Where runs wait for others
// it is left to them, so that a run that dies with its node before it began does not say that it had.
func startFirst(leaves []leaf, now time.Time) {
	for _, l := range leaves {
		if l.group == leaves[0].group {
			l.ready(now)
		}
	}
}

func isOpen(open []uint64, n uint64) bool {
	for _, x := range open {
		if x == n {
			return true
		}
	}
	return false
}

// begin carries a run out, in a goroutine of its own.
func (u *unit) begin(run *pb.Run, started bool) {
	if u.under[run.Number] {
		return
	}
	u.under[run.Number] = true
	u.running.Add(1)
	u.h.wg.Add(1)
	actions, priority, shared, born := u.logic.actions(run), u.priority(), u.shared(), u.rec.Born
	go func() {
		defer u.h.wg.Done()
		select {
		case u.h.runs <- struct{}{}:
			r := &runner{u: u, run: run, leaves: flatten(actions), priority: priority, shared: shared, started: started, born: born}
			set := u.h.o.Stepped()
			until, err := r.carry()
			<-u.h.runs
			u.ran(run.Number, until, set, err)
		case <-u.ctx.Done():
			u.ran(run.Number, 0, 0, u.ctx.Err())
		}
	}()
}

func (u *unit) priority() uint32 {
	if r, ok := u.logic.(*rule); ok && r.conf != nil {
		return r.conf.Priority
	}
	return 0
}

// shared says that it has one state for all twins: its alarm, too, is one.
func (u *unit) shared() bool {
	r, ok := u.logic.(*rule)
	return ok && r.conf != nil && (r.conf.AtLeast > 0 || r.conf.Together)
}

// ran: a run is at its end, waits until a time of the clock as it had been set by then, or was given up here (err).
func (u *unit) ran(n uint64, until, set int64, err error) {
	u.running.Add(-1)
	if err == nil && u.post(func(t *turn) {
		if until > 0 {
			delete(u.under, n)
			u.parked[n] = until
			if d := u.rec.Stepped - set; d != 0 { // the clock was set while it ran
				u.moveRun(t, n, d)
			}
			return
		}
		u.closed(t, n)
	}) {
		return
	}
	if err != nil && !u.leaving.Load() {
		u.post(func(*turn) { u.die(err) })
		return
	}
	u.mu.Lock()
	u.start()
	u.mu.Unlock()
}

// runner carries out one run. Its goroutine is the only one that touches it; steps of a group run beside each other, each with its own.
type runner struct {
	u        *unit
	run      *pb.Run
	leaves   []leaf
	priority uint32
	scope    *scope
	stopped  string
	// shared: the alarm that it raises is not that of one twin.
	shared bool
	// started: the first steps are, by what decided the run.
	started bool
	// born is the unit's: see actorv1.Unit.
	born uint64
}

// carry does the steps that are not done. until is not 0 where the run waits for longer.
func (r *runner) carry() (until int64, err error) {
	steps := r.run.Steps
	if !r.sameActions() {
		for _, s := range steps {
			if isOpenStep(s) {
				s.State, s.Error = pb.StepState_STEP_STATE_LEFT_OUT, "the configuration was changed meanwhile"
			}
		}
		return 0, r.save(true)
	}
	if r.scope, err = r.u.scopeOf(r.run); err != nil {
		return 0, err
	}
	for i := range r.leaves {
		r.leaves[i].step = steps[i]
	}
	for i := 0; i < len(r.leaves); {
		n := i + 1
		for n < len(r.leaves) && r.leaves[n].group == r.leaves[i].group {
			n++
		}
		if i > 0 && r.stopped == "" {
			r.stopped = r.stops(r.leaves[:i])
		}
		if until, err = r.group(r.leaves[i:n], n == len(r.leaves), i); until > 0 || err != nil {
			return until, err
		}
		i = n
	}
	return 0, r.save(true)
}

// sameActions says whether the run was decided by the actions that are configured.
func (r *runner) sameActions() bool {
	if len(r.leaves) != len(r.run.Steps) {
		return false
	}
	for i, l := range r.leaves {
		if Describe(l.action) != r.run.Steps[i].Action {
			return false
		}
	}
	return true
}

// stops says why what is behind some steps is left out, or "".
func (r *runner) stops(before []leaf) string {
	for _, l := range before {
		switch s := l.step; s.State {
		case pb.StepState_STEP_STATE_FAILED, pb.StepState_STEP_STATE_UNKNOWN:
			if !l.action.GoOn {
				return "an action before it failed"
			}
		case pb.StepState_STEP_STATE_DONE:
			if l.action.GetStop() {
				return "the run was stopped before it"
			}
			if s.Error != "" {
				return l.action.GetLogic().GetLogic() + " " + stoppedIt
			}
		}
	}
	return ""
}

// stoppedIt is what the step of a logic says that had the run stop.
const stoppedIt = "stopped it"

func isOpenStep(s *pb.Step) bool {
	return s.State < pb.StepState_STEP_STATE_DONE || s.State == pb.StepState_STEP_STATE_RETRYING
}

// ready makes a step that is open one to be done, or to wait for; fresh: it is to be committed first.
func (l leaf) ready(now time.Time) (fresh bool) {
	s := l.step
	switch s.State {
	case pb.StepState_STEP_STATE_UNSPECIFIED:
		s.Start = timestamppb.New(now)
		if d := l.action.GetWait(); d != nil {
			s.State, s.Until = pb.StepState_STEP_STATE_WAITING, timestamppb.New(now.Add(d.AsDuration()))
			return true
		}
	case pb.StepState_STEP_STATE_STARTED:
		s.Repeated = s.Repeated || l.action.GetMqtt() != nil
		s.Tries++
		return false
	case pb.StepState_STEP_STATE_RETRYING:
		if s.Until.AsTime().After(now) {
			return false
		}
		s.Until = nil
	default:
		return false
	}
	s.State = pb.StepState_STEP_STATE_STARTED
	s.Tries++
	return true
}

// group does the steps of a group that are not done, side by side. number is the first one's.
func (r *runner) group(all []leaf, last bool, number int) (until int64, err error) {
	now := r.u.h.o.Now()
	var todo []int
	fresh := false
	for i, l := range all {
		s := l.step
		switch {
		case !isOpenStep(s):
			continue
		case r.stopped != "":
			s.State, s.Error = pb.StepState_STEP_STATE_LEFT_OUT, r.stopped
			r.u.h.left.Inc()
			continue
		}
		if !r.started {
			fresh = l.ready(now) || fresh
		}
		todo = append(todo, i)
	}
	r.started = false
	if len(todo) == 0 {
		return 0, nil
	}
	if r.u.leaving.Load() {
		return 0, r.u.notOwner()
	}
	if fresh {
		if err := r.save(false); err != nil {
			return 0, err
		}
	}
	var wg sync.WaitGroup
	for _, i := range todo {
		l := all[i]
		switch s := l.step; {
		case s.State == pb.StepState_STEP_STATE_STARTED:
			wg.Go(func() { r.step(l, number+i) })
		case s.State == pb.StepState_STEP_STATE_WAITING && !s.Until.AsTime().After(r.u.h.o.Now()):
			s.State, s.End = pb.StepState_STEP_STATE_DONE, timestamppb.New(r.u.h.o.Now())
		}
	}
	wg.Wait()
	if r.u.ctx.Err() != nil {
		return 0, r.u.notOwner()
	}
	for _, l := range all {
		if s := l.step; isOpenStep(s) && s.Until != nil && (until == 0 || s.Until.AsTime().UnixMilli() < until) {
			until = max(s.Until.AsTime().UnixMilli(), 1)
		}
	}
	if until > 0 || !last {
		return until, r.save(false)
	}
	return 0, nil
}

// step tries one action.
func (r *runner) step(l leaf, number int) {
	s := l.step
	r.u.h.steps.Inc()
	done := func(state pb.StepState, why string) {
		s.State, s.Error, s.End = state, why, timestamppb.New(r.u.h.o.Now())
		s.Until, s.Reached, s.Refused = nil, nil, nil
		if state == pb.StepState_STEP_STATE_FAILED || state == pb.StepState_STEP_STATE_UNKNOWN {
			r.u.h.failures.Inc()
		}
	}
	if l.action.If != "" {
		yes, err := r.u.h.programs.holds(l.action.If, r.scope)
		if err != nil {
			done(pb.StepState_STEP_STATE_FAILED, fmt.Sprintf("if: %v", err))
			return
		}
		if !yes {
			done(pb.StepState_STEP_STATE_LEFT_OUT, "its condition does not hold")
			return
		}
	}
	if l.action.GetStop() {
		done(pb.StepState_STEP_STATE_DONE, "")
		return
	}
	ctx, cancel := context.WithTimeout(r.u.ctx, time.Minute)
	res := r.act(ctx, l, number)
	cancel()
	switch {
	case res.err == nil && res.stop:
		done(pb.StepState_STEP_STATE_DONE, stoppedIt)
	case res.err == nil:
		done(pb.StepState_STEP_STATE_DONE, "")
	case retries(l.action.Retry, res.Verdict) && s.Tries < attempts(l.action.Retry):
		s.State, s.Error = pb.StepState_STEP_STATE_RETRYING, res.err.Error()
		s.Until = timestamppb.New(r.u.h.o.Now().Add(backOff(l.action.Retry, s.Tries)))
		s.Repeated = s.Repeated || res.Silent
	case res.Unknown:
		done(pb.StepState_STEP_STATE_UNKNOWN, res.err.Error())
	default:
		done(pb.StepState_STEP_STATE_FAILED, res.err.Error())
	}
}

// save commits how far the run got, guarded by the slot's record.
func (r *runner) save(end bool) error {
	if end {
		r.run.State = pb.RunState_RUN_STATE_DONE
		for i, s := range r.run.Steps {
			bad := s.State == pb.StepState_STEP_STATE_FAILED || s.State == pb.StepState_STEP_STATE_UNKNOWN
			if bad && (i >= len(r.leaves) || !r.leaves[i].action.GoOn) {
				r.run.State = pb.RunState_RUN_STATE_FAILED
			}
		}
	}
	value, err := proto.Marshal(r.run)
	if err != nil {
		return fmt.Errorf("run %d of %s: %w", r.run.Number, r.u.address, err)
	}
	u := r.u
	return u.offer(&storage.Txn{Guards: []storage.Guard{{Table: storage.Table(u.own.Table), Key: u.own.Key, Equal: u.own.Value}},
		Writes: []storage.Write{{Table: TableRuns, Key: runKey(u.address, r.run.Number), Value: value, Quiet: true}}},
		func() bool { return false }) // who is not let through is the owner no more: what follows is not his to do
}

// runsOf reads the runs of a unit, newest first.
func (u *unit) runsOf(most int) (all []*pb.Run) {
	for n := u.rec.Run; n > 0 && len(all) < most && u.rec.Run-n < maxRuns; n-- {
		rec, ok, err := u.h.o.Store.Get(TableRuns, runKey(u.address, n))
		run := &pb.Run{}
		if err != nil || !ok || proto.Unmarshal(rec.Value, run) != nil {
			continue
		}
		run.Number = n
		all = append(all, run)
	}
	return all
}

// jsonOf is a value as runs and evaluations show it.
func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return string(b)
}
