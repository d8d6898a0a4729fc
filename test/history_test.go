package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/polluxhq/pollux/test/harness"
)

const pastModel = `{"@context":["https://www.w3.org/2022/wot/td/v1.1"],"@type":"tm:ThingModel","title":"Room","properties":{` +
	`"temperature":{"type":"number","unit":"Cel"},"mode":{"type":"string"}}}`

// sendRoom sends a message until a node that can be reached says that it is stored.
func sendRoom(t *testing.T, nodes []*harness.Node, seq int) {
	t.Helper()
	hc := &http.Client{Timeout: 20 * time.Second}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		for _, n := range nodes {
			r, err := http.NewRequest(http.MethodPost, n.URL+"/v1/ingest/default/room1", strings.NewReader(fmt.Sprintf(`{"temperature":%d.5,"mode":"m%d"}`, seq%40, seq)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+n.Key)
			r.Header.Set("X-Message-Id", fmt.Sprint("m", seq))
			res, err := hc.Do(r)
			if err != nil {
				continue
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err == nil && res.StatusCode == http.StatusOK && (bytes.Contains(body, []byte(`"stored":1`)) || bytes.Contains(body, []byte(`"duplicate":1`))) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("message %d was not taken", seq)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// modes gives how often each value is in the journal of the node that is asked.
func modes(n *harness.Node) (map[string]int, error) {
	text, err := n.Command(context.Background(), "history", "journal", "--twin", "room1", "--kind", "value", "--limit", "5000", "-o", "json")
	if err != nil {
		return nil, err
	}
	var out struct {
		Entries []struct{ Data string }
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("%w: %.200s", err, text)
	}
	seen := map[string]int{}
	for _, e := range out.Entries {
		seen[e.Data]++
	}
	return seen, nil
}

// TestJournalOnEveryNode kills the nodes of a cluster, one with its disk, under messages: each node has each acknowledged value
// once.
func TestJournalOnEveryNode(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{})
	nodes := c.Nodes()
	model := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(model, []byte(pastModel), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes[0].Must("model", "create", "room", "--file", model)
	nodes[0].Must("twin", "create", "room1", "--model", "room")
	const messages = 60
	for seq := range messages {
		sendRoom(t, nodes, seq)
		switch seq {
		case 15:
			nodes[1].Kill()
		case 25:
			nodes[1].Run()
		case 35:
			nodes[2].Kill()
			if err := os.RemoveAll(filepath.Join(nodes[2].Dir, "journal")); err != nil {
				t.Fatal(err)
			}
		case 45:
			nodes[2].Run()
		}
	}
	for i, n := range nodes {
		var last string
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			seen, err := modes(n)
			last = fmt.Sprint(err, " ", len(seen))
			ok := err == nil && len(seen) == messages
			for value, times := range seen {
				if times != 1 {
					t.Fatalf("node %d: %s is there %d times", i, value, times)
				}
			}
			if ok {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("node %d has not all %d values: %s\n%s", i, messages, last, n.Log())
			}
		}
	}
	checkExports(t, nodes[0], messages)
	checkProjects(t, nodes[0])
}

// checkExports reads the three formats back.
func checkExports(t *testing.T, n *harness.Node, messages int) {
	t.Helper()
	dir := t.TempDir()
	type sample struct {
		Time     time.Time `parquet:"time,timestamp(millisecond)"`
		Twin     string    `parquet:"twin"`
		Property string    `parquet:"property"`
		Value    float64   `parquet:"value"`
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		n.Must("history", "export", filepath.Join(dir, "a.parquet"), "--twin", "room1", "--property", "temperature")
		rows, err := parquet.ReadFile[sample](filepath.Join(dir, "a.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == messages && rows[0].Twin == "room1" && rows[0].Property == "temperature" && rows[0].Value == 0.5 && time.Since(rows[0].Time) < time.Hour {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rows of Parquet, want %d: %.3v", len(rows), messages, rows)
		}
	}
	csv := n.Must("history", "export", "-", "--format", "csv", "--twin", "room1")
	if lines := strings.Split(strings.TrimSpace(csv), "\n"); len(lines) != messages+1 || !strings.HasPrefix(lines[0], "time,project,twin,") || !strings.HasSuffix(lines[1], ",default,room1,Room,temperature,0.5") {
		t.Errorf("%d lines of CSV: %.300s", len(lines), csv)
	}
	text := n.Must("history", "export", "-", "--format", "json", "--journal", "--kind", "value")
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != messages || !strings.Contains(lines[0], `"kind":"value","name":"mode"`) || !strings.Contains(lines[0], `"data":"m0"`) {
		t.Errorf("%d lines of JSON: %.300s", len(lines), text)
	}
	n.Must("history", "export", filepath.Join(dir, "j.parquet"), "--journal")
	if info, err := parquet.ReadFile[struct {
		Data string `parquet:"data,json"`
	}](filepath.Join(dir, "j.parquet")); err != nil || len(info) < messages {
		t.Errorf("journal as Parquet: %d rows, %v", len(info), err)
	}
}

// checkProjects asks with the key of another project.
func checkProjects(t *testing.T, n *harness.Node) {
	t.Helper()
	key := strings.Fields(n.Must("key", "create", "--role", "viewer", "--project", "other"))
	token := ""
	for _, word := range key {
		if strings.HasPrefix(word, "plx_") {
			token = word
		}
	}
	for path, want := range map[string]int{
		"/v1/prometheus/default/api/v1/query?query=pollux_property":                      http.StatusForbidden,
		"/v1/history/default/export":                                                     http.StatusForbidden,
		"/v1/prometheus/other/api/v1/query?query=pollux_property%7Bproject!%3D%22%22%7D": http.StatusOK,
		"/v1/history/other/export?twin=default/room1":                                    http.StatusBadRequest,
		"/v1/history/other/export?format=xml":                                            http.StatusBadRequest,
	} {
		r, err := http.NewRequest(http.MethodGet, n.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != want || bytes.Contains(body, []byte("room1\",")) {
			t.Errorf("%s: %d, want %d: %s", path, res.StatusCode, want, body)
		}
	}
}
