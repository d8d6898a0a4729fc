package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	healthyPause   = 5 * time.Millisecond // of each client between two calls, so that the machine is not full before the attack
	calmFor        = 2 * time.Second
	// Rounds, calm and attacked in turn; the median of their ratios counts, since the machine may be busy with something
	// else in some of them. Where it is too high after the first ones, more are made.
	healthyRounds, healthyMost = 3, 7
	// healthyLeast: a calm p99 below it counts as this, which is about what two turns of other goroutines take.
	healthyLeast = time.Millisecond
	// memoryAfter the attacks is what all instances may take, of the 256 MiB that they could.
	memoryAfter = 32 << 20
)

// TestHostileDrivers puts a driver that loops for ever and one that takes all memory among 1,000 healthy twins. The healthy
// ones go on answering, and their p99 stays within twice what it was when all was calm.
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
	var ratios []float64
	for round := 1; ; round++ {
		calm := measureHealthy(t, n, calmFor)
		attacked := underAttack(t, n)
		ratio := float64(attacked.p99) / float64(max(calm.p99, healthyLeast))
		t.Logf("p99 calm %v, attacked %v: %.1f times; p50 %v and %v", calm.p99, attacked.p99, ratio, calm.p50, attacked.p50)
		if calm.failed+attacked.failed > 0 {
			t.Fatalf("healthy calls failed: %d calm, %d attacked; first: %v%v", calm.failed, attacked.failed, calm.err, attacked.err)
		}
		if attacked.calls < calm.calls/4 {
			t.Errorf("%d calls under attack, %d when calm", attacked.calls, calm.calls)
		}
		ratios = append(ratios, ratio)
		slices.Sort(ratios)
		if round < healthyRounds || round%2 == 0 {
			continue
		}
		if median := ratios[round/2]; median <= 2 {
			break
		} else if round == healthyMost {
			t.Errorf("the healthy twins' p99 under attack is %.1f times what it was, the median of %d rounds: %.1f", median, round, ratios)
			break
		}
	}
	after := counted(t, n, "pollux_wasm_guest_bytes ")
	t.Logf("guests take %.1f MiB after the attacks", after/(1<<20))
	if after > memoryAfter {
		t.Errorf("guests take %.0f bytes after the attacks, more than %d", after, memoryAfter)
	}
	for id, want := range map[string]string{"looper": "endless loop: it computed longer than its", "grower": "memory", "crasher": "panic: to order"} {
		if fault := stateOf(t, n, id).GetStatus().GetFault(); !strings.Contains(fault, want) {
			t.Errorf("%s shows the fault %q, want one that says %q", id, fault, want)
		}
	}
}

// underAttack measures while the wild twins do their worst.
func underAttack(t *testing.T, n *harness.Node) healthy {
	t.Helper()
	attack, stop := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	for id, action := range map[string]string{"looper": "spin", "grower": "hog", "crasher": "panic"} {
		var input *structpb.Value
		if action == "panic" {
			input = structpb.NewStringValue("to order")
		}
		attackers.Go(func() {
			for attack.Err() == nil {
				_, err := n.Twins().Invoke(attack, connect.NewRequest(&pb.InvokeRequest{Id: id, Action: action, Input: input,
					Options: &pb.CommandOptions{Timeout: durationpb.New(time.Second)}}))
				if err == nil {
					t.Errorf("%s succeeded", action)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	attacked := measureHealthy(t, n, calmFor)
	stop()
	attackers.Wait()
	return attacked
}

type healthy struct {
	calls, failed int
	p50, p99      time.Duration
	err           error
}

func measureHealthy(t *testing.T, n *harness.Node, span time.Duration) healthy {
	t.Helper()
	var mu sync.Mutex
	var h healthy
	var took []time.Duration
	var clients sync.WaitGroup
	end := time.Now().Add(span)
	for c := range healthyClients {
		clients.Go(func() {
			twins := n.Twins()
			for i := c; time.Now().Before(end); i += healthyClients {
				began := time.Now()
				_, err := twins.Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: device(i % healthyTwins), Action: "echo",
					Input: structpb.NewStringValue(fmt.Sprint(i))}))
				mu.Lock()
				h.calls++
				took = append(took, time.Since(began))
				if err != nil {
					h.failed++
					h.err = err
				}
				mu.Unlock()
				time.Sleep(healthyPause)
			}
		})
	}
	clients.Wait()
	slices.Sort(took)
	h.p50, h.p99 = took[len(took)/2], took[len(took)*99/100]
	return h
}
