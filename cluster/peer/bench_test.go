package peer

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polluxhq/pollux/cluster"
)

const (
	benchSpan   = 2 * time.Second
	benchRounds = 3
	benchBody   = 100   // bytes
	benchWindow = 20000 // one-way envelopes that are sent ahead of what has arrived
	benchAhead  = 128   // requests that wait for their answer
)

// benchLine is what `make bench` collects.
type benchLine struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Ours  float64 `json:"ours"`
	Floor float64 `json:"floor,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
	Goal  string  `json:"goal"`
	Met   bool    `json:"met"`
}

// compare measures ours and protoactor's in turn; the medians count.
func compare(b *testing.B, name, unit string, least float64, ours, theirs func() float64) {
	var o, f []float64
	for range benchRounds {
		f = append(f, theirs())
		o = append(o, ours())
	}
	slices.Sort(o)
	slices.Sort(f)
	l := benchLine{Name: name, Unit: unit, Ours: o[len(o)/2], Floor: f[len(f)/2], Goal: fmt.Sprintf("ratio >= %.2f", least)}
	l.Ratio = l.Ours / l.Floor
	l.Met = l.Ratio >= least
	line, err := json.Marshal(l)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\nBENCH %s\n", line)
	b.ReportMetric(l.Ours, "ours/s")
	b.ReportMetric(l.Ratio, "ratio")
	b.ReportMetric(0, "ns/op")
}

// flood sends as fast as the window lets it, for the span, and counts what arrived.
func flood(arrived *atomic.Int64, send func() bool) float64 {
	arrived.Store(0)
	began := time.Now()
	sent := int64(0)
	for time.Since(began) < benchSpan {
		for sent-arrived.Load() >= benchWindow {
			time.Sleep(20 * time.Microsecond)
		}
		for range 100 {
			if send() {
				sent++
			}
		}
	}
	for arrived.Load() < sent {
		time.Sleep(20 * time.Microsecond)
	}
	return float64(sent) / time.Since(began).Seconds()
}

// circle keeps a number of requests on their way, for the span, each by a goroutine of its own that waits.
func circle(b *testing.B, request func() error) float64 {
	var total atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range benchAhead {
		all.Go(func() {
			n := int64(0)
			for time.Since(began) < benchSpan {
				if err := request(); err != nil {
					b.Error(err)
					return
				}
				n++
			}
			total.Add(n)
		})
	}
	all.Wait()
	return float64(total.Load()) / time.Since(began).Seconds()
}

func body() *wrapperspb.BytesValue { return wrapperspb.Bytes(make([]byte, benchBody)) }

// oursOneWay is two Peers in this process, with TLS.
func oursOneWay(b *testing.B) func() float64 {
	var arrived atomic.Int64
	c := newTestCluster(b)
	from := c.open("a", nil)
	c.open("b", func(o *Options) { o.Calls = func(*cluster.Envelope, func(cluster.Reply)) { arrived.Add(1) } })
	env := &cluster.Envelope{Target: cluster.Target{Kind: "twin", ID: "default/lamp-1"}, Message: body(), Principal: "user:ada"}
	id := uint64(0)
	return func() float64 {
		return flood(&arrived, func() bool {
			id++
			env.ID[0], env.ID[1], env.ID[2] = byte(id), byte(id>>8), byte(id>>16)
			return from.Post("b", env) == nil
		})
	}
}

func oursRequests(b *testing.B) func() float64 {
	c := newTestCluster(b)
	from := c.open("a", nil)
	c.open("b", nil)
	waits := sync.Pool{New: func() any { return make(chan cluster.Reply, 1) }}
	return func() float64 {
		return circle(b, func() error {
			w := waits.Get().(chan cluster.Reply)
			env := &cluster.Envelope{Target: cluster.Target{Kind: "twin", ID: "default/lamp-1"}, Message: body(), Principal: "user:ada",
				Deadline: time.Now().Add(10 * time.Second)}
			from.Send("b", env, func(r cluster.Reply) { w <- r })
			r := <-w
			waits.Put(w)
			return r.Err
		})
	}
}

// protoactor gives two of its systems, and an actor of the second as the first sees it. They are left running: their
// Shutdown takes ten seconds.
func protoactor(b *testing.B, receive actor.ReceiveFunc) (*actor.ActorSystem, *actor.PID) {
	quiet := actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })
	system := func() *actor.ActorSystem {
		s := actor.NewActorSystem(quiet)
		remote.NewRemote(s, remote.Configure("127.0.0.1", 0)).Start()
		return s
	}
	from, to := system(), system()
	if _, err := to.Root.SpawnNamed(actor.PropsFromFunc(receive), "echo"); err != nil {
		b.Fatal(err)
	}
	return from, actor.NewPID(to.Address(), "echo")
}

func theirsOneWay(b *testing.B) func() float64 {
	var arrived atomic.Int64
	from, pid := protoactor(b, func(c actor.Context) {
		if _, ok := c.Message().(*wrapperspb.BytesValue); ok {
			arrived.Add(1)
		}
	})
	m := body()
	return func() float64 {
		return flood(&arrived, func() bool { from.Root.Send(pid, m); return true })
	}
}

func theirsRequests(b *testing.B) func() float64 {
	from, pid := protoactor(b, func(c actor.Context) {
		if m, ok := c.Message().(*wrapperspb.BytesValue); ok {
			c.Respond(m)
		}
	})
	return func() float64 {
		return circle(b, func() error {
			_, err := from.Root.RequestFuture(pid, body(), 10*time.Second).Result()
			return err
		})
	}
}

// BenchmarkPeerOneWay: envelopes of 100 B from one node to another, both in this process, against protoactor's remote, which
// has no TLS here.
func BenchmarkPeerOneWay(b *testing.B) {
	compare(b, "peer envelopes of 100 B, one way, against protoactor's remote", "envelopes/s", 1.2, oursOneWay(b), theirsOneWay(b))
}

// BenchmarkPeerRequest: the same with an answer of 100 B, 128 outstanding.
func BenchmarkPeerRequest(b *testing.B) {
	compare(b, "peer requests of 100 B, 128 outstanding, against protoactor's remote", "requests/s", 1.2, oursRequests(b), theirsRequests(b))
}

// BenchmarkSequential: one request at a time, for its latency.
func BenchmarkSequential(b *testing.B) {
	c := newTestCluster(b)
	from := c.open("a", nil)
	c.open("b", nil)
	ask(b, from, "b", envelope("x", "y"))
	for b.Loop() {
		ask(b, from, "b", envelope("x", "y"))
	}
}
