package test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/test/harness"
)

const sensorSource = `export default driver({
  name: 'sensor',
  version: 'VERSION',
  transport: { scheme: 'tcp', default_port: 4000, tokenizer: { delimiter: '\n' } },
  properties: { temperature: 'number' },
  received(twin, line) {
    if (!line.startsWith('TEMP=')) return;
    twin.report('temperature', READ);
  },
});
`

// An incident: a device says what the driver crashes on. It is recorded; against the same version the recording crashes
// offline, too; against the fix it does not, and the difference is shown.
func TestIncidentReplayedAgainstTheFix(t *testing.T) {
	t.Parallel()
	drivertest.NeedEngine(t)
	n := harness.Start(t, harness.Options{})
	version := func(v, read string) string {
		return strings.NewReplacer("VERSION", v, "READ", read).Replace(sensorSource)
	}
	bad := pushSource(t, n, version("1.0.0", `Number(/^TEMP=([-\d.]+\d)$/.exec(line)[1])`))
	fix := pushSource(t, n, version("1.0.1", `Number(/^TEMP=([-\d.]+\d)$/.exec(line)?.[1] ?? NaN) || null`), "--stage")
	device := newKettle(t)
	n.Must("twin", "create", "s1", "--driver", "sensor@1.0.0", "--uri", "tcp://"+device.l.Addr().String())
	shows := func(text string) func() bool {
		return func() bool { return strings.Contains(n.Must("twin", "get", "s1", "-o", "json"), text) }
	}
	until(t, "the twin is connected", shows("CONNECTED"))
	recording := filepath.Join(t.TempDir(), "incident.rec")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	recorded := make(chan error, 1)
	go func() {
		_, err := n.Command(ctx, "twin", "record", "s1", "--for", "4s", "-f", recording)
		recorded <- err
	}()
	// Until the recording has begun nothing of this is in it.
	for degrees := 0; ; degrees++ {
		device.say(fmt.Sprintf("TEMP=2%d.5", degrees%10))
		if degrees == 10 {
			device.say("TEMP=--")
		}
		select {
		case err := <-recorded:
			if err != nil {
				t.Fatal(err)
			}
			replays(t, n, recording, bad, fix)
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func replays(t *testing.T, n *harness.Node, recording, bad, fix string) {
	t.Helper()
	same, err := n.Command(t.Context(), "driver", "replay", recording, "--driver", bad)
	if err != nil || !strings.Contains(same, "0 differences") || !strings.Contains(same, "failed: 1 when recorded, 1 now") {
		t.Errorf("against the same version: %v\n%s", err, same)
	}
	other, err := n.Command(t.Context(), "driver", "replay", recording, "--driver", fix)
	if err == nil || !strings.Contains(other, "failed: 1 when recorded, 0 now") || !strings.Contains(other, "received") {
		t.Errorf("against the fix: %v\n%s", err, other)
	}
	t.Logf("against the fix:\n%s", other)
}
