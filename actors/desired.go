package actors

import (
	"fmt"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// defaultValidity is how long a desired value is pursued where the caller does not say, in milliseconds.
const defaultValidity = 30_000

// setDesired commits what is asked of a property, answers, and then tells the device.
func (t *twin) setDesired(req *pb.SetDesiredRequest, m *call) {
	if t.repeated(m) {
		return
	}
	switch {
	case t.cfg.stopped:
		m.refuse(fmt.Errorf("twin %s: %w", t.en.id, ErrStopped))
		return
	case t.spec == nil:
		m.refuse(fmt.Errorf("twin %s: %s: %w", t.en.id, t.st.Fault, ErrFault))
		return
	}
	v, err := state.FromProto(req.Value)
	if err == nil {
		err = t.model.ValidateProperty(req.Property, v.AppendJSON(nil))
	}
	if err == nil && v.Size() > maxValue {
		err = invalid("/value", "%d bytes, %d are allowed", v.Size(), maxValue)
	}
	if size := t.st.Size() + v.Size() + 1<<10; err == nil && size > maxRecord {
		err = invalid("/value", "the twin's state would have %d bytes, %d are allowed", size, maxRecord)
	}
	if err != nil {
		t.e.stats.drop(dropInvalid)
		m.refuse(t.badRequest("property", req.Property, "/value", err))
		return
	}
	d := t.ask(state.Intern(req.Property), v, req, m.env.Principal)
	t.journalDesired(d)
	if t.fulfil(d); open(d) { // else it was told with the value that confirms it
		t.emitDesired(d)
	}
	revision, name, queueName := d.Revision, d.Name, req.Options.GetName()
	asked := d.Proto()
	id := m.env.ID
	t.working().ask(name, revision)
	t.whenSaved(func(err error) {
		t.work.asked(name, revision)
		r := cluster.Reply{Message: &pb.SetDesiredResponse{Desired: asked}}
		if err != nil {
			r = cluster.Reply{Err: err}
		}
		m.answer(r)
		if err != nil {
			return
		}
		t.remember(id, r)
		if t.mode != modeLive {
			return
		}
		if d := t.st.FindDesired(name); d != nil && d.Revision == revision && open(d) && !t.spec.bare() {
			t.working().queueAs(name, queueName)
			t.pursue(d)
		}
	})
}

// ask notes what is asked.
func (t *twin) ask(name state.Name, v state.Value, req *pb.SetDesiredRequest, by string) *state.Desired {
	now := t.stamp()
	d := t.st.FindDesired(name)
	if d == nil {
		t.st.Desired = append(t.st.Desired, state.Desired{Name: name})
		d = &t.st.Desired[len(t.st.Desired)-1]
	}
	validity := int64(defaultValidity)
	if x := req.ValidFor.AsDuration(); req.ValidFor != nil && x > 0 {
		validity = x.Milliseconds()
	} else if t.sleeping() || t.spec.bare() {
		validity = asleepValidity
	}
	*d = state.Desired{Name: name, Value: v, Time: now, By: by, Revision: d.Revision + 1, Progress: uint8(pb.Progress_PROGRESS_ASKED),
		Expires: now + validity, Priority: uint8(min(req.Options.GetPriority(), 100)), Retries: -1,
		Timeout: req.Options.GetTimeout().AsDuration().Milliseconds()}
	if req.Options != nil && req.Options.Retries != nil {
		d.Retries = int32(*req.Options.Retries)
	}
	if delay := req.Options.GetDelay().AsDuration(); delay > 0 {
		d.Delay = now + delay.Milliseconds()
	}
	t.changed()
	return d
}

// pursue queues the command that sets a property, under the name that its caller gave, or else `set PROPERTY`. It
// replaces what waits under that name, and an earlier asking of the property.
func (t *twin) pursue(d *state.Desired) {
	now, wall := t.nowMS(), t.stamp()
	w := t.working()
	c := &command{label: d.Name.Value(), priority: defaultPriority, retries: defaultRetries, timeout: t.e.o.CommandTimeout,
		desired: d.Name, revision: d.Revision, isSet: true, pursued: d.Retries < 0}
	if p := t.model.Property(d.Name.Value()); p != nil && p.Queue != nil {
		c.queueAs(p.Queue)
		c.pursued = c.pursued && p.Queue.Retries == nil
	}
	c.name = w.queueName(d.Name, c.name)
	if d.Priority > 0 {
		c.priority = d.Priority
	}
	if d.Retries >= 0 {
		c.retries = int(d.Retries)
	}
	if d.Timeout > 0 {
		c.timeout = msDuration(d.Timeout)
	}
	if d.Delay > wall {
		c.notBefore = now + d.Delay - wall
	}
	// Its end is the desired value's, which expires on its own.
	c.input = commandInput("property", d.Name.Value(), "value", d.Value.AppendJSON(nil))
	t.dropSet(d)
	t.replace(c.name)
	w.insert(c)
}

// ask notes that what is asked of a property is on its way to the store: until then the device is not told.
func (w *work) ask(property state.Name, revision uint64) {
	if w.asking == nil {
		w.asking = map[state.Name]uint64{}
	}
	w.asking[property] = revision
}

// asked: it is committed, or never will be.
func (w *work) asked(property state.Name, revision uint64) {
	if w != nil && w.asking[property] == revision {
		delete(w.asking, property)
	}
}

// queueAs notes the name under which a property's command queues; "": its own.
func (w *work) queueAs(property state.Name, name string) {
	if name == "" {
		delete(w.names, property)
		return
	}
	if w.names == nil {
		w.names = map[state.Name]string{}
	}
	w.names[property] = name
}

// queueName is the place of a property's command in the queue: the caller's, or else the model's, or its own.
func (w *work) queueName(property state.Name, modelled string) string {
	if name := w.names[property]; name != "" {
		return name
	}
	if modelled != "" {
		return modelled
	}
	return "set " + property.Value()
}

// sent notes that a command's bytes went out to the device.
func (t *twin) sent(c *command) {
	if !c.isSet {
		return
	}
	d := t.st.FindDesired(c.desired)
	if d == nil || d.Revision != c.revision || pb.Progress(d.Progress) != pb.Progress_PROGRESS_ASKED {
		return
	}
	d.Progress = uint8(pb.Progress_PROGRESS_SENT)
	t.changed()
	t.emitDesired(d)
}

// displaced: another command took the place of the one that sets a property. It is not sent again.
func (t *twin) displaced(c *command, why string) {
	if d := t.st.FindDesired(c.desired); d != nil && d.Revision == c.revision && open(d) {
		t.reject(d, why)
	}
}

func (t *twin) reject(d *state.Desired, why string) { t.giveUp(d, pb.Progress_PROGRESS_REJECTED, why) }

// giveUp ends a desired value that was not confirmed. Nobody is told before it is committed, so that the device is not
// told again by a twin that lost what it had said.
func (t *twin) giveUp(d *state.Desired, p pb.Progress, why string) {
	was := d.Progress
	d.Progress, d.Error = uint8(p), why
	t.changed()
	if t.mode != modeLive && t.mode != modeLeaving {
		return
	}
	w, name, revision := t.working(), d.Name, d.Revision
	if w.ending == nil {
		w.ending = map[state.Name]ending{}
	}
	w.ending[name] = ending{revision, was}
	t.whenSaved(func(error) {
		t.work.ended(name, revision)
		if d := t.st.FindDesired(name); d != nil && d.Revision == revision && (t.mode == modeLive || t.mode == modeLeaving) {
			t.emitDesired(d)
		}
	})
}

// ending is a desired value whose end is on its way to the store: of which asking, and how far it was before.
type ending struct {
	revision uint64
	was      uint8
}

// ended: the end is committed, or never will be.
func (w *work) ended(property state.Name, revision uint64) {
	if w != nil && w.ending[property].revision == revision {
		delete(w.ending, property)
	}
}

// showEnding shows desired values as they were, for as long as their end is not committed.
func (w *work) showEnding(s *pb.TwinState) {
	if w == nil {
		return
	}
	for name, x := range w.ending {
		if d := s.Desired[name.Value()]; d != nil && d.Revision == x.revision {
			d.Progress, d.Error = pb.Progress(x.was), ""
		}
	}
}

// progress moves a desired value on after its command ended.
func (t *twin) progress(c *command, o pb.Outcome, e *drivers.DriverError) {
	if c.told() {
		t.sent(c)
	}
	d := t.st.FindDesired(c.desired)
	if d == nil || d.Revision != c.revision || !open(d) {
		return
	}
	switch {
	case o == pb.Outcome_OUTCOME_DONE:
		// What the device reports decides.
		if p := t.st.Property(d.Name); p == nil || !p.Value.Equal(d.Value) || p.Time() < d.Time {
			t.sent(c)
			return
		}
		d.Progress = uint8(pb.Progress_PROGRESS_CONFIRMED)
		t.changed()
		t.emitDesired(d)
	case o == pb.Outcome_OUTCOME_UNKNOWN, o == pb.Outcome_OUTCOME_TIMED_OUT:
		// The device may have heard it, or never did: what it reports decides, or the time.
	case t.offline() || t.connecting() || t.sleeping() || e != nil && e.Retryable && t.backoff > 0:
		// It is tried again when the device is back.
	default:
		why := ""
		if e != nil {
			why = e.Message
		}
		t.reject(d, why)
	}
}

// confirm compares what was reported with what was asked, and says whether something was confirmed. What is for history alone, by its way,
// confirms nothing.
func (t *twin) confirm(changes []drivers.Change, ways []way, delta *pb.StateDelta) (any bool) {
	for i := range t.st.Desired {
		d := &t.st.Desired[i]
		if !open(d) {
			continue
		}
		for i, c := range changes {
			if c.Property != d.Name.Value() || ways != nil && ways[i] == toHistory {
				continue
			}
			if p := t.st.Property(d.Name); p == nil || !p.Value.Equal(d.Value) {
				continue
			}
			d.Progress = uint8(pb.Progress_PROGRESS_CONFIRMED)
			any = true
			t.dropSet(d)
			if delta != nil {
				if delta.Desired == nil {
					delta.Desired = map[string]*pb.Desired{}
				}
				delta.Desired[c.Property] = d.Proto()
			}
			break
		}
	}
	return any
}

// dropSet takes the command of a desired value out of the queue: it is not needed any more. It gives the command, or nil.
func (t *twin) dropSet(d *state.Desired) *command {
	if t.work == nil {
		return nil
	}
	for i, c := range t.work.commands {
		if c.isSet && c.desired == d.Name {
			return t.work.take(i)
		}
	}
	return nil
}

// expireDesired gives up what was not confirmed in its time.
func (t *twin) expireDesired(int64) {
	if len(t.st.Desired) == 0 {
		return
	}
	now := t.stamp()
	for i := range t.st.Desired {
		d := &t.st.Desired[i]
		if !open(d) || d.Expires > now {
			continue
		}
		why := "not confirmed in time"
		if !t.reachable() && !t.cfg.stopped {
			why += ": " + t.waitsFor(d)
		}
		if c := t.dropSet(d); c != nil && c.refusal != "" {
			why = "not confirmed in time: " + c.refusal
		}
		t.giveUp(d, pb.Progress_PROGRESS_EXPIRED, why)
	}
}

// resend asks the device again for what is open, after it came back or the driver recovered.
func (t *twin) resend() {
	if t.mode != modeLive || t.cfg.stopped || !t.loaded {
		return
	}
	now := t.stamp()
	for i := range t.st.Desired {
		d := &t.st.Desired[i]
		if t.work != nil && t.work.asking[d.Name] == d.Revision {
			continue // it is told once it is committed
		}
		if !open(d) || d.Expires <= now {
			continue
		}
		c := t.work.find(func(c *command) bool { return c.isSet && c.desired == d.Name && c.revision == d.Revision })
		switch {
		case c == nil:
			t.pursue(d)
		case c.pursued && c.tries > 0:
			c.tries, c.notBefore = 0, 0 // what it waited for may be over
		}
	}
}
