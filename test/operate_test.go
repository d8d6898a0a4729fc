package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const operated = 24

// operatedTwin is the id of a twin of these tests, with its project.
func operatedTwin(i int) string { return fmt.Sprintf("default/op-%d", i) }

// TestOperate does with three nodes what an operator does, by the command line, while somebody watches all twins.
func TestOperate(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	a, b := c.Node(0), c.Node(1)
	a.AddDriver("echo")
	for i := range operated {
		createEcho(t, a, fmt.Sprintf("op-%d", i), map[string]any{"topic": fmt.Sprintf("op-%d", i)})
	}
	if out := b.Must("status"); !strings.Contains(out, "1 node: 2 of 3 voters must answer, and 3 do") {
		t.Errorf("status does not say what is survived:\n%s", out)
	}
	w := watchOperated(t, a)
	w.all("the first values", nil)
	placed(t, c)

	// The drained node's twins go on elsewhere, and come back; the watch goes with them.
	out, err := a.Command(t.Context(), "cluster", "drain", b.Name)
	if err != nil || !strings.Contains(out, "has no slots left") {
		t.Fatalf("drain: %v: %s", err, out)
	}
	if got := placed(t, c)[b.Name]; got != 0 {
		t.Errorf("%s drained has %d twins", b.Name, got)
	}
	w.count(b)
	a.Must("cluster", "undrain", b.Name)
	c.Settle(30 * time.Second)
	if placed(t, c)[b.Name] == 0 {
		t.Errorf("%s has no twins after it was undrained", b.Name)
	}

	// Leadership is asked for at a node that does not have it.
	next := c.Follower()
	if out := next.Must("cluster", "transfer-leader", next.Name); !strings.Contains(out, "node "+next.Name+" ") {
		t.Errorf("transfer: %s", out)
	}
	var token struct{ Token, Command string }
	if err := json.Unmarshal([]byte(b.Must("cluster", "token", "--ttl", "5m", "-o", "json")), &token); err != nil ||
		token.Token == "" || !strings.Contains(token.Command, "--join-token "+token.Token) {
		t.Errorf("token: %+v, %v", token, err)
	}
	if out, err := a.Command(t.Context(), "cluster", "remove", b.Name); err == nil || !strings.Contains(out, "stop it first") {
		t.Errorf("remove of a node that lives: %v: %s", err, out)
	}
	if out := a.Must("cluster", "check"); !strings.Contains(out, "nothing found") {
		t.Errorf("check: %s", out)
	}

	// A node dies: the reader is told, and sees all twins again; commands find a node that is there.
	dead := c.Node(2)
	dead.Kill()
	killed := time.Now()
	w.next("the gap", func(m *pb.WatchTwinsResponse) bool { return m.Gap != "" && strings.Contains(m.Gap, dead.Name) })
	w.count(b)
	t.Logf("all %d twins answered and were seen %v after the kill", operated, time.Since(killed).Round(10*time.Millisecond))
	list, err := a.Command(t.Context(), "cluster", "nodes", "-o", "json", "--url", dead.URL+","+a.URL)
	if err != nil {
		t.Fatalf("with the first address dead: %v", err)
	}
	nodes := &pb.ListNodesResponse{}
	if err := protojson.Unmarshal([]byte(list), nodes); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes.Nodes, func(n *pb.Node) bool { return n.Name == dead.Name })
	if n := nodes.Nodes[i]; n.State != "dead" || n.Silence == "" || n.Slots != 0 {
		t.Errorf("the dead node is listed as %v", n)
	}
	if out := a.Must("status"); !strings.Contains(out, "none: 2 of 3 voters must answer, and 2 do; without an answer: "+dead.Name) {
		t.Errorf("status does not say that nothing is survived:\n%s", out)
	}
}

// placed counts the twins of each node, and checks that every node says the same of every twin.
func placed(t *testing.T, c *harness.Cluster) map[string]int {
	t.Helper()
	at := map[string]string{}
	for _, n := range c.Nodes() {
		for _, other := range c.Nodes() {
			res, err := n.Cluster().GetPlacement(t.Context(), connect.NewRequest(&pb.GetPlacementRequest{Node: other.Name, PageSize: 1000}))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range res.Msg.Twins {
				if was := at[p.Id]; was != "" && was != other.Name {
					t.Errorf("%s says that %s is on %s; it was on %s", n.Name, p.Id, other.Name, was)
				}
				at[p.Id] = other.Name
			}
		}
	}
	if len(at) != operated {
		t.Errorf("%d of %d twins have a place", len(at), operated)
	}
	id := operatedTwin(0)
	if out := c.Node(1).Must("cluster", "where", id); !strings.Contains(out, at[id]+" (") {
		t.Errorf("where %s, which is on %s: %s", id, at[id], out)
	}
	count := map[string]int{}
	for _, node := range at {
		count[node]++
	}
	return count
}

// operatedWatch is somebody who watches all twins through one node.
type operatedWatch struct {
	t   *testing.T
	got chan *pb.WatchTwinsResponse
	err error
	// last value of each twin's counter.
	last map[string]float64
}

func watchOperated(t *testing.T, n *harness.Node) *operatedWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s, err := n.Twins().WatchTwins(ctx, connect.NewRequest(&pb.WatchTwinsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	w := &operatedWatch{t: t, got: make(chan *pb.WatchTwinsResponse, 4096), last: map[string]float64{}}
	go func() {
		defer close(w.got)
		for s.Receive() {
			w.got <- proto.CloneOf(s.Msg())
		}
		w.err = s.Err()
	}()
	return w
}

// next gives the first message that matches. A counter that goes back is an error: what came later was said before.
func (w *operatedWatch) next(what string, match func(*pb.WatchTwinsResponse) bool) {
	w.t.Helper()
	for late := time.After(30 * time.Second); ; {
		select {
		case m, ok := <-w.got:
			if !ok {
				w.t.Fatalf("%s: the watch ended: %v", what, w.err)
			}
			v := m.GetState().GetProperties()["count"]
			if d := m.GetDelta(); d != nil {
				v = d.Properties["count"]
			}
			if v != nil {
				if n := v.Value.GetNumberValue(); n < w.last[m.Id] {
					w.t.Errorf("%s counts %v after %v", m.Id, n, w.last[m.Id])
				} else {
					w.last[m.Id] = n
				}
			}
			if match(m) {
				return
			}
		case <-late:
			w.t.Fatalf("not in time: %s", what)
		}
	}
}

// all waits until each twin was seen, at its wanted count where there is one.
func (w *operatedWatch) all(what string, want map[string]float64) {
	w.t.Helper()
	seen := map[string]bool{}
	done := func() bool {
		for id, n := range want {
			if w.last[id] < n {
				return false
			}
		}
		return want != nil || len(seen) == operated
	}
	for !done() {
		w.next(what, func(m *pb.WatchTwinsResponse) bool {
			if m.Id != "" {
				seen[m.Id] = true
			}
			return true
		})
	}
}

// count has every twin count through a node, as soon as it answers, and waits until the watch shows it.
func (w *operatedWatch) count(n *harness.Node) {
	w.t.Helper()
	want := map[string]float64{}
	for i := range operated {
		id := operatedTwin(i)
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			res, err := n.Twins().Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: id, Action: "count"}))
			cancel()
			if err == nil {
				want[id] = res.Msg.Output.GetNumberValue()
				break
			}
			if time.Now().After(end) {
				w.t.Fatalf("%s does not answer: %v", id, err)
			}
		}
	}
	w.all(fmt.Sprintf("the counts of %d twins: %v", len(want), slices.Sorted(maps.Keys(want))[0]), want)
}
