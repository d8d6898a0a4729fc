package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/chaos"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// startCluster starts three processes with the echo driver.
func startCluster(b *testing.B, args ...string) *harness.Cluster {
	b.Helper()
	c := harness.StartCluster(b, harness.ClusterOptions{Nodes: 3, Args: append([]string{"--log-level", "warn"}, args...)})
	c.Node(0).AddDriver("echo")
	return c
}

// echoTwins makes so many and gives their names.
func echoTwins(b *testing.B, c *harness.Cluster, count int) []string {
	b.Helper()
	names := make([]string, count)
	twins := make([]*pb.Twin, count)
	for i := range names {
		names[i] = "echo-" + strconv.Itoa(i)
		twins[i] = &pb.Twin{Id: names[i], Driver: "echo", Settings: settings(names[i])}
	}
	chaos.CreateAll(b, c.Node(0), twins)
	return names
}

// owners gives the name of the node that has each slot.
func owners(b *testing.B, n *harness.Node) []string {
	b.Helper()
	r, err := n.Cluster().ListSlots(b.Context(), connect.NewRequest(&pb.ListSlotsRequest{Map: true}))
	if err != nil {
		b.Fatal(err)
	}
	m := r.Msg.Map
	of := make([]string, len(m.Owners))
	for i, o := range m.Owners {
		if o > 0 {
			of[i] = m.Names[o-1]
		}
	}
	return of
}

// twinsOn gives the twins that a node has.
func twinsOn(b *testing.B, n *harness.Node) []string {
	b.Helper()
	var all []string
	for token := ""; ; {
		r, err := n.Cluster().GetPlacement(b.Context(), connect.NewRequest(&pb.GetPlacementRequest{Node: n.Name, PageSize: 1000, PageToken: token}))
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range r.Msg.Twins {
			all = append(all, p.Id)
		}
		if token = r.Msg.NextPageToken; token == "" {
			return all
		}
	}
}

// BenchmarkInvokeRemote: calls of another node's twins, against the same calls of the node's own.
func BenchmarkInvokeRemote(b *testing.B) {
	c := startCluster(b)
	echoTwins(b, c, 3000)
	asked := c.Node(0)
	local, remote := twinsOn(b, asked), append(twinsOn(b, c.Node(1)), twinsOn(b, c.Node(2))...)
	if len(local) < 300 || len(remote) < 600 {
		b.Fatalf("%d local twins and %d remote ones", len(local), len(remote))
	}
	input := structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"text": structpb.NewStringValue("good morning"), "level": structpb.NewNumberValue(42)}})
	twins := plain(asked)
	warm(b, c, append(append([]string(nil), local...), remote...))
	call := func(ids []string) func() float64 {
		return func() float64 {
			return perSecond(b, func(ctx context.Context, c, i int) error {
				_, err := twins.Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: ids[(c*131+i)%len(ids)], Action: "echo", Input: input}))
				return err
			})
		}
	}
	against(b, "Invoke on a twin of another node, 64 clients, 3 nodes", "calls/s", 0.5, call(remote), call(local))
}

// BenchmarkSetDesiredCluster: committed on a quorum of three nodes, the clients spread over these, against a handler that does
// a bare raft Apply with three peers, each a process too.
func BenchmarkSetDesiredCluster(b *testing.B) {
	c := startCluster(b)
	ids := echoTwins(b, c, 1000)
	var ours []polluxv1connect.TwinServiceClient
	for _, n := range c.Nodes() {
		ours = append(ours, plain(n))
	}
	warm(b, c, ids)
	leader, _, peers := bareCluster(b)
	var nodes []int
	for _, n := range c.Nodes() {
		nodes = append(nodes, n.PID())
	}
	call := func(what string, pids []int, to ...polluxv1connect.TwinServiceClient) func() float64 {
		return func() float64 {
			return withCPU(b, what, pids, func() float64 {
				return perSecond(b, func(ctx context.Context, c, i int) error {
					_, err := to[c%len(to)].SetDesired(ctx, connect.NewRequest(&pb.SetDesiredRequest{Id: ids[(c*131+i)%len(ids)], Property: "level",
						Value: structpb.NewNumberValue(float64(i))}))
					return err
				})
			})
		}
	}
	against(b, "SetDesired committed on 3 nodes, 64 clients", "calls/s", 0.7, call("ours", nodes, ours...), call("the floor's", peers, leader))
}

// withCPU logs what one call costs of processors, in the processes and in this one, the clients. That holds on a machine with
// other work too, where calls a second do not.
func withCPU(b *testing.B, what string, pids []int, perSecond func() float64) float64 {
	b.Helper()
	spent := func() (v float64) {
		for _, p := range pids {
			v += cpu(b, p)
		}
		return v
	}
	began, was, wasHere := time.Now(), spent(), cpu(b, os.Getpid())
	rate := perSecond()
	calls := rate * time.Since(began).Seconds() / 1e6
	b.Logf("%s: %.0f calls/s, %.0f µs of processor time a call in the %d processes, %.0f in the clients", what, rate, (spent()-was)/calls, len(pids),
		(cpu(b, os.Getpid())-wasHere)/calls)
	return rate
}

// plain is a client like the floors' (HTTP/1.1).
func plain(n *harness.Node) polluxv1connect.TwinServiceClient {
	return polluxv1connect.NewTwinServiceClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}, n.URL,
		connect.WithInterceptors(harness.Bearer(n.Key)))
}

// warm calls each twin once, so that its node has compiled the driver and holds the twin.
func warm(b *testing.B, c *harness.Cluster, ids []string) {
	b.Helper()
	if _, last, err := chaos.Recover(harness.NewCaller(c.Running), ids, time.Now(), 2*time.Minute); err != nil {
		b.Fatalf("%s: %v", last, err)
	}
}

// atMost reports a figure that is to be small.
func atMost(b *testing.B, name, unit string, got, most float64) {
	b.Helper()
	report(b, Line{Name: name, Unit: unit, Ours: got, Goal: fmt.Sprintf("<= %v", most), Met: got <= most})
}

// BenchmarkNodeLoss: kill -9 of a follower and of the leader; how long until each of 10,000 twins has answered.
func BenchmarkNodeLoss(b *testing.B) {
	const count = 10000
	c := startCluster(b)
	names := echoTwins(b, c, count)
	caller := harness.NewCaller(c.Running)
	if _, last, err := chaos.Recover(caller, names, time.Now(), time.Minute); err != nil {
		b.Fatalf("%s: %v", last, err)
	}
	lose := func(what string, n *harness.Node, most float64) {
		since := time.Now()
		n.Kill()
		took, last, err := chaos.Recover(caller, names, since, time.Minute)
		if err != nil {
			b.Errorf("%s: %v", last, err)
		}
		atMost(b, "kill -9 of "+what+": until all of 10,000 twins answer", "s", took.Seconds(), most)
		n.Run()
		c.Settle(time.Minute)
	}
	lose("a follower", c.Follower(), 5)
	lose("the leader", c.Leader(), 7)
}

const (
	drainTwins   = 30000 // a third of them on the node that is drained
	drainDevices = 3000  // of them have a device of their own, and are called
	drainCalls   = 500   // per second
	drainAnswer  = 50 * time.Millisecond
)

// BenchmarkDrain: a node with 10,000 twins hands them over while twins with slow devices are called.
func BenchmarkDrain(b *testing.B) {
	c := startCluster(b, "--twin-connect-rate", "2000")
	c.Node(0).AddDriver("line")
	echoTwins(b, c, drainTwins-drainDevices)
	devices := harness.NewDevices(b, nil)
	var twins []*pb.Twin
	for i := range drainDevices {
		name := "line-" + strconv.Itoa(i)
		twins = append(twins, &pb.Twin{Id: name, Driver: "line", Uri: "tcp://" + devices.Line(name, drainAnswer)})
	}
	chaos.CreateAll(b, c.Node(0), twins)
	harness.Until(b, time.Minute, "all devices are connected", func() bool { return len(devices.Writers()) == drainDevices })
	n := c.Node(2)
	had := len(twinsOn(b, n))
	calls := startCalls(c, drainCalls, func(i int) (string, string) { return twins[i*7919%len(twins)].Id, "ping" })
	time.Sleep(3 * time.Second)
	calm := calls.take()
	began := time.Now()
	if _, err := n.Cluster().DrainNode(b.Context(), connect.NewRequest(&pb.DrainNodeRequest{Node: n.Name})); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	if err := chaos.Drained(ctx, n); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	time.Sleep(2 * time.Second)
	calls.stop()
	done := calls.take()
	b.Logf("%d twins left %s in %.1f s; %d calls, p50 %.0f ms, p99 %.0f ms, longest %.0f ms; before: p99 %.0f ms", had, n.Name, took.Seconds(),
		len(done.took), done.quantile(0.5), done.quantile(0.99), done.quantile(1), calm.quantile(0.99))
	for i, err := range done.failed {
		if i < 5 {
			b.Logf("a call failed: %v", err)
		}
	}
	atMost(b, fmt.Sprintf("drain of a node with %d twins under 500 calls/s: failed calls", had), "calls", float64(len(done.failed)), 0)
	atMost(b, "drain of the same: p99 of the calls, devices answer in 50 ms", "ms", done.quantile(0.99), 250)
}

const joinTwins = 100000

// BenchmarkJoin: a fourth node joins three with 100,000 twins; then what a node with all of them costs at rest.
func BenchmarkJoin(b *testing.B) {
	c := startCluster(b, "--twin-passivate-after", "5s")
	names := echoTwins(b, c, joinTwins)
	before := owners(b, c.Node(0))
	calls := startCalls(c, 200, func(i int) (string, string) { return names[i*7919%len(names)], "echo" })
	time.Sleep(2 * time.Second)
	calls.take()
	began := time.Now()
	c.Add("n4")
	c.Settle(5 * time.Minute)
	took := time.Since(began)
	calls.stop()
	done := calls.take()
	after, moved, gained := owners(b, c.Node(0)), 0, 0
	for s := range after {
		if after[s] != before[s] {
			moved++
			if after[s] == "n4" {
				gained++
			}
		}
	}
	share := float64(moved) / float64(len(after))
	b.Logf("%d of %d slots moved, %d of them to the new node, in %.1f s; %d calls, p99 %.0f ms", moved, len(after), gained, took.Seconds(),
		len(done.took), done.quantile(0.99))
	for i, err := range done.failed {
		if i < 5 {
			b.Logf("a call failed: %v", err)
		}
	}
	report(b, Line{Name: "join of a fourth node, 100,000 twins: moved share", Unit: "of 1/4", Ours: share * 4, Goal: "0.95 to 1.05",
		Met: share*4 >= 0.95 && share*4 <= 1.05 && gained == moved})
	atMost(b, "join of a fourth node: failed calls", "calls", float64(len(done.failed)), 0)
	idle(b, c)
}

// idle has one node keep all twins, and measures what it costs.
func idle(b *testing.B, c *harness.Cluster) {
	last := c.Node(0)
	for _, n := range c.Nodes()[1:] {
		if _, err := last.Cluster().DrainNode(b.Context(), connect.NewRequest(&pb.DrainNodeRequest{Node: n.Name})); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
		err := chaos.Drained(ctx, n)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
	}
	harness.Until(b, time.Minute, "no twin is in memory", func() bool { s := last.Status(); return s != nil && s.ActiveTwins == 0 })
	const rest = 20 * time.Second
	time.Sleep(5 * time.Second)
	was := cpu(b, last.PID())
	time.Sleep(rest)
	atMost(b, "idle cost of a node with 100,000 passive twins", "% of a core", 100*(cpu(b, last.PID())-was)/rest.Seconds(), 3)
}

// cpu is the seconds that a process has computed for.
func cpu(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	ticks := 0.0
	for _, f := range fields[11:13] { // user and system time, in hundredths of a second
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += v
	}
	return ticks / 100
}

// steadyCalls are made at a rate, whether the ones before have been answered or not.
type steadyCalls struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup
	mu     sync.Mutex
	got    callReport
}

type callReport struct {
	took   []time.Duration // of those that were answered
	failed []error
}

func startCalls(c *harness.Cluster, rate int, of func(i int) (twin, action string)) *steadyCalls {
	ctx, cancel := context.WithCancel(context.Background())
	s := &steadyCalls{cancel: cancel}
	caller := harness.NewCaller(c.Running)
	var i atomic.Int64
	s.ended.Go(func() {
		for due := time.Now(); ; due = due.Add(time.Second / time.Duration(rate)) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(due)):
			}
			s.ended.Go(func() {
				twin, action := of(int(i.Add(1)))
				call, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				began := time.Now()
				node, _, o, err := caller.Invoke(call, twin, action, nil)
				s.mu.Lock()
				defer s.mu.Unlock()
				if o != journal.Done {
					s.got.failed = append(s.got.failed, fmt.Errorf("%s by %s: %v: %w", twin, node, o, err))
					return
				}
				s.got.took = append(s.got.took, time.Since(began))
			})
		}
	})
	return s
}

// take gives what has ended since the last time.
func (s *steadyCalls) take() callReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = callReport{}
	return got
}

// stop ends the calls and waits for those under way.
func (s *steadyCalls) stop() {
	s.cancel()
	s.ended.Wait()
}

// quantile in milliseconds.
func (r *callReport) quantile(q float64) float64 {
	if len(r.took) == 0 {
		return 0
	}
	slices.Sort(r.took)
	return float64(r.took[min(len(r.took)-1, int(q*float64(len(r.took))))].Microseconds()) / 1000
}
