package test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

// TestRecoverFromOne loses two of three nodes for good. The third is made a cluster of its own by the command line: it
// answers with all that was acknowledged, is backed up history included, and lets new nodes in. A lost one that comes
// back is kept out.
func TestRecoverFromOne(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	n := c.Node(2)
	n.AddDriver("echo")
	for d := range backedDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	var sent load.Journal
	publishTo(t, n, backedDevices*backedEach, 0, &sent)
	want := map[string]string{}
	for d := range backedDevices {
		if want[device(d)] = valuesOf(t, n, device(d)); want[device(d)] == "" {
			t.Fatalf("%s has no values", device(d))
		}
	}
	if out, err := n.Command(t.Context(), "cluster", "recover", "--data", n.Dir); err == nil || !strings.Contains(out, "in use by another process") {
		t.Errorf("recovery of a node that runs: %v: %s", err, out)
	}
	for _, n := range c.Nodes() {
		n.Kill()
	}
	if out := n.Must("cluster", "recover", "--data", n.Dir); !strings.Contains(out, "nothing was changed") || strings.Count(out, "given up") != 2 {
		t.Errorf("a look: %s", out)
	}
	// Right after kill -9 their records may be in the log only.
	for _, n := range c.Nodes() {
		if out := n.Must("cluster", "recover", "--data", n.Dir, "--survivors", "n1,n3"); strings.Count(out, "n2 ") != 1 || strings.Count(out, "votes") < 2 {
			t.Errorf("a look by names: %s", out)
		}
	}
	t.Log(n.Must("cluster", "recover", "--data", n.Dir, "--yes"))
	n.Run()
	for id, value := range want {
		harness.Until(t, 30*time.Second, id+" has what was acknowledged", func() bool { return valuesOf(t, n, id) == value })
	}
	n.Must("backup", filepath.Join(t.TempDir(), "recovered.backup"))

	lost := c.Node(0)
	ended := make(chan error, 1)
	go func() { ended <- lost.TryRun() }()
	harness.Until(t, 30*time.Second, "the lost one is noticed", func() bool { return strings.Contains(n.Log(), "is kept out") })
	lost.Kill()
	if err := <-ended; err == nil {
		t.Error("a node that was given up was let in")
	}
	for _, lost := range []*harness.Node{lost, c.Node(1)} {
		harness.Until(t, 30*time.Second, lost.Name+" can be removed", func() bool {
			_, err := n.Command(t.Context(), "cluster", "remove", lost.Name)
			return err == nil
		})
	}
}

// valuesOf is a twin's properties as text.
func valuesOf(t *testing.T, n *harness.Node, id string) string {
	t.Helper()
	p := stateOf(t, n, id).Properties
	var all []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		all = append(all, fmt.Sprintf("%s=%v", name, p[name].GetValue().AsInterface()))
	}
	return strings.Join(all, " ")
}
