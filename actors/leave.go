package actors

import (
	"fmt"
	"runtime/debug"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (l *leave) run(t *twin) {
	if l.lost {
		t.die(fmt.Errorf("twin %s: its slot was lost: %w", t.en.id, cluster.ErrUnknown), t.elsewhere())
		return
	}
	switch t.mode {
	case modeLive:
		t.depart()
	case modeDeleting:
		// The next owner finds the tombstone, and begins again.
		if t.work.running() == nil && !t.saving() {
			t.die(t.elsewhere(), t.elsewhere())
		}
	}
}

// elsewhere is the answer to what has not begun here: the twin's next owner takes it.
func (t *twin) elsewhere() error { return fmt.Errorf("twin %s: %w", t.en.id, cluster.ErrNotOwner) }

// depart begins the end of a twin whose slot is released: frames that it took are handled, in their order, what runs ends,
// and all else is the next owner's.
func (t *twin) depart() {
	t.mode = modeLeaving
	if t.link != nil {
		if r, ok := t.link.conn.(retirer); ok {
			r.Retire()
		}
	}
	if w := t.work; w != nil {
		frames := t.ready && t.loaded && t.backoff <= t.nowMS()
		w.dropEvents(t.elsewhere(), func(v *event) bool { return frames && v.kind == drivers.EventReceived })
		if c := w.pending; c != nil && w.call == nil && t.spec != nil && t.spec.ownBroker(t.cfg.uri) {
			t.takeAlong(c)
		}
		commands := w.commands
		w.commands = nil
		for _, c := range commands {
			t.postpone(c)
		}
		if len(w.recent) > 0 {
			t.touched = true
		}
	}
	t.wakeExact = t.wakeWrong(true)
}

// run ends what still runs: what it wrote is not known, and what wrote nothing did not run.
func (*hurry) run(t *twin) {
	if t.mode != modeLeaving && t.mode != modeDeleting {
		return
	}
	t.hurried = true
	if t.save != nil {
		t.save.unhold(t.elsewhere())
	}
	w := t.work
	if w == nil {
		return
	}
	w.dropEvents(t.elsewhere(), nil)
	if r := w.call; r != nil {
		r.ctx.cancel()
		return
	}
	if c := w.pending; c != nil {
		w.pending = nil
		t.conclude(c, pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: "the twin moved before the device answered"})
	}
}

// die ends the twin's life without any further effect. Those whose work was under way learn ran, the others not.
func (t *twin) die(ran, not error) {
	if t.mode == modeDead {
		return
	}
	t.mode = modeDead
	t.e.system.Root.Send(t.en.shard.pid, &shardDead{t.en})
	t.dirty, t.touched, t.wakeExact = false, false, false
	t.work.dropAll(t, ran, not)
	if t.save != nil {
		t.save.fail(ran, not)
		t.save.unhold(not)
		if t.save.unsure {
			t.e.outbox.gained(func() {}) // what is committed is read
		}
	}
	t.unlink()
	t.recount()
	t.release()
}

// fall ends the life of a twin whose turn panicked.
func (t *twin) fall(why any) {
	t.e.stats.drop(dropPanic)
	t.e.log.Error("twin crashed", "twin", t.en.id, "panic", why, "stack", string(debug.Stack()))
	err := fmt.Errorf("twin %s crashed: %w", t.en.id, cluster.ErrUnknown)
	defer func() {
		if again := recover(); again != nil {
			t.e.log.Error("twin crashed as it ended", "twin", t.en.id, "panic", again, "stack", string(debug.Stack()))
		}
		t.mode = modeDead
		for m := t.en.calls; m != nil; m = t.en.calls {
			m.refuse(err)
		}
	}()
	t.die(err, fmt.Errorf("twin %s crashed: %w", t.en.id, cluster.ErrUnavailable))
}
