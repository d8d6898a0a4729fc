package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
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
	killDevices     = 200 // that publish
	killConnections = 10  // over which they do
	killSetters     = 16  // twins whose level is set, a client each
	killTimes       = 10
	killLoad        = 40 * time.Second
	// killRate leaves each device some milliseconds between two messages: samples of one series and millisecond are one.
	killRate = 4000
)

// TestKillUnderLoad kills the node again and again under load. After each restart, and before any client is let in again,
// each twin must have the last value that was acknowledged, or a later one that was sent. History must have every
// acknowledged value as soon as the feeder has caught up.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
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
	l := startKillLoad(t, n)
	for kill := range kills {
		round := time.After(span/time.Duration(kills) - time.Duration(rand.Int64N(int64(time.Second))))
		if kill > 0 {
			checkHistory(t, n, l.acknowledged(), began) // of the rounds before, under this round's load
		}
		<-round
		l.gate.shut()
		n.Kill()
		l.waitHeld(t)
		n.Run()
		l.checkState(t, n, kill+1)
		l.gate.release()
	}
	l.end()
	report := l.report
	total := 0.0
	for i := range l.sets {
		total += l.sets[i].acknowledged()
	}
	t.Logf("%d kills: %d publishes acknowledged (%d sent again, %d connections lost), %.0f SetDesired acknowledged",
		kills, report.Acked, report.Resent, report.Losses, total)
	if l.err != nil {
		t.Error(l.err)
	}
	if report.Acked < 1000 || total < 100 || report.Losses < uint64(kills) || report.OutOfOrder > 0 {
		t.Errorf("the load was no load: %+v", report)
	}
	t.Logf("%d acknowledged values are in history", checkHistory(t, n, l.acknowledged(), began))
}

// killClients is what publishes and sets while the node is killed. Every client passes the gate before it connects.
type killClients struct {
	gate    *gate
	journal load.Journal
	sent    [killDevices]atomic.Uint64 // by device, the last value
	sets    [killSetters]setJournal
	cancel  context.CancelFunc
	clients sync.WaitGroup
	report  load.Report
	err     error
}

func startKillLoad(t *testing.T, n *harness.Node) *killClients {
	ctx, cancel := context.WithCancel(t.Context())
	l := &killClients{gate: newGate(), cancel: cancel}
	l.clients.Go(func() {
		l.report, l.err = load.Run(ctx, load.Options{Addr: n.MQTT, Devices: killDevices, Connections: killConnections, QoS: 1,
			Rate: killRate, Journal: &l.journal, Drain: 20 * time.Second, Topic: echoTopic, Payload: echoPayload,
			Gate: func(ctx context.Context, _ int) { l.gate.pass(ctx) },
			Value: func(d int, sequence uint64) float64 {
				l.sent[d].Store(sequence)
				return float64(sequence)
			}})
	})
	for i := range l.sets {
		l.clients.Go(func() { l.sets[i].run(ctx, n, setter(i), l.gate) })
	}
	t.Cleanup(l.end)
	return l
}

// end waits until all clients have ended.
func (l *killClients) end() {
	l.cancel()
	l.clients.Wait()
}

// waitHeld returns when every client knows that its connection is gone and stands at the gate: what is acknowledged now
// is all.
func (l *killClients) waitHeld(t *testing.T) {
	t.Helper()
	harness.Until(t, time.Minute, "all clients stand at the gate", func() bool { return l.gate.held() == killConnections+killSetters })
}

// checkState holds each twin against what was acknowledged and sent; nobody may be connected.
func (l *killClients) checkState(t *testing.T, n *harness.Node, kill int) {
	t.Helper()
	for d, e := range l.journal.Last() {
		if got, sent := reported(t, n, device(d)), float64(l.sent[d].Load()); got < e.Value || got > sent {
			t.Errorf("kill %d: %s has level %v; %v was acknowledged, %v the last that was sent", kill, device(d), got, e.Value, sent)
		}
	}
	for i := range l.sets {
		acked, sent := l.sets[i].acknowledged(), l.sets[i].asked()
		if got := desired(t, n, setter(i)); got < acked || got > sent {
			t.Errorf("kill %d: %s is asked for %v; %v was acknowledged, %v the last that was sent", kill, setter(i), got, acked, sent)
		}
	}
	if held := l.gate.held(); held != killConnections+killSetters {
		t.Errorf("kill %d: only %d clients were held during the check", kill, held)
	}
}

// acknowledged gives the values of each device up to now.
func (l *killClients) acknowledged() map[int][]float64 { return acknowledged(&l.journal) }

func acknowledged(j *load.Journal) map[int][]float64 {
	acked := map[int][]float64{}
	j.Each(func(e load.Entry) { acked[e.Device] = append(acked[e.Device], e.Value) })
	return acked
}

// gate holds clients back while it is shut.
type gate struct {
	mu      sync.Mutex
	closed  bool
	count   int
	opening chan struct{}
}

func newGate() *gate { return &gate{opening: make(chan struct{})} }

// pass returns when the gate is open or ctx has ended.
func (g *gate) pass(ctx context.Context) {
	g.mu.Lock()
	if !g.closed {
		g.mu.Unlock()
		return
	}
	g.count++
	opening := g.opening
	g.mu.Unlock()
	select {
	case <-opening:
	case <-ctx.Done():
	}
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opening)
	g.closed, g.count, g.opening = false, 0, make(chan struct{})
}

// held is how many wait.
func (g *gate) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

func device(i int) string    { return fmt.Sprintf("device-%d", i) }
func echoTopic(i int) string { return "echo/" + device(i) + "/set" }

func echoPayload(dst []byte, _ int, _ uint64, value float64) []byte {
	return append(strconv.AppendFloat(append(dst, `{"level":`...), value, 'f', -1, 64), '}')
}

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

// setJournal remembers the last SetDesired of one twin that was sent, and the last that was acknowledged.
type setJournal struct {
	mu          sync.Mutex
	sent, acked float64
}

func (s *setJournal) acknowledged() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

func (s *setJournal) asked() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// run sets 1, 2, 3 … until ctx ends. What failed is asked again: it may have been done.
func (s *setJournal) run(ctx context.Context, n *harness.Node, id string, g *gate) {
	twins := n.Twins()
	for next := 1.0; ctx.Err() == nil; {
		g.pass(ctx)
		s.mu.Lock()
		s.sent = next
		s.mu.Unlock()
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
		s.acked = next
		s.mu.Unlock()
		next++
	}
}

// checkHistory waits until every acknowledged value is a sample, and returns how many there are.
func checkHistory(t *testing.T, n *harness.Node, acked map[int][]float64, since time.Time) int {
	t.Helper()
	checked, missing := 0, 0
	for end := time.Now().Add(time.Minute); len(acked) > 0; {
		missing = 0
		for d, values := range acked {
			have := samplesOf(t, n, device(d), since)
			lost := slices.DeleteFunc(values, func(v float64) bool { return have[v] })
			checked += len(values) - len(lost)
			if missing += len(lost); len(lost) == 0 {
				delete(acked, d)
			} else {
				acked[d] = lost
			}
		}
		if time.Now().After(end) {
			t.Errorf("%d of %d acknowledged values are not in history", missing, checked+missing)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return checked
}

// samplesOf gives the values of a twin's level in history.
func samplesOf(t *testing.T, n *harness.Node, id string, since time.Time) map[float64]bool {
	t.Helper()
	r, err := n.Twins().QueryHistory(t.Context(), connect.NewRequest(&pb.QueryHistoryRequest{Id: id, Property: "level",
		Start: timestamppb.New(since), Limit: 100000}))
	if err != nil {
		t.Fatal(err)
	}
	if r.Msg.Truncated {
		t.Fatalf("%s has more samples than one answer holds", id)
	}
	have := map[float64]bool{}
	for _, s := range r.Msg.Samples {
		have[s.Value] = true
	}
	return have
}
