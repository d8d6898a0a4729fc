package actors_test

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// BenchmarkRoute is the way of a value that a twin takes into a topic: what a thousand twins say goes to one topic, or to twenty.
func BenchmarkRoute(b *testing.B) {
	for _, topics := range []int{1, 20} {
		b.Run(fmt.Sprint("topics=", topics), func(b *testing.B) {
			n := newNode(b)
			n.sensors()
			const twins = 1000
			parallel(twins, func(i int) {
				if _, err := n.reg.CreateTwin(b.Context(), &pb.Twin{Id: "t" + strconv.Itoa(i), Model: "sensor", Labels: map[string]string{"part": strconv.Itoa(i % topics)}}); err != nil {
					b.Error(err)
				}
			})
			for i := range topics {
				n.stream(fmt.Sprint("default/topic-", i))
				n.route(&pb.Route{Id: fmt.Sprint("route-", i), Topics: []string{fmt.Sprint("topic-", i)}, Labels: map[string]string{"part": strconv.Itoa(i)}, Properties: []string{"echo"}})
			}
			published := func() (all uint64) {
				for i := range topics {
					if s, err := n.client.Topics().State(b.Context(), fmt.Sprint("default/topic-", i)); err == nil {
						all += s.Messages
					}
				}
				return all
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			parallel(b.N, func(int) {
				i := next.Add(1)
				if _, err := n.client.SetDesired(b.Context(), &pb.SetDesiredRequest{Id: "default/t" + strconv.Itoa(int(i%twins)), Property: "echo",
					Value: value(b, strconv.FormatInt(i, 10))}, "x"); err != nil {
					b.Error(err)
				}
			})
			for end := time.Now().Add(patience); published() < uint64(b.N) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
		})
	}
}
