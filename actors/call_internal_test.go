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

	// A look that comes late counts a step only: the machine was busy elsewhere.
	var slow callContext
	slow.begin(budget(4*maxStep), time.Hour)
	slow.Run()
	time.Sleep(6 * maxStep)
	if err := slow.Err(); err != nil {
		t.Errorf("ended by one late look: %v", err)
	}

	var waits callContext
	waits.begin(budget(time.Hour), time.Nanosecond)
	if err := waits.Err(); err != context.DeadlineExceeded || waits.over() {
		t.Errorf("a call whose wait is over: %v", err)
	}
}
