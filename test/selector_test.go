package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestTwinsLiveWhereTheyMay gives twins selectors and looks where they live, with real nodes that come and go.
func TestTwinsLiveWhereTheyMay(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3}) // in the zones a, b and c
	a, b := c.Node(0), c.Node(1)
	a.AddDriver("echo")
	const each = 8
	var inB []string
	for i := range each {
		inB = append(inB, fmt.Sprintf("b%d", i))
		a.Must("twin", "create", inB[i], "--driver", "echo", "--selector", "zone=b")
		a.Must("twin", "create", fmt.Sprintf("ac%d", i), "--driver", "echo", "--selector", " zone in (c, a)")
		a.Must("twin", "create", fmt.Sprintf("any%d", i), "--driver", "echo")
	}
	if out, err := a.Command(t.Context(), "twin", "create", "x", "--driver", "echo", "--selector", "zone in a"); err == nil ||
		!strings.Contains(out, `/selector`) || !strings.Contains(out, `name "zone in a"`) {
		t.Errorf("a malformed selector: %v: %s", err, out)
	}
	for i := range each {
		says(t, c, inB[i])
		lives(t, c, inB[i], b)
		says(t, c, fmt.Sprintf("ac%d", i))
		lives(t, c, fmt.Sprintf("ac%d", i), a, c.Node(2))
		says(t, c, fmt.Sprintf("any%d", i))
	}
	if out := c.Node(2).Must("twin", "get", "ac0"); !strings.Contains(out, "zone in (a,c)") {
		t.Errorf("the twin does not show its selector:\n%s", out)
	}
	if out := a.Must("cluster", "drain", b.Name); !strings.Contains(out, "no other node satisfies their selectors") {
		t.Errorf("drain of the only node that has them: %s", out)
	}
	says(t, c, inB[0])
	a.Must("cluster", "undrain", b.Name)

	// The only node that may have them dies, and comes back.
	b.Kill()
	nobody(t, a, inB[0], "zone=b")
	for i := range each {
		says(t, c, fmt.Sprintf("ac%d", i))
		says(t, c, fmt.Sprintf("any%d", i))
	}
	for _, args := range [][]string{{"status"}, {"cluster", "check"}, {"cluster", "where", inB[0]}} {
		if out, _ := a.Command(t.Context(), args...); !strings.Contains(out, "no node satisfies zone=b") {
			t.Errorf("%v does not tell what no node satisfies:\n%s", args, out)
		}
	}
	// Those that get another selector meanwhile go where they may, with what they know; those that are deleted go.
	a.Must("twin", "update", inB[0], "--selector", "zone=c")
	says(t, c, inB[0])
	lives(t, c, inB[0], c.Node(2))
	a.Must("twin", "delete", inB[1])
	a.Must("twin", "create", inB[1], "--driver", "echo")
	says(t, c, inB[1])
	b.Run()
	c.Settle(time.Minute)
	for _, id := range inB[2:] {
		says(t, c, id)
		lives(t, c, id, b)
	}

	// A node that joins has what asks for it; when it stops, nobody has.
	a.Must("twin", "create", "far", "--driver", "echo", "--selector", "site=berlin,rack=r1,!tape")
	nobody(t, a, "far", "!tape,rack=r1,site=berlin")
	d := c.Add("n4", "--site", "berlin", "--label", "rack=r1")
	c.Settle(time.Minute)
	says(t, c, "far")
	lives(t, c, "far", d)
	began := time.Now()
	if err := d.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a planned stop took %v", took)
	}
	nobody(t, a, "far", "!tape,rack=r1,site=berlin")
	d.Run()
	c.Settle(time.Minute)
	says(t, c, "far")
}

// TestSelectorsChangeUnderLoad changes the selectors of twins while clients call them: every call is answered, and what a
// twin has counted it goes on to count elsewhere.
func TestSelectorsChangeUnderLoad(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	a := c.Node(0)
	a.AddDriver("echo")
	var ids []string
	for i := range 6 {
		ids = append(ids, fmt.Sprintf("m%d", i))
		a.Must("twin", "create", ids[i], "--driver", "echo")
	}
	stop, calls, failed := make(chan struct{}), make(chan int, len(ids)), make(chan error, 1000)
	for i, id := range ids {
		go func() {
			n := 0
			defer func() { calls <- n }()
			for ; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := say(t, c.Node((i+n)%3), id); err != nil {
					failed <- fmt.Errorf("%s: %w", id, err)
				}
				time.Sleep(2 * time.Millisecond) // the load is not the point
			}
		}()
	}
	for round, selector := range []string{"zone=a", "zone=b", "", "zone!=a", "zone in (a,b)", "zone=c", ""} {
		for _, id := range ids {
			c.Node(round%3).Must("twin", "update", id, "--selector="+selector)
		}
		c.Settle(30 * time.Second)
		if zones := map[string][]*harness.Node{"zone=a": {a}, "zone=b": {c.Node(1)}, "zone=c": {c.Node(2)}}; zones[selector] != nil {
			for _, id := range ids {
				lives(t, c, id, zones[selector]...)
			}
		}
	}
	close(stop)
	sum := 0
	for range ids {
		sum += <-calls
	}
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	t.Logf("%d calls while %d twins changed their selector 7 times", sum, len(ids))
}

// say calls a twin's action.
func say(t *testing.T, n *harness.Node, id string) error {
	input, err := structpb.NewValue(map[string]any{"text": "hello"})
	if err != nil {
		return err
	}
	r, err := n.Twins().Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: id, Action: "say", Input: input}))
	if err == nil && r.Msg.Outcome != pb.Outcome_OUTCOME_DONE {
		err = fmt.Errorf("the outcome is %v", r.Msg.Outcome)
	}
	return err
}

// says has a twin answer, by every node.
func says(t *testing.T, c *harness.Cluster, id string) {
	t.Helper()
	for _, n := range c.Running() {
		if err := say(t, n, id); err != nil {
			t.Errorf("%s by %s: %v", id, n.Name, err)
		}
	}
}

// lives waits until a twin lives on one of the nodes, as every node says.
func lives(t *testing.T, c *harness.Cluster, id string, on ...*harness.Node) {
	t.Helper()
	for _, n := range c.Running() {
		harness.Until(t, 30*time.Second, "twin "+id+" to live where it may, as "+n.Name+" sees it", func() bool {
			r, err := n.Cluster().GetPlacement(t.Context(), connect.NewRequest(&pb.GetPlacementRequest{Id: id}))
			if err != nil {
				t.Fatal(err)
			}
			p := r.Msg.Placement
			return p.Node == p.Target && slices.ContainsFunc(on, func(o *harness.Node) bool { return o.Name == p.NodeName })
		})
	}
}

// nobody waits until a twin is unavailable because no node satisfies its selector, and looks that the others say so too.
func nobody(t *testing.T, n *harness.Node, id, selector string) {
	t.Helper()
	out := ""
	harness.Until(t, 30*time.Second, "twin "+id+" to be unavailable", func() bool {
		var err error
		out, err = n.Command(t.Context(), "twin", "call", id, "say", `{"text":"hello"}`)
		return err != nil && strings.Contains(out, "unavailable: no node satisfies "+selector)
	})
	if !strings.Contains(out, "hint: start a node that satisfies it") {
		t.Errorf("no hint: %s", out)
	}
}
