package test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestRestoredSinksGoOn: what goes on by a position goes on by the one that was saved, also where a restore takes many transactions.
func TestRestoredSinksGoOn(t *testing.T) {
	t.Parallel()
	const projects, each = 6, 50 // more than a transaction has, and as many as a project may have
	var mu sync.Mutex
	heard := map[string]int{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var all []struct{ Payload string }
		if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range all {
			heard[r.URL.Path+" "+m.Payload]++
		}
	}))
	defer hook.Close()
	publish := func(n *harness.Node, text string) {
		t.Helper()
		for p := range projects {
			curl(t, n, "TopicService/Publish", fmt.Sprintf(`{"topic":"p%d/t","messages":[{"payload":%q}]}`, p, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%q", text))))
		}
		harness.Until(t, time.Minute, text+" is with all", func() bool {
			mu.Lock()
			defer mu.Unlock()
			n := 0
			for what := range heard {
				if strings.HasSuffix(what, " "+text) {
					n++
				}
			}
			return n == projects*each
		})
	}
	from := harness.Start(t, harness.Options{})
	for p := range projects {
		project := fmt.Sprintf("p%d", p)
		var all strings.Builder
		all.WriteString("topic: {id: t}\n")
		for i := range each {
			fmt.Fprintf(&all, "---\nsink: {id: s%d, topic: t, url: %q, oldest: true, batch_wait: 0.01s}\n", i, fmt.Sprintf("%s/%s/s%d", hook.URL, project, i))
		}
		file := filepath.Join(t.TempDir(), project+".yaml")
		if err := os.WriteFile(file, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		from.Must("project", "create", project)
		from.Must("apply", "-f", file, "--project", project)
	}
	publish(from, "first")
	for p := range projects {
		harness.Until(t, time.Minute, "the positions are committed", func() bool {
			sinks, _ := at(curl(t, from, "SinkService/ListSinks", fmt.Sprintf(`{"project":"p%d","pageSize":100}`, p)), "sinks").([]any)
			n := 0
			for _, s := range sinks {
				if at(s, "state", "position") == "2" {
					n++
				}
			}
			return n == each
		})
	}
	file := filepath.Join(t.TempDir(), "all.backup")
	from.Must("backup", file)
	if err := from.Stop(); err != nil {
		t.Fatal(err)
	}
	to := harness.Start(t, harness.Options{})
	to.Must("restore", file)
	publish(to, "second")
	mu.Lock()
	defer mu.Unlock()
	again := 0
	for what, n := range heard {
		if n > 1 {
			again++
			if again < 5 {
				t.Errorf("%s came %d times", what, n)
			}
		}
	}
	if again > 0 {
		t.Errorf("%d of %d came again", again, len(heard))
	}
}

// TestABackupHasWhatIsAcknowledged: also by a node that was away for a moment, and has yet to hear of it.
func TestABackupHasWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	var behind, ahead *harness.Node
	leader := c.Node(0).Status().Leader
	for _, n := range c.Nodes() {
		if n.Status().Node == leader {
			ahead = n
		} else {
			behind = n
		}
	}
	for round := range 5 {
		behind.Status() // a connection
		behind.Pause()
		harness.Until(t, 10*time.Second, "it stands still", func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", behind.PID()))
			return err == nil && strings.Contains(string(stat), ") T ")
		})
		done := make(chan uint64, 1)
		go func() { done <- backupRevision(t, behind) }()
		ahead.Must("zone", "create", fmt.Sprintf("z%d", round))
		known := backupRevision(t, ahead)
		behind.Continue()
		if got := <-done; got < known {
			t.Fatalf("round %d: the backup has revision %d, and %d was acknowledged before its node took the call", round, got, known)
		}
	}
}

// backupRevision takes a backup by a node, and gives the revision that it has.
func backupRevision(t *testing.T, n *harness.Node) (revision uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	in, err := n.Cluster().Backup(ctx, connect.NewRequest(&pb.BackupRequest{WithoutHistory: true}))
	if err != nil {
		t.Error(err)
		return 0
	}
	for in.Receive() {
		revision = max(revision, in.Msg().GetDone().GetRevision())
	}
	if err := in.Err(); err != nil {
		t.Error(err)
	}
	return revision
}
