package actors

import (
	"context"
	"testing"
	"time"
)

// Only what the guest computes is counted against its budget; what the call waits for has a deadline.
func TestClockOfACall(t *testing.T) {
	budget := func(d time.Duration) *Engine {
		return &Engine{o: Options{ComputeTimeout: d}, calls: context.Background()}
	}
	var c callContext
	c.begin(budget(30*time.Millisecond), time.Hour)
	wait := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if err := c.Err(); err != nil {
				t.Fatalf("ended while it waits: %v", err)
			}
		}
	}
	wait(60 * time.Millisecond) // for an instance
	c.Run()
	c.Pause()
	wait(60 * time.Millisecond) // for the device
	c.Run()
	began := time.Now()
	for c.Err() == nil {
		if time.Since(began) > time.Minute {
			t.Fatal("it computes for a minute")
		}
		time.Sleep(time.Millisecond)
	}
	if !c.over() || time.Since(began) < 10*time.Millisecond {
		t.Errorf("over %v after computing for %s", c.over(), time.Since(began))
	}

	// On a busy machine looks come late: each counts a step only, so that the guest has its time however little the machine has for it.
	late := func(c *callContext, by time.Duration) error {
		c.base = c.base.Add(-by)
		return c.Err()
	}
	const limit = 10 * time.Second
	var slow callContext
	slow.begin(budget(limit), time.Hour)
	slow.Run()
	for range 100 {
		if err := late(&slow, 100*time.Millisecond); err != nil {
			t.Fatalf("ended by late looks: %v", err)
		}
	}
	if left, _ := slow.left(); left < limit-200*time.Millisecond {
		t.Errorf("100 late looks left %s of %s", left, limit)
	}
	// But a call that makes its slices long on purpose ends.
	var long callContext
	long.begin(budget(limit), time.Hour)
	long.Run()
	if err := late(&long, maxWhole*limit); err == nil || !long.over() {
		t.Errorf("a call that took %s for %s goes on: %v", maxWhole*limit, limit, err)
	}

	var waits callContext
	waits.begin(budget(time.Hour), time.Nanosecond)
	if err := waits.Err(); err != context.DeadlineExceeded || waits.over() {
		t.Errorf("a call whose wait is over: %v", err)
	}
}
