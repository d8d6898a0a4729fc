package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/test/harness"
)

// npm runs a program of test/peers to its end and gives its lines.
func npm(t *testing.T, program string, args ...string) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		drivertest.Missing(t, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join("peers", "node_modules")); err != nil {
		drivertest.Missing(t, "the peers' packages are not installed: npm ci in test/peers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{program}, args...)...)
	cmd.Dir = "peers"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// Clients that know nothing of Pollux find a twin and use it: its Thing Description, Thing Model and the API's description are
// valid, and node-wot does with it all that it can do with a thing.
func TestNodeWoTUsesATwin(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	for _, name := range []string{"lamp", "other", "third"} {
		n.Must("twin", "create", "hall/"+name, "--driver", "echo")
	}
	lines := npm(t, "wot.mjs", n.URL, n.Key, "hall/lamp")
	for _, want := range []string{"valid 3", "read 12.5", "observed 12.5 13", "invoked hello wot", "event tock", "refused"} {
		if !slices.Contains(lines, want) {
			t.Errorf("missing %q in:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}
