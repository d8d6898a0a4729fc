// Package sim simulates the figures of a node: what it answers at /metrics, in Prometheus' text format, and at /healthz. It shares no code with
// the driver nor with a node, so that one can tell when the other is wrong.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// Options of a simulated node. The zero value listens on 127.0.0.1:8089 and asks nobody who he is.
type Options struct {
	Listen string
	// Token that requests for figures must carry as Authorization: Bearer; empty: none.
	Token string
	// Processor is how busy it is, of one processor; 0: 0.4.
	Processor float64
	Faults    peer.Faults
	Seed      uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one node.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener
	began    time.Time

	mu      sync.Mutex
	draw    *rand.Rand
	looked  time.Time // when the counters were last counted on
	busy    float64
	used    float64 // seconds of processor
	done    float64 // commands
	dropped float64
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8089"
	}
	if o.Processor == 0 {
		o.Processor = 0.4
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate node-monitor: %w", err)
	}
	now := time.Now()
	return &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l, began: now, looked: now, busy: o.Processor,
		draw: rand.New(rand.NewPCG(o.Seed, 1))}, nil
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Load has it be so busy from now on, of one processor, and drop so many messages at once.
func (s *Sim) Load(processor float64, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(time.Now())
	s.busy = processor
	s.dropped += float64(dropped)
}

// count brings the counters to a time. The caller holds the lock.
func (s *Sim) count(now time.Time) {
	seconds := now.Sub(s.looked).Seconds()
	s.looked = now
	s.used += seconds * s.busy
	s.done += seconds * 100 * s.busy
}

// Run answers until ctx ends.
func (s *Sim) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /metrics", s.metrics)
	server := http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("simulate node-monitor: %w", err)
	}
	return nil
}

func (s *Sim) metrics(w http.ResponseWriter, r *http.Request) {
	s.journal.Add("node", "told", r.Method+" "+r.URL.Path)
	if s.o.Token != "" && r.Header.Get("Authorization") != "Bearer "+s.o.Token {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	outcome, wait := s.dice.Throw()
	time.Sleep(wait)
	switch outcome {
	case peer.Answer:
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, s.text(time.Now()))
	case peer.Garbage:
		_, _ = w.Write(s.dice.Noise(2000))
	default:
		panic(http.ErrAbortHandler)
	}
}

// text is what it says of itself at a time.
func (s *Sim) text(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(now)
	var b strings.Builder
	say := func(name, kind string, lines ...string) {
		fmt.Fprintf(&b, "# HELP %s Simulated.\n# TYPE %s %s\n", name, name, kind)
		for _, line := range lines {
			b.WriteString(name + line + "\n")
		}
	}
	say("process_resident_memory_bytes", "gauge", fmt.Sprintf(" %g", 200*float64(1<<20)))
	say("process_start_time_seconds", "gauge", fmt.Sprintf(" %.3f", float64(s.began.UnixMilli())/1000))
	say("process_cpu_seconds_total", "counter", fmt.Sprintf(" %.3f", s.used))
	say("go_goroutines", "gauge", fmt.Sprintf(" %d", 300+s.draw.IntN(20)))
	say("pollux_actors_active", "gauge", ` 1000`)
	say("pollux_mqtt_clients", "gauge", `{kind="device"} 40`, `{kind="key"} 2`)
	say("pollux_cluster_members", "gauge", " 3")
	say("pollux_commands_total", "counter", fmt.Sprintf(`{outcome="done"} %.0f`, 0.9*s.done), fmt.Sprintf(`{outcome="rejected"} %.0f`, 0.1*s.done))
	say("pollux_actors_dropped_total", "counter", fmt.Sprintf(" %.0f", s.dropped))
	say("pollux_build_info", "gauge", `{version="simulated",go="none"} 1`) // one that the driver does not ask for
	return b.String()
}
