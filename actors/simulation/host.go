// Package simulation plays scenarios (drivers/scenario) to twins, as their devices would. A simulation is an actor of its slot's owner (package
// perslot). Where it stands is committed each second and when it stops, so that it goes on after a pause, a move or a crash; what it then
// says again is known by its ids.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// TableSimulations: id → pb.Simulation, what was asked for.
	TableSimulations storage.Table = "simulation"
	// TableStates: id → pb.SimulationState, where it is. It is there as long as the simulation.
	TableStates storage.Table = "simulationat"
)

// MaxTwins of one simulation. Beyond that a client of its own is better: `pollux sim scenario`.
const MaxTwins = 20_000

// Message is what a twin's device would send.
type Message struct {
	Project, Twin string
	Payload       []byte
	// Time in milliseconds since 1970; 0: now.
	Time int64
	// Historical: it is of the past, and changes no current state.
	Historical bool
	// ID by which it is known when it comes again.
	ID string

	place int // of the twin in the scenario
}

// Result is what became of a message.
type Result struct {
	Outcome pb.IngestOutcome
	// Reason of a refusal.
	Reason string
}

// Options of a Host.
type Options struct {
	Store *storage.Store
	// Ingest takes a message in. It does not block; done is called once.
	Ingest func(m *Message, done func(Result))
	// Make makes a twin of a model where there is none of that id. It blocks until it is committed.
	Make func(ctx context.Context, id, model string) error
	// ModelOf gives the id of a twin's model, empty for one that has a driver; false: the twin is not there.
	ModelOf func(twin string) (model string, ok bool)
	// Thing gives a model's Thing Model; empty: it is not there.
	Thing func(model string) string
	// Owned gives the record of a slot that this node owns, or nil.
	Owned   func(cluster.Slot) *cluster.Ownership
	Node    string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the simulations of the slots that this node owns. Safe for concurrent use.
type Host struct {
	*perslot.Host
	o    Options
	sent *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) *Host {
	h := &Host{o: o, sent: o.Metrics.GetOrCreateCounter("pollux_simulation_messages_total")}
	h.Host = perslot.New(perslot.Options{Store: o.Store, Kind: "simulation", Table: TableSimulations, Owned: o.Owned, Logger: o.Logger, Run: h.run,
		Wanted: func(rec storage.Record) (bool, error) {
			m := &pb.Simulation{}
			err := proto.Unmarshal(rec.Value, m)
			return !m.Paused, err
		}})
	return h
}

// Read gives the scenario of a simulation, with what was recorded. Errors say what is wrong: *scenario.Error, or others of its text.
func Read(m *pb.Simulation) (*scenario.Scenario, error) {
	s, err := scenario.Parse([]byte(m.Scenario))
	if err != nil {
		return nil, err
	}
	project, _, _ := strings.Cut(m.Id, "/")
	if s.Project == "" {
		s.Project = project
	}
	switch {
	case s.Project != project:
		return nil, &scenario.Error{Path: "/project", Text: s.Project + " is another one than the simulation's, " + project}
	case len(s.Twins) > MaxTwins:
		return nil, &scenario.Error{Path: "/count", Text: fmt.Sprintf("there are %d twins, and %d may be: use pollux sim scenario", len(s.Twins), MaxTwins)}
	case s.Record == nil && m.Csv != "":
		return nil, &scenario.Error{Path: "/record", Text: "is missing, and there are recorded values"}
	case s.Record == nil:
		return s, nil
	case m.Csv == "":
		return nil, &scenario.Error{Path: "/record", Text: "needs the recorded values, as CSV"}
	}
	values, err := scenario.ReadCSV(strings.NewReader(m.Csv))
	if err != nil {
		return nil, err
	}
	return s, s.Recorded(values)
}

// run is the life of a simulation: under one ownership of its slot and one revision of its record.
type run struct {
	h    *Host
	m    *pb.Simulation
	s    *scenario.Scenario
	life *perslot.Run

	player *scenario.Player
	fitter *Fitter
	// missing are the twins that were not there when they were looked for, or refused what was said last, by their place in the scenario.
	missing map[int]bool
	course  *scenario.Course
	state   *pb.SimulationState
	// stepping ends a while after life does.
	stepping context.Context
	// revision of the state's record: what others have written is not overwritten.
	revision uint64
	told     time.Time
	untold   int // steps since then
}

func (h *Host) run(life *perslot.Run) error {
	r := &run{h: h, m: &pb.Simulation{}, life: life}
	if err := proto.Unmarshal(life.Record.Value, r.m); err != nil {
		return fmt.Errorf("simulation %s: %w", life.Record.Key, err)
	}
	r.m.Id = life.Record.Key
	if err := r.load(); err != nil {
		return err
	}
	err := r.play()
	if errors.Is(err, perslot.ErrMoved) {
		return err
	}
	if err != nil && life.Ctx.Err() == nil {
		h.o.Logger.Warn("simulation stands", "simulation", r.m.Id, "err", err)
		r.state.Error = err.Error()
	}
	// Where it stopped is committed, also where it stopped because its record or its slot is another's now.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(life.Ctx), 2*time.Second)
	defer cancel()
	if err := r.write(ctx); err != nil {
		return err
	}
	<-life.Ctx.Done() // it is over, until somebody resets or changes it
	return life.Ctx.Err()
}

// load reads where the simulation stands.
func (r *run) load() error {
	rec, ok, err := r.h.o.Store.Get(TableStates, r.m.Id)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if !ok {
		return fmt.Errorf("simulation %s: %w", r.m.Id, perslot.ErrMoved) // it is being deleted
	}
	r.state, r.revision = &pb.SimulationState{}, rec.Revision
	if err := proto.Unmarshal(rec.Value, r.state); err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if !proto.Equal(r.state.BeginTime, r.m.BeginTime) {
		r.state = &pb.SimulationState{BeginTime: r.m.BeginTime}
	}
	r.state.Node, r.state.Error = r.h.o.Node, ""
	return nil
}

// write commits the state, if the slot is still this run's and nobody else wrote it.
func (r *run) write(ctx context.Context) error {
	value, err := proto.Marshal(r.state)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	revision, err := r.h.o.Store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{r.life.Owner(), {Table: TableStates, Key: r.m.Id, Revision: r.revision}},
		Writes: []storage.Write{{Table: TableStates, Key: r.m.Id, Value: value, Quiet: true}}})
	if errors.Is(err, storage.ErrGuard) {
		return fmt.Errorf("%w: %w", perslot.ErrMoved, err)
	}
	if err != nil {
		// Whether it was written is not known: the next run reads it again.
		return fmt.Errorf("%w: write state: %w", perslot.ErrMoved, err)
	}
	r.revision, r.told, r.untold = revision, time.Now(), 0
	return nil
}
