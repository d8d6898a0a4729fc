// Package chaos puts a cluster of real processes under load, does harm to it from a seed, and holds what clients and devices
// saw against what was promised. Named tests use its load and its measure of recovery with one fault each.
package chaos

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
	"github.com/polluxhq/pollux/test/load"
)

// Options of a load. The zero value is the usual one.
type Options struct {
	// Lines are twins with a TCP device each, commanded one call after another; 0 means 12.
	Lines int
	// Projectors are PJLink twins, which poll; 0 means 4; negative: none.
	Projectors int
	// Setters are twins that are asked for values; 0 means 8; negative: none.
	Setters int
	// Publishers are twins whose devices publish over MQTT with QoS 1; 0 means 20; negative: none.
	Publishers int
	// PublishRate is messages per second over all publishers; 0 means 200.
	PublishRate float64
	// Pause of a client between two calls; 0 means 30 ms.
	Pause time.Duration
	// Units is how many schedules and rules there are, half and half; 0: none.
	Units int
	// Create a twin now and then.
	Create bool
	// Answer is how long a line device takes to answer; 0 means 5 ms.
	Answer time.Duration
	// Call is how long a client waits for a call; 0 means 10 s.
	Call time.Duration
}

func (o *Options) setDefaults() {
	for _, n := range []struct {
		at    *int
		usual int
	}{{&o.Lines, 12}, {&o.Projectors, 4}, {&o.Setters, 8}, {&o.Publishers, 20}} {
		if *n.at == 0 {
			*n.at = n.usual
		}
		*n.at = max(0, *n.at)
	}
	if o.PublishRate == 0 {
		o.PublishRate = 200
	}
	if o.Pause == 0 {
		o.Pause = 30 * time.Millisecond
	}
	if o.Answer == 0 {
		o.Answer = 5 * time.Millisecond
	}
	if o.Call == 0 {
		o.Call = 10 * time.Second
	}
}

// Load is clients and devices of a cluster, and what they saw.
type Load struct {
	Devices *harness.Devices

	t       testing.TB
	o       Options
	cluster *harness.Cluster
	caller  *harness.Caller
	began   time.Time
	cancel  context.CancelFunc
	clients sync.WaitGroup

	mu      sync.Mutex
	calls   []journal.Call
	created []string
	pauses  []journal.Span
	sets    []journal.Rising

	published load.Journal
	sent      []atomic.Uint64 // by publisher
	report    load.Report
	loadErr   error
	firings   *firings
}

const project = "default/"

func line(i int) string      { return fmt.Sprintf("line-%d", i) }
func projector(i int) string { return fmt.Sprintf("projector-%d", i) }
func setter(i int) string    { return fmt.Sprintf("setter-%d", i) }
func publisher(i int) string { return fmt.Sprintf("publisher-%d", i) }

// Start makes the twins and their devices, waits until these are connected, and starts the clients.
func Start(t testing.TB, c *harness.Cluster, o Options) *Load {
	t.Helper()
	o.setDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{t: t, o: o, cluster: c, Devices: harness.NewDevices(t, c.Nodes), caller: harness.NewCaller(c.Running), began: time.Now(),
		cancel: cancel, sets: make([]journal.Rising, o.Setters), sent: make([]atomic.Uint64, o.Publishers)}
	t.Cleanup(l.Stop)
	l.make()
	if o.Units > 0 {
		l.firings = &firings{l: l, units: o.Units}
		l.firings.make()
		l.clients.Go(func() { l.firings.change(ctx) })
	}
	for i := range o.Lines {
		l.clients.Go(func() { l.command(ctx, line(i)) })
	}
	for i := range o.Setters {
		l.clients.Go(func() { l.set(ctx, i) })
	}
	if o.Publishers > 0 {
		addr := harness.Balancer(t, func() []string {
			var all []string
			for _, n := range c.Running() {
				all = append(all, n.MQTT)
			}
			return all
		})
		l.clients.Go(func() { l.publish(ctx, addr) })
	}
	if o.Create {
		l.clients.Go(func() { l.create(ctx) })
	}
	return l
}

// Stop ends the clients and waits for them; what they asked for last has been answered or given up.
func (l *Load) Stop() {
	l.cancel()
	l.clients.Wait()
}

func (l *Load) make() {
	l.t.Helper()
	n := l.cluster.Running()[0]
	n.AddDriver("line")
	n.AddDriver("echo")
	if l.o.Projectors > 0 {
		n.Must("driver", "add", "pjlink")
	}
	var all []*pb.Twin
	for i := range l.o.Lines {
		all = append(all, &pb.Twin{Id: line(i), Driver: "line", Uri: "tcp://" + l.Devices.Line(line(i), l.o.Answer)})
	}
	for i := range l.o.Projectors {
		all = append(all, &pb.Twin{Id: projector(i), Driver: "pjlink", Uri: "tcp://" + l.Devices.PJLink(projector(i)), Settings: settings("poll_s", 2)})
	}
	for i := range l.o.Setters {
		all = append(all, echo(setter(i)))
	}
	for i := range l.o.Publishers {
		all = append(all, echo(publisher(i)))
	}
	CreateAll(l.t, n, all)
	harness.Until(l.t, time.Minute, "all devices are connected", func() bool { return len(l.Devices.Writers()) == l.o.Lines+l.o.Projectors })
}

// CreateAll makes twins on a node, from several clients.
func CreateAll(t testing.TB, n *harness.Node, all []*pb.Twin) {
	t.Helper()
	var next atomic.Int64
	var clients sync.WaitGroup
	twins := n.Twins()
	for range min(16, len(all)) {
		clients.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				if _, err := twins.CreateTwin(t.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: all[i]})); err != nil {
					t.Errorf("create %s: %v", all[i].Id, err)
					return
				}
			}
		})
	}
	clients.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func echo(id string) *pb.Twin {
	return &pb.Twin{Id: id, Driver: "echo", Settings: settings("topic", id)}
}

func settings(key string, value any) *structpb.Struct {
	s, err := structpb.NewStruct(map[string]any{key: value})
	if err != nil {
		panic(err) // a value of the tests' own that has no form in JSON
	}
	return s
}

// command calls do with rising numbers, each once.
func (l *Load) command(ctx context.Context, twin string) {
	for number := int64(1); ctx.Err() == nil; number++ {
		c := journal.Call{Twin: twin, Number: number, Sent: time.Now()}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.Call)
		var err error
		c.Node, _, c.Outcome, err = l.caller.Invoke(call, twin, "do", structpb.NewStructValue(settings("number", number)))
		cancel()
		c.Ended = time.Now()
		if err != nil {
			c.Error = err.Error()
		}
		l.mu.Lock()
		l.calls = append(l.calls, c)
		l.mu.Unlock()
		rest(ctx, l.o.Pause)
	}
}

func (l *Load) set(ctx context.Context, i int) {
	r := &l.sets[i]
	for next := 1.0; ctx.Err() == nil; next++ {
		r.Sending(next)
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.Call)
		_, o, _ := l.caller.SetDesired(call, setter(i), "level", next)
		cancel()
		if o == journal.Done {
			r.Acknowledged(next)
		}
		rest(ctx, l.o.Pause)
	}
}

func (l *Load) publish(ctx context.Context, addr string) {
	l.report, l.loadErr = load.Run(ctx, load.Options{Addr: addr, Devices: l.o.Publishers, Connections: max(1, l.o.Publishers/4), QoS: 1,
		Rate: l.o.PublishRate, Journal: &l.published, Drain: 20 * time.Second,
		Topic: func(i int) string { return "echo/" + publisher(i) + "/set" },
		Payload: func(dst []byte, _ int, _ uint64, value float64) []byte {
			return append(strconv.AppendFloat(append(dst, `{"level":`...), value, 'f', -1, 64), '}')
		},
		Value: func(d int, sequence uint64) float64 {
			l.sent[d].Store(sequence)
			return float64(sequence)
		}})
}

func (l *Load) create(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("made-%d", i)
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.Call)
		o, _ := l.caller.CreateTwin(call, echo(id))
		cancel()
		if o == journal.Done {
			l.mu.Lock()
			l.created = append(l.created, project+id)
			l.mu.Unlock()
		}
		rest(ctx, 200*time.Millisecond)
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Twins are the names of all that can be asked to answer.
func (l *Load) Twins() []string {
	var all []string
	for i := range l.o.Lines {
		all = append(all, line(i))
	}
	for i := range l.o.Setters {
		all = append(all, setter(i))
	}
	for i := range l.o.Publishers {
		all = append(all, publisher(i))
	}
	return all
}

// Recover waits until every twin has answered a call that was made after since, those with a device by way of it. It gives
// how long that took from since, and the twin that was last.
func (l *Load) Recover(since time.Time, within time.Duration) (took time.Duration, last string, err error) {
	return Recover(l.caller, l.Twins(), since, within)
}

// Pause pauses a node and notes it; the function ends it.
func (l *Load) Pause(n *harness.Node) (wake func()) {
	began := time.Now()
	n.Pause()
	l.mu.Lock()
	at := len(l.pauses)
	l.pauses = append(l.pauses, journal.Span{Node: n.Name, Began: began})
	l.mu.Unlock()
	return func() {
		n.Continue()
		l.mu.Lock()
		l.pauses[at].Ended = time.Now()
		l.mu.Unlock()
	}
}

// CallsSince gives the commands that were sent since a time and have ended.
func (l *Load) CallsSince(since time.Time) []journal.Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []journal.Call
	for _, c := range l.calls {
		if !c.Sent.Before(since) {
			out = append(out, c)
		}
	}
	return out
}
