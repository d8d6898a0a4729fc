package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// asFast is the speed of --speed max.
const asFast = 0

// scenarioFlags are those of `pollux sim scenario`.
type scenarioFlags struct {
	speed, create, from string
	count               int
	once, paused        bool
}

func simScenario(a *app) *cobra.Command {
	var f scenarioFlags
	cmd := a.client(&cobra.Command{
		Use:   "scenario FILE",
		Short: "Feed twins from a scenario: key frames, noise, faults, or what was recorded",
		Long: `Sends what simulated devices would: values between key frames, with noise and faults, or values recorded in a CSV file or in
the history of a twin; for one twin or many thousands, at any speed. The messages go the way of those of real devices
(the API's IngestService), and what is refused is in the list of refusals.

A scenario is a file of YAML:

  project: hotel
  name: room-{n}                 or  twins: [lobby, bar]
  count: 1000
  every: 30s                     between two messages of a twin
  length: 24h                    then it begins again; repeat: false ends it
  seed: 7                        the same noise and faults each time
  values:
    temperature:
      path: /env/temp            where in the message; else by each twin's model
      keys: {0s: 18, 6h: 18, 9h: 21.5, 18h: 21, 24h: 18}
      interpolate: smooth        step, linear, smooth
      noise: 0.1                 standard deviation
      spread: 1.5                each twin's own, constant offset, at most
      round: 0.1
      faults:
        - {kind: spike, share: 0.001, by: 40}          at random
        - {kind: stuck, share: 0.0005, for: 20m}
        - {kind: dropout, from: 13h, to: 13h30m}       at a time
    occupied: {keys: {0s: false, 8h: true, 18h: false}}
  record: {csv: readings.csv}    a line "time,humidity,…", then lines of values
                                 or  {twin: hotel/bar, properties: [humidity], start: -24h, end: -0s, step: 1m}

While it runs it takes lines from standard input: pause, start, reset, speed N, status, quit.`,
		Example: `  pollux sim scenario office.yaml --create hotel/room          twins of that model are made where they are missing
  pollux sim scenario office.yaml --count 1000 --speed 60      a minute in a second
  pollux sim scenario office.yaml --from -720h --speed max     a month of history, as fast as it is taken
  pollux sim scenario office.yaml --once -o json`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.newScenario(cmd.Context(), args[0], &f)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return r.run(ctx)
		},
	})
	fl := cmd.Flags()
	fl.StringVar(&f.speed, "speed", "1", "`N` times as fast as the clock, or max: as fast as it is taken")
	fl.IntVar(&f.count, "count", 0, "number of twins, where the file has a name with {n}")
	fl.StringVar(&f.create, "create", "", "make the twins that are missing, with this `MODEL`")
	fl.StringVar(&f.from, "from", "", "the scenario's begin, a `TIME` or how long ago (-24h): its values go to history and change no current state")
	fl.BoolVar(&f.once, "once", false, "end with the scenario, and do not begin it again")
	fl.BoolVar(&f.paused, "paused", false, "wait for `start` on standard input")
	return cmd
}

// newScenario reads the file and what it refers to.
func (a *app) newScenario(ctx context.Context, path string, f *scenarioFlags) (*scenarioRun, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	s, err := scenario.Parse(text)
	if err == nil && s.Project == "" {
		s.Project = "default"
	}
	if err == nil && f.count > 0 {
		if s.Pattern == "" {
			return nil, usagef("--count: %s has no name with {n}", path)
		}
		err = s.Rename(s.Pattern, f.count)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &scenarioRun{a: a, s: s, id: strings.ToLower(rand.Text()[:8]), speed: 1, create: f.create, reasons: map[string]bool{}}
	if r.speed, err = parseSpeed(f.speed); err != nil {
		return nil, err
	}
	if f.from != "" {
		if r.from, err = scenario.Ago(f.from, time.Now()); err != nil {
			return nil, usagef("--from: %v", err)
		}
	}
	s.Repeat = s.Repeat && !f.once
	r.paused = f.paused
	if r.n, err = a.dial(); err != nil {
		return nil, err
	}
	if s.Record != nil {
		if err := r.recorded(ctx, filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return r, nil
}

func parseSpeed(text string) (float64, error) {
	if text == "max" {
		return asFast, nil
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !(x > 0 && x <= 1e6) {
		return 0, usagef("speed %q: want a number above 0, or max", text)
	}
	return x, nil
}

// scenarioRun plays one scenario.
type scenarioRun struct {
	a      *app
	n      *node
	s      *scenario.Scenario
	player *scenario.Player
	course *scenario.Course
	// id makes the messages' ids its own, so that what is sent again is known.
	id     string
	speed  float64
	from   time.Time // zero: now
	create string
	paused bool
	// laps counts the resets: the ids of a lap are its own.
	laps int
	sums scenarioSums
	// reasons that were shown.
	reasons map[string]bool
}

// scenarioSums are what became of the messages.
type scenarioSums struct {
	// At is the scenario's time.
	At string
	// Retried were sent again; Skipped were not made, as the node was behind the clock.
	Sent, Stored, Refused, Inbox, Duplicate, Retried, Skipped uint64
}

// recorded reads the values of the record.
func (r *scenarioRun) recorded(ctx context.Context, dir string) error {
	rec := r.s.Record
	if rec.CSV == "" {
		values, err := r.history(ctx)
		if err != nil {
			return err
		}
		return r.s.Recorded(values)
	}
	path := rec.CSV
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	defer file.Close()
	values, err := scenario.ReadCSV(bufio.NewReader(file))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return r.s.Recorded(values)
}

// maxRecord is how much of a twin's history is played, in bytes of CSV.
const maxRecord = 64 << 20

// history reads the values of the record out of a twin's history.
func (r *scenarioRun) history(ctx context.Context) (map[string][]scenario.Key, error) {
	twin := r.s.Record.Twin
	if !strings.Contains(twin, "/") {
		twin = r.s.Project + "/" + twin
	}
	res, err := r.n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: twin}))
	if err != nil {
		return nil, fmt.Errorf("record: %s: %w", twin, err)
	}
	known := r.n.models(ctx, []*pb.Twin{res.Msg.Twin})[kindText(res.Msg.Twin)]
	text, err := r.s.Record.Read(ctx, r.n.twins, twin, func(name string) (string, error) {
		kind, _ := known.properties[name].Type.(string)
		return kind, nil
	}, time.Now(), maxRecord)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return scenario.ReadCSV(strings.NewReader(text))
}

// fitAtOnce is how many twins one request asks for.
const fitAtOnce = 500

// fit has each twin say its values as its model has them. Who may not read twins or models sends them under the properties' names, and is told.
func (r *scenarioRun) fit(ctx context.Context) {
	if err := r.fitted(ctx); err != nil && ctx.Err() == nil {
		r.a.errorf("where the twins' models have the values is not known: %v\n", err)
	}
}

func (r *scenarioRun) fitted(ctx context.Context) error {
	at := make(map[string]int, len(r.s.Twins))
	for i, name := range r.s.Twins {
		at[r.s.Project+"/"+name] = i
	}
	fitter := simulation.NewFitter(r.s, r.player)
	for names := range slices.Chunk(r.s.Twins, fitAtOnce) {
		ids := make([]string, len(names))
		for i, name := range names {
			ids[i] = r.s.Project + "/" + name
		}
		res, err := r.n.twins.ListTwins(ctx, req(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Project: r.s.Project, Ids: ids}, PageSize: fitAtOnce}))
		if err != nil {
			return err
		}
		for _, t := range res.Msg.Twins {
			fitter.Fit(at[t.Id], t.Model, func(id string) string {
				m, failed := r.n.modelling.GetModel(ctx, req(&pb.GetModelRequest{Id: id}))
				if failed != nil {
					err = failed
					return ""
				}
				return m.Msg.Model.ThingJson
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
