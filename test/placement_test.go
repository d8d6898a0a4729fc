package test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// A twin's placement says whether it is in memory.
func TestPlacementShowsWhoIsActive(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	n.Must("twin", "create", "there", "--driver", "echo")
	n.Must("twin", "call", "there", "say", `{"text":"hello"}`)
	for id, want := range map[string]bool{"there": true, "nobody": false} {
		r, err := n.Cluster().GetPlacement(t.Context(), connect.NewRequest(&pb.GetPlacementRequest{Id: id}))
		if err != nil {
			t.Fatal(err)
		}
		if p := r.Msg.Placement; p.GetActive() != want || p.GetAbsent() == want || p.GetNode() == "" {
			t.Errorf("placement of %s: %v, want active %t", id, p, want)
		}
	}
	if out := n.Must("cluster", "where", "nobody"); !strings.Contains(out, "There is no twin default/nobody") {
		t.Errorf("where nobody: %s", out)
	}
}
