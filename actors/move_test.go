package actors_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Slots go to and fro under load: each call is answered, and has run exactly once; desired values, timers and commands
// that nobody waits for are there in the end; frames keep their order.
func TestMovesUnderLoad(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	a.driver("bus", "1.0.0", mqttTransport)
	const twins = 24
	id := func(i int) string { return fmt.Sprintf("t%02d", i) }
	for i := range twins {
		a.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, id(i)))
		a.twin(fmt.Sprintf(`{"id":"m%02d","driver":"bus","settings":{"topic":"m%02d"}}`, i, i))
	}
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("m23"); return err == nil })
	var stop atomic.Bool
	var wg sync.WaitGroup
	var done [twins]atomic.Int64
	var queued [twins]atomic.Int64
	var sets [twins]atomic.Int64
	for _, n := range []*node{a, b} {
		for w := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := w; !stop.Load(); i++ {
					k := i % twins
					var err error
					switch i % 5 {
					case 0:
						_, err = n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: id(k), Property: "level", Value: value(t, fmt.Sprint(i%100))}, "x")
						sets[k].Add(1)
					case 1:
						_, err = n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: id(k), Action: "count", Options: &pb.CommandOptions{NoWait: true}}, "x")
						if errors.Is(err, cluster.ErrOverloaded) {
							continue
						}
						queued[k].Add(1)
					default:
						_, err = n.client.Invoke(ctx(t), &pb.InvokeRequest{Id: id(k), Action: "count"}, "x")
						done[k].Add(1)
					}
					if err != nil {
						t.Errorf("call %d on %s: %v; dropped %v", i, id(k), err, n.engine.Stats().Dropped)
						return
					}
				}
			}()
		}
	}
	var frames [twins]int
	wg.Add(1)
	go func() {
		defer wg.Done()
		room := make(chan struct{}, 64)
		for i := 0; !stop.Load(); i++ {
			k := i % twins
			room <- struct{}{}
			frames[k]++
			a.engine.Deliver(&mqtt.Message{Topic: fmt.Sprintf("dev/m%02d/state", k), QoS: 1, Payload: fmt.Appendf(nil, `{"level":%d}`, frames[k])}, func(err error) {
				if err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
				<-room
			})
		}
		for range 64 {
			room <- struct{}{}
		}
	}()
	until(t, "each twin was called", func() bool {
		for i := range done {
			if done[i].Load() == 0 {
				return false
			}
		}
		return true
	})
	a.drain("n2")
	a.undrain("n2")
	a.drain("n1")
	a.undrain("n1")
	stop.Store(true)
	wg.Wait()
	for i := range twins {
		want := fmt.Sprint(done[i].Load() + queued[i].Load())
		b.wait(id(i), "count", want)
		if s := b.state(id(i)); s.Desired["level"].GetRevision() != uint64(sets[i].Load()) {
			t.Errorf("%s was asked %d times, %d were answered", id(i), s.Desired["level"].GetRevision(), sets[i].Load())
		}
		m := fmt.Sprintf("default/m%02d", i)
		b.wait(m, "level", fmt.Sprint(frames[i]))
		last := 0.0
		for j, got := range a.samples(m, "level") {
			if got < last {
				t.Errorf("%s: sample %d is %v after %v: out of order", m, j, got, last)
				break
			}
			last = got
		}
	}
	for _, n := range []*node{a, b} {
		if s := n.engine.Stats(); s.Dropped["twin_panic"] > 0 || s.Dropped["release_given_up"] > 0 {
			t.Errorf("dropped %v", s.Dropped)
		}
	}
}
