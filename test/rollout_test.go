package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const workerSource = `export default driver({
  name: 'worker',
  version: 'VERSION',
  properties: { done: 'integer' },
  actions: { work: (twin) => BODY },
});
`

// pushSource installs a driver in JavaScript.
func pushSource(t *testing.T, n *harness.Node, source string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "driver.js")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must(append([]string{"driver", "push", file}, args...)...)
	return file
}

// A version that crashes is rolled out to 100 twins under load: the rollout halts at its first share, all twins go back to
// the version before by themselves, and those outside of that share never had another.
func TestBadVersionReturnsByItself(t *testing.T) {
	t.Parallel()
	drivertest.NeedEngine(t)
	n := harness.Start(t, harness.Options{})
	version := func(v, body string) string {
		return strings.NewReplacer("VERSION", v, "BODY", body).Replace(workerSource)
	}
	pushSource(t, n, version("1.0.0", `twin.report('done', (twin.state.done ?? 0) + 1)`))
	const twins = 100
	for i := range twins {
		if _, err := n.Twins().CreateTwin(t.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: fmt.Sprintf("w%d", i), Driver: "worker"}})); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed atomic.Int64
	for part := range 4 {
		wg.Go(func() {
			for i := part; ctx.Err() == nil; i = (i + 4) % twins {
				if _, err := n.Twins().Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: fmt.Sprintf("w%d", i), Action: "work"})); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	defer wg.Wait()
	defer stop()
	pushSource(t, n, version("1.1.0", `twin.memory.nothing.here`), "--stage")
	if failed.Load() > 0 {
		t.Fatalf("%d calls failed before the rollout", failed.Load())
	}
	n.Must("driver", "rollout", "worker@1.1.0", "--steps", "20,100", "--soak", "60s")
	var o *pb.Rollout
	until(t, "the rollout has ended", func() bool {
		res, err := n.Drivers().GetRollout(t.Context(), connect.NewRequest(&pb.GetRolloutRequest{Driver: "worker"}))
		if err != nil {
			t.Fatal(err)
		}
		o = res.Msg.Rollout
		return o.Phase == pb.RolloutPhase_ROLLOUT_PHASE_RETURNED || o.Phase == pb.RolloutPhase_ROLLOUT_PHASE_DONE
	})
	if o.Phase != pb.RolloutPhase_ROLLOUT_PHASE_RETURNED || o.EndedBy != "" || o.Share != 20 || !strings.Contains(o.Reason, "1.1.0") && o.Reason == "" {
		t.Fatalf("the rollout ended otherwise: %v", o)
	}
	t.Logf("returned %s after its step began: %s", o.EndTime.AsTime().Sub(o.StepTime.AsTime()).Round(time.Millisecond), o.Reason)
	until(t, "all twins have the version before", func() bool {
		res, err := n.Twins().ListTwins(t.Context(), connect.NewRequest(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Driver: "worker"}, PageSize: 500, State: true}))
		if err != nil {
			t.Fatal(err)
		}
		back := 0
		for _, tw := range res.Msg.Twins {
			if tw.State.GetDriverVersion() == "1.0.0" && tw.State.GetStatus().GetFault() == "" {
				back++
			}
		}
		return back == twins
	})
	before := failed.Load()
	work := func(i int) error {
		_, err := n.Twins().Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: fmt.Sprintf("w%d", i), Action: "work"}))
		return err
	}
	for i := range twins { // one whose first call with the bad version had not ended is listed as it was before that
		until(t, fmt.Sprintf("w%d works", i), func() bool { return work(i) == nil })
	}
	for i := range twins {
		if err := work(i); err != nil {
			t.Errorf("w%d: %v", i, err)
		}
	}
	if before == 0 {
		t.Error("no call failed: the bad version never ran")
	}
}
