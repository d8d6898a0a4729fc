package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	healthyTwins   = 1000
	healthyClients = 8
	// healthyCalls are answered before the attacks and beside them.
	healthyCalls = 2000
	// memoryAfter the attacks is what all instances may take, of the 256 MiB that they could.
	memoryAfter = 32 << 20
)

// TestHostileDrivers puts a driver that loops for ever, one that takes all memory and one that crashes among 1,000 healthy twins.
// The healthy ones go on answering, the others show what became of them, and the memory comes back. How much slower the
// healthy ones are is BenchmarkHostile's to measure.
func TestHostileDrivers(t *testing.T) {
	n := harness.Start(t, harness.Options{Args: []string{"--driver-memory", "256MiB"}})
	n.AddDriver("echo")
	n.AddDriver("wild")
	for i := range healthyTwins {
		createEcho(t, n, device(i), map[string]any{"topic": device(i)})
	}
	for _, id := range []string{"looper", "grower", "crasher"} {
		n.Must("twin", "create", id, "--driver", "wild")
	}
	t.Logf("p99 calm %v", callHealthy(t, n))
	t.Logf("p99 attacked %v", underAttack(t, n))
	for id, want := range map[string]string{"looper": "endless loop: it computed longer than its", "grower": "memory", "crasher": "panic: to order"} {
		if fault := stateOf(t, n, id).GetStatus().GetFault(); !strings.Contains(fault, want) {
			t.Errorf("%s shows the fault %q, want one that says %q", id, fault, want)
		}
	}
	after := counted(t, n, "pollux_wasm_guest_bytes ")
	t.Logf("guests take %.1f MiB after the attacks", after/(1<<20))
	if after > memoryAfter {
		t.Errorf("guests take %.0f bytes after the attacks, more than %d", after, memoryAfter)
	}
}

// underAttack calls the healthy twins while the wild ones do their worst, until each of those was called at least twice.
func underAttack(t *testing.T, n *harness.Node) time.Duration {
	t.Helper()
	attack, stop := context.WithCancel(t.Context())
	defer stop()
	var attackers, twice sync.WaitGroup
	for id, action := range map[string]string{"looper": "spin", "grower": "hog", "crasher": "panic"} {
		var input *structpb.Value
		if action == "panic" {
			input = structpb.NewStringValue("to order")
		}
		twice.Add(1)
		attackers.Go(func() {
			for made := 1; attack.Err() == nil; made++ {
				_, err := n.Twins().Invoke(attack, connect.NewRequest(&pb.InvokeRequest{Id: id, Action: action, Input: input,
					Options: &pb.CommandOptions{Timeout: durationpb.New(time.Second)}}))
				if err == nil {
					t.Errorf("%s succeeded", action)
				}
				if made == 2 {
					twice.Done()
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	p99 := callHealthy(t, n)
	twice.Wait()
	stop()
	attackers.Wait()
	return p99
}

// callHealthy calls the healthy twins from some clients, and gives the p99 of what the calls took. None may fail.
func callHealthy(t *testing.T, n *harness.Node) time.Duration {
	t.Helper()
	took := make([]time.Duration, healthyCalls)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range healthyClients {
		clients.Go(func() {
			twins := n.Twins()
			for i := int(next.Add(1)) - 1; i < healthyCalls; i = int(next.Add(1)) - 1 {
				began, text := time.Now(), fmt.Sprint(i)
				r, err := twins.Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: device(i % healthyTwins), Action: "echo",
					Input: structpb.NewStringValue(text)}))
				if err != nil || r.Msg.Output.GetStringValue() != text {
					t.Errorf("%s: %v, %v", device(i%healthyTwins), r, err)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	clients.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}
