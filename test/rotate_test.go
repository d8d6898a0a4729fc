package test

import (
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
)

// TestRotate replaces gossip's key, twice, and the authority while a node is off. It comes back, and a token of before is
// worth nothing.
func TestRotate(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	a, off := c.Node(0), c.Node(2)
	former := strings.TrimSpace(jsonField(t, a.Must("cluster", "token", "-o", "json"), "token"))
	if err := off.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a.Must("cluster", "rotate-keys")
	}
	time.Sleep(2 * time.Second) // until the others use the key
	off.Run()
	c.Settle(30 * time.Second)
	if !strings.Contains(off.Log(), "rotated while this node was off") {
		t.Errorf("the keys were not new to %s:\n%s", off.Name, off.Log())
	}

	// The others wait with their new certificates until it knows the new authority, too.
	off.Kill()
	a.Must("cluster", "rotate-ca")
	time.Sleep(8 * time.Second) // longer than they would wait for nodes that are there
	if out, err := a.Command(t.Context(), "cluster", "rotate-ca"); err == nil || !strings.Contains(out, "those that are off") {
		t.Errorf("a second rotation before the first is done: %v: %s", err, out)
	}
	off.Run()
	c.Settle(30 * time.Second)
	for _, n := range c.Nodes() {
		harness.Until(t, 30*time.Second, n.Name+" has a new certificate", func() bool { return strings.Contains(n.Log(), "has a new certificate") })
	}
	c.Settle(30 * time.Second)

	x := c.Prepare("x", "--join-token", former)
	if err := x.TryRun(); err == nil || !strings.Contains(x.Log(), "token") {
		t.Errorf("a token of before the rotation: %v\n%s", err, x.Log())
	}
	c.Add("y", "--join-token", strings.TrimSpace(jsonField(t, a.Must("cluster", "token", "-o", "json"), "token")))
	c.Settle(30 * time.Second)
}
