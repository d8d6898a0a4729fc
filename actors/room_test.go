package actors_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// soil creates twins and has each know a value that is not committed yet.
func (n *node) soil(twins int) {
	n.driver("bus", "1.0.0", mqttTransport)
	parallel(twins, func(i int) {
		t := &pb.Twin{Id: fmt.Sprintf("t%06d", i), Driver: "bus", Settings: settings(n.t, fmt.Sprintf(`{"topic":"t%06d"}`, i))}
		if _, err := n.reg.CreateTwin(n.t.Context(), t); err != nil {
			n.t.Error(err)
		}
	})
	parallel(twins, func(i int) {
		done := make(chan error, 1)
		n.engine.Deliver(&mqtt.Message{Topic: fmt.Sprintf("dev/t%06d/state", i),
			Payload: fmt.Appendf(nil, `{"level":%d,"note":%q}`, i, strings.Repeat("x", 100))}, func(err error) { done <- err })
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
}

func writtenBehind(o *actors.Options) {
	o.CheckpointMin, o.CheckpointMax, o.IdleTimeout = time.Hour, time.Hour, time.Hour
}

// A store that has room for few at a time gets every twin's last values all the same, and is not asked in vain.
func TestDrainThroughALittleRoom(t *testing.T) {
	t.Parallel()
	n := openOn(t, vfs.NewMem(), 1, func(o *storage.Options) { o.MaxInFlightBytes = 2 << 10 }, writtenBehind)
	const twins = 300
	n.soil(twins)
	before := n.engine.Stats()
	if err := n.engine.Drain(ctx(t)); err != nil {
		t.Fatal(err)
	}
	list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true, PageSize: twins}, nil)
	if err != nil {
		t.Fatal(err)
	}
	missing := twins
	for i, tw := range list.Twins {
		if p := tw.GetState().GetProperties()["level"]; p != nil && text(p.Value) == fmt.Sprint(i) {
			missing--
		}
	}
	if missing > 0 {
		t.Errorf("the values of %d of %d twins are lost", missing, twins)
	}
	after := n.engine.Stats()
	busy := after.Dropped["store_busy"] - before.Dropped["store_busy"]
	t.Logf("%d twins, the store was busy %d times", twins, busy)
	if busy > twins { // none where twins come slower than commits
		t.Errorf("the store was busy %d times for %d twins, want fewer than twins", busy, twins)
	}
	if after.Active != 0 {
		t.Errorf("%d twins still active", after.Active)
	}
}

// BenchmarkDrain lets go of b.N twins with uncommitted values: -benchtime 100000x.
func BenchmarkDrain(b *testing.B) {
	n := open(b, nil, 1, writtenBehind)
	n.soil(b.N)
	before := n.engine.Stats().Dropped["store_busy"]
	b.ResetTimer()
	began := time.Now()
	if err := n.engine.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "twins/s")
	b.ReportMetric(float64(n.engine.Stats().Dropped["store_busy"]-before), "busy")
}
