package main

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	// hostileWindow is how long the healthy twins are called while all is calm, then while they are attacked, in turn.
	hostileWindow  = time.Second
	hostileWindows = 12
	// hostileClients call healthy twins, with a pause, so that the machine is not full before the attack.
	hostileClients, hostilePause = 8, 5 * time.Millisecond
)

// BenchmarkHostile: 1,000 healthy twins are called while a driver loops for ever, takes all memory and crashes, each again
// and again; against the same calls without. Windows take turns, the p99 is that of all calls of a kind.
func BenchmarkHostile(b *testing.B) {
	n := openNode(b)
	upload(b, n, "wild")
	ids, twins := createTwins(b, n, 1000), twinsOf(b, n)
	for _, action := range []string{"spin", "hog", "panic"} {
		if _, err := twins.CreateTwin(b.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "default/" + action, Driver: "wild"}})); err != nil {
			b.Fatal(err)
		}
	}
	neighbours(b, twins, ids)
	var calm, attacked []time.Duration
	for range hostileWindows {
		calm = append(calm, neighbours(b, twins, ids)...)
		end := attack(b, twins)
		attacked = append(attacked, neighbours(b, twins, ids)...)
		end()
	}
	quantile := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)*99/100].Seconds() * 1000
	}
	l := Line{Name: "p99 of 1,000 healthy twins over HTTP, beside three hostile ones", Unit: "ms", Ours: quantile(attacked), Floor: quantile(calm),
		Goal: "at most twice the calm p99"}
	l.Met = l.Ours <= 2*l.Floor
	report(b, l)
}

// attack has the hostile twins do their worst until end is called.
func attack(b *testing.B, twins polluxv1connect.TwinServiceClient) (end func()) {
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	for _, action := range []string{"spin", "hog", "panic"} {
		var input *structpb.Value
		if action == "panic" {
			input = structpb.NewStringValue("to order")
		}
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := twins.Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: "default/" + action, Action: action, Input: input,
					Options: &pb.CommandOptions{Timeout: durationpb.New(time.Second)}})); err == nil {
					b.Errorf("%s succeeded", action)
				}
				time.Sleep(hostilePause)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// neighbours calls healthy twins for a window. None may fail.
func neighbours(b *testing.B, twins polluxv1connect.TwinServiceClient, ids []string) (took []time.Duration) {
	var mu sync.Mutex
	var all sync.WaitGroup
	end := time.Now().Add(hostileWindow)
	for c := range hostileClients {
		all.Go(func() {
			for i := c; time.Now().Before(end); i += hostileClients {
				began := time.Now()
				_, err := twins.Invoke(b.Context(), connect.NewRequest(&pb.InvokeRequest{Id: ids[i%len(ids)], Action: "echo", Input: structpb.NewStringValue("x")}))
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				time.Sleep(hostilePause)
			}
		})
	}
	all.Wait()
	return took
}
