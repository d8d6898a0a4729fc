package test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/cluster/peer"
	"github.com/polluxhq/pollux/cluster/pki"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/test/chaos"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	// lease is how long a node may act without hearing of the others, and a little for a busy machine.
	lease = 3500*time.Millisecond + 1500*time.Millisecond
	// refusal bounds how long a node that may not join tries.
	refusal = 45 * time.Second
)

// TestMinority cuts one node off. It answers reads of what was committed, says "no quorum" to the rest as soon as its lease
// is over, and leaves its devices alone; the others take its twins. Healed, it has its share again without help.
func TestMinority(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3, Links: true})
	l := chaos.Start(t, c, chaos.Options{})
	lone := c.Follower()
	twin := ""
	harness.Until(t, time.Minute, lone.Name+" has a line device", func() bool {
		for device, node := range l.Devices.Writers() {
			if node == lone.Name && strings.HasPrefix(device, "line-") {
				twin = device
			}
		}
		return twin != ""
	})
	cut := time.Now()
	c.Net.Isolate(lone.Name)
	time.Sleep(time.Until(cut.Add(lease)))
	for name, call := range map[string]func(ctx context.Context) error{
		"invoke": func(ctx context.Context) error {
			_, err := lone.Twins().Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: twin, Action: "ping"}))
			return err
		},
		"set desired": func(ctx context.Context) error {
			_, err := lone.Twins().SetDesired(ctx, connect.NewRequest(&pb.SetDesiredRequest{Id: twin, Property: "level", Value: structpb.NewNumberValue(1)}))
			return err
		},
		"create": func(ctx context.Context) error {
			_, err := lone.Twins().CreateTwin(ctx, connect.NewRequest(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "lonely", Driver: "echo"}}))
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := call(ctx)
		cancel()
		if !connect.IsWireError(err) || connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "no quorum") ||
			rpc.ErrorInfoOf(err).GetReason() != "no_quorum" {
			t.Errorf("%s in the minority: %v; want unavailable: no quorum", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	r, err := lone.Twins().GetTwin(ctx, connect.NewRequest(&pb.GetTwinRequest{Id: twin, Consistency: pb.Consistency_CONSISTENCY_LOCAL}))
	cancel()
	if err != nil || r.Msg.Twin.GetState() == nil {
		t.Errorf("a local read in the minority: %v", err)
	}
	for _, conn := range l.Devices.Conns() {
		if conn.Node != lone.Name {
			continue
		}
		if conn.Closed.IsZero() {
			t.Errorf("%s still holds the connection to %s, %v after it was cut off", lone.Name, conn.Device, time.Since(cut))
		}
		if n := len(conn.Writes); n > 0 && conn.Writes[n-1].At.After(cut.Add(lease)) {
			t.Errorf("%s wrote to %s, %v after it was cut off", lone.Name, conn.Device, conn.Writes[n-1].At.Sub(cut))
		}
	}
	if _, _, err := l.Recover(cut, 30*time.Second); err != nil {
		t.Error(err)
	}
	c.Net.Heal()
	c.Settle(time.Minute)
	harness.Until(t, 30*time.Second, lone.Name+" takes calls again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := lone.Twins().Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: twin, Action: "ping"}))
		return err == nil
	})
	l.Check()
}

// TestNodesThatMayNotJoin starts nodes that are not what they should be. Each is refused with a reason, here and there, and
// the cluster goes on.
func TestNodesThatMayNotJoin(t *testing.T) {
	t.Parallel()
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	l := chaos.Start(t, c, chaos.Options{Projectors: -1, Publishers: -1})
	other := harness.StartCluster(t, harness.ClusterOptions{Nodes: 1})
	token := strings.TrimSpace(jsonField(t, c.Node(0).Must("cluster", "token", "-o", "json"), "token"))
	strange := strings.TrimSpace(jsonField(t, other.Node(0).Must("cluster", "token", "-o", "json"), "token"))
	tests := []struct {
		name  string
		node  func(t *testing.T) *harness.Node
		here  string // what the refused one says
		there string // what a member says; empty: nothing is asked
	}{
		{"a token with another secret", func(*testing.T) *harness.Node {
			return c.Prepare("x1", "--join-token", token[:len(token)-4]+flip(token[len(token)-4:]))
		}, `(?i)token`, `(?i)token`},
		{"a token of another cluster", func(*testing.T) *harness.Node { return c.Prepare("x2", "--join-token", strange) }, `(?i)token|certificate|authority`, ""},
		{"the name of a member", func(*testing.T) *harness.Node { return c.Prepare("n2", "--join-token", token) }, `(?i)name.*n2|n2.*name`, `(?i)name`},
		{"a member of another cluster", func(t *testing.T) *harness.Node {
			other.Node(0).Kill()
			n := c.Prepare("x4")
			copyDir(t, other.Node(0).Dir, n.Dir)
			return n
		}, `(?i)cluster|certificate`, ""},
		{"a copy of a member's data", func(t *testing.T) *harness.Node {
			n := c.Prepare("x5")
			copyDir(t, c.Node(2).Dir, n.Dir)
			return n
		}, `(?i)copy|another process|already|runs`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := tt.node(t)
			ended := make(chan error, 1)
			go func() { ended <- n.TryRun() }()
			why := regexp.MustCompile(tt.here)
			said := func() bool { return why.MatchString(errorLines(n.Log())) }
			select {
			case err := <-ended:
				if err == nil {
					t.Errorf("it was let in")
				}
			case <-time.After(refusal):
				t.Errorf("it neither ended nor was ready in %v", refusal)
			}
			if !said() {
				t.Errorf("it does not say why; want %s in:\n%s", tt.here, n.Log())
			}
			if tt.there != "" {
				there := regexp.MustCompile(tt.there)
				harness.Until(t, 30*time.Second, "a member says why too", func() bool {
					for _, m := range c.Nodes() {
						if there.MatchString(errorLines(m.Log())) {
							return true
						}
					}
					return false
				})
			}
			n.Kill()
		})
	}
	// Who has a token gets no certificate in the name of a member.
	if err := enrollAs(t, c.Node(0), c.Node(2).ID, "x7"); err == nil || !strings.Contains(err.Error(), "is in the cluster and has a certificate") {
		t.Errorf("with the id of a member: %v", err)
	}
	if err := enrollAs(t, c.Node(0), "n0123456789", "x8"); err != nil {
		t.Errorf("with an id of its own: %v", err)
	}
	c.Settle(30 * time.Second)
	if len(l.CallsSince(time.Time{})) < 100 {
		t.Error("the load was no load")
	}
	l.Check()
}

// TestStaleLocalToken: what an earlier node left in the user's cache keeps nobody from joining the one that is there now.
func TestStaleLocalToken(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 1})
	other := harness.StartCluster(t, harness.ClusterOptions{Nodes: 1})
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	file := func(n *harness.Node) string { return filepath.Join(cache, "pollux", "join", n.Address+"_7947") }
	right, err := os.ReadFile(file(c.Node(0)))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := os.ReadFile(file(other.Node(0)))
	if err != nil {
		t.Fatal(err)
	}
	put := func(token []byte) {
		if err := os.WriteFile(file(c.Node(0)), token, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(wrong)
	n := c.Prepare("n2")
	ended := make(chan error, 1)
	go func() { ended <- n.TryRun() }()
	harness.Until(t, 30*time.Second, "the node says what it waits for", func() bool { return strings.Contains(n.Log(), "left there by an earlier node") })
	put(right)
	if err := <-ended; err != nil {
		t.Errorf("it did not join: %v\n%s", err, n.Log())
	}
	n.Kill()
	other.Node(0).Kill() // its file stays
	other.Node(0).Wipe()
	other.Node(0).Run()
	if now, err := os.ReadFile(file(other.Node(0))); err != nil || bytes.Equal(now, wrong) {
		t.Errorf("a new node has the token of the one before: %v", err)
	}
}

// enrollAs asks a node for a certificate, with a token of the cluster and an id of the caller's choice.
func enrollAs(t *testing.T, n *harness.Node, id, name string) error {
	t.Helper()
	token, err := pki.ParseToken(strings.TrimSpace(jsonField(t, n.Must("cluster", "token", "-o", "json"), "token")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = peer.Enroll(t.Context(), n.Address+":7947", token, id, name, csr)
	return err
}

// errorLines keeps what is a warning or an error.
func errorLines(log string) string {
	var keep []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG") {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "")
}

// flip changes every letter and digit of a secret into another one of its alphabet.
func flip(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'b' && r <= 'z', r >= 'B' && r <= 'Z', r >= '3' && r <= '7':
			return r - 1
		case r == 'a', r == 'A', r == '2':
			return r + 1
		}
		return r
	}, s)
}

func jsonField(t *testing.T, text, field string) string {
	t.Helper()
	m := regexp.MustCompile(`"` + field + `":\s*"([^"]+)"`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no field %s in %s", field, text)
	}
	return m[1]
}

// copyDir copies a node's data as an operator does who clones a machine.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Logf("copy while it is written: %v: %s", err, out)
	}
}

// talkNonsense says something to a port and waits until it is closed.
func talkNonsense(t *testing.T, addr, name, text string) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		return // closed already
	}
	conn.SetReadDeadline(time.Now().Add(40 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
		t.Errorf("%s to %s: not closed", name, addr)
	}
}

// TestGarbageOnNodePorts talks nonsense to the ports for nodes, over TCP and UDP. All is closed and counted, and no call
// fails meanwhile.
func TestGarbageOnNodePorts(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3})
	l := chaos.Start(t, c, chaos.Options{Projectors: -1, Publishers: -1})
	began := time.Now()
	noise := []struct{ name, text string }{
		{"zeros", strings.Repeat("\x00", 4096)},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
		{"half a handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
		{"a large length", "\xff\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("x", 1000)},
	}
	var talks sync.WaitGroup
	for _, n := range c.Nodes() {
		for _, addr := range []string{n.Address + ":7946", n.Address + ":7947"} {
			for _, x := range noise {
				for range 3 {
					talks.Go(func() { talkNonsense(t, addr, x.name, x.text) })
				}
			}
		}
		udp, err := net.Dial("udp", n.Address+":7946")
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range noise {
			udp.Write([]byte(x.text)[:min(len(x.text), 1200)])
		}
		udp.Close()
	}
	talks.Wait()
	c.Settle(10 * time.Second)
	for _, call := range l.CallsSince(began) {
		if call.Error != "" {
			t.Errorf("%s failed meanwhile: %s", call.Twin, call.Error)
		}
	}
	for _, n := range c.Nodes() {
		if refused := counted(t, n, "pollux_peer_refused_total") + counted(t, n, "pollux_gossip_refused_total"); refused < 5 {
			t.Errorf("%s counts %v refused connections and packets", n.Name, refused)
		}
	}
	l.Check()
}
