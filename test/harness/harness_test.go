package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/test/journal"
)

// helper runs this test's binary again as a process that talks, in place of a node.
func helper(t *testing.T, name, private string, args ...string) *Node {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), "HARNESS_HELPER="+strings.Join(args, " "))
	cmd.SysProcAttr = ChildAttributes()
	log := &tail{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	n := &Node{Name: name, private: private, t: t, cmd: cmd, done: done, log: log}
	t.Cleanup(func() { n.Continue(); n.Kill() })
	return n
}

// TestHelperProcess is no test: it is what helper runs. `dial ADDR FILE` says a line each 10 ms once the file is there;
// `sync` syncs a file again and again, and says whether that took long.
func TestHelperProcess(t *testing.T) {
	order := strings.Fields(os.Getenv("HARNESS_HELPER"))
	if len(order) == 0 {
		t.Skip("only as a helper of other tests")
	}
	switch order[0] {
	case "dial":
		Until(t, time.Minute, "the order to dial", func() bool { _, err := os.Stat(order[2]); return err == nil })
		c, err := net.Dial("tcp", order[1])
		if err != nil {
			t.Fatal(err)
		}
		go bufio.NewReader(c).WriteTo(&bytes.Buffer{})
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(c, "do %d\n", i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "sync":
		f, err := os.CreateTemp("", "harness-sync-")
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(f.Name())
		for {
			began := time.Now()
			err := f.Sync()
			fmt.Printf("%v %v\n", time.Since(began).Milliseconds() > 150, err)
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// nodeList is asked by goroutines of the parts under test.
type nodeList struct{ p atomic.Pointer[[]*Node] }

func (l *nodeList) set(nodes ...*Node) { l.p.Store(&nodes) }

func (l *nodeList) get() []*Node {
	if p := l.p.Load(); p != nil {
		return *p
	}
	return nil
}

func TestDevicesKnowWhoWrites(t *testing.T) {
	var nodes nodeList
	d := NewDevices(t, nodes.get)
	addr := d.Line("lamp", 0)
	order := filepath.Join(t.TempDir(), "go")
	a := helper(t, "a", "", "dial", addr, order)
	b := helper(t, "b", "", "dial", addr, order)
	nodes.set(a, b)
	if err := os.WriteFile(order, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wrote := func() map[string]int {
		sum := map[string]int{}
		for _, c := range d.Conns() {
			sum[c.Node] += len(c.Writes)
		}
		return sum
	}
	Until(t, 20*time.Second, "both write", func() bool { w := wrote(); return w["a"] > 3 && w["b"] > 3 })
	if w := wrote(); w[""] > 0 || len(w) != 2 {
		t.Errorf("writes by node: %v", w)
	}
	// This is what two owners of a device look like, so the check has to say so.
	if v := journal.OneOwner(d.Conns(), nil, 100*time.Millisecond); len(v.Violations) == 0 {
		t.Error("two nodes at one device are not noticed")
	}
	b.Kill()
	Until(t, 10*time.Second, "the connection of the killed one has ended", func() bool { return len(d.Writers()) == 1 })
}

// links is a network between two helpers' addresses, with an echo at b's.
func links(t *testing.T) (n *Network, addr string, udp *net.UDPConn, toB string) {
	t.Helper()
	base := freeBase(t)
	self := &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}
	nodes := []*Node{{Name: "a", private: base + ".101", cmd: self}, {Name: "b", private: base + ".102"}}
	n = newNetwork(t, func() []*Node { return nodes })
	l, err := net.Listen("tcp4", base+".102:7947")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 100)
				for {
					k, err := c.Read(buf)
					if err != nil {
						return
					}
					c.Write(buf[:k])
				}
			}()
		}
	}()
	if err := n.serve("a", base+".1", base+".101", []int{peerPort}, gossipPort); err != nil {
		t.Fatal(err)
	}
	if err := n.serve("b", base+".2", base+".102", []int{peerPort}, gossipPort); err != nil {
		t.Fatal(err)
	}
	at, err := net.ResolveUDPAddr("udp4", base+".101:7946")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenUDP("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return n, base + ".2:7947", u, base
}

func TestNetworkCuts(t *testing.T) {
	n, addr, udp, base := links(t)
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echo := func(c net.Conn, within time.Duration) error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(within))
		_, err := c.Read(make([]byte, 100))
		return err
	}
	for _, way := range [][2]string{{"a", "b"}, {"b", "a"}} {
		if err := echo(c, 10*time.Second); err != nil {
			t.Fatalf("with all ways open: %v", err)
		}
		n.Cut(way[0], way[1])
		if err := echo(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("with %v cut: %v", way, err)
		}
		n.Heal()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Errorf("what was sent while %v was cut does not arrive: %v", way, err)
		}
	}
	n.Isolate("a")
	fresh, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := echo(fresh, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection of a node that is cut off: %v", err)
	}

	to, err := net.ResolveUDPAddr("udp4", base+".2:7946")
	if err != nil {
		t.Fatal(err)
	}
	at, err := net.ResolveUDPAddr("udp4", base+".102:7946")
	if err != nil {
		t.Fatal(err)
	}
	b, err := net.ListenUDP("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	packet := func(within time.Duration) (string, error) {
		if _, err := udp.WriteToUDP([]byte("x"), to); err != nil {
			return "", err
		}
		b.SetReadDeadline(time.Now().Add(within))
		_, from, err := b.ReadFromUDP(make([]byte, 100))
		if err != nil {
			return "", err
		}
		return from.String(), nil
	}
	if _, err := packet(100 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet of a node that is cut off: %v", err)
	}
	n.Heal()
	if from, err := packet(10 * time.Second); err != nil || from != base+".1:7946" {
		t.Errorf("a packet comes from %q, %v; want the address that its sender advertises", from, err)
	}
}

func TestDiskFaults(t *testing.T) {
	n := helper(t, "a", "", "sync")
	said := n.Log
	stop, err := n.SlowDisk(200 * time.Millisecond)
	if errors.Is(err, ErrNoDiskFaults) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	Until(t, 10*time.Second, "syncs are slow", func() bool { return strings.Contains(said(), "true <nil>") })
	stop()
	if stop, err = n.FailDisk(); err != nil {
		t.Fatal(err)
	}
	Until(t, 10*time.Second, "syncs fail", func() bool { return strings.Contains(said(), "input/output error") })
	syscall.Kill(traced(n.PID()), syscall.SIGSTOP) // a tracer that does not hear
	stop()
	if by := traced(n.PID()); by != 0 {
		t.Errorf("the process is still traced, by %d", by)
	}
	before := said()
	Until(t, 10*time.Second, "syncs are well again", func() bool { return strings.Contains(strings.TrimPrefix(said(), before), "<nil>") })
}

func TestOutcomeOf(t *testing.T) {
	dial := func() error {
		_, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", "127.0.0.1:1")
		return err
	}
	for _, tt := range []struct {
		name string
		err  error
		want journal.Outcome
	}{
		{"none", nil, journal.Done},
		{"no connection", connect.NewError(connect.CodeUnavailable, dial()), journal.Refused},
		{"a lost connection", connect.NewError(connect.CodeUnavailable, errors.New("unexpected EOF")), journal.Unknown},
		{"the node says unavailable", connect.NewWireError(connect.CodeUnavailable, errors.New("no quorum")), journal.Refused},
		{"the node says unknown", connect.NewWireError(connect.CodeUnknown, errors.New("the link was lost")), journal.Unknown},
		{"the deadline", connect.NewWireError(connect.CodeDeadlineExceeded, context.DeadlineExceeded), journal.Unknown},
	} {
		if got := OutcomeOf(tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
