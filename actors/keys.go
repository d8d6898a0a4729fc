package actors

import (
	"slices"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// knownKey answers a command whose idempotency key was seen within the window: with its outcome, with the one that it
// will have, or, where it was begun in an earlier life of the twin and its end is not known, as unknown. It is never
// run again.
func (t *twin) knownKey(key string, m *call, noWait bool) bool {
	if c := t.work.find(func(c *command) bool { return c.key == key }); c != nil {
		if noWait && c.kept {
			t.acknowledged(c.id, m)
			return true
		}
		c.replies = append(c.replies, m)
		return true
	}
	i := slices.IndexFunc(t.st.Keys, func(k state.Key) bool { return k.Key == key })
	if i < 0 || t.stamp()-t.st.Keys[i].Time > keyWindow {
		return false
	}
	k := t.st.Keys[i]
	if k.Outcome == 0 {
		m.answer(cluster.Reply{Message: result(pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{
			Message: "it was begun before, and how it ended is not known"})})
		return true
	}
	var e *drivers.DriverError
	if k.Message != "" || k.Code != 0 {
		e = &drivers.DriverError{Code: k.Code, Message: k.Message, Retryable: k.Retryable}
	}
	m.answer(cluster.Reply{Message: result(pb.Outcome(k.Outcome), []byte(k.Output), e)})
	return true
}

// begin commits that a command is about to run that must not run twice, then has it run.
func (t *twin) begin(c *command) {
	w := t.working()
	w.starting = append(w.starting, c)
	if c.key != "" {
		t.recordKey(c.key, 0, nil, nil)
	}
	t.phase(c, pb.CommandPhase_COMMAND_PHASE_STARTED)
	t.whenSaved(func(err error) {
		i := -1
		if t.work != nil {
			i = slices.Index(t.work.starting, c)
		}
		if i < 0 {
			return // it was answered when the twin's life ended
		}
		t.work.starting = slices.Delete(t.work.starting, i, i+1)
		if err != nil {
			t.settle(c, cluster.Reply{Err: err})
			return
		}
		c.started = true
		if t.mode != modeLive {
			t.postpone(c)
			return
		}
		t.work.again(c)
	})
}

// recordKey notes how far a command with a key got; outcome 0: started.
func (t *twin) recordKey(key string, o pb.Outcome, output []byte, e *drivers.DriverError) {
	now := t.stamp()
	keys := slices.DeleteFunc(t.st.Keys, func(k state.Key) bool { return k.Key == key || now-k.Time > keyWindow })
	if len(keys) >= maxKeys {
		keys = slices.Delete(keys, 0, 1)
	}
	k := state.Key{Key: key, Time: now, Outcome: uint8(o)}
	if len(output) <= maxTimerData && t.st.Size()+len(output) <= maxRecord {
		k.Output = string(output)
	}
	if e != nil {
		k.Code, k.Message, k.Retryable = e.Code, e.Message, e.Retryable
	}
	t.st.Keys = append(keys, k)
	t.soil()
}
