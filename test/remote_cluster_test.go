package test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

// TestExternalVictoriaMetricsOfThreeNodes: the leader pushes. The server is away, the leader is killed with what waits in
// its queue and does not come back, the server comes back: another node has pushed every acknowledged value.
func TestExternalVictoriaMetricsOfThreeNodes(t *testing.T) {
	t.Parallel()
	v := startVictoria(t)
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3, Args: []string{"--metrics-url", "http://" + v.addr}})
	leader, n := c.Leader(), c.Follower()
	n.AddDriver("echo")
	for d := range backedDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var journal load.Journal
	var clients sync.WaitGroup
	clients.Go(func() {
		if _, err := load.Run(ctx, load.Options{Addr: n.MQTT, Devices: backedDevices, Connections: 2, QoS: 1, Rate: 200,
			Journal: &journal, Topic: echoTopic, Payload: echoPayload}); err != nil {
			t.Error(err)
		}
	})
	acked := func(more int) {
		t.Helper()
		want := journal.Len() + more
		harness.Until(t, time.Minute, strconv.Itoa(more)+" more are acknowledged", func() bool { return journal.Len() >= want })
	}
	acked(400)
	v.stop(syscall.SIGTERM)
	acked(400)
	leader.Kill()
	acked(400)
	v.start()
	acked(400)
	cancel()
	clients.Wait()
	lost := -1
	harness.Until(t, time.Minute, "every acknowledged value is on the server", func() bool {
		have := map[string]bool{}
		for _, e := range v.export(`pollux_property{property="level"}`) {
			for _, value := range e.Values {
				have[e.Metric["twin"]+" "+strconv.FormatFloat(value, 'f', -1, 64)] = true
			}
		}
		lost = 0
		for d, values := range acknowledged(&journal) {
			for _, value := range values {
				if !have[device(d)+" "+strconv.FormatFloat(value, 'f', -1, 64)] {
					lost++
				}
			}
		}
		return lost == 0
	})
	t.Logf("%d values acknowledged, %d lost", journal.Len(), lost)
	if text := c.Leader().Log(); !strings.Contains(text, "this node pushes history to the metrics server") {
		t.Error("the new leader does not say that it pushes")
	}
}
