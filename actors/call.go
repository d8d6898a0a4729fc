package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/polluxhq/pollux/actors/pool"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// run is one driver call: a job of the pool, then a message to the twin with what came of it.
type run struct {
	host
	event   event
	command *command
	call    drivers.Call
	// view is the state as it was when the call began. Its properties are on loan from the twin.
	view   state.View
	budget drivers.Budget
	runner drivers.Runner
	limit  time.Duration

	effects drivers.Effects
	err     error
	took    time.Duration
	// abandoned: the twin gave the call up; its result has no effect. Belongs to the twin.
	abandoned bool
}

// launch hands a call to the pool. Where a command is given, the call is on its behalf.
func (t *twin) launch(v event, c *command) {
	r := &run{event: v, command: c, runner: t.run.Runner, limit: t.e.o.CallTimeout}
	r.host = host{e: t.e, en: t.en, own: t.own, spec: t.spec, link: t.link, cfg: t.cfg, moved: t.movedBy()}
	r.view, t.lent = t.st.View(), true
	r.call = drivers.Call{Event: v.kind, Input: v.input, Settings: t.cfg.settings, State: r.stateJSON,
		Tenant: ProjectOf(t.en.id)}
	t.allot(&r.budget)
	r.call.Budget = &r.budget
	r.chain = []string{"twin:" + t.en.id}
	if c != nil {
		r.limit = c.timeout
		c.wrote = false
		r.chain = append(slices.Clip(c.chain), r.chain...)
	}
	r.ticket.Kind = pool.Kind{Event: int32(v.kind), Name: v.timer}
	if c != nil {
		r.ticket.Kind.Name = c.label
	}
	r.call.Clock = &r.ctx
	r.begin()
	t.working().call = r
	t.en.tokens.Add(1)
	if !t.e.pool.Submit(&t.spec.key, r) {
		r.err = ErrClosed
		t.en.send(r)
	}
}

// Ticket implements pool.Job.
func (r *run) Ticket() *pool.Ticket { return &r.ticket }

// begin starts the time of the call.
func (r *run) begin() { r.ctx.begin(r.e, r.limit) }

// stateJSON is the driver's view of the state. It is called from the call's goroutine, at any time while the call runs.
func (r *run) stateJSON() []byte {
	return r.view.AppendJSON(make([]byte, 0, 64+48*len(r.view.Properties)))
}

// Run makes the call. It runs on a worker.
func (r *run) Run() {
	if r.command == nil {
		r.begin() // nobody waits for an event: its time in the pool's queue does not count
	}
	began := time.Now()
	r.effects, r.err = r.handle()
	r.took = time.Since(began)
	r.en.send(r)
}

// handle keeps a panic of the host's own code to this call.
func (r *run) handle() (eff drivers.Effects, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("call driver: panic: %v", p)
		}
	}()
	if err := r.ctx.Err(); err != nil {
		return eff, err // it waited for a worker until its time was over
	}
	if streams := r.e.recorders.of(r.en.id); streams != nil {
		return r.recorded(streams)
	}
	return r.runner.Handle(&r.ctx, r.call, &r.host)
}

// run takes the result in the twin's turn.
func (r *run) run(t *twin) {
	t.e.stats.called(r.took)
	r.spec.tally.called()
	t.charge(&r.budget, r.spec)
	if r.abandoned || t.work == nil || t.work.call != r {
		return
	}
	t.work.call, t.lent = nil, false
	var refusal *drivers.DriverError
	switch {
	case r.err == nil:
		r.succeeded(t)
	case r.ctx.cancelled.Load():
		r.moved(t)
	case errors.As(r.err, &refusal) && !r.ctx.late.Load():
		t.recover()
		r.refused(t, refusal)
	case r.e.calls.Err() != nil:
		// A frame that was not handled must not be acknowledged.
		r.event.finish(fmt.Errorf("twin %s: the node is stopping: %w", t.en.id, ErrClosed))
		r.failed(t, pb.Outcome_OUTCOME_UNKNOWN, "the node is stopping")
	case refusal != nil, errors.Is(r.err, context.DeadlineExceeded) && !r.ctx.over():
		r.overdue(t)
	default:
		r.crashed(t)
	}
}

// succeeded applies what the call wants changed.
func (r *run) succeeded(t *twin) {
	t.beginLeft()
	r.event.date(r.effects.Changes)
	ends := t.onBehalf(r.command)
	err := t.apply(&r.event, &r.effects)
	ends()
	if err != nil {
		r.refused(t, &drivers.DriverError{Code: -1, Message: "effects refused: " + err.Error()})
		return
	}
	t.recover()
	if t.st.Fault != "" && t.faultFrom == r.event.kind {
		t.fault("", 0)
	}
	switch r.event.kind {
	case drivers.EventMigrate:
		t.runs(r.spec.version) // whose state it is now, also where its load never succeeds
	case drivers.EventLoad:
		t.runs(r.spec.version)
		t.loaded = true
		t.connect()
		t.resend()
		t.orphans()
	case drivers.EventTimer:
		t.fired(&r.event)
	case drivers.EventUnload:
		t.unloaded()
	}
	if r.command != nil {
		if r.effects.Pending && !r.command.noAnswer {
			t.await(r.command)
		} else {
			t.checkOutput(r.command, r.effects.Output)
			t.conclude(r.command, pb.Outcome_OUTCOME_DONE, r.effects.Output, nil)
		}
	}
	if r.event.answer != nil {
		r.event.answer(r.effects.Output, nil)
	}
	t.handled(&r.event)
}

// handled answers whoever waits for an event: at once, or once what it changed is committed.
func (t *twin) handled(v *event) {
	if v.done == nil {
		return
	}
	if v.durable && (t.dirty || t.saving()) {
		t.whenSaved(v.done)
		v.done = nil
		return
	}
	v.finish(nil)
}

// refused: the driver returned an error. The call has no effects.
func (r *run) refused(t *twin, e *drivers.DriverError) {
	e = &drivers.DriverError{Code: e.Code, Message: r.cfg.veil(e.Message), Retryable: e.Retryable, After: e.After}
	if r.command != nil {
		t.refuse(r.command, e)
	} else {
		t.note("warn", eventName(r.event.kind)+" refused: "+e.Message)
		t.e.stats.drop(dropRefused)
	}
	switch r.event.kind {
	case drivers.EventLoad, drivers.EventConnected:
		t.fault(e.Message, r.event.kind)
		if r.event.kind == drivers.EventLoad {
			// It said no, it did not crash: the twin goes on with a driver that knows its mind.
			r.spec.tally.commanded(pb.Outcome_OUTCOME_REJECTED, t.en.id, e)
			t.runs(r.spec.version)
			t.loaded = true
			t.connect()
		}
	case drivers.EventReceived:
		// With a code of its own the driver tells what is wrong with the device, such as a refused password; code 1 is a
		// frame that it could not make sense of.
		if e.Code > 1 && !e.Retryable {
			t.fault(e.Message, r.event.kind)
		}
	case drivers.EventTimer:
		t.fired(&r.event)
	case drivers.EventUnload:
		t.unloaded()
	}
	if r.event.answer != nil {
		r.event.answer(nil, e)
	}
	if r.event.kind == drivers.EventReceived {
		r.event.finish(refusedFrame(t.en.id, e.Message))
		return
	}
	t.handled(&r.event)
}

// unloaded: the driver has said farewell; now the connection may go.
func (t *twin) unloaded() {
	t.loaded = false
	t.unlink()
}

// failed: no result, and not by the driver's fault.
func (r *run) failed(t *twin, outcome pb.Outcome, why string) {
	if r.command != nil {
		t.conclude(r.command, outcome, nil, &drivers.DriverError{Message: why})
	}
	r.keep(t)
	r.event.finish(nil)
}

// moved: the call was cancelled because the twin moves. What wrote to the device is unknown, all else is the next owner's.
func (r *run) moved(t *twin) {
	r.event.finish(t.elsewhere())
	switch c := r.command; {
	case c == nil:
	case c.isSet || c.told():
		t.conclude(c, pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: "the twin moved before the device answered"})
	default:
		t.postpone(c)
	}
	if r.event.kind == drivers.EventUnload {
		t.unloaded()
	}
}

// maxLate is how many frames in a row a twin may leave unanswered in time before it is left alone.
const maxLate = 3

// overdue: what the call waited for did not come in time. A frame was not handled, so it is not acknowledged and comes
// again; where that goes on, frames are refused, lest one comes for ever.
func (r *run) overdue(t *twin) {
	why := fmt.Sprintf("%s took longer than %s", eventName(r.event.kind), r.limit)
	t.note("warn", why)
	t.e.stats.drop(dropTimeout)
	stumbles := false
	if r.event.done != nil {
		t.late = min(t.late+1, maxLate)
		if stumbles = t.late == maxLate; stumbles {
			r.event.finish(refusedFrame(t.en.id, why))
		} else {
			r.event.finish(fmt.Errorf("twin %s: %s: %w", t.en.id, why, context.DeadlineExceeded))
		}
	}
	r.failed(t, pb.Outcome_OUTCOME_TIMED_OUT, "no result within "+r.limit.String())
	if stumbles {
		t.stumble(r.spec, why, r.event.kind)
	}
}

// crashed: the driver trapped or computed without end. It is left alone for a while.
func (r *run) crashed(t *twin) {
	why := r.cfg.veil(r.err.Error())
	if r.ctx.over() {
		why = tooLong(r.e.o.ComputeTimeout).Error()
		if in := drivers.StoppedIn(r.err); in != "" {
			why += ", in " + clip(r.cfg.veil(in), 256)
		}
		t.e.pool.Slow(&r.spec.key, true)
		t.e.stats.drop(dropStopped)
	} else {
		t.e.stats.drop(dropTrap)
	}
	r.spec.tally.trapped(t.en.id, eventName(r.event.kind)+": "+why)
	if c := r.command; c != nil {
		outcome := pb.Outcome_OUTCOME_REJECTED
		if r.wrote.Load() {
			outcome = pb.Outcome_OUTCOME_UNKNOWN
		}
		t.conclude(c, outcome, nil, &drivers.DriverError{Message: "driver failed: " + why})
	}
	r.keep(t)
	// A frame that crashes the driver is not brought again: it would crash it for ever.
	r.event.finish(refusedFrame(t.en.id, why))
	why = eventName(r.event.kind) + ": " + why
	if t.mode == modeLive && t.incorrigible() {
		t.confine(r.spec, why)
	}
	t.stumble(r.spec, why, r.event.kind)
}

// keep has an event that must not be lost tried again.
func (r *run) keep(t *twin) {
	switch r.event.kind {
	case drivers.EventUnload:
		t.unloaded()
	case drivers.EventLoad, drivers.EventMigrate, drivers.EventConnected, drivers.EventDisconnected, drivers.EventTimer:
		if t.mode == modeLive && r.spec == t.spec {
			t.working().front(r.event)
		}
	}
}

// stumble begins or prolongs the time in which the driver is left alone.
func (t *twin) stumble(s *spec, why string, from drivers.Event) {
	if t.mode != modeLive {
		return
	}
	wait := t.e.o.BackoffMin << min(t.failures, 16)
	wait = min(wait, t.e.o.BackoffMax)
	if t.failures < 255 {
		t.failures++
	}
	if t.quarantined() {
		wait = t.e.o.QuarantineRetry
	}
	t.backoff = t.nowMS() + wait.Milliseconds()
	t.note("error", why)
	t.fault(why, from)
	if more, ok := s.complaints.due(time.Now()); ok {
		t.e.log.Warn("driver failed", "twin", t.en.id, "driver", s.name+"@"+s.version, "reason", why,
			"again_in", wait, "not_told", more)
	}
	t.work.dropCommands(t, fmt.Errorf("twin %s: %s: %w", t.en.id, why, ErrFault), true)
	if t.work == nil {
		return
	}
	// What waits did not crash the driver: it waits on where the driver is tried again soon, or comes again.
	patient := t.patient()
	t.work.dropEvents(fmt.Errorf("twin %s: %s: %w", t.en.id, why, cluster.ErrUnavailable), func(v *event) bool {
		if patient || v.done == nil || v.will {
			return true
		}
		t.e.stats.drop(dropFault)
		return false
	})
}

// maxPatience is the longest back-off for which frames wait, in milliseconds. Longer ones begin after several failures in a
// row: whatever came then would fill the connection that brings it, and keep others waiting.
const maxPatience = 15_000

// patient says whether frames may wait until the driver is tried again.
func (t *twin) patient() bool { return t.backoff-t.nowMS() <= maxPatience }

// recover ends the trouble after a call that came back.
func (t *twin) recover() {
	t.late = 0
	if t.failures == 0 && t.backoff == 0 {
		return
	}
	trapped := t.trapped
	t.forgive()
	t.trapped = trapped
	if t.spec != nil {
		t.e.pool.Slow(&t.spec.key, false)
	}
	t.fault("", 0)
	t.resend()
}

// retry resumes after the wait: a driver that could not be loaded is fetched again.
func (t *twin) retry(now int64) {
	if t.backoff == 0 || t.backoff > now || t.ready || t.spec == nil || t.run != nil {
		return
	}
	t.backoff = 0
	t.obtain()
}

func eventName(k drivers.Event) string {
	names := [...]string{"", "load", "connected", "disconnected", "received", "command", "timer", "unload", "migrate", "subscription", "webhook", "answer"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return "event"
}

// commandInput is the input of a command event.
func commandInput(kind, name string, key string, value []byte) []byte {
	n, _ := json.Marshal(name)
	b := append([]byte(`{"`+kind+`":`), n...)
	b = append(b, `,"`+key+`":`...)
	b = append(b, value...)
	return append(b, '}')
}

var errLease = fmt.Errorf("no lease: %w", cluster.ErrUnavailable)
