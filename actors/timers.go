package actors

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// minEvery is the shortest period of a timer, in milliseconds.
const minEvery = 100

func (t *twin) checkTimers(timers []drivers.Timer) error {
	more := 0
	for _, x := range timers {
		switch {
		case x.Name == "" || len(x.Name) > 128:
			return fmt.Errorf("timer %.140q: 1 to 128 bytes are allowed", x.Name)
		case len(x.Data) > maxTimerData:
			return fmt.Errorf("timer %s: data of %d bytes, %d are allowed", x.Name, len(x.Data), maxTimerData)
		case len(x.Data) > 0 && !json.Valid(x.Data):
			return fmt.Errorf("timer %s: data is no JSON", x.Name)
		case x.After < 0 || x.Every < 0:
			return fmt.Errorf("timer %s: a negative time", x.Name)
		case x.Cron != "" && t.e.schedules.check(cronText(x.Cron, x.Zone)) != nil:
			return fmt.Errorf("timer %s: %w", x.Name, t.e.schedules.check(cronText(x.Cron, x.Zone)))
		case !x.Cancel && t.timer(x.Name) == nil:
			more++
		}
	}
	if more > 0 && len(t.st.Timers)+more > maxTimers {
		return fmt.Errorf("more than %d timers", maxTimers)
	}
	return nil
}

func (t *twin) timer(name string) *state.Timer {
	for i := range t.st.Timers {
		if t.st.Timers[i].Name == name {
			return &t.st.Timers[i]
		}
	}
	return nil
}

// setTimers sets, replaces and cancels timers.
func (t *twin) setTimers(timers []drivers.Timer) {
	now := t.stamp()
	for _, x := range timers {
		old := t.timer(x.Name)
		if x.Cancel {
			if old != nil {
				t.st.Timers = slices.DeleteFunc(t.st.Timers, func(s state.Timer) bool { return s.Name == x.Name })
				t.soil()
			}
			continue
		}
		every := x.Every.Milliseconds()
		if every > 0 {
			every = max(every, minEvery)
		}
		after := x.After.Milliseconds()
		if after == 0 && every > 0 {
			after = every
		}
		s := state.Timer{Name: x.Name, Due: now + after, Every: every, Data: string(x.Data)}
		switch {
		case x.At > 0:
			s.Due = x.At
		case x.Cron != "":
			s.Cron = cronText(x.Cron, x.Zone)
			s.Due = t.e.schedules.next(s.Cron, now)
		}
		switch {
		case old == nil:
			t.st.Timers = append(t.st.Timers, s)
		case s.Cron != "" && old.Cron == s.Cron && old.Data == s.Data:
			continue // it may be due just now
		case every > 0 && old.Every == every && old.Data == s.Data && old.Due <= now+every:
			// A driver that sets its polling again at each load does not push it ahead of itself for ever.
			continue
		default:
			*old = s
		}
		t.soil()
	}
}

// nextTimer is when the next timer fires, a desired value expires, a property goes stale or is missing, in milliseconds since 1970; 0: never.
func (t *twin) nextTimer() int64 {
	at := int64(math.MaxInt64)
	for i := range t.st.Timers {
		at = min(at, t.st.Timers[i].Due)
	}
	for i := range t.st.Desired {
		if d := &t.st.Desired[i]; open(d) {
			at = min(at, d.Expires)
		}
	}
	if due := t.nextStale(); due > 0 {
		at = min(at, due)
	}
	if due := t.nextSilence(); due > 0 {
		at = min(at, due)
	}
	if at == math.MaxInt64 {
		return 0
	}
	return at
}

// fireTimers queues the events of the timers that are due. A timer stays as it is until its event was handled, so that
// a crash in between fires it again.
func (t *twin) fireTimers(int64) {
	if len(t.st.Timers) == 0 || t.cfg.stopped || !t.ready {
		return
	}
	now := t.stamp()
	for i := range t.st.Timers {
		x := &t.st.Timers[i]
		if x.Every > 0 && x.Due > now+x.Every { // the clock was ahead when it was set
			x.Due = now + x.Every
			t.soil()
		}
		if x.Due > now || t.firing(x.Name) {
			continue
		}
		name, _ := json.Marshal(x.Name)
		data := x.Data
		if data == "" {
			data = "null"
		}
		in := append([]byte(`{"name":`), name...)
		in = append(append(append(in, `,"data":`...), data...), '}')
		t.working().push(event{kind: drivers.EventTimer, input: in, timer: x.Name, timerDue: x.Due})
	}
}

func (t *twin) firing(name string) bool {
	if t.work == nil {
		return false
	}
	if c := t.work.call; c != nil && c.event.timer == name {
		return true
	}
	return slices.ContainsFunc(t.work.events, func(v event) bool { return v.timer == name })
}

// fired moves a timer on after its event was handled. Periodic timers of an active twin cost no checkpoint: their
// record only has to be due no later than they are.
func (t *twin) fired(v *event) {
	x := t.timer(v.timer)
	if x == nil || x.Due != v.timerDue {
		return // the driver has set or cancelled it meanwhile
	}
	if x.Cron != "" {
		// What a node that was off has missed is made up for once.
		x.Due = t.e.schedules.next(x.Cron, max(t.stamp(), x.Due))
		t.touched = true
		return
	}
	if x.Every == 0 {
		t.st.Timers = slices.DeleteFunc(t.st.Timers, func(s state.Timer) bool { return s.Name == v.timer })
		if len(t.st.Timers) == 0 {
			t.st.Timers = nil
		}
		t.soil()
		return
	}
	now := t.stamp()
	x.Due += x.Every
	if x.Due <= now {
		x.Due = now + x.Every - (now-x.Due)%x.Every
	}
	t.touched = true
}

// wake is what the twin's wake record should say: when a twin that is not active has to be activated; 0: no record. What was
// asked of the device is a reason to do so at once, where the twin's next life begins after a crash or a move; a twin
// that is passivated has done for it what it can.
func (t *twin) wake(exact bool) int64 {
	if t.mode == modeDeleting || t.cfg != nil && t.cfg.stopped {
		return 0
	}
	at := t.nextTimer()
	earlier := func(due int64) {
		if due > 0 && (at == 0 || due < at) {
			at = due
		}
	}
	earlier(t.nextKept())
	if exact && t.mode == modeLive {
		return at
	}
	for i := range t.st.Desired {
		if d := &t.st.Desired[i]; open(d) {
			earlier(max(d.Time, d.Delay))
		}
	}
	return at
}

// wakeWrong says whether the wake record must be written. While the twin is active a record that is too early is good
// enough: it would only wake a twin early, after a crash.
func (t *twin) wakeWrong(exact bool) bool {
	want := t.wake(exact)
	if exact || want == 0 {
		return want != t.st.Wake
	}
	return t.st.Wake == 0 || want < t.st.Wake
}

// open says whether something is still to come of a desired value.
func open(d *state.Desired) bool {
	p := pb.Progress(d.Progress)
	return p == pb.Progress_PROGRESS_ASKED || p == pb.Progress_PROGRESS_SENT
}

func msDuration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
