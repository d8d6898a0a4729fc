package test

import (
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/chaos"
	"github.com/polluxhq/pollux/test/harness"
)

// TestReplaceNode loses a node with its disk. It is removed, an empty one takes its name and place, becomes a voter when it
// has everything, and answers for what was before it.
func TestReplaceNode(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	l := chaos.Start(t, c, chaos.Options{Create: true})
	lost := c.Node(2)
	was := lost.ID
	since := time.Now()
	lost.Kill()
	if _, last, err := l.Recover(since, 30*time.Second); err != nil {
		t.Fatalf("%s: %v", last, err)
	}
	lost.Wipe()
	harness.Until(t, 30*time.Second, "the dead node can be removed", func() bool {
		_, err := c.Node(0).Command(t.Context(), "cluster", "remove", lost.Name)
		return err == nil
	})
	lost.Run()
	c.Settle(time.Minute)
	if lost.ID == was {
		t.Errorf("the empty node has the id %s of the lost one", was)
	}
	if err := enrollAs(t, c.Node(0), was, "again"); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		t.Errorf("the id of the removed node is let in: %v", err)
	}
	c.Voters(3, time.Minute)
	l.Check()
}
