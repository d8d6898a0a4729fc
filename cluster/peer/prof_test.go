package peer

import (
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/cluster"
)

func BenchmarkOursReq(b *testing.B) {
	c := newTestCluster(b)
	from := c.open("a", nil)
	to := c.open("b", nil)
	waits := sync.Pool{New: func() any { return make(chan cluster.Reply, 1) }}
	f := circle(b, func() error {
		w := waits.Get().(chan cluster.Reply)
		env := &cluster.Envelope{Target: cluster.Target{Kind: "twin", ID: "default/lamp-1"}, Message: body(), Principal: "user:ada",
			Deadline: time.Now().Add(10 * time.Second)}
		from.Send("b", env, func(r cluster.Reply) { w <- r })
		r := <-w
		waits.Put(w)
		return r.Err
	})
	b.ReportMetric(f, "req/s")
	b.ReportMetric(float64(to.m.calls.Get())/float64(from.m.batchesOut.Get()), "calls/batch")
	b.ReportMetric(float64(to.m.calls.Get())/float64(to.m.batchesOut.Get()), "replies/batch")
}
func BenchmarkOursOne(b *testing.B) { f := oursOneWay(b); b.ResetTimer(); b.ReportMetric(f(), "env/s") }

func BenchmarkOursSeq(b *testing.B) {
	c := newTestCluster(b)
	from := c.open("a", nil)
	c.open("b", nil)
	ask(b, from, "b", envelope("x", "y"))
	for b.Loop() {
		ask(b, from, "b", envelope("x", "y"))
	}
}
