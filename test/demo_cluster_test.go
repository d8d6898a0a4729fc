package test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
)

var (
	failoverLine = regexp.MustCompile(`(?m)^see a failover: kill -9 (\d+),`)
	consoleLine  = regexp.MustCompile(`(?m)^(n\d)\s+http://\S+/cluster\s+([abc])\s+(\d+)$`)
)

// TestDemoOnThreeNodes is `make run NODES=3`: it says how to see a failover, and that is what one sees.
func TestDemoOnThreeNodes(t *testing.T) {
	var out output
	data, at := filepath.Join(t.TempDir(), "demo"), harness.FreeAddr(t)
	cmd := exec.Command(harness.Binary(t), "serve", "--demo", "--demo-nodes", "3", "--data", data,
		"--http", at, "--mqtt", harness.FreeAddr(t), "--gossip", harness.FreeAddr(t), "--peer", harness.FreeAddr(t))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		if t.Failed() {
			t.Logf("it said:\n%s", out.String())
		}
	})
	harness.Until(t, 5*time.Minute, "it says how to see a failover", func() bool { return failoverLine.MatchString(out.String()) })
	said := out.String()
	if !openLine.MatchString(said) || !connectedLine.MatchString(said) {
		t.Error("no link, or not how many twins are connected")
	}
	key, err := os.ReadFile(filepath.Join(data, "n1", "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	demoHouse(t, polluxv1connect.NewTwinServiceClient(http.DefaultClient, "http://"+at, connect.WithInterceptors(harness.Bearer(strings.TrimSpace(string(key))))))
	nodes := consoleLine.FindAllStringSubmatch(said, -1)
	if len(nodes) != 3 || nodes[0][2]+nodes[1][2]+nodes[2][2] != "abc" {
		t.Fatalf("the nodes are %v", nodes)
	}
	pid, err := strconv.Atoi(failoverLine.FindStringSubmatch(said)[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, 30*time.Second, "it says that the node has gone", func() bool { return strings.Contains(out.String(), nodes[2][1]+" has gone") })
	harness.Until(t, time.Minute, "the node is back", func() bool { return strings.Contains(out.String(), nodes[2][1]+" is back, with pid") })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it does not stop")
	}
	for _, n := range nodes {
		if pid, err := strconv.Atoi(n[3]); err == nil && syscall.Kill(pid, 0) == nil {
			t.Errorf("%s still runs", n[1])
		}
	}
}

// output is what a process says, on both streams.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
