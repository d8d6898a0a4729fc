package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

const (
	backedDevices = 10
	backedEach    = 40
)

// publishTo has the devices publish values above base through one node, until all are acknowledged.
func publishTo(t *testing.T, n *harness.Node, messages, base int, j *load.Journal) {
	t.Helper()
	value := func(_ int, sequence uint64) float64 { return float64(base) + float64(sequence) }
	if _, err := load.Run(t.Context(), load.Options{Addr: n.MQTT, Devices: backedDevices, Connections: 2, QoS: 1, Messages: uint64(messages), Rate: 400,
		Journal: j, Topic: echoTopic, Payload: echoPayload, Value: value}); err != nil {
		t.Fatal(err)
	}
}

// TestBackup saves three nodes under load, and restores them into three others: what was acknowledged before is there, in
// state and in history, on each of them. Damaged files and clusters with content are refused.
func TestBackup(t *testing.T) {
	t.Parallel()
	from := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	n := from.Node(0)
	n.AddDriver("echo")
	for d := range backedDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	n.Must("twin", "create", "picky", "--driver", "echo", "--selector", "zone=b")
	n.Must("twin", "create", "settled", "--driver", "echo", "--selector", "zone=c")
	n.Must("twin", "update", "settled", "--selector=")
	began := time.Now()
	var before, during load.Journal
	publishTo(t, n, backedDevices*backedEach, 0, &before)
	for _, n := range from.Nodes() {
		checkHistory(t, n, acknowledged(&before), began)
	}
	var clients sync.WaitGroup
	clients.Go(func() { publishTo(t, from.Node(1), backedDevices*backedEach, 1000, &during) })
	file := filepath.Join(t.TempDir(), "all.backup")
	out := from.Node(2).Must("backup", file)
	clients.Wait()
	t.Log(out)

	to := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	r := to.Node(1)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.backup")
	turned := filepath.Join(t.TempDir(), "turned.backup")
	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	for name, content := range map[string][]byte{cut: whole[:len(whole)-100], turned: damaged} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := r.Command(t.Context(), "restore", name); err == nil || !strings.Contains(out, "damaged backup") || !strings.Contains(out, "at byte") {
			t.Errorf("%s: %v: %s", filepath.Base(name), err, out)
		}
	}
	if out := r.Must("twin", "list"); strings.Contains(out, "device-") {
		t.Fatalf("something of a damaged backup was restored:\n%s", out)
	}
	t.Log(r.Must("restore", file))
	if out, err := r.Command(t.Context(), "restore", file); err == nil || !strings.Contains(out, "not empty") {
		t.Errorf("a second time: %v: %s", err, out)
	}
	last := before.Last()
	for _, n := range to.Nodes() {
		for d := range backedDevices {
			if got := reported(t, n, device(d)); got < last[d].Value {
				t.Errorf("%s by %s has level %v, %v was acknowledged before the backup", device(d), n.Name, got, last[d].Value)
			}
		}
		checkHistory(t, n, acknowledged(&before), began)
	}
	// The restored twins live, where they may: they take messages and commands.
	lives(t, to, "picky", to.Node(1))
	says(t, to, "picky")
	says(t, to, "settled")
	var after load.Journal
	publishTo(t, to.Node(0), backedDevices, 2000, &after)
	checkHistory(t, to.Node(2), acknowledged(&after), began)
}

// ownSamples counts what a node's own history has of the devices' levels, by device.
func ownSamples(t *testing.T, n *harness.Node) map[string]string {
	t.Helper()
	query := `count_over_time(pollux_property{property="level"}[1h])`
	r, err := n.Get("/victoria/api/v1/query?nocache=1&query=" + url.QueryEscape(query))
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(r.Body); err != nil {
		return nil
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric struct{ Twin string }
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(text.Bytes(), &answer); err != nil {
		t.Fatalf("%v: %s", err, text.String())
	}
	counts := map[string]string{}
	for _, r := range answer.Data.Result {
		counts[r.Metric.Twin] = fmt.Sprint(r.Value[1])
	}
	return counts
}

// TestLostHistoryComesBack: a node whose history is gone gets it from another, what it missed meanwhile and what is written
// then; and answers queries meanwhile by way of the others.
func TestLostHistoryComesBack(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	n := c.Node(0)
	n.AddDriver("echo")
	for d := range backedDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	began := time.Now()
	var journal load.Journal
	publishTo(t, n, backedDevices*backedEach, 0, &journal)
	lost := c.Node(2)
	checkHistory(t, lost, acknowledged(&journal), began)
	if err := lost.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(lost.Dir, "history")); err != nil {
		t.Fatal(err)
	}
	publishTo(t, n, backedDevices*backedEach, 1000, &journal)
	lost.Run()
	checkHistory(t, lost, acknowledged(&journal), began)
	publishTo(t, n, backedDevices*backedEach, 2000, &journal)
	harness.Until(t, time.Minute, "its own history is complete", func() bool { return counter(t, lost, "pollux_history_complete") == 1 })
	harness.Until(t, time.Minute, "both have the same", func() bool {
		a, b := ownSamples(t, n), ownSamples(t, lost)
		if len(a) != backedDevices || len(b) != len(a) {
			return false
		}
		for twin, count := range a {
			if b[twin] != count {
				return false
			}
		}
		return true
	})
	if counter(t, lost, "pollux_history_backfilled_samples_total") == 0 {
		t.Error("nothing came from another node")
	}
}
