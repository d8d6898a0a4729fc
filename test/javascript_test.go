package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const counterScript = `// A driver without a device.
export default driver({
  name: 'counter',
  version: 'VERSION',
  properties: { count: 'integer' },
  actions: {
    count(twin) {
      twin.memory.count = (twin.memory.count ?? 0) + STEP;
      twin.report('count', twin.memory.count);
      return twin.memory.count;
    },
    bug: (twin) => twin.memory.nothing.here,
    spin(twin) {
      for (let left = 3; left != 0; left--) {
        try { left = Math.max(left, 2); } catch { left = 0; }
      }
    },
  },
  migrate(twin, from) { console.log('from', from, 'with', twin.memory.count); },
});
`

// TestJavaScript: a file is uploaded as it is, its mistakes are told with their place, on upload and in the twin's log; the
// next version takes over with the memory.
func TestJavaScript(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	push := func(text string) (string, error) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "counter.js")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return n.Command(ctx, "driver", "push", "--no-test", file)
	}
	version := func(v, step string) string {
		return strings.NewReplacer("VERSION", v, "STEP", step).Replace(counterScript)
	}

	for what, want := range map[string]string{
		strings.Replace(version("1.0.0", "1"), "count(twin) {", "count(twin) }", 1): "counter.js:7:17: SyntaxError",
		strings.Replace(version("1.0.0", "1"), "actions:", "action:", 1):            "counter.js:2:16: driver: action: is unknown; did you mean actions?",
	} {
		if out, err := push(what); err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("pushed: %s, %v; want %s", out, err, want)
		}
	}
	if out, err := push(version("1.0.0", "1")); err != nil {
		t.Fatal(out, err)
	}
	for name, want := range map[string]string{"modbus@1.0.0": "pollux driver add modbus", "nosuch": "there is no driver nosuch: pollux driver list"} {
		if out, err := n.Command(ctx, "driver", "scan", name, "--network", "127.0.0.1"); err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("a scan by %s, which is not installed: %s, %v", name, out, err)
		}
	}
	n.Must("twin", "create", "one", "--driver", "counter")
	log, err := n.Twins().WatchTwins(ctx, connect.NewRequest(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"one"}}, Logs: true}))
	if err != nil {
		t.Fatal(err)
	}
	for log.Receive() && !log.Msg().GetHeartbeat() { // until the watch is in place
	}
	defer func() { _ = log.Close() }()
	if out := n.Must("twin", "call", "one", "count"); !strings.Contains(out, "1") {
		t.Errorf("count: %s", out)
	}
	if out, err := n.Command(ctx, "twin", "call", "one", "bug"); err == nil || !strings.Contains(out+err.Error(), "counter.js:12:") {
		t.Errorf("the caller is not told of the place: %s, %v", out, err)
	}
	untilLogged(t, log, "TypeError: cannot read property 'here' of undefined\n  at bug (counter.js:12:")
	if out, err := push(version("1.1.0", "10")); err != nil {
		t.Fatal(out, err)
	}
	untilLogged(t, log, "from 1.0.0 with 1")
	if out := n.Must("twin", "call", "one", "count"); !strings.Contains(out, "11") {
		t.Errorf("count of the next version: %s", out)
	}

	const endless = "endless loop: it computed longer than its 1s, in spin (counter.js:1" // and 3, 4 or 5: where a loop begins or is
	if out, err := n.Command(ctx, "twin", "call", "one", "spin"); err == nil || !strings.Contains(out+err.Error(), endless) {
		t.Errorf("the caller is not told where it loops: %s, %v", out, err)
	}
	untilLogged(t, log, endless)
	if fault := stateOf(t, n, "one").GetStatus().GetFault(); !strings.Contains(fault, "command: "+endless) {
		t.Errorf("the fault is %q", fault)
	}
}

// untilLogged waits for a line of a twin's log that holds text.
func untilLogged(t *testing.T, log *connect.ServerStreamForClient[pb.WatchTwinsResponse], text string) {
	t.Helper()
	for log.Receive() {
		if strings.Contains(log.Msg().GetLog().GetText(), text) {
			return
		}
	}
	t.Fatalf("the log does not say %q: %v", text, log.Err())
}
