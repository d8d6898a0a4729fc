package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// simulationCommands are those of simulations that the cluster plays.
func simulationCommands(a *app) []*cobra.Command {
	watch := watcher(a, "simulation", "simulations")
	watch.Example = "  pollux sim watch\n  pollux sim watch -o json"
	all := []*cobra.Command{simCreate(a), simUpdate(a), simList(a), simGet(a), watch,
		simSteer(a, "start", "Have simulations run, where they stand", func(r *pb.SteerSimulationsRequest) { r.Paused = proto.Bool(false) }),
		simSteer(a, "pause", "Have simulations stand", func(r *pb.SteerSimulationsRequest) { r.Paused = proto.Bool(true) }),
		simSteer(a, "reset", "Have simulations begin again", func(r *pb.SteerSimulationsRequest) { r.Reset_ = true }),
		simSpeed(a),
		remover(a, "rm ID", "Remove a simulation; its twins stay", "  pollux sim rm office", "simulation", func(ctx context.Context, n *node, id string) error {
			_, err := n.simulations.DeleteSimulation(ctx, req(&pb.DeleteSimulationRequest{Id: id}))
			return err
		})}
	for _, c := range all {
		a.client(c)
	}
	return all
}

// simulationFlags are what can be said of a simulation besides its scenario.
type simulationFlags struct {
	title, model, speed, from, csv string
	paused                         bool
}

func (f *simulationFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.title, "title", "", "name for people")
	cmd.Flags().StringVar(&f.model, "model", "", "make the twins that are missing, with this `MODEL`")
	cmd.Flags().StringVar(&f.speed, "speed", "1", "`N` times as fast as the clock, or max: as fast as it is taken")
	cmd.Flags().StringVar(&f.from, "from", "", "the scenario's begin, a `TIME` or how long ago (-24h): its values go to history and change no current state; '' for now")
	cmd.Flags().StringVar(&f.csv, "csv", "", "`FILE` with the recorded values, in place of the one that the scenario names")
	cmd.Flags().BoolVar(&f.paused, "paused", false, "do not begin yet")
}

// into writes what the flags say, and the file if there is one.
func (f *simulationFlags) into(cmd *cobra.Command, m *pb.Simulation, file string) error {
	set := cmd.Flags().Changed
	if set("title") {
		m.Title = f.title
	}
	if set("model") {
		m.Model = f.model
	}
	if set("paused") {
		m.Paused = f.paused
	}
	if set("speed") {
		speed, err := parseSpeed(f.speed)
		if err != nil {
			return err
		}
		m.Speed = &speed
	}
	if set("from") {
		if m.From = nil; f.from != "" {
			from, err := scenario.Ago(f.from, time.Now())
			if err != nil {
				return usagef("--from: %v", err)
			}
			m.From = timestamppb.New(from)
		}
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the scenario: %w", err)
		}
		m.Scenario, m.Csv = string(text), ""
	}
	return f.readRecord(m, file)
}

// readRecord reads the file with the recorded values.
func (f *simulationFlags) readRecord(m *pb.Simulation, file string) error {
	path := f.csv
	if path == "" && file != "" {
		s, err := scenario.Parse([]byte(m.Scenario))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if s.Record == nil || s.Record.CSV == "" {
			return nil
		}
		if path = s.Record.CSV; !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
	}
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	m.Csv = string(text)
	return nil
}

func simCreate(a *app) *cobra.Command {
	var f simulationFlags
	cmd := &cobra.Command{
		Use: "create ID FILE", Short: "Have the cluster play a scenario", Args: exactly("ID", "FILE"),
		Long: `Gives a scenario to the cluster, which plays it until it is over, paused or removed: one of its nodes does, and another one goes on where that
fails. The file is as of "pollux sim scenario --help"; its project counts where ID names none. What it records is read now, and kept with the simulation: a CSV file by this command, the
history of a twin by the node.`,
		Example: "  pollux sim create office office.yaml --model room\n  pollux sim create week week.yaml --speed 60\n  pollux sim create past office.yaml --from -720h --speed max",
		RunE: func(cmd *cobra.Command, args []string) error {
			m := &pb.Simulation{Id: args[0]}
			if err := f.into(cmd, m, args[1]); err != nil {
				return err
			}
			if s, err := scenario.Parse([]byte(m.Scenario)); err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			} else if s.Project != "" && !strings.Contains(m.Id, "/") {
				m.Id = s.Project + "/" + m.Id
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.simulations.CreateSimulation(cmd.Context(), req(&pb.CreateSimulationRequest{Simulation: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Simulation, func(w io.Writer) { row(w, "simulation "+res.Msg.Simulation.Id+" is there") })
		},
	}
	f.add(cmd)
	return cmd
}

func simUpdate(a *app) *cobra.Command {
	var f simulationFlags
	cmd := &cobra.Command{
		Use: "update ID [FILE]", Short: "Change a simulation", Args: between(1, "ID", "FILE"),
		Long:    "Changes what the flags and the file say, and leaves the rest. Another scenario begins at its beginning.",
		Example: "  pollux sim update office office.yaml\n  pollux sim update office --title 'The office'",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			old, err := n.simulations.GetSimulation(cmd.Context(), req(&pb.GetSimulationRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			m := old.Msg.Simulation
			if err := f.into(cmd, m, append(args, "")[1]); err != nil {
				return err
			}
			res, err := n.simulations.UpdateSimulation(cmd.Context(), req(&pb.UpdateSimulationRequest{Simulation: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Simulation, func(w io.Writer) { row(w, "simulation "+res.Msg.Simulation.Id+" is changed") })
		},
	}
	f.add(cmd)
	return cmd
}

func simList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the simulations and where they are", Args: exactly(),
		Example: "  pollux sim list\n  pollux sim list --project hotel",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListSimulationsResponse{}
			for token := ""; ; {
				res, err := n.simulations.ListSimulations(cmd.Context(), req(&pb.ListSimulationsRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Simulations = append(all.Simulations, res.Msg.Simulations...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listSimulations(w, all.Simulations) })
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

func listSimulations(w io.Writer, all []*pb.Simulation) {
	row(w, "ID", "STATUS", "SPEED", "AT", "TWINS", "STORED", "REFUSED", "SKIPPED")
	for _, m := range all {
		s := m.GetState()
		row(w, bare(m.Id), simulationStatus(m), speedText(m), s.GetAt().AsDuration(), s.GetTwins(), s.GetStored(), s.GetRefused(), s.GetSkipped())
	}
}

// simulationStatus says in a word how a simulation does.
func simulationStatus(m *pb.Simulation) string {
	switch s := m.GetState(); {
	case m.Paused:
		return "paused"
	case s.GetEnded():
		return "over"
	case s.GetError() != "":
		return "trouble"
	}
	return "running"
}

func speedText(m *pb.Simulation) string {
	switch {
	case m.Speed == nil:
		return "1"
	case *m.Speed == asFast:
		return "max"
	}
	return strconv.FormatFloat(*m.Speed, 'g', -1, 64)
}

func simGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a simulation and its scenario", Args: exactly("ID"), Example: "  pollux sim get office\n  pollux sim get office -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.simulations.GetSimulation(cmd.Context(), req(&pb.GetSimulationRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			m := res.Msg.Simulation
			if err := a.show(m, func(w io.Writer) { describeSimulation(w, m) }); err != nil || a.output != "table" {
				return err
			}
			for line := range strings.Lines("\n" + m.Scenario) {
				a.printf("%s\n", printable(strings.TrimRight(line, "\n")))
			}
			return nil
		},
	}
}

func describeSimulation(w io.Writer, m *pb.Simulation) {
	s := m.GetState()
	row(w, "simulation", m.Id)
	if m.Title != "" {
		row(w, "title", m.Title)
	}
	row(w, "status", simulationStatus(m))
	row(w, "speed", speedText(m))
	if m.From != nil {
		row(w, "from", m.From.AsTime().Format(time.RFC3339))
	}
	if m.Model != "" {
		row(w, "model", bare(m.Model))
	}
	row(w, "at", fmt.Sprintf("%s of %s, step %d", s.GetAt().AsDuration(), s.GetLength().AsDuration(), s.GetSteps()))
	row(w, "twins", s.GetTwins())
	row(w, "messages", fmt.Sprintf("%d sent, %d stored, %d refused, %d to the inbox, %d duplicate, %d retried, %d skipped",
		s.GetSent(), s.GetStored(), s.GetRefused(), s.GetInbox(), s.GetDuplicate(), s.GetRetried(), s.GetSkipped()))
	row(w, "node", dash(s.GetNode()))
	if s.GetError() != "" {
		row(w, "error", s.Error)
	}
}

// simSteer does the same to simulations that are named, or to all of a project.
func simSteer(a *app, use, short string, what func(*pb.SteerSimulationsRequest)) *cobra.Command {
	var project string
	var all bool
	cmd := &cobra.Command{
		Use: use + " (ID… | --all)", Short: short, Example: "  pollux sim " + use + " office\n  pollux sim " + use + " --all --project hotel",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if all != (len(ids) == 0) {
				return usagef("want either ID… or --all")
			}
			return a.steer(cmd.Context(), project, ids, what)
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "of this project (default: default)")
	cmd.Flags().BoolVar(&all, "all", false, "all simulations of the project")
	return cmd
}

func simSpeed(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "speed ID N", Short: "Change how fast a simulation runs", Args: exactly("ID", "N"),
		Long:    "Changes how many times as fast as the clock a simulation runs from now on; max: as fast as it is taken.",
		Example: "  pollux sim speed office 60\n  pollux sim speed office max",
		RunE: func(cmd *cobra.Command, args []string) error {
			speed, err := parseSpeed(args[1])
			if err != nil {
				return err
			}
			return a.steer(cmd.Context(), "", args[:1], func(r *pb.SteerSimulationsRequest) { r.Speed = &speed })
		},
	}
}

func (a *app) steer(ctx context.Context, project string, ids []string, what func(*pb.SteerSimulationsRequest)) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	if name, _, whole := strings.Cut(strings.Join(ids[:min(1, len(ids))], ""), "/"); whole && project == "" {
		project = name
	}
	r := &pb.SteerSimulationsRequest{Project: project, Ids: ids}
	what(r)
	res, err := n.simulations.SteerSimulations(ctx, req(r))
	if err != nil {
		return err
	}
	return a.show(res.Msg, func(w io.Writer) { listSimulations(w, res.Msg.Simulations) })
}
