package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

const (
	killDevices = 200 // that publish
	killSetters = 16  // twins whose level is set, a client each
	killTimes   = 10
	killLoad    = 60 * time.Second
	// killRate leaves each device some milliseconds between two messages: samples of one series and millisecond are one.
	killRate = 4000
)

// TestKillUnderLoad kills the node ten times under load. After each restart everything that was acknowledged must be
// there: in state at once, in history as soon as the feeder has caught up.
func TestKillUnderLoad(t *testing.T) {
	kills, span := killTimes, killLoad
	if testing.Short() {
		kills, span = 3, 12*time.Second
	}
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	for i := range killDevices {
		createEcho(t, n, device(i), map[string]any{"topic": device(i)})
	}
	for i := range killSetters {
		createEcho(t, n, setter(i), map[string]any{"topic": setter(i)})
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	journal := &load.Journal{}
	var report load.Report
	var loadErr error
	var clients sync.WaitGroup
	clients.Go(func() {
		report, loadErr = load.Run(ctx, load.Options{Addr: n.MQTT, Devices: killDevices, Connections: 10, QoS: 1, Rate: killRate,
			Journal: journal, Drain: 20 * time.Second,
			Topic: func(d int) string { return "echo/" + device(d) + "/set" },
			Payload: func(dst []byte, _ int, _ uint64, value float64) []byte {
				return append(strconv.AppendFloat(append(dst, `{"level":`...), value, 'f', -1, 64), '}')
			}})
	})
	sets := make([]setJournal, killSetters)
	for i := range sets {
		clients.Go(func() { sets[i].run(ctx, n, setter(i)) })
	}
	for kill := range kills {
		time.Sleep(span/time.Duration(kills) - time.Duration(rand.Int64N(int64(time.Second))))
		n.Kill()
		n.Run()
		acked := journal.Last()
		for d, e := range acked {
			if got := reported(t, n, device(d)); got < e.Value {
				t.Errorf("kill %d: %s has level %v, %v was acknowledged", kill+1, device(d), got, e.Value)
			}
		}
		for i := range sets {
			if asked, want := desired(t, n, setter(i)), sets[i].acknowledged(); asked < want {
				t.Errorf("kill %d: %s was asked %v, %v was acknowledged", kill+1, setter(i), asked, want)
			}
		}
	}
	time.Sleep(time.Second)
	cancel()
	clients.Wait()
	if loadErr != nil {
		t.Fatal(loadErr)
	}
	total := 0.0
	for i := range sets {
		total += sets[i].acknowledged()
	}
	t.Logf("%d kills: %d publishes acknowledged (%d sent again, %d connections lost), %.0f SetDesired acknowledged",
		kills, report.Acked, report.Resent, report.Losses, total)
	if report.Acked < 1000 || total < 100 || report.Losses == 0 || report.OutOfOrder > 0 {
		t.Errorf("the load was no load: %+v", report)
	}
	checkHistory(t, n, journal, began)
}

func device(i int) string { return fmt.Sprintf("device-%d", i) }
func setter(i int) string { return fmt.Sprintf("setter-%d", i) }

func createEcho(t *testing.T, n *harness.Node, id string, settings map[string]any) {
	t.Helper()
	s, err := structpb.NewStruct(settings)
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.Twins().CreateTwin(t.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Driver: "echo", Settings: s}}))
	if err != nil {
		t.Fatalf("create %s: %v", id, err)
	}
}

func stateOf(t *testing.T, n *harness.Node, id string) *pb.TwinState {
	t.Helper()
	r, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: id}))
	if err != nil {
		t.Fatalf("get %s: %v", id, err)
	}
	return r.Msg.Twin.State
}

func reported(t *testing.T, n *harness.Node, id string) float64 {
	t.Helper()
	return stateOf(t, n, id).GetProperties()["level"].GetValue().GetNumberValue()
}

func desired(t *testing.T, n *harness.Node, id string) float64 {
	t.Helper()
	return stateOf(t, n, id).GetDesired()["level"].GetValue().GetNumberValue()
}

// setJournal remembers the last acknowledged SetDesired of one twin.
type setJournal struct {
	mu   sync.Mutex
	last float64
}

func (s *setJournal) acknowledged() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// run sets 1, 2, 3 … until ctx ends. What failed is asked again: it may have been done.
func (s *setJournal) run(ctx context.Context, n *harness.Node, id string) {
	twins := n.Twins()
	for next := 1.0; ctx.Err() == nil; {
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := twins.SetDesired(call, connect.NewRequest(&pb.SetDesiredRequest{Id: id, Property: "level",
			Value: structpb.NewNumberValue(next), ValidFor: durationpb.New(time.Minute)}))
		cancel()
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		s.mu.Lock()
		s.last = next
		s.mu.Unlock()
		next++
	}
}

// checkHistory holds the journal against the samples: every acknowledged value must be one.
func checkHistory(t *testing.T, n *harness.Node, journal *load.Journal, since time.Time) {
	t.Helper()
	acked := map[int]map[float64]bool{}
	journal.Each(func(e load.Entry) {
		if acked[e.Device] == nil {
			acked[e.Device] = map[float64]bool{}
		}
		acked[e.Device][e.Value] = true
	})
	harness.Until(t, time.Minute, "history has caught up", func() bool {
		r, err := n.Cluster().GetStatus(t.Context(), connect.NewRequest(&pb.GetStatusRequest{}))
		return err == nil && r.Msg.HistoryLag == 0
	})
	time.Sleep(2 * time.Second) // VictoriaMetrics shows rows after at most a second or two
	checked, missing := 0, 0
	for d, values := range acked {
		have := map[float64]bool{}
		r, err := n.Twins().QueryHistory(t.Context(), connect.NewRequest(&pb.QueryHistoryRequest{Id: device(d), Property: "level",
			Start: timestamppb.New(since), Limit: 100000}))
		if err != nil {
			t.Fatal(err)
		}
		if r.Msg.Truncated {
			t.Fatalf("%s has more samples than one answer holds", device(d))
		}
		for _, s := range r.Msg.Samples {
			have[s.Value] = true
		}
		for v := range values {
			checked++
			if !have[v] {
				missing++
			}
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged values are not in history", missing, checked)
	}
	t.Logf("%d acknowledged values are in history", checked-missing)
}
