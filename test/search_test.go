package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// found gives the ids of what a node's search finds, sorted.
func found(ctx context.Context, n *harness.Node, r *pb.SearchRequest) (ids []string, err error) {
	r.PageSize = 200
	for {
		res, err := n.Search().Search(ctx, connect.NewRequest(r))
		if err != nil {
			return nil, err
		}
		for _, h := range res.Msg.Hits {
			ids = append(ids, h.Kind+" "+h.Id)
		}
		if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
			slices.Sort(ids)
			return ids, nil
		}
	}
}

// TestSearchOnEachNode: what is configured on one node is found on each of three, by the same words, also by one that was killed and
// did not see it change.
func TestSearchOnEachNode(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// same waits until all nodes find what is wanted.
	same := func(query, where, want string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			var bad string
			for _, n := range c.Running() {
				ids, err := found(ctx, n, &pb.SearchRequest{Query: query, Where: where})
				if got := strings.Join(ids, ", "); err != nil || got != want {
					bad = fmt.Sprintf("%s finds %s, %v", n.Name, got, err)
				}
			}
			if bad == "" {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s, want %s", bad, want)
			}
		}
	}
	n := c.Node(0)
	n.AddDriver("echo")
	n.Must("zone", "put", "hall", "--title", "Great Hall")
	for i := range 3 {
		n.Must("twin", "create", fmt.Sprintf("lamp-%d", i), "--driver", "echo", "--setting", fmt.Sprintf("topic=t%d", i), "--label", "room=aula", "--zone", "hall")
	}
	same("great lamp", "", "twin default/lamp-0, twin default/lamp-1, twin default/lamp-2")
	same("", `twin.labels.room == "aula" && twin.name.endsWith("1")`, "twin default/lamp-1")
	victim := c.Follower()
	t.Logf("kill -9 of %s", victim.Name)
	victim.Kill()
	n = c.Running()[0]
	n.Must("twin", "rm", "lamp-0")
	n.Must("zone", "put", "hall", "--title", "Ballroom")
	same("ballroom", "", "twin default/lamp-1, twin default/lamp-2, zone default/hall")
	victim.Run()
	same("ballroom", "", "twin default/lamp-1, twin default/lamp-2, zone default/hall")
	same("great", "", "")
	if out := victim.Must("search", "lamp", "-o", "json"); !strings.Contains(out, `"total": "2"`) {
		t.Errorf("pollux search -o json: %s", out)
	}
	out := victim.Must("search", "lmap", "--kind", "twin", "--facets")
	for _, want := range []string{"lamp-1", "lamp-2", "ZONE", "default/hall", "room=aula"} {
		if !strings.Contains(out, want) {
			t.Errorf("pollux search prints no %s:\n%s", want, out)
		}
	}
}
