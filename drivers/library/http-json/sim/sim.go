// Package sim simulates a device with an HTTP interface that answers with JSON: an energy meter with a relay. It shares no
// code with the driver, so that one can tell when the other is wrong.
package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/announce"
)

// Options of a simulated meter. The zero value listens on 127.0.0.1:8088.
type Options struct {
	Listen string
	// Token that requests must carry as Authorization: Bearer; empty: none.
	Token string
	// SSDP is an address of this machine such as 127.0.0.1:1900: the meter answers searches there, and with that port those to the
	// multicast group; empty: none.
	SSDP   string
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one meter: GET /api/status, PUT /api/relay {"state":"ON"|"OFF"}.
type Sim struct {
	o        Options
	journal  *peer.Journal
	dice     *peer.Dice
	listener net.Listener
	found    *announce.Responder // nil: it is not announced
	began    time.Time

	mu    sync.Mutex
	relay bool
}

// New opens the listener; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8088"
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulate http-json: %w", err)
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), listener: l, began: time.Now()}
	if o.SSDP == "" {
		return s, nil
	}
	s.found, err = announce.Listen(o.SSDP, announce.SSDPGroup,
		announce.SSDP(target, "0c2f2a6e-1f6b-4c8e-9d1a-7b6f00a1b2c3", "Simulated/1.0 UPnP/1.1 Meter/1.0", "http://"+s.Addr()+"/description.xml"))
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("simulate http-json: %w", err)
	}
	return s, nil
}

// target is what searches for meters such as this one ask for.
const target = "urn:schemas-example-org:device:Meter:1"

// SSDPAddr is where it answers searches; empty: nowhere.
func (s *Sim) SSDPAddr() string {
	if s.found == nil {
		return ""
	}
	return s.found.Addr()
}

// Addr is where it listens.
func (s *Sim) Addr() string { return s.listener.Addr().String() }

// Relay says whether its relay is on.
func (s *Sim) Relay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relay
}

// Run answers until ctx ends.
func (s *Sim) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/status", s.status)
	mux.HandleFunc("PUT /api/relay", s.set)
	server := http.Server{Handler: s.guard(mux), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if s.found != nil {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { s.found.Run(ctx) })
	}
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("simulate http-json: %w", err)
	}
	return nil
}

// guard asks for the token and makes faults.
func (s *Sim) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.journal.Add("meter", "told", r.Method+" "+r.URL.Path)
		if s.o.Token != "" && r.Header.Get("Authorization") != "Bearer "+s.o.Token {
			http.Error(w, `{"error":"who are you?"}`, http.StatusUnauthorized)
			return
		}
		outcome, wait := s.dice.Throw()
		time.Sleep(wait)
		switch outcome {
		case peer.Answer:
			next.ServeHTTP(w, r)
		case peer.Garbage:
			_, _ = w.Write(s.dice.Noise(200))
		default:
			panic(http.ErrAbortHandler)
		}
	})
}

func (s *Sim) status(w http.ResponseWriter, _ *http.Request) {
	seconds, power := time.Since(s.began).Seconds(), 0.0
	if s.Relay() {
		power = 1800 + 50*math.Sin(seconds/10)
	}
	state := map[bool]string{true: "ON", false: "OFF"}[s.Relay()]
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"relay": state, "meter": map[string]any{"watts": math.Round(power*10) / 10, "volts": 230.5},
		"sensors": []any{map[string]any{"t": 215 + int(10*math.Sin(seconds/60))}}})
}

func (s *Sim) set(w http.ResponseWriter, r *http.Request) {
	var q struct{ State string }
	if json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&q) != nil || q.State != "ON" && q.State != "OFF" {
		http.Error(w, `{"error":"state is ON or OFF"}`, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.relay = q.State == "ON"
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}
