package actors

import (
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// event is something that the driver shall hear.
type event struct {
	kind  drivers.Event
	input []byte
	// done, where not nil, is called once the event was handled; durable: once what it changed is committed.
	done    func(error)
	durable bool
	// timer is the name of the timer that fired, timerDue the firing.
	timer    string
	timerDue int64
	// notice is what a twin that this one follows has told.
	notice *heard
	// at is when the message was measured, in milliseconds since 1970; 0: now. A historical one changes no current state.
	at         int64
	historical bool
	// id is the hash of the message's id; 0: it has none. link and sequence are the frame's.
	id, link, sequence uint64
	// frame is the message, where it came through a door.
	frame *actorv1.Frame
	// will: it tells whether the device is there, and is the twin's own to hear. speaks: it shows that the device is there.
	will, speaks bool
	// answer, where not nil, is given the driver's output or its refusal, before done.
	answer func(output []byte, refusal *drivers.DriverError)
}

func (v *event) finish(err error) {
	if v.done != nil {
		v.done(err)
		v.done = nil
	}
}

// work is what a twin has to do. A nil *work is an empty one.
type work struct {
	events   []event
	commands []*command // by priority, then by arrival
	call     *run       // what runs now
	pending  *command   // what waits for its answer's frame
	serial   uint64
	turn     bool // whose turn it is where events and commands wait: a command's
	recent   []recentCall
	// names of the queue's places of properties whose callers gave one. They are not kept in the store.
	names map[state.Name]string
	// asking are the revisions of desired values that are being committed.
	asking map[state.Name]uint64
	// ending are desired values whose end is being committed.
	ending map[state.Name]ending
	// starting are the commands whose start is being committed.
	starting []*command
	// bytes are those of the events' inputs.
	bytes int
	// pausedUntil is until when no command begins, because the one before wanted a pause, by nowMS.
	pausedUntil int64
}

func (t *twin) working() *work {
	if t.work == nil {
		t.work = &work{}
	}
	return t.work
}

func (w *work) empty() bool {
	return w == nil || len(w.events) == 0 && len(w.commands) == 0 && w.call == nil && w.pending == nil && len(w.starting) == 0 && len(w.asking) == 0 &&
		len(w.ending) == 0
}

// idle: no event runs or waits to.
func (w *work) idle() bool { return w == nil || w.call == nil && len(w.events) == 0 }

func (w *work) running() *run {
	if w == nil {
		return nil
	}
	return w.call
}

func (w *work) push(v event) {
	w.bytes += len(v.input)
	w.events = append(w.events, v)
}

func (w *work) front(v event) {
	w.bytes += len(v.input)
	w.events = slices.Insert(w.events, 0, v)
}

func (w *work) popEvent() event {
	v := w.events[0]
	w.bytes -= len(v.input)
	w.events[0] = event{}
	w.events = w.events[1:]
	if len(w.events) == 0 {
		w.events = nil
	}
	return v
}

// insert puts a command behind those of its priority.
func (w *work) insert(c *command) {
	w.serial++
	c.serial = w.serial
	i := len(w.commands)
	for i > 0 && w.commands[i-1].priority < c.priority {
		i--
	}
	w.commands = slices.Insert(w.commands, i, c)
}

// again puts a command that is tried once more before those of its priority that came later.
func (w *work) again(c *command) {
	i := 0
	for i < len(w.commands) && (w.commands[i].priority > c.priority || w.commands[i].priority == c.priority && w.commands[i].serial < c.serial) {
		i++
	}
	w.commands = slices.Insert(w.commands, i, c)
}

func (w *work) take(i int) *command {
	c := w.commands[i]
	w.commands = slices.Delete(w.commands, i, i+1)
	if len(w.commands) == 0 {
		w.commands = nil
	}
	return c
}

// dropWaiting answers what has not begun with err.
func (w *work) dropWaiting(t *twin, err error) {
	if w == nil {
		return
	}
	w.dropEvents(err, nil)
	w.dropCommands(t, err, false)
}

// dropEvents answers the events that wait with err, but for those that are to be kept.
func (w *work) dropEvents(err error, keep func(*event) bool) {
	events := w.events
	w.events, w.bytes = nil, 0
	for i := range events {
		if keep != nil && keep(&events[i]) {
			w.push(events[i])
		} else {
			events[i].finish(err)
		}
	}
}

// dropCommands answers the commands that wait with err; patient leaves those for which nobody waits.
func (w *work) dropCommands(t *twin, err error, patient bool) {
	if w == nil {
		return
	}
	commands := w.commands
	w.commands = nil
	for _, c := range commands {
		if patient && c.kept {
			w.commands = append(w.commands, c)
			continue
		}
		t.settle(c, cluster.Reply{Err: err})
	}
}

// dropAll also gives up what runs or waits for an answer: that learns ran, what has not begun learns not.
func (w *work) dropAll(t *twin, ran, not error) {
	if w == nil {
		return
	}
	w.dropEvents(not, nil)
	commands := w.commands
	w.commands = nil
	for _, c := range commands {
		err := not
		if c.told() { // it was to be tried again
			err = ran
		}
		t.settle(c, cluster.Reply{Err: err})
	}
	starting := w.starting
	w.starting = nil
	for _, c := range starting {
		t.settle(c, cluster.Reply{Err: not})
	}
	if c := w.pending; c != nil {
		w.pending = nil
		t.settle(c, cluster.Reply{Err: ran})
	}
	if r := w.call; r != nil {
		r.ctx.cancel()
		r.event.finish(not)
		if r.command != nil {
			t.settle(r.command, cluster.Reply{Err: ran})
		}
		r.abandoned = true
		w.call = nil
	}
}

// next is when waiting work wants to be looked at, by nowMS; 0: not because of time.
func (w *work) next(t *twin, now int64) int64 {
	var at int64
	earlier := func(x int64) {
		if x > 0 && (at == 0 || x < at) {
			at = x
		}
	}
	for _, c := range w.commands {
		if c.unsaved {
			continue
		}
		earlier(c.until)
		if c.notBefore > now {
			earlier(c.notBefore)
		}
		if !c.waits() && t.connecting() && !t.obtaining() {
			earlier(c.connectBy)
		}
	}
	if len(w.commands) > 0 && w.pausedUntil > now {
		earlier(w.pausedUntil)
	}
	if w.pending != nil {
		earlier(w.pending.answerBy)
	}
	return at
}

// connectFrom has the time of each command to connect begin now.
func (w *work) connectFrom(now int64) {
	for _, c := range w.commands {
		c.connectBy = max(c.connectBy, now+c.timeout.Milliseconds())
	}
}

// expire gives up commands whose time is over.
func (t *twin) expire(now int64) {
	t.unreachable()
	w := t.work
	if w == nil {
		t.expireDesired(now)
		return
	}
	for i := 0; i < len(w.commands); {
		c := w.commands[i]
		var why string
		switch {
		case c.unsaved:
		case c.until > 0 && c.until <= now:
			why = "not begun in time"
		case t.connecting() && !t.obtaining() && !c.waits() && c.connectBy <= now, t.offline() && !c.waits():
			why = t.away()
		}
		if why == "" {
			i++
			continue
		}
		w.take(i)
		if late := c.until > 0 && c.until <= now; late && !(c.key != "" && c.started) {
			t.e.stats.outcome(pb.Outcome_OUTCOME_TIMED_OUT)
			t.endKept(c, pb.Outcome_OUTCOME_TIMED_OUT, nil, &drivers.DriverError{Message: why})
			t.settle(c, cluster.Reply{Err: fmt.Errorf("twin %s: command %s: %s: %w", t.en.id, c.label, why, cluster.ErrDeadline)})
		} else {
			t.conclude(c, pb.Outcome_OUTCOME_REJECTED, nil, &drivers.DriverError{Message: why, Retryable: true})
		}
	}
	if c := w.pending; c != nil && c.answerBy <= now && w.call == nil {
		w.pending = nil
		t.unanswered(c)
	}
	t.expireDesired(now)
}

// start begins the next call, where one is due.
func (t *twin) start(now int64) {
	t.attend()
	w := t.work
	if w == nil || w.call != nil || !t.ready || t.backoff > now || t.e.calls.Err() != nil {
		return
	}
	blocked := w.blocked(t)
	if i := w.eligible(t, now); i >= 0 && (w.turn || len(w.events) == 0 || blocked) {
		c := w.take(i)
		w.turn = false
		if (c.key != "" || c.kept) && !c.started {
			t.begin(c) // commits `started` first, then comes back
			return
		}
		t.launchFor(c, event{kind: drivers.EventCommand, input: c.input})
		return
	}
	if len(w.events) > 0 && !blocked {
		w.turn = true
		v := w.popEvent()
		if v.kind == drivers.EventReceived && w.pending != nil {
			t.answerWith(v)
			return
		}
		t.launch(v, nil)
	}
}

// blocked says whether the first event is a frame, and there is little room for what the driver may make of it.
func (w *work) blocked(t *twin) bool {
	return len(w.events) > 0 && w.events[0].kind == drivers.EventReceived && t.laden()
}

// launchFor begins a call on behalf of a command, and has the command know what the call wrote.
func (t *twin) launchFor(c *command, v event) {
	told := c.told()
	t.launch(v, c)
	c.wrote, c.call = told, t.work.call
}

// eligible gives the first command that may run now, or -1.
func (w *work) eligible(t *twin, now int64) int {
	if w.pending != nil || !t.loaded || t.cfg.stopped || !t.reachable() || w.pausedUntil > now {
		return -1
	}
	for i, c := range w.commands {
		if c.notBefore <= now && !c.unsaved {
			return i
		}
	}
	return -1
}

// finish lets what is left run to its end in a twin that leaves: frames that it took, an unload, the answer that a
// command waits for.
func (t *twin) finish() {
	t.attend()
	w := t.work
	if w.empty() {
		t.unlink()
		return
	}
	if w.call != nil {
		return
	}
	switch {
	case t.mode == modeLeaving && w.blocked(t):
		return // until what came before is committed
	case len(w.events) > 0 && t.ready && t.spec != nil && t.backoff <= t.nowMS():
		v := w.popEvent()
		if v.kind == drivers.EventReceived && w.pending != nil {
			t.answerWith(v)
			return
		}
		t.launch(v, nil)
		return
	case len(w.events) > 0:
		w.dropEvents(t.unavailable(), nil)
	}
	if c := w.pending; c != nil && (t.link == nil || t.mode != modeLeaving || t.hurried) {
		w.pending = nil
		t.conclude(c, pb.Outcome_OUTCOME_UNKNOWN, nil, &drivers.DriverError{Message: "the twin moved before the device answered"})
	}
	if w.empty() {
		t.unlink()
	}
}

// attend takes what tells whether the device is there, each once the frames before it are through.
func (t *twin) attend() {
	w := t.work
	if w == nil || w.call != nil && (w.call.event.kind == drivers.EventReceived || w.call.event.kind == drivers.EventAnswer) {
		return
	}
	frame := func(v event) bool { return v.kind == drivers.EventReceived }
	for i := slices.IndexFunc(w.events, frame); i >= 0 && w.events[i].will; i = slices.IndexFunc(w.events, frame) {
		v, rest := w.events[i], w.events[i+1:]
		w.bytes -= len(v.input)
		w.events = w.events[:i:i]
		t.presence(string(v.input))
		if next := slices.IndexFunc(rest, frame); next >= 0 && !rest[next].will && rest[next].speaks {
			t.speaks()
		}
		w.events = append(w.events, rest...)
		t.handled(&v)
	}
}

// answerWith begins the call that takes a frame as the answer to the command that awaits it.
func (t *twin) answerWith(v event) {
	c := t.work.pending
	t.work.pending = nil
	v.kind = drivers.EventAnswer
	t.launchFor(c, v)
}

// connecting: it is not known yet whether the device can be reached.
func (t *twin) connecting() bool {
	return pb.Connection(t.st.Connection) == pb.Connection_CONNECTION_CONNECTING && !t.always()
}

// offline: the device cannot be reached.
func (t *twin) offline() bool {
	return pb.Connection(t.st.Connection) == pb.Connection_CONNECTION_DISCONNECTED && !t.always()
}

// always: nothing tells whether the device is there, so that commands are sent in any case.
func (t *twin) always() bool {
	return t.spec != nil && !t.spec.dials(t.cfg.uri) && t.cfg.will == nil
}

// sleeping: the device does not listen now, and will.
func (t *twin) sleeping() bool {
	return pb.Connection(t.st.Connection) == pb.Connection_CONNECTION_SLEEPING
}

func (t *twin) reachable() bool {
	return !t.sleeping() && t.always() || pb.Connection(t.st.Connection) == pb.Connection_CONNECTION_CONNECTED
}
