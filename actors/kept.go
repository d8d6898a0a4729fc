package actors

import (
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Commands that nobody waits for are in the twin's record from before they are acknowledged until a while after they
// ended. What had not begun in one life is queued again in the next, which may be at another owner; what had begun and
// has no outcome is unknown, and does not run again.

const (
	// maxEnded is how many commands that ended are shown, endedFor for how long at most, in milliseconds.
	maxEnded = 16
	endedFor = 10 * 60 * 1000
	// maxKeptOutput bounds what is kept of a command's output.
	maxKeptOutput = 1 << 10
	// maxKeptReply bounds an answer that goes along to the twin's next owner.
	maxKeptReply = 1 << 10
)

func (t *twin) more() *state.More {
	if t.st.More == nil {
		t.st.More = &state.More{}
	}
	return t.st.More
}

// forgetEnded forgets commands that ended, but for a number of them, and those that ended long ago.
func (t *twin) forgetEnded(keep int) {
	m := t.st.More
	if m == nil {
		return
	}
	ended, old := 0, t.stamp()-endedFor
	for i := range m.Commands {
		if m.Commands[i].End > 0 {
			ended++
		}
	}
	m.Commands = slices.DeleteFunc(m.Commands, func(k state.Command) bool {
		if k.End == 0 || k.End > old && ended <= keep {
			return false
		}
		ended--
		return true
	})
	if len(m.Commands) == 0 {
		if m.Commands = nil; m.Empty() {
			t.st.More = nil
		}
	}
}

// keepCommand queues a command that nobody waits for, and has its call answered once that is committed.
func (t *twin) keepCommand(c *command, m *call) {
	if c.id == ([16]byte{}) {
		c.id = newCallID()
	}
	t.forgetEnded(maxEnded)
	k := t.record(c, m.env.Principal)
	k.Phase = uint8(pb.CommandPhase_COMMAND_PHASE_QUEUED)
	if size := t.st.Size() + len(k.Input) + 1<<10; size > maxRecord {
		t.e.stats.drop(dropQueueFull)
		m.refuse(fmt.Errorf("twin %s: a state of %d bytes: %w", t.en.id, size, cluster.ErrOverloaded))
		return
	}
	t.more().Commands = append(t.more().Commands, k)
	c.kept, c.unsaved = true, true
	t.working().insert(c)
	t.e.stats.queued.Add(1)
	t.changed()
	t.whenSaved(func(err error) {
		c.unsaved = false
		if err == nil {
			t.e.stats.outcome(pb.Outcome_OUTCOME_QUEUED)
			m.answer(queuedReply(c.id))
			return
		}
		if i := slices.Index(t.working().commands, c); i >= 0 {
			t.work.take(i)
			t.e.stats.queued.Add(-1)
		}
		t.unkeep(c.id)
		m.refuse(err)
	})
	if k := t.st.Command(c.id); k != nil {
		t.emitCommand(k)
	}
}

func queuedReply(id [16]byte) cluster.Reply {
	r := result(pb.Outcome_OUTCOME_QUEUED, nil, nil)
	r.CommandId = state.CommandID(id)
	return cluster.Reply{Message: r}
}

// record is what the twin's record has to hold of a command.
func (t *twin) record(c *command, by string) state.Command {
	now, wall := t.nowMS(), t.stamp()
	k := state.Command{ID: c.id, Action: c.label, Input: string(c.input), Name: c.name, Key: c.key, By: by, Priority: c.priority,
		Retries: int32(c.retries), Timeout: c.timeout.Milliseconds(), Time: wall, Until: wall + c.until - now}
	if c.notBefore > now {
		k.NotBefore = wall + c.notBefore - now
	}
	k.Pause, k.Patient, k.NoAnswer, k.Clears, k.Idempotent = c.pause, c.patient, c.noAnswer, c.clears, c.idempotent
	return k
}

// acknowledged answers a call that brought a command which is in the record, as soon as that is committed.
func (t *twin) acknowledged(id [16]byte, m *call) {
	if !t.saving() {
		m.answer(queuedReply(id))
		return
	}
	t.whenSaved(func(err error) {
		if err != nil {
			m.refuse(err)
			return
		}
		m.answer(queuedReply(id))
	})
}

// phase notes how far a command got that nobody waits for.
func (t *twin) phase(c *command, p pb.CommandPhase) {
	if k := t.st.Command(c.id); k != nil && c.kept {
		k.Phase = uint8(p)
		t.changed()
		t.emitCommand(k)
	}
}

// endKept notes how a command ended that nobody waits for.
func (t *twin) endKept(c *command, o pb.Outcome, output []byte, e *drivers.DriverError) {
	k := t.st.Command(c.id)
	if k == nil || !c.kept || k.End > 0 {
		return
	}
	if k.Waited {
		t.unkeep(c.id)
		return
	}
	k.Phase, k.Outcome, k.End, k.AnswerBy = uint8(pb.CommandPhase_COMMAND_PHASE_ENDED), uint8(o), t.stamp(), 0
	k.Input = "" // it does not run again
	if len(output) <= maxKeptOutput {
		k.Output = string(output)
	}
	if e != nil {
		k.Code, k.Message = e.Code, clip(e.Message, 500)
	}
	t.changed()
	t.emitCommand(k)
	t.forgetEnded(maxEnded)
}

// unkeep takes a command out of the record.
func (t *twin) unkeep(id [16]byte) {
	if t.st.More == nil {
		return
	}
	t.st.More.Commands = slices.DeleteFunc(t.st.More.Commands, func(k state.Command) bool { return k.ID == id })
	t.forgetEnded(maxEnded)
	if t.mode != modeDead {
		t.changed()
	}
}

// nextKept is when the first command of the record may run; 0: there is none.
func (t *twin) nextKept() int64 {
	if t.st.More == nil {
		return 0
	}
	var at int64
	for i := range t.st.More.Commands {
		k := &t.st.More.Commands[i]
		if k.End > 0 {
			continue
		}
		if due := max(k.Time, k.NotBefore); at == 0 || due < at {
			at = due
		}
	}
	return at
}

// resume goes on with what the record holds of an earlier life.
func (t *twin) resume() {
	m := t.st.More
	if m == nil {
		return
	}
	wall := t.stamp()
	for i := range m.Calls {
		if k := &m.Calls[i]; wall-k.Time < recentWindow {
			w := t.working()
			w.recent = append(w.recent, recentCall{id: k.ID, at: k.Time, reply: decodeReply(k)})
		}
	}
	m.Calls = nil // they are written when the twin moves again
	var forgotten []*state.Command
	for i := range m.Commands {
		k := &m.Commands[i]
		switch {
		case k.End > 0:
		case k.Phase == uint8(pb.CommandPhase_COMMAND_PHASE_QUEUED):
			t.working().insert(t.revive(k))
			t.e.stats.queued.Add(1)
		case k.AnswerBy > 0 && t.working().pending == nil:
			c := t.revive(k)
			c.started, c.wrote = true, true
			c.answerBy = t.nowMS() + k.AnswerBy - wall
			t.work.pending = c
			t.e.stats.queued.Add(1)
		default:
			forgotten = append(forgotten, k)
		}
	}
	for _, k := range forgotten {
		why := "it was begun in an earlier life of the twin, and how it ended is not known"
		t.e.stats.outcome(pb.Outcome_OUTCOME_UNKNOWN)
		t.note("warn", fmt.Sprintf("command %s %s: %s", state.CommandID(k.ID), k.Action, why))
		t.endKept(&command{id: k.ID, kept: true}, pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: why})
	}
	t.forgetEnded(maxEnded)
}

// revive makes a command of what the record holds.
func (t *twin) revive(k *state.Command) *command {
	now, wall := t.nowMS(), t.stamp()
	c := &command{label: k.Action, name: k.Name, priority: k.Priority, retries: int(k.Retries), timeout: msDuration(k.Timeout),
		input: []byte(k.Input), id: k.ID, key: k.Key, kept: true, until: now + k.Until - wall}
	if k.NotBefore > wall {
		c.notBefore = now + k.NotBefore - wall
	}
	c.connectBy = max(now, c.notBefore) + k.Timeout
	c.pause, c.patient, c.noAnswer, c.clears = k.Pause, k.Patient, k.NoAnswer, k.Clears
	c.idempotent = k.Idempotent
	return c
}

// postpone leaves a command to the twin's next owner: one that has not begun, or that is to be tried again. What the record says of
// a beginning is taken back.
func (t *twin) postpone(c *command) {
	err := t.elsewhere()
	if !c.started {
		t.settle(c, cluster.Reply{Err: err})
		return
	}
	c.started = false
	t.phase(c, pb.CommandPhase_COMMAND_PHASE_QUEUED)
	if c.key != "" {
		t.st.Keys = slices.DeleteFunc(t.st.Keys, func(k state.Key) bool { return k.Key == c.key })
		t.soil()
	}
	t.whenSaved(func(error) { t.settle(c, cluster.Reply{Err: err}) })
}

// takeAlong hands a command whose device is about to answer to the twin's next owner. Its caller comes again there by
// the same id.
func (t *twin) takeAlong(c *command) {
	t.work.pending = nil
	if c.isSet {
		t.conclude(c, pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: "the twin moved before the device answered"})
		return
	}
	k := t.st.Command(c.id)
	if k == nil {
		if c.id == ([16]byte{}) {
			c.id = newCallID()
		}
		m := t.more()
		m.Commands = append(m.Commands, t.record(c, ""))
		k = &m.Commands[len(m.Commands)-1]
		k.Waited = true
	}
	k.Phase = uint8(pb.CommandPhase_COMMAND_PHASE_STARTED)
	k.AnswerBy = t.stamp() + c.answerBy - t.nowMS()
	t.changed()
	t.whenSaved(func(err error) {
		if err == nil {
			err = t.elsewhere()
		}
		t.settle(c, cluster.Reply{Err: err})
	})
}

func (t *twin) emitCommand(k *state.Command) {
	if len(t.watchers()) > 0 && !k.Waited {
		t.emitDelta(&pb.StateDelta{Commands: []*pb.CommandStatus{k.Proto()}})
	}
}
