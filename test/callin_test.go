package test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
)

const callerDriver = `export default driver({
  name: 'caller', version: '1.0.0',
  transport: { scheme: 'tcp-in', tokenizer: { delimiter: '\n' } },
  capabilities: ['send'],
  properties: { last: { type: 'string' } },
  received(twin, line) { twin.report('last', line); twin.send('heard ' + line + '\n'); },
});
`

// TestADeviceStaysConnectedWhenItsTwinMoves has a device call in at one node, and its twin live at another, and then at a
// third: the connection stays, and what the device says arrives, once.
func TestADeviceStaysConnectedWhenItsTwinMoves(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(at)
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 1})
	a := c.Node(0)
	c.Add("door", "--inbound", at)
	third := c.Add("third")
	c.Settle(30 * time.Second)
	file := filepath.Join(t.TempDir(), "caller.js")
	if err := os.WriteFile(file, []byte(callerDriver), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Must("driver", "push", file)
	a.Must("twin", "create", "dev", "--driver", "caller", "--uri", "tcp-in://:"+port+"?from=127.0.0.1", "--selector", "zone=c")
	lives(t, c, "dev", third)
	var device net.Conn
	harness.Until(t, 30*time.Second, "the door to listen", func() bool {
		device, err = net.Dial("tcp", at)
		return err == nil
	})
	defer device.Close()
	answers := bufio.NewReader(device)
	// says asks until it has its answer, as a device does: what a node was about to send when it lost its twin is lost with it.
	asked := 0
	says := func(line string) {
		t.Helper()
		for try := 0; ; try++ {
			asked++
			_ = device.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprintln(device, line)
			got, err := answers.ReadString('\n')
			if got == "heard "+line+"\n" {
				return
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || try == 2 {
				t.Fatalf("to %q the driver says %q, %v", line, got, err)
			}
		}
	}
	for i := range 20 {
		says(fmt.Sprintf("at the third node %d", i))
	}
	if out := a.Must("twin", "get", "dev"); !strings.Contains(out, "connected") || !strings.Contains(out, fmt.Sprintf("%d frames in, 20 out", asked)) {
		t.Errorf("twin get:\n%s", out)
	}
	a.Must("twin", "update", "dev", "--selector", "zone=a")
	for i := range 20 {
		says(fmt.Sprintf("while it moves %d", i))
	}
	lives(t, c, "dev", a)
	for i := range 20 {
		says(fmt.Sprintf("at the first node %d", i))
	}
	third.Kill()
	says("without the third node")
}

const counterDriver = `export default driver({
  name: 'counter', version: '1.0.0',
  transport: { scheme: 'tcp-in', tokenizer: { delimiter: '\n' } },
  properties: { next: { type: 'integer' }, wrong: { type: 'string' } },
  received(twin, line) {
    const { next = 0 } = twin.memory;
    if (Number(line) !== next) twin.report('wrong', line + ' came in place of ' + next);
    twin.memory.next = Number(line) + 1;
    twin.report('next', twin.memory.next);
  },
});
`

// TestNothingIsLostWhileATwinMoves has a device say numbers, one after the other and without waiting for anything, while its twin goes
// from node to node and back: each is heard once, in order.
func TestNothingIsLostWhileATwinMoves(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(at)
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 1})
	a := c.Node(0)
	b := c.Add("door", "--inbound", at)
	c.Settle(30 * time.Second)
	file := filepath.Join(t.TempDir(), "counter.js")
	if err := os.WriteFile(file, []byte(counterDriver), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Must("driver", "push", file)
	a.Must("twin", "create", "dev", "--driver", "counter", "--uri", "tcp-in://:"+port+"?from=127.0.0.1", "--selector", "zone=a")
	lives(t, c, "dev", a)
	var device net.Conn
	harness.Until(t, 30*time.Second, "the door to listen", func() bool {
		device, err = net.Dial("tcp", at)
		return err == nil
	})
	defer device.Close()
	stop, said := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for tick := time.NewTicker(time.Millisecond); ; n++ {
			select {
			case <-tick.C:
				if _, err := fmt.Fprintln(device, n); err == nil {
					continue
				}
			case <-stop:
			}
			tick.Stop()
			said <- n
			return
		}
	}()
	for _, to := range []struct {
		zone string
		node *harness.Node
	}{{"b", b}, {"a", a}, {"b", b}} {
		a.Must("twin", "update", "dev", "--selector", "zone="+to.zone)
		lives(t, c, "dev", to.node)
	}
	close(stop)
	n := <-said
	var out string
	harness.Until(t, 30*time.Second, fmt.Sprintf("all %d numbers to be heard", n), func() bool {
		out = a.Must("twin", "get", "dev", "-o", "json")
		return strings.Contains(strings.Join(strings.Fields(out), ""), fmt.Sprintf(`"next":{"value":%d`, n))
	})
	if strings.Contains(out, "came in place of") {
		t.Errorf("of %d numbers:\n%s", n, out)
	}
}
