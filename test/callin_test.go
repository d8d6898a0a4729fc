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
	harness.Until(t, 20*time.Second, "the door to listen", func() bool {
		device, err = net.Dial("tcp", at)
		return err == nil
	})
	defer device.Close()
	answers := bufio.NewReader(device)
	// says asks until it has its answer, as a device does: what a node had taken when it lost its twin is lost with it.
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
