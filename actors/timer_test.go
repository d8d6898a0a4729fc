package actors_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
)

func TestTimers(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.must("a", "timer", `{"name":"one","after_ms":60,"data":{"k":1}}`)
	n.wait("a", "fired", "1")
	n.must("a", "timer", `{"name":"two","every_ms":100}`)
	until(t, "a repeated timer fires again", func() bool { return number(n.prop("a", "fired")) >= 4 })
	n.must("a", "cancel", `{"name":"two"}`)
	after := n.prop("a", "fired")
	n.must("a", "timer", `{"name":"one","after_ms":250}`)
	until(t, "the last timer", func() bool { return number(n.prop("a", "fired")) > number(after) })
	if got := number(n.prop("a", "fired")); got != number(after)+1 {
		t.Errorf("a cancelled timer fired: %d after %s", got, after)
	}
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// A passivated twin's timer wakes it, and one that was due while the node was down fires at its start.
func TestTimersOfPassiveTwins(t *testing.T) {
	fs := vfs.NewMem()
	quick := func(o *actors.Options) {
		o.IdleTimeout = 100 * time.Millisecond
		o.CheckpointMin = 10 * time.Millisecond
	}
	n := open(t, fs, 1, quick)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.must("a", "timer", `{"name":"one","after_ms":1500}`)
	until(t, "the twin is passive", func() bool { return n.engine.Stats().Active == 0 })
	until(t, "the timer has fired", func() bool { return n.committed("default/a", "fired") == "1" })
	until(t, "the twin is passive again", func() bool { return n.engine.Stats().Active == 0 })
	n.must("a", "timer", `{"name":"one","after_ms":600}`)
	until(t, "the twin is passive", func() bool { return n.engine.Stats().Active == 0 })
	n.close()
	time.Sleep(700 * time.Millisecond) // the timer is due while nobody is there
	n = open(t, fs, 2, quick)
	until(t, "the overdue timer fired", func() bool { return n.committed("default/a", "fired") == "2" })
}

// Polling goes on after passivation and restart, and costs no commit for each firing.
func TestPeriodicTimers(t *testing.T) {
	fs := vfs.NewMem()
	long := func(o *actors.Options) { o.CheckpointMin = time.Hour; o.CheckpointMax = time.Hour }
	n := open(t, fs, 1, long)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe","settings":{"poll":100}}`)
	until(t, "it polls without having been called", func() bool { return number(n.prop("a", "polls")) >= 1 })
	// A committed value, and with it the timer.
	if _, err := n.set("a", "level", "1", time.Minute); err != nil {
		t.Fatal(err)
	}
	before, polls := n.engine.Stats().Checkpoints, number(n.prop("a", "polls"))
	until(t, "it polls five times more", func() bool { return number(n.prop("a", "polls")) >= polls+5 })
	if c := n.engine.Stats().Checkpoints - before; c > 1 {
		t.Errorf("%d checkpoints for 5 polls", c)
	}
	n.close()
	n = open(t, fs, 2)
	until(t, "it polls again after a restart, by itself", func() bool { return number(n.committed("default/a", "polls")) >= polls+1 })
}

// A timer that is due at a time fires once; one with a schedule goes on, also after a restart, and not faster for being set
// again.
func TestTimersBySchedule(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.must("a", "schedule", fmt.Sprintf(`{"name":"one","at_ms":%d}`, time.Now().Add(30*time.Millisecond).UnixMilli()))
	n.wait("a", "fired", "1")
	n.must("a", "schedule", `{"name":"one","at_ms":1000}`) // long ago: at once
	n.wait("a", "fired", "2")
	n.must("a", "schedule", `{"name":"two","cron":"* * * * * *","zone":"Europe/Berlin"}`)
	until(t, "it fires", func() bool {
		n.must("a", "schedule", `{"name":"two","cron":"* * * * * *","zone":"Europe/Berlin"}`)
		return number(n.prop("a", "fired")) >= 3
	})
	if err := n.engine.Drain(ctx(t)); err != nil {
		t.Fatal(err)
	}
	n.close()
	n = open(t, fs, 2)
	was := number(n.committed("default/a", "fired"))
	until(t, "it goes on after a restart", func() bool { return number(n.prop("a", "fired")) > was })
	for _, bad := range []string{`{"name":"x","cron":"61 * * * * *"}`, `{"name":"x","cron":"* * * * * *","zone":"Mars/Base"}`, `{"name":"x","cron":"0 0 0 30 2 *"}`} {
		if _, err := n.invoke("a", "schedule", bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
