package test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestNodesComeBackElsewhere stops all nodes, the last one without a lease, and starts them at other addresses, as after a
// move of the machines: they find each other with --join, and have what they had.
func TestNodesComeBackElsewhere(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	a := c.Node(0)
	a.AddDriver("echo")
	a.Must("twin", "create", "t", "--driver", "echo")
	says(t, c, "t")
	c.Node(1).Kill()
	c.Node(2).Kill()
	harness.Until(t, 30*time.Second, "the lease of the last one is over", func() bool {
		_, err := a.Command(t.Context(), "twin", "call", "t", "say", `{"text":"x"}`)
		return err != nil
	})
	time.Sleep(lease)
	began := time.Now()
	if err := a.Stop(); err != nil {
		t.Fatalf("a node without a lease is told to stop: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	if log := a.Log(); !strings.Contains(log, "not everything is handed over: this node has no lease") {
		t.Errorf("it does not say that it handed nothing over:\n%s", log)
	}
	c.Renumber(a, 51)
	c.Renumber(c.Node(1), 52, a)
	c.Renumber(c.Node(2), 53, a)
	c.RunAll(c.Nodes()...)
	c.Settle(time.Minute)
	says(t, c, "t")
}

// TestDeviceAwayFromItsTwin has a device on the broker of one node, and its twin on another: values, commands, and the will
// when the device dies.
func TestDeviceAwayFromItsTwin(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	a, b := c.Node(0), c.Node(1)
	a.Must("driver", "add", "tasmota")
	a.Must("twin", "create", "plug", "--driver", "tasmota", "--setting", "topic=plug", "--selector", "zone=b")
	lives(t, c, "plug", b)
	sim := exec.Command(harness.Binary(t), "sim", "tasmota", "--broker", a.MQTT, "--topic", "plug", "--kind", "plug", "--period", "1s")
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Process.Kill(); _ = sim.Wait() })
	status := func(want pb.Connection) func() bool {
		return func() bool { return stateOf(t, c.Node(2), "plug").GetStatus().GetConnection() == want }
	}
	harness.Until(t, 30*time.Second, "the device to be connected", status(pb.Connection_CONNECTION_CONNECTED))
	harness.Until(t, 30*time.Second, "the device to tell what it has", func() bool { return stateOf(t, a, "plug").Properties["power1"] != nil })
	for _, on := range []string{"true", "false"} {
		c.Node(2).Must("twin", "set", "plug", "power1", on) // waits until the device has confirmed it
	}
	if s := stateOf(t, a, "plug"); s.Status.Node != b.ID {
		t.Errorf("the twin is on %s, %s expected", s.Status.Node, b.ID)
	}
	_ = sim.Process.Kill()
	harness.Until(t, 30*time.Second, "the will to tell that the device is gone", status(pb.Connection_CONNECTION_DISCONNECTED))
	if r, err := c.Node(2).Twins().Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: "plug", Action: "refresh"})); err == nil && r.Msg.Outcome == pb.Outcome_OUTCOME_DONE {
		t.Errorf("a device that is gone did %v", r.Msg)
	}
}
