package test

import (
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/chaos"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// TestRollingUpgrade replaces the nodes of a cluster under load, one by one, by the program under test. No call fails, and
// both programs understand each other meanwhile.
func TestRollingUpgrade(t *testing.T) {
	previous, commit := harness.Previous(t)
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3, Binary: previous})
	l := chaos.Start(t, c, chaos.Options{Create: true, Publishers: 8})
	began := time.Now()
	for _, n := range c.Nodes() {
		if err := n.Stop(); err != nil {
			t.Fatalf("%s: %v\n%s", n.Name, err, n.Log())
		}
		n.RunAs("")
		n.Run()
		c.Settle(time.Minute)
		time.Sleep(time.Second) // under load with both programs
	}
	calls := l.CallsSince(began)
	v := journal.NoneFailed("no failed call", calls)
	t.Logf("from %s, in %.1f s: %v", commit, time.Since(began).Seconds(), v)
	for _, text := range v.Violations {
		t.Error(text)
	}
	if len(calls) < 100 {
		t.Errorf("the load was no load: %d calls", len(calls))
	}
	l.Check()
}
