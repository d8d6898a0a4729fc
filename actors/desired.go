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
	if err != nil {
		t.e.stats.drop(dropInvalid)
		m.refuse(fmt.Errorf("twin %s: property %s: %w", t.en.id, req.Property, asInvalid("/value", err)))
		return
	}
	d := t.ask(state.Intern(req.Property), v, req, m.env.Principal)
	t.emitDesired(d)
	revision, name := d.Revision, d.Name
	asked := d.Proto()
	id := m.env.ID
	t.whenSaved(func(err error) {
		r := cluster.Reply{Message: &pb.SetDesiredResponse{Desired: asked}}
		if err != nil {
			r = cluster.Reply{Err: err}
		}
		m.done(r)
		if err != nil || t.mode != modeLive {
			return
		}
		t.remember(id, r)
		if d := t.st.FindDesired(name); d != nil && d.Revision == revision && open(d) {
			t.pursue(d)
		}
	})
}

// ask notes what is asked.
func (t *twin) ask(name state.Name, v state.Value, req *pb.SetDesiredRequest, by string) *state.Desired {
	now := stamp()
	d := t.st.FindDesired(name)
	if d == nil {
		t.st.Desired = append(t.st.Desired, state.Desired{Name: name})
		d = &t.st.Desired[len(t.st.Desired)-1]
	}
	validity := int64(defaultValidity)
	if x := req.ValidFor.AsDuration(); req.ValidFor != nil && x > 0 {
		validity = x.Milliseconds()
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

// pursue queues the command that sets a property; a newer one replaces it.
func (t *twin) pursue(d *state.Desired) {
	now, wall := t.e.nowMS(), stamp()
	c := &command{label: d.Name.Value(), name: "set " + d.Name.Value(), priority: defaultPriority, retries: defaultRetries,
		timeout: t.e.o.CommandTimeout, desired: d.Name, revision: d.Revision, isSet: true}
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
	w := t.working()
	for i := range w.commands {
		if w.commands[i].name == c.name {
			w.take(i)
			break
		}
	}
	w.insert(c)
}

// progress moves a desired value on after its command ended.
func (t *twin) progress(c *command, o pb.Outcome, e *drivers.DriverError) {
	d := t.st.FindDesired(c.desired)
	if d == nil || d.Revision != c.revision || !open(d) {
		return
	}
	switch {
	case o == pb.Outcome_OUTCOME_DONE, o == pb.Outcome_OUTCOME_UNKNOWN, o == pb.Outcome_OUTCOME_TIMED_OUT:
		// Bytes went out, or may have; what the device reports decides.
		d.Progress = uint8(pb.Progress_PROGRESS_SENT)
		if p := t.st.Property(d.Name); p != nil && o == pb.Outcome_OUTCOME_DONE && p.Value.Equal(d.Value) && p.Time >= d.Time {
			d.Progress = uint8(pb.Progress_PROGRESS_CONFIRMED)
		}
	case t.offline() || t.connecting() || e != nil && e.Retryable && t.backoff > 0:
		return // it is tried again when the device is back
	default:
		d.Progress = uint8(pb.Progress_PROGRESS_REJECTED)
		if e != nil {
			d.Error = e.Message
		}
	}
	t.changed()
	t.emitDesired(d)
}

// confirm compares what was reported with what was asked.
func (t *twin) confirm(changes []drivers.Change, delta *pb.StateDelta) {
	for i := range t.st.Desired {
		d := &t.st.Desired[i]
		if !open(d) {
			continue
		}
		for _, c := range changes {
			if c.Property != d.Name.Value() {
				continue
			}
			if p := t.st.Property(d.Name); p == nil || !p.Value.Equal(d.Value) {
				continue
			}
			d.Progress = uint8(pb.Progress_PROGRESS_CONFIRMED)
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
}

// dropSet takes the command of a desired value out of the queue: it is not needed any more.
func (t *twin) dropSet(d *state.Desired) {
	if t.work == nil {
		return
	}
	for i, c := range t.work.commands {
		if c.isSet && c.desired == d.Name {
			t.work.take(i)
			return
		}
	}
}

// expireDesired gives up what was not confirmed in its time.
func (t *twin) expireDesired(int64) {
	if len(t.st.Desired) == 0 {
		return
	}
	now := stamp()
	for i := range t.st.Desired {
		d := &t.st.Desired[i]
		if !open(d) || d.Expires > now {
			continue
		}
		d.Progress = uint8(pb.Progress_PROGRESS_EXPIRED)
		d.Error = "not confirmed in time"
		t.dropSet(d)
		t.changed()
		t.emitDesired(d)
	}
}

// resend asks the device again for what is open, after it came back or the driver recovered.
func (t *twin) resend() {
	if t.mode != modeLive || t.cfg.stopped || !t.loaded {
		return
	}
	now := stamp()
	for i := range t.st.Desired {
		d := &t.st.Desired[i]
		if open(d) && d.Expires > now && t.work.find(func(c *command) bool { return c.isSet && c.desired == d.Name && c.revision == d.Revision }) == nil {
			t.pursue(d)
		}
	}
}

// remember keeps an answer for a call that is tried again.
func (t *twin) remember(id [16]byte, r cluster.Reply) {
	if id == ([16]byte{}) {
		return
	}
	w := t.working()
	if len(w.recent) >= maxRecent {
		w.recent = append(w.recent[:0], w.recent[maxRecent/2:]...)
	}
	w.recent = append(w.recent, recentCall{id, r})
}
