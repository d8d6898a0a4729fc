package inbound_test

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/inbound"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// slow is a twin that takes frames, and has handled some of them.
type slow struct {
	contract.Recorder
	mu     sync.Mutex
	taken  []string
	done   []func()
	atOnce bool
}

func (s *slow) ReceivedThen(frame []byte, handled func()) {
	s.mu.Lock()
	s.taken, s.done = append(s.taken, string(frame)), append(s.done, handled)
	atOnce := s.atOnce
	s.mu.Unlock()
	if atOnce {
		handled()
	}
}

// handles ends the handling of frames, by their place.
func (s *slow) handles(places ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range places {
		s.done[i]()
	}
}

func (s *slow) frames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.taken...)
}

// await waits until the twin has taken so many frames, and holds them against those wanted, which are numbers.
func (s *slow) await(t *testing.T, want ...int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(s.frames()) < len(want); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("taken: %q, want %v", s.frames(), want)
		}
	}
	var all []string
	for _, n := range want {
		all = append(all, fmt.Sprint(n))
	}
	if got := s.frames(); fmt.Sprint(got) != fmt.Sprint(all) {
		t.Fatalf("taken: %q, want %q", got, all)
	}
}

func openSlow(t *testing.T, h *inbound.Hub, port int, sink *slow) drivers.Conn {
	t.Helper()
	c, err := h.Open(transport.Options{Sink: sink, Binding: drivers.Binding{Twin: "p/a", URI: fmt.Sprintf("tcp-in://:%d?from=127.0.0.1", port),
		Transport: drivers.TransportOptions{Scheme: "tcp-in", Tokenizer: lines}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// calls has a device at node two, whose twin is at node one.
func calls(t *testing.T) (nodes *cluster, device net.Conn, port int, twinHere *slow, conn drivers.Conn) {
	t.Helper()
	nodes = newCluster(t, "n1", "n2", "n3")
	port = freePort(t, "tcp")
	if failed := nodes.doors["n2"].Set([]inbound.Twin{twin("p/a", port, "127.0.0.0/8")}); len(failed) > 0 {
		t.Fatal(failed)
	}
	twinHere = &slow{}
	conn = openSlow(t, nodes.hubs["n1"], port, twinHere)
	device, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return nodes, device, port, twinHere, conn
}

func (c *cluster) moves(owner, dead string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owner, c.dead = owner, dead
}

// What a node has taken and not handled when the twin leaves it is told to the next, and what it has handled is not.
func TestWhatIsNotHandledIsToldAgain(t *testing.T) {
	nodes, device, port, first, conn := calls(t)
	for i := range 8 {
		fmt.Fprintln(device, i)
	}
	first.await(t, 0, 1, 2, 3, 4, 5, 6, 7)
	first.handles(0, 1, 3, 2)
	conn.Close()
	second := &slow{atOnce: true}
	openSlow(t, nodes.hubs["n3"], port, second)
	nodes.moves("n3", "")
	fmt.Fprintln(device, 8)
	second.await(t, 4, 5, 6, 7, 8)
}

// Of a node that is no more nobody knows what it has handled since it said so last: that is told again.
func TestANodeIsLostWithItsFrames(t *testing.T) {
	nodes, device, port, first, _ := calls(t)
	for i := range 4 {
		fmt.Fprintln(device, i)
	}
	first.await(t, 0, 1, 2, 3)
	first.handles(0, 1)
	fmt.Fprintln(device, 4) // whose thanks tell of those two
	first.await(t, 0, 1, 2, 3, 4)
	second := &slow{atOnce: true}
	openSlow(t, nodes.hubs["n3"], port, second)
	nodes.moves("n3", "n1")
	second.await(t, 2, 3, 4) // by the next sign of life: the device says nothing more
}

// A twin whose settings change gets another connection at the same node, while the device's stays.
func TestAnotherEndAtTheSameNode(t *testing.T) {
	nodes, device, port, first, conn := calls(t)
	for i := range 4 {
		fmt.Fprintln(device, i)
	}
	first.await(t, 0, 1, 2, 3)
	first.handles(0)
	conn.Close()
	first.handles(2) // while it ends
	second := &slow{atOnce: true}
	openSlow(t, nodes.hubs["n1"], port, second)
	fmt.Fprintln(device, 4)
	second.await(t, 1, 3, 4)
}

// A device says something and hangs up, while its twin is between two nodes.
func TestTheDeviceHangsUpMeanwhile(t *testing.T) {
	nodes, device, port, first, conn := calls(t)
	fmt.Fprintln(device, 0)
	first.await(t, 0)
	conn.Close()
	fmt.Fprintln(device, 1)
	fmt.Fprintln(device, 2)
	device.Close()
	second := &slow{atOnce: true}
	openSlow(t, nodes.hubs["n3"], port, second)
	nodes.moves("n3", "")
	second.await(t, 0, 1, 2)
	second.Await(t, "the end", func(e []string) bool {
		return len(e) == 2 && e[0] == "connected" && e[1] == "disconnected: closed by the device"
	})
	for deadline := time.Now().Add(30 * time.Second); nodes.doors["n2"].Links() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the link does not end, though all is handled")
		}
	}
}
