package actors_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// setClock is a clock that the test moves, and that it sets: then less time has passed, or more, than its hands say.
type setClock struct {
	handClock
	start time.Time
	set   time.Duration
}

// Elapsed implements actors.Steady.
func (c *setClock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Sub(c.start) - c.set
}

// pass lets time pass, step sets the clock.
func (c *setClock) pass(t *testing.T, d time.Duration, n *node) {
	t.Helper()
	c.to(t, c.Now().Add(d).Format(time.RFC3339), n)
}

func (c *setClock) step(t *testing.T, d time.Duration, n *node) {
	t.Helper()
	c.mu.Lock()
	c.set += d
	c.at = c.at.Add(d)
	c.mu.Unlock()
	n.engine.Tick()
}

func settable(t *testing.T, at string) (*node, *setClock) {
	c := &setClock{}
	c.at, _ = time.Parse(time.RFC3339, at)
	c.start = c.at
	return newNode(t, func(o *actors.Options) { o.Clock = c }), c
}

// A clock that is set, ahead or back, changes nothing of how long a condition has to hold, a device may be silent, an action waits and an alarm goes
// without anybody's word.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{2 * time.Hour, -2 * time.Hour, 300 * time.Hour, -300 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			n, c := settable(t, "2026-03-01T07:00:00Z")
			n.sensors("a", "b", "out")
			n.rule(`{"id":"held","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 1","for":"600s","then":[{"mqtt":{"topic":"held","payload":"1"}}]}`)
			n.rule(`{"id":"silent","when":[{"absent":{"of":{"twins":["b"]},"property":"level","since":"600s"}}],"then":[{"mqtt":{"topic":"silent","payload":"1"}}]}`)
			n.rule(`{"id":"late","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 1","then":[{"wait":"600s"},{"mqtt":{"topic":"late","payload":"1"}}]}`)
			n.rule(`{"id":"told","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 1","then":[{"raise":{"alarm":"told","escalate":[
				{"after":"600s","actions":[{"mqtt":{"topic":"told","payload":"1"}}]}]}}]}`)
			n.absorb("b", `{"level":1}`, 0)
			n.absorb("a", `{"level":2}`, 0)
			until(t, "all of them wait", func() bool {
				n.engine.Tick()
				late := n.unit(automation.KindRule, "late")
				return n.unit(automation.KindRule, "held").Rule.Pending == 1 && len(late.Runs) == 1 && late.Runs[0].Steps[0].State == pb.StepState_STEP_STATE_WAITING &&
					n.alarm("told.a").GetActive() && n.records("unit", "alarm/default/told.a") == 1 && n.unit(automation.KindRule, "silent").Rule.Node != ""
			})
			count := func() (all [4]int) {
				n.mu.Lock()
				defer n.mu.Unlock()
				for _, m := range n.published {
					for i, topic := range []string{"held 1", "silent 1", "late 1", "told 1"} {
						if m == topic {
							all[i]++
						}
					}
				}
				return all
			}
			c.step(t, by, n)
			looked := func() {
				t.Helper()
				for range 3 { // each is asked, which is a turn
					n.engine.Tick()
					for _, id := range []string{"held", "silent", "late", "told"} {
						n.unit(automation.KindRule, id)
					}
				}
			}
			looked()
			c.pass(t, 590*time.Second, n)
			looked()
			if got := count(); got != [4]int{} {
				t.Errorf("after 590 s this was done: %v", got)
			}
			c.pass(t, 20*time.Second, n)
			until(t, "all is done", func() bool {
				looked()
				return count() == [4]int{1, 1, 1, 1}
			})
			n.absorb("b", `{"level":3}`, 0)
			until(t, "it speaks again", func() bool {
				c.pass(t, 10*time.Second, n)
				return n.unit(automation.KindRule, "silent").Rule.Active == 0
			})
		})
	}
}

// A schedule goes by the time of day that is. What it did at times that come again it does not do again, unless it would rest for long: one of each
// minute goes on, though the clock was a day ahead.
func TestSchedulesWhileTheClockIsSet(t *testing.T) {
	n, c := settable(t, "2026-03-01T06:59:30Z")
	for id, cron := range map[string]string{"daily": "0 7 * * *", "minutes": "* * * * *"} {
		n.schedule(fmt.Sprintf(`{"id":%q,"timing":{"cron":%q},"missed":"MISSED_SKIP","actions":[{"mqtt":{"topic":"x","payload":"1"}}]}`, id, cron))
	}
	fired := func(id string, want uint64) {
		t.Helper()
		until(t, fmt.Sprintf("%s has fired %d times", id, want), func() bool { n.engine.Tick(); return n.unit(automation.KindSchedule, id).Schedule.Firings >= want })
		if got := n.unit(automation.KindSchedule, id).Schedule.Firings; got != want {
			t.Errorf("%s has fired %d times, want %d", id, got, want)
		}
	}
	fired("minutes", 0)
	c.pass(t, 31*time.Second, n) // 07:00:01
	fired("minutes", 1)
	fired("daily", 1)
	c.step(t, -10*time.Minute, n) // 06:50:01: the daily one is not due again at 07:00
	until(t, "it is due within the minute", func() bool {
		n.engine.Tick()
		return n.unit(automation.KindSchedule, "minutes").Schedule.Next.AsTime().Sub(c.Now()) < time.Minute
	})
	c.pass(t, time.Minute, n)
	fired("minutes", 2)
	c.pass(t, 9*time.Minute+10*time.Second, n)
	fired("daily", 1)
	c.step(t, 24*time.Hour, n) // 07:00:11 of the next day: it was due 11 s ago
	fired("daily", 2)
	c.step(t, -24*time.Hour, n)
	before := n.unit(automation.KindSchedule, "minutes").Schedule.Firings
	until(t, "it goes on each minute", func() bool {
		c.pass(t, time.Minute, n)
		return n.unit(automation.KindSchedule, "minutes").Schedule.Firings >= before+2
	})
	if at := c.Now(); at.After(time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)) {
		t.Errorf("it rested until %s", at)
	}
}

// In the nights in which the clocks go forward and back schedules fire what they should: a time that does not exist an hour later, one that there is twice
// once, and what goes by elapsed time or by the sun as in any other night.
func TestNightsInWhichTheClocksChange(t *testing.T) {
	for begin, want := range map[string]map[string]string{
		"2026-03-28T20:00:00Z": {"cron": "01:30", "calendar": "01:30", "sun": "04:4"},
		"2026-10-24T20:00:00Z": {"cron": "00:30", "calendar": "00:30", "sun": "05:4"},
	} {
		t.Run(begin[:10], func(t *testing.T) {
			n, c := settable(t, begin)
			for id, timing := range map[string]string{"cron": `"cron":"30 2 * * *"`, "calendar": `"calendar":{"times":["02:30"]}`,
				"sun": `"sun":{"place":{"latitude":52.52,"longitude":13.41}}`, "often": `"cron":"*/20 * * * *"`} {
				n.schedule(fmt.Sprintf(`{"id":%q,"timing":{"zone":"Europe/Berlin",%s},"missed":"MISSED_ALL","actions":[{"mqtt":{"topic":"x","payload":"1"}}]}`, id, timing))
			}
			ids := []string{"cron", "calendar", "sun", "often"}
			for range 12 * 3 {
				c.pass(t, 20*time.Minute, n)
				for _, id := range ids {
					until(t, id+" has done what is due", func() bool {
						n.engine.Tick()
						next := n.unit(automation.KindSchedule, id).Schedule.Next
						return next != nil && next.AsTime().After(c.Now())
					})
				}
			}
			for id, at := range want {
				a := n.unit(automation.KindSchedule, id)
				if a.Schedule.Firings != 1 || len(a.Runs) != 1 {
					t.Errorf("%s has fired %d times", id, a.Schedule.Firings)
					continue
				}
				if due := a.Runs[0].Due.AsTime().Format("15:04"); !strings.HasPrefix(due, at) {
					t.Errorf("%s was due at %s UTC, want %s", id, due, at)
				}
			}
			if got := n.unit(automation.KindSchedule, "often").Schedule.Firings; got != 36 {
				t.Errorf("each 20 minutes of 12 hours: %d", got)
			}
		})
	}
}
