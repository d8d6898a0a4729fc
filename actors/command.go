package actors

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	defaultPriority = 50
	defaultRetries  = 3
	// retryBonus raises the priority of a command that is tried again.
	retryBonus = 20
	// asleepValidity is how long what is asked of a device that sleeps waits where its caller does not say, in milliseconds.
	asleepValidity = 24 * 3600 * 1000
	// retryMax is the longest wait before another try, pursueMax where the tries are not counted, in milliseconds.
	retryMax  = 2000
	pursueMax = 3000
	// keyWindow is how long a command's idempotency key is remembered, in milliseconds; at most maxKeys of them.
	keyWindow = 10 * 60 * 1000
	maxKeys   = 64
)

// command is one that waits, runs, or awaits its answer.
type command struct {
	serial   uint64
	label    string // for people
	name     string // of the queue's place; "" has none
	priority uint8
	retries  int
	tries    int
	refusal  string // what the driver said at the last try
	// notBefore delays it, until ends its waiting, connectBy ends its waiting for a connection that never was: by nowMS.
	notBefore, until, connectBy int64
	timeout                     time.Duration
	// answerBy is when a pending answer is given up.
	answerBy int64
	input    []byte
	replies  []*call
	// chain are the twins whose calls led to this one.
	chain   []string
	id      [16]byte
	key     string
	started bool
	// desired, where set, is the property that the command sets, and which asking it serves.
	desired  state.Name
	revision uint64
	isSet    bool
	// kept: the twin's record holds it; unsaved: not yet.
	kept, unsaved bool
	// patient: it waits for a device that is away, though it has no name; noAnswer: it is done when it is sent; clears: the
	// queue is emptied when it has ended; idempotent: to send it twice does no harm.
	patient, noAnswer, clears, idempotent bool
	// pause is for how long nothing is sent after it, in milliseconds.
	pause int64
	// pursued: it is tried again until the desired value expires, however often.
	pursued bool
	// call is the newest call of the driver on the command's behalf; wrote, whether an earlier one reached the device.
	call  *run
	wrote bool
}

// told says whether bytes went out to the device, or were about to.
func (c *command) told() bool { return c.wrote || c.call != nil && c.call.wrote.Load() }

// waits says whether it stays in the queue while the device is away.
func (c *command) waits() bool { return c.name != "" || c.patient }

// run takes a call in the twin's turn.
func (m *call) run(t *twin) {
	m.link(t.en)
	if err := t.unavailable(); err != nil && !t.takes(m) {
		m.refuse(err)
		return
	}
	switch req := m.env.Message.(type) {
	case *actorv1.StateQuery:
		m.answer(cluster.Reply{Message: t.show(req.Model)})
	case *actorv1.Frame:
		t.frame(req, m)
	case *actorv1.Notices:
		t.notices(req, m)
	case *actorv1.Retell:
		t.retell(req.Subscriber)
		m.answer(takenReply)
	case *actorv1.Webhook:
		t.webhook(req, m)
	case *actorv1.Told:
		t.told(req, m)
	case *actorv1.Judged:
		t.judged(req, m)
	case *pb.InvokeRequest:
		t.invoke(req, m)
	case *pb.SetDesiredRequest:
		t.setDesired(req, m)
	case *actorv1.ClearQueue:
		m.answer(cluster.Reply{Message: &actorv1.Cleared{Commands: uint32(t.clear("cleared by " + m.env.Principal))}})
	case *actorv1.Release:
		t.pardon(m)
	default:
		m.refuse(fmt.Errorf("twin %s: message %T: %w", t.en.id, req, ErrInvalid))
	}
}

// takes says whether a twin that leaves takes the message nevertheless: a frame that was let in before, so that it is not
// overtaken.
func (t *twin) takes(m *call) bool {
	_, frame := m.env.Message.(*actorv1.Frame)
	return frame && t.mode == modeLeaving && !t.hurried && t.ready && t.loaded && t.backoff <= t.nowMS() && !t.settled()
}

// show gives the state as it is now.
func (t *twin) show(withModel bool) *pb.TwinState {
	s := t.st.Proto(t.e.o.Node, t.own.Since)
	t.troubled(s.Status).Traffic = t.traffic()
	s.OverQuota = t.over.proto()
	s.Filtered = t.sieve.proto()
	s.Derived = t.deriving.proto()
	s.Detectors = t.detected()
	s.Queued = t.waitingCommands()
	for i := range t.st.Desired {
		if d := &t.st.Desired[i]; open(d) {
			s.Desired[d.Name.Value()].WaitsFor = t.waitsFor(d)
		}
	}
	t.work.showEnding(s)
	if withModel && t.model != nil {
		s.ModelJson = string(t.model.JSON())
	}
	return s
}

// admit says why no command is taken now, or nil.
func (t *twin) admit(m *call) error {
	now := t.nowMS()
	switch {
	case t.cfg.stopped:
		return fmt.Errorf("twin %s: %w", t.en.id, ErrStopped)
	case t.spec == nil:
		return fmt.Errorf("twin %s: %s: %w", t.en.id, t.st.Fault, ErrFault)
	case t.backoff > now:
		return fmt.Errorf("twin %s: %s: %w", t.en.id, t.st.Fault, ErrFault)
	case !m.env.Deadline.IsZero() && !time.Now().Before(m.env.Deadline):
		return fmt.Errorf("twin %s: %w", t.en.id, cluster.ErrDeadline)
	}
	return nil
}

// repeated answers a call that was here before: with the answer that it had, or that it will have.
func (t *twin) repeated(m *call) bool {
	w := t.work
	if m.env.ID == ([16]byte{}) {
		return false
	}
	if k := t.st.Command(m.env.ID); k != nil && !k.Waited {
		t.acknowledged(k.ID, m)
		return true
	}
	if w == nil {
		return false
	}
	for i := range w.recent {
		if w.recent[i].id == m.env.ID {
			m.answer(w.recent[i].reply)
			return true
		}
	}
	if c := w.find(func(c *command) bool { return c.id == m.env.ID }); c != nil {
		c.replies = append(c.replies, m)
		return true
	}
	return false
}

// find looks for a command wherever it is.
func (w *work) find(match func(*command) bool) *command {
	if w == nil {
		return nil
	}
	if w.call != nil && w.call.command != nil && match(w.call.command) {
		return w.call.command
	}
	if w.pending != nil && match(w.pending) {
		return w.pending
	}
	for _, all := range [][]*command{w.commands, w.starting} {
		if i := slices.IndexFunc(all, match); i >= 0 {
			return all[i]
		}
	}
	return nil
}

// invoke takes a command.
func (t *twin) invoke(req *pb.InvokeRequest, m *call) {
	if t.repeated(m) {
		return
	}
	if err := t.admit(m); err != nil {
		m.refuse(err)
		return
	}
	v, err := state.FromProto(req.Input)
	if err == nil {
		err = t.model.ValidateAction(req.Action, v.AppendJSON(nil))
	}
	if err != nil {
		t.e.stats.drop(dropInvalid)
		m.refuse(t.badRequest("action", req.Action, "/input", err))
		return
	}
	if t.spec.bare() {
		t.e.stats.outcome(pb.Outcome_OUTCOME_REJECTED)
		m.answer(cluster.Reply{Message: result(pb.Outcome_OUTCOME_REJECTED, nil, &drivers.DriverError{
			Message: "the twin has a model, and no driver that could run " + req.Action})})
		return
	}
	if req.IdempotencyKey != "" && t.knownKey(req.IdempotencyKey, m, req.Options.GetNoWait()) {
		return
	}
	a := t.model.Action(req.Action)
	c := t.newCommand(req.Options, a.Queue, m)
	c.label, c.idempotent = req.Action, a.Idempotent
	c.key = req.IdempotencyKey
	c.input = commandInput("action", req.Action, "input", v.AppendJSON(nil))
	t.enqueue(c, m, req.Options.GetNoWait())
}

// badRequest words why a request is refused. kind, property or action, is what name names; base leads to the value.
func (t *twin) badRequest(kind, name, base string, err error) error {
	if errors.Is(err, drivers.ErrUnknown) || errors.Is(err, drivers.ErrReadOnly) {
		return fmt.Errorf("twin %s: %w", t.en.id, invalid("/"+kind, "%s is %v", name, err))
	}
	return fmt.Errorf("twin %s: %s %s: %w", t.en.id, kind, name, asInvalid(base, err))
}

// queueAs fills in the fields of the queue that a model gives.
func (c *command) queueAs(q *drivers.Queue) {
	if q == nil {
		return
	}
	c.name, c.pause, c.noAnswer, c.clears = q.Name, q.Pause.Milliseconds(), q.NoAnswer, q.Clear
	if q.Priority > 0 {
		c.priority = q.Priority
	}
	if q.Retries != nil {
		c.retries = int(*q.Retries)
	}
	if q.Timeout > 0 {
		c.timeout = q.Timeout
	}
}

// newCommand fills in the fields of the queue: as the caller says, else as the model does, else the defaults.
func (t *twin) newCommand(o *pb.CommandOptions, q *drivers.Queue, m *call) *command {
	now := t.nowMS()
	c := &command{priority: defaultPriority, retries: defaultRetries, timeout: t.e.o.CommandTimeout}
	c.queueAs(q)
	if o.GetName() != "" {
		c.name = o.GetName()
	}
	if o.GetPriority() > 0 {
		c.priority = uint8(min(o.GetPriority(), 100))
	}
	if o != nil && o.Retries != nil {
		c.retries = int(*o.Retries)
	}
	if d := o.GetTimeout().AsDuration(); d > 0 {
		c.timeout = d
	}
	if d := o.GetDelay().AsDuration(); d > 0 {
		c.notBefore = now + d.Milliseconds()
	}
	validity := t.e.o.OfflineValidity.Milliseconds()
	if d := o.GetValidFor().AsDuration(); d > 0 {
		validity, c.patient = d.Milliseconds(), true
	} else if t.sleeping() {
		validity = asleepValidity
	}
	c.until = max(now, c.notBefore) + validity
	c.connectBy = max(now, c.notBefore) + c.timeout.Milliseconds()
	if d := o.GetPause().AsDuration(); d > 0 {
		c.pause = d.Milliseconds()
	}
	c.noAnswer, c.clears = c.noAnswer || o.GetNoAnswer(), c.clears || o.GetClear()
	if m != nil {
		c.id, c.chain = m.env.ID, m.env.Chain
		if !m.env.Deadline.IsZero() && !o.GetNoWait() {
			waits := now + time.Until(m.env.Deadline).Milliseconds()
			if c.until = min(c.until, waits); !c.patient {
				c.until = waits
			}
		}
	}
	return c
}

// enqueue puts a command into the queue, or refuses it.
func (t *twin) enqueue(c *command, m *call, noWait bool) {
	w := t.working()
	if !c.waits() && t.offline() {
		t.e.stats.outcome(pb.Outcome_OUTCOME_REJECTED)
		t.ended(c, pb.Outcome_OUTCOME_REJECTED, &drivers.DriverError{Message: t.away()})
		m.answer(cluster.Reply{Message: result(pb.Outcome_OUTCOME_REJECTED, nil, &drivers.DriverError{
			Message: t.away(), Retryable: true})})
		return
	}
	t.replace(c.name)
	if len(w.commands) >= t.e.o.CommandQueue {
		t.e.stats.drop(dropQueueFull)
		m.refuse(fmt.Errorf("twin %s: %d commands wait: %w", t.en.id, len(w.commands), cluster.ErrOverloaded))
		return
	}
	if noWait {
		t.keepCommand(c, m)
		return
	}
	c.replies = append(c.replies, m)
	w.insert(c)
	t.e.stats.queued.Add(1)
}

// replace takes the waiting command of a name out of the queue.
func (t *twin) replace(name string) {
	if name == "" || t.work == nil {
		return
	}
	i := slices.IndexFunc(t.work.commands, func(c *command) bool { return c.name == name })
	if i >= 0 {
		old := t.work.take(i)
		why := "replaced by a newer command " + name
		if old.isSet {
			t.displaced(old, why)
		}
		t.conclude(old, pb.Outcome_OUTCOME_REJECTED, nil, &drivers.DriverError{Message: why})
	}
}
