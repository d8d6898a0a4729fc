package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Ports of every node of a cluster; the address tells them apart.
const (
	httpPort   = 8080
	mqttPort   = 1883
	gossipPort = 7946
	peerPort   = 7947
)

// slotCount is the number of slots of twins that may live on every node; each selector adds some.
const slotCount = 16384

// ClusterOptions of real processes that form a cluster.
type ClusterOptions struct {
	// Nodes that the cluster begins with; 0 means 3. All of them vote.
	Nodes int
	// Links can be cut. Costs a copy of each byte that goes from node to node.
	Links bool
	// Args come after those that the harness gives, for every node.
	Args []string
	// Env is added to every node's environment.
	Env []string
	// Dirs are the data directories of the nodes by number, such as on small disks; of those beyond, and where it is empty: the test's own.
	Dirs []string
	// Binary of the nodes; empty: the program under test.
	Binary string
	// Ready bounds the wait for a node; 0 means 60 s.
	Ready time.Duration
	// ClockRates are how fast the clocks of leases of the nodes run beside the machine's, by number; of those beyond it: alike.
	ClockRates []float64
}

// Cluster is several pollux processes on loopback addresses of their own: 127.A.B.1, 127.A.B.2 and so on, with A and B
// the test's, so that tests of several clusters run beside each other and each node comes back to its address.
type Cluster struct {
	// Net cuts links; nil without ClusterOptions.Links.
	Net *Network

	t    testing.TB
	o    ClusterOptions
	base string // 127.A.B
	dir  string

	mu       sync.Mutex
	nodes    []*Node
	prepared int
	key      string
}

// StartCluster starts the nodes n1, n2, n3 … in the availability zones a, b, c … and returns when each has its share of the
// slots. The test's end stops them.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	c := &Cluster{t: t, o: o, base: freeBase(t), dir: filepath.Join(t.TempDir(), "cluster")}
	if o.Links {
		c.Net = newNetwork(t, c.Nodes)
	}
	for i := range o.Nodes {
		n := c.add("n" + strconv.Itoa(i+1))
		if i == 0 {
			n.o.Args = append(n.o.Args, "--bootstrap-expect", strconv.Itoa(o.Nodes))
		}
	}
	c.RunAll(c.Nodes()...)
	c.Settle(time.Minute)
	return c
}

// freeBase finds a net of 127.A.B.x that nobody uses.
func freeBase(t testing.TB) string {
	for range 100 {
		next := uint64(os.Getpid())*7 + baseTurn.Add(1)
		base := fmt.Sprintf("127.%d.%d", 16+next/256%200, next%256)
		l, err := net.Listen("tcp4", join(base+".250", peerPort)) // held until the process ends: others see that it is taken
		if err != nil {
			continue
		}
		t.Cleanup(func() { l.Close() })
		return base
	}
	t.Fatal("no free net of loopback addresses")
	return ""
}

var baseTurn atomic.Uint64

// add makes a node that has not been started.
func (c *Cluster) add(name string) *Node {
	c.t.Helper()
	c.mu.Lock()
	i := len(c.nodes) + 1
	public := c.base + "." + strconv.Itoa(i)
	n := &Node{Name: name, Address: public, private: public, Dir: filepath.Join(c.dir, name), t: c.t,
		http: newHTTPClient(), key: c.Key,
		o: Options{Ready: c.o.Ready, Env: c.o.Env, Binary: c.o.Binary}}
	if i <= len(c.o.Dirs) && c.o.Dirs[i-1] != "" {
		n.Dir = c.o.Dirs[i-1]
	}
	if i <= len(c.o.ClockRates) {
		n.o.ClockRate = c.o.ClockRates[i-1]
	}
	n.URL, n.MQTT = "http://"+join(public, httpPort), join(public, mqttPort)
	if c.Net != nil {
		n.private = c.base + "." + strconv.Itoa(i+100)
	}
	n.o.Args = []string{"--name", name, "--availability-zone", string(rune('a' + i - 1)),
		"--gossip", join(n.private, gossipPort), "--peer", join(n.private, peerPort)}
	if c.Net != nil {
		n.o.Args = append(n.o.Args, "--advertise", public)
	}
	if i > 1 {
		n.o.Args = append(n.o.Args, "--join", join(c.nodes[0].Address, peerPort))
	}
	n.o.Args = append(n.o.Args, c.o.Args...)
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	if c.Net != nil {
		if err := c.Net.serve(name, n.Address, n.private, []int{peerPort, gossipPort}, gossipPort); err != nil {
			c.t.Fatal(err)
		}
	}
	c.t.Cleanup(func() {
		n.Continue()
		n.Kill()
		if c.t.Failed() {
			c.t.Logf("the last lines of %s:\n%s", n.Name, lastLines(n.Log(), 60))
		}
	})
	return n
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Add starts one more node and returns when it is ready; Settle waits for its slots.
func (c *Cluster) Add(name string, args ...string) *Node {
	c.t.Helper()
	n := c.add(name)
	n.o.Args = append(n.o.Args, args...)
	n.Run()
	return n
}

// Prepare makes a node of the cluster's net without starting it, for starts that must fail.
func (c *Cluster) Prepare(name string, args ...string) *Node {
	n := c.add(name)
	n.o.Args = append(n.o.Args, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = c.nodes[:len(c.nodes)-1] // no member until it is let in
	c.prepared++
	n.Dir = filepath.Join(c.dir, fmt.Sprintf("prepared-%d", c.prepared))
	return n
}

// Drift has the node's clock of leases run at another rate beside the machine's, from its next start on.
func (n *Node) Drift(rate float64) { n.o.ClockRate = rate }

// RunAll starts nodes at the same time, as a new cluster needs, and waits until each is ready.
func (c *Cluster) RunAll(nodes ...*Node) {
	c.t.Helper()
	failed := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			if err := n.TryRun(); err != nil {
				err = fmt.Errorf("%s: %w\n%s", n.Name, err, lastLines(n.Log(), 40))
				failed <- err
				return
			}
			failed <- nil
		}()
	}
	var all []error
	for range nodes {
		all = append(all, <-failed)
	}
	if err := errors.Join(all...); err != nil {
		c.t.Fatal(err)
	}
}

// Renumber gives a node that does not run another address, the host-th of the cluster's net, and has it join others that
// were renumbered before it.
func (c *Cluster) Renumber(n *Node, host int, others ...*Node) {
	n.Address = c.base + "." + strconv.Itoa(host)
	n.private = n.Address
	n.URL, n.MQTT = "http://"+join(n.Address, httpPort), join(n.Address, mqttPort)
	var args []string
	for i := 0; i < len(n.o.Args); i++ {
		switch arg := n.o.Args[i]; arg {
		case "--gossip":
			args = append(args, arg, join(n.Address, gossipPort))
			i++
		case "--peer":
			args = append(args, arg, join(n.Address, peerPort))
			i++
		case "--join":
			i++
		default:
			args = append(args, arg)
		}
	}
	for _, o := range others {
		args = append(args, "--join", join(o.Address, peerPort))
	}
	n.o.Args = args
}

// Nodes of the cluster, in the order in which they were added, running or not.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[:len(c.nodes):len(c.nodes)]
}

// Node gives the i-th node, from 0.
func (c *Cluster) Node(i int) *Node { return c.Nodes()[i] }

// Running gives the nodes whose process runs, was ready and is not paused.
func (c *Cluster) Running() []*Node {
	var run []*Node
	for _, n := range c.Nodes() {
		if n.Running() {
			run = append(run, n)
		}
	}
	return run
}

// Key gives the administrator's key, which the node that founded the cluster wrote.
func (c *Cluster) Key() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key != "" {
		return c.key
	}
	for _, n := range c.nodes {
		if text, err := os.ReadFile(filepath.Join(n.Dir, "admin.key")); err == nil {
			c.key = strings.TrimSpace(string(text))
			return c.key
		}
	}
	return ""
}

// Leader gives the node that leads by what all running nodes say, for which it waits up to 10 s; nil where they do not agree.
func (c *Cluster) Leader() *Node {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if n := c.agreedLeader(); n != nil {
			return n
		}
	}
	return nil
}

func (c *Cluster) agreedLeader() *Node {
	leader := ""
	for _, n := range c.Running() {
		s := n.Status()
		if s == nil || s.Leader == "" || leader != "" && s.Leader != leader {
			return nil
		}
		leader = s.Leader
	}
	for _, n := range c.Nodes() {
		if n.id() == leader && leader != "" {
			return n
		}
	}
	return nil
}

// Follower gives a running node that does not lead.
func (c *Cluster) Follower() *Node {
	leader := c.Leader()
	for _, n := range c.Running() {
		if n != leader {
			return n
		}
	}
	return nil
}

// Settle waits until every running node is alive, has its share of the slots and sees no move.
func (c *Cluster) Settle(within time.Duration) {
	c.t.Helper()
	if err := c.Settled(within); err != nil {
		c.t.Fatal(err)
	}
}

// Settled is Settle that returns what is still missing.
func (c *Cluster) Settled(within time.Duration) error {
	why := errors.New("not looked yet")
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if why = c.unsettled(); why == nil {
			return nil
		}
	}
	return fmt.Errorf("after %v the cluster has not settled: %w", within, why)
}

func (c *Cluster) unsettled() error {
	running := c.Running()
	for _, n := range running {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		r, err := n.Cluster().ListNodes(ctx, connect.NewRequest(&pb.ListNodesRequest{}))
		if err == nil {
			err = agrees(n, r.Msg.Nodes, running)
		}
		if err == nil {
			var m *connect.Response[pb.ListSlotsResponse]
			if m, err = n.Cluster().ListSlots(ctx, connect.NewRequest(&pb.ListSlotsRequest{Moving: true})); err == nil && m.Msg.Moving > 0 {
				err = fmt.Errorf("%s: %d slots are moving", n.Name, m.Msg.Moving)
			}
		}
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// agrees holds what one node says of all against the processes that run.
func agrees(by *Node, have []*pb.Node, running []*Node) error {
	sum, leaders := uint32(0), 0
	state := map[string]*pb.Node{}
	for _, n := range have {
		sum += n.Slots
		if n.Role == "leader" {
			leaders++
		}
		state[n.Name] = n
	}
	for _, n := range running {
		s := state[n.Name]
		switch {
		case s == nil:
			return fmt.Errorf("%s does not know %s", by.Name, n.Name)
		case s.State == "draining" || s.State == "left":
			n.setID(s.Id)
		case s.State != "alive":
			return fmt.Errorf("%s says that %s is %s", by.Name, n.Name, s.State)
		case s.Slots == 0:
			return fmt.Errorf("%s says that %s has no slots", by.Name, n.Name)
		default:
			n.setID(s.Id)
		}
	}
	if sum < slotCount || leaders != 1 {
		return fmt.Errorf("%s counts %d slots and %d leaders", by.Name, sum, leaders)
	}
	return nil
}

// Voters waits until so many nodes vote.
func (c *Cluster) Voters(want uint32, within time.Duration) {
	c.t.Helper()
	Until(c.t, within, fmt.Sprintf("%d nodes vote", want), func() bool {
		for _, n := range c.Running() {
			if s := n.Status(); s == nil || s.Voters != want || s.VotersAlive != want {
				return false
			}
		}
		return true
	})
}

func (n *Node) id() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ID
}

// Status of the cluster as a node tells it; nil where it does not within 2 s.
func (n *Node) Status() *pb.GetStatusResponse {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := n.Cluster().GetStatus(ctx, connect.NewRequest(&pb.GetStatusRequest{}))
	if err != nil {
		return nil
	}
	return r.Msg
}

// RunAs has the next starts of a node run another binary; empty: the program under test.
func (n *Node) RunAs(binary string) { n.o.Binary = binary }
