package actors

import (
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// refuse takes a driver's refusal of a command: it is tried again where that may help.
func (t *twin) refuse(c *command, e *drivers.DriverError) {
	if c.told() {
		t.sent(c)
	}
	again := e.Retryable && (c.pursued || c.tries < c.retries) && !t.cfg.stopped
	if again && t.mode == modeLeaving && !c.isSet {
		t.postpone(c)
		return
	}
	if !again || !t.again(c, e.Message) {
		t.conclude(c, pb.Outcome_OUTCOME_REJECTED, nil, e)
	}
}

// unanswered: the device did not answer a command in time. What may be sent twice is sent again.
func (t *twin) unanswered(c *command) {
	why := "no answer within " + c.timeout.String()
	if (c.isSet || c.idempotent) && (c.pursued || c.tries < c.retries) && !t.cfg.stopped && t.again(c, why) {
		return
	}
	t.conclude(c, pb.Outcome_OUTCOME_TIMED_OUT, nil, &drivers.DriverError{Message: why})
}

// again queues a command once more, after a while and before others of its priority. It says whether that still makes
// sense.
func (t *twin) again(c *command, why string) bool {
	if t.mode != modeLive {
		return false
	}
	longest := retryMax
	if c.pursued {
		longest = pursueMax
	}
	wait := min(100<<min(c.tries, 5), longest)
	if c.tries == 0 {
		c.priority += retryBonus
	}
	c.tries++
	c.refusal, c.answerBy = why, 0
	c.notBefore = t.nowMS() + int64(wait)
	if c.until > 0 && c.notBefore >= c.until {
		return false
	}
	t.working().again(c)
	if d := t.st.FindDesired(c.desired); c.isSet && d != nil && d.Revision == c.revision && open(d) {
		t.emitDesired(d)
	}
	return true
}

// await: the device's answer decides the command.
func (t *twin) await(c *command) {
	if c.told() {
		t.sent(c)
	}
	if c.answerBy == 0 {
		c.answerBy = t.nowMS() + c.timeout.Milliseconds()
	}
	t.working().pending = c
}

// conclude ends a command.
func (t *twin) conclude(c *command, o pb.Outcome, output []byte, e *drivers.DriverError) {
	t.e.stats.outcome(o)
	t.ended(c, o, e)
	t.journalCommand(c, o, e)
	if e != nil {
		t.complain(c, o, e.Message)
	}
	if c.isSet {
		t.progress(c, o, e)
	}
	t.endKept(c, o, output, e)
	t.after(c)
	reply := cluster.Reply{Message: result(o, output, e)}
	if c.key == "" || !c.started {
		t.settle(c, reply)
		return
	}
	t.recordKey(c.key, o, output, e)
	t.whenSaved(func(err error) {
		if err != nil {
			reply = cluster.Reply{Message: result(pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: err.Error()})}
		}
		t.settle(c, reply)
	})
}

// after does what a command wants done when it has ended.
func (t *twin) after(c *command) {
	if c.pause > 0 && c.told() {
		t.working().pausedUntil = t.nowMS() + c.pause
	}
	if c.clears {
		c.clears = false
		t.clear("cleared by " + c.label)
	}
}

// clear rejects the commands that wait, and says how many there were.
func (t *twin) clear(why string) int {
	w := t.work
	if w == nil {
		return 0
	}
	commands := w.commands
	w.commands = nil
	for _, c := range commands {
		c.clears = false
		if c.isSet {
			t.displaced(c, why)
		}
		t.conclude(c, pb.Outcome_OUTCOME_REJECTED, nil, &drivers.DriverError{Message: why})
	}
	return len(commands)
}

// settle answers those who wait for a command, and remembers the answer.
func (t *twin) settle(c *command, r cluster.Reply) {
	if !c.isSet {
		t.e.stats.queued.Add(-1)
	}
	if r.Err != nil && t.mode == modeLive {
		t.endKept(c, pb.Outcome_OUTCOME_REJECTED, nil, &drivers.DriverError{Message: r.Err.Error()})
	}
	replies := c.replies
	c.replies = nil
	for _, m := range replies {
		m.answer(r)
	}
	if len(replies) > 0 {
		t.remember(c.id, r)
	}
}

// result is a command's outcome as a message.
func result(o pb.Outcome, output []byte, e *drivers.DriverError) *actorv1.CommandResult {
	r := &actorv1.CommandResult{Outcome: o}
	if len(output) > 0 {
		if v, err := state.ParseValue(output); err == nil {
			r.Output = v.Proto()
		} else {
			r.Message = "output is no JSON"
		}
	}
	if e != nil {
		r.Code, r.Message, r.Retryable = e.Code, e.Message, e.Retryable
	}
	return r
}
