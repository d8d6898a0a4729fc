package actors_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// resident is the process's resident memory in bytes, after what is free was given back.
func resident(b testing.TB) float64 {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc here")
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) * 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// parallel runs fn for 0 to n-1 on several goroutines.
func parallel(n int, fn func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		}()
	}
	wg.Wait()
}

// BenchmarkMemoryPerActiveTwin activates b.N twins with ten properties each: -benchtime 100000x.
func BenchmarkMemoryPerActiveTwin(b *testing.B) {
	n := open(b, nil, 1, func(o *actors.Options) { o.IdleTimeout = time.Hour })
	n.driver("bus", "1.0.0", mqttTransport)
	parallel(b.N, func(i int) {
		t := &pb.Twin{Id: fmt.Sprintf("t%06d", i), Driver: "bus", Settings: settings(b, fmt.Sprintf(`{"topic":"t%06d"}`, i))}
		if _, err := n.reg.CreateTwin(b.Context(), t); err != nil {
			b.Error(err)
		}
	})
	heap0, rss0 := heap(), resident(b)
	began := time.Now()
	parallel(b.N, func(i int) {
		done := make(chan error, 1)
		n.engine.Deliver(&mqtt.Message{Topic: fmt.Sprintf("dev/t%06d/state", i), QoS: 1, Payload: []byte(
			`{"p0":1.5,"p1":2.5,"p2":3,"p3":true,"p4":"idle","p5":21.5,"p6":7,"p7":false}`)}, func(err error) { done <- err })
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "activations/s")
	if a := n.engine.Stats().Active; a != int64(b.N) {
		b.Fatalf("%d twins active, want %d", a, b.N)
	}
	b.ReportMetric((heap()-heap0)/float64(b.N), "heap-B/twin")
	b.ReportMetric((resident(b)-rss0)/float64(b.N), "resident-B/twin")
}

func BenchmarkInvoke(b *testing.B) {
	n := newNode(b)
	n.driver("probe", "1.0.0", "")
	const twins = 1000
	parallel(twins, func(i int) {
		if _, err := n.reg.CreateTwin(b.Context(), &pb.Twin{Id: fmt.Sprintf("t%d", i), Driver: "probe"}); err != nil {
			b.Error(err)
		}
	})
	in := value(b, `1`)
	b.ReportAllocs()
	b.ResetTimer()
	parallel(b.N, func(i int) {
		if _, err := n.client.Invoke(b.Context(), &pb.InvokeRequest{Id: "default/t" + strconv.Itoa(i%twins), Action: "echo", Input: in}, "x"); err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkSetDesired(b *testing.B) {
	n := newNode(b)
	n.driver("probe", "1.0.0", "")
	const twins = 1000
	parallel(twins, func(i int) {
		if _, err := n.reg.CreateTwin(b.Context(), &pb.Twin{Id: fmt.Sprintf("t%d", i), Driver: "probe"}); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	b.ResetTimer()
	parallel(b.N, func(i int) {
		if _, err := n.client.SetDesired(b.Context(), &pb.SetDesiredRequest{Id: "default/t" + strconv.Itoa(i%twins), Property: "level",
			Value: value(b, strconv.Itoa(i%100))}, "x"); err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkDeliver is the way of an MQTT message with QoS 1, from the broker's hands to its commit.
func BenchmarkDeliver(b *testing.B) {
	n := newNode(b)
	n.driver("bus", "1.0.0", mqttTransport)
	const twins = 1000
	parallel(twins, func(i int) {
		t := &pb.Twin{Id: fmt.Sprintf("t%d", i), Driver: "bus", Settings: settings(b, fmt.Sprintf(`{"topic":"t%d"}`, i))}
		if _, err := n.reg.CreateTwin(b.Context(), t); err != nil {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	room := make(chan struct{}, 5000)
	for i := range b.N {
		wg.Add(1)
		room <- struct{}{}
		n.engine.Deliver(&mqtt.Message{Topic: "dev/t" + strconv.Itoa(i%twins) + "/state", QoS: 1,
			Payload: []byte(`{"level":` + strconv.Itoa(i) + `}`)}, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-room
			wg.Done()
		})
	}
	wg.Wait()
}
