package actors

import (
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// tally counts what the twins of one driver's version do on this node, since the engine's start. A nil one counts
// nothing. Safe for concurrent use.
type tally struct {
	calls, traps, commands, failures atomic.Uint64

	mu   sync.Mutex
	last string
}

func (c *tally) called() {
	if c != nil {
		c.calls.Add(1)
	}
}

// trapped: a call crashed, or the version cannot even begin.
func (c *tally) trapped(id, why string) {
	if c != nil {
		c.traps.Add(1)
		c.tell(id, why)
	}
}

// failed: a logic's run failed at a message.
func (c *tally) failed(id, why string) {
	if c != nil {
		c.tell(id, why)
	}
}

// commanded: a command ended.
func (c *tally) commanded(o pb.Outcome, id string, e *drivers.DriverError) {
	if c == nil {
		return
	}
	c.commands.Add(1)
	if o == pb.Outcome_OUTCOME_DONE {
		return
	}
	c.failures.Add(1)
	if e != nil {
		c.tell(id, e.Message)
	}
}

func (c *tally) tell(id, why string) {
	c.mu.Lock()
	c.last = id + ": " + clip(why, 300)
	c.mu.Unlock()
}

func (c *tally) proto() *pb.RolloutTally {
	if c == nil {
		return &pb.RolloutTally{}
	}
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	return &pb.RolloutTally{Calls: c.calls.Load(), Traps: c.traps.Load(), Commands: c.commands.Load(), Failures: c.failures.Load(), Last: last}
}

// addTally adds b to a.
func addTally(a, b *pb.RolloutTally) {
	a.Calls += b.GetCalls()
	a.Traps += b.GetTraps()
	a.Commands += b.GetCommands()
	a.Failures += b.GetFailures()
	if b.GetLast() != "" {
		a.Last = b.GetLast()
	}
}

// since gives what was counted after base.
func since(now, base *pb.RolloutTally) *pb.RolloutTally {
	d := &pb.RolloutTally{Calls: now.Calls - base.GetCalls(), Traps: now.Traps - base.GetTraps(), Commands: now.Commands - base.GetCommands(),
		Failures: now.Failures - base.GetFailures()}
	if d.Traps+d.Failures > 0 {
		d.Last = now.Last
	}
	return d
}

// ended counts the end of a command for the version that ran it, or could not because of a connection that it keeps.
func (t *twin) ended(c *command, o pb.Outcome, e *drivers.DriverError) {
	switch {
	case c.call != nil:
		c.call.spec.tally.commanded(o, t.en.id, e)
	case t.spec != nil && (t.offline() || t.connecting()):
		t.spec.tally.commanded(o, t.en.id, e)
	}
}
