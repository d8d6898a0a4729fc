package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func driverVersions(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "versions NAME",
		Short: "List a driver's versions, who has which, and its last rollouts",
		Long: `Twins that ask for the driver without a version get the current one, but for those that a rollout has chosen. Twins that name a version
keep it.`,
		Example:           "  pollux driver versions my-lamp",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.drivers.ListDrivers(cmd.Context(), req(&pb.ListDriversRequest{Name: args[0], PageSize: pageSize}))
			if err != nil {
				return err
			}
			if len(res.Msg.Drivers) == 0 {
				return fmt.Errorf("driver %s is not installed", args[0])
			}
			outs, err := n.drivers.ListRollouts(cmd.Context(), req(&pb.ListRolloutsRequest{Driver: args[0]}))
			if err != nil {
				return err
			}
			now := time.Now()
			return a.show(res.Msg, func(w io.Writer) { drawVersions(w, res.Msg.Drivers, outs.Msg.Rollouts, now) })
		},
	}
}

func drawVersions(w io.Writer, list []*pb.Driver, outs []*pb.Rollout, now time.Time) {
	row(w, "VERSION", "CURRENT", "TWINS", "SIZE", "DIGEST", "INSTALLED", "BY")
	for _, d := range list {
		row(w, d.Version, yes(d.Current), d.Twins, bytesText(d.Size), fmt.Sprintf("%.12s", d.Digest), ago(d.CreateTime, now), dash(d.CreateBy))
	}
	if len(outs) == 0 {
		return
	}
	row(w)
	row(w, "ROLLOUT", "VERSION", "FROM", "STATE", "SHARE", "BEGAN", "WHY")
	for _, o := range outs {
		row(w, o.Number, o.Version, o.FromVersion, phaseText(o), shareText(o), ago(o.CreateTime, now), dash(o.Reason))
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}

func phaseText(o *pb.Rollout) string {
	return strings.ToLower(strings.TrimPrefix(o.Phase.String(), "ROLLOUT_PHASE_"))
}

func shareText(o *pb.Rollout) string {
	if o.Selector != nil {
		return "chosen"
	}
	return fmt.Sprintf("%d%%", o.Share)
}

func driverRollout(a *app) *cobra.Command {
	var r rolloutFlags
	cmd := &cobra.Command{
		Use:   "rollout NAME[@VERSION]",
		Short: "Give a version to a part of the twins, and return it where it does worse",
		Long: `Gives a version, or the newest one, to a share of the twins that ask for the driver without a version, or to those that are chosen;
watches them, and goes on to the next share. Where they crash more often than the others, or more of their commands fail, all go back
to the version that they had, by itself. Whoever is chosen stays chosen when the share grows.

With --status it shows how far the last rollout is, with --halt it keeps it where it is. A rollout that was halted goes on by the same command.`,
		Example: `  pollux driver push ./my-lamp --stage
  pollux driver rollout my-lamp                       10 %, 50 %, 100 %, each watched for 5 minutes
  pollux driver rollout my-lamp@1.2.0 --steps 1,100 --soak 30m
  pollux driver rollout my-lamp --zone hall           the twins of a zone, and then no further
  pollux driver rollout my-lamp --status
  pollux driver rollout my-lamp --halt`,
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			o, err := r.run(cmd.Context(), n, args[0])
			if err != nil {
				return err
			}
			return a.show(o, func(w io.Writer) { drawRollout(w, o) })
		},
	}
	r.add(cmd)
	return cmd
}

// rolloutFlags are the options of a rollout.
type rolloutFlags struct {
	steps        []string
	soak         time.Duration
	zone         string
	labels, ids  []string
	status, halt bool
	limits       pb.RolloutLimits
}

func (r *rolloutFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&r.steps, "steps", nil, "shares in percent, rising (default 10,50,100)")
	f.DurationVar(&r.soak, "soak", 0, "how long each step is watched (default 5m)")
	f.StringVar(&r.zone, "zone", "", "only the twins of this zone, and of those in it")
	f.StringArrayVar(&r.labels, "label", nil, "only twins with this label, `NAME=VALUE`; many times")
	f.StringArrayVar(&r.ids, "twin", nil, "only this twin; many times")
	f.BoolVar(&r.status, "status", false, "show the last rollout, and begin none")
	f.BoolVar(&r.halt, "halt", false, "keep the rollout where it is")
	f.Float64Var(&r.limits.Factor, "factor", 0, "return where the new version does so many times worse (default 2)")
	f.Uint32Var(&r.limits.MinTraps, "min-traps", 0, "compare crashes from so many on (default 3)")
	f.Uint32Var(&r.limits.MinFailures, "min-failures", 0, "compare failed commands from so many on (default 5)")
	f.Uint32Var(&r.limits.MaxTraps, "max-traps", 0, "return in any case at so many crashes (default: no such bound)")
	f.Uint32Var(&r.limits.MaxFailures, "max-failures", 0, "return in any case at so many failed commands (default: no such bound)")
	cmd.MarkFlagsMutuallyExclusive("status", "halt")
	cmd.MarkFlagsMutuallyExclusive("steps", "zone")
}

func (r *rolloutFlags) run(ctx context.Context, n *node, arg string) (*pb.Rollout, error) {
	name, version, _ := strings.Cut(arg, "@")
	switch {
	case r.status:
		res, err := n.drivers.GetRollout(ctx, req(&pb.GetRolloutRequest{Driver: name}))
		if err != nil {
			return nil, err
		}
		return res.Msg.Rollout, nil
	case r.halt:
		res, err := n.drivers.HaltRollout(ctx, req(&pb.HaltRolloutRequest{Driver: name}))
		if err != nil {
			return nil, err
		}
		return res.Msg.Rollout, nil
	}
	m := &pb.StartRolloutRequest{Driver: name, Version: version}
	if err := r.fill(m); err != nil {
		return nil, err
	}
	res, err := n.drivers.StartRollout(ctx, req(m))
	if err != nil {
		return nil, err
	}
	return res.Msg.Rollout, nil
}

func (r *rolloutFlags) fill(m *pb.StartRolloutRequest) error {
	for _, s := range r.steps {
		percent, err := strconv.ParseUint(strings.TrimSuffix(s, "%"), 10, 8)
		if err != nil || percent < 1 || percent > 100 {
			return usagef("--steps: %q is no share; want 1 to 100, such as --steps 10,50,100", s)
		}
		m.Steps = append(m.Steps, uint32(percent))
	}
	if r.soak < 0 || r.limits.Factor < 0 {
		return usagef("--soak and --factor: want more than 0")
	}
	if r.soak > 0 {
		m.Soak = durationpb.New(r.soak)
	}
	labels, err := pairs("label", r.labels)
	if err != nil {
		return err
	}
	if r.zone != "" || len(labels) > 0 || len(r.ids) > 0 {
		m.Selector = &pb.RolloutSelector{Zone: r.zone, Labels: labels, Ids: r.ids}
	}
	if proto.Size(&r.limits) > 0 {
		m.Limits = &r.limits
	}
	return nil
}

func drawRollout(w io.Writer, o *pb.Rollout) {
	fmt.Fprintf(w, "%s: %s from %s, %s", o.Driver, o.Version, o.FromVersion, phaseText(o))
	if o.Reason != "" {
		fmt.Fprintf(w, ": %s", printable(o.Reason))
	}
	fmt.Fprintln(w)
	if o.Selector == nil {
		steps := make([]string, len(o.Steps))
		for i, s := range o.Steps {
			steps[i] = strconv.FormatUint(uint64(s), 10)
		}
		fmt.Fprintf(w, "share %d %% of %s\n", o.Share, strings.Join(steps, ", "))
	}
	fmt.Fprintf(w, "%d twins, %d chosen, %d have it\n\n", o.Twins, o.Chosen, o.Moved)
	row(w, "", "CALLS", "CRASHES", "COMMANDS", "FAILED", "LAST")
	for _, t := range []struct {
		name  string
		tally *pb.RolloutTally
	}{{o.Version, o.Now}, {o.FromVersion, o.Before}} {
		row(w, t.name, t.tally.GetCalls(), t.tally.GetTraps(), t.tally.GetCommands(), t.tally.GetFailures(), dash(printable(t.tally.GetLast())))
	}
}

func driverRollback(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback NAME[@VERSION]",
		Short: "Return twins to the version before",
		Long: `Ends the rollout that goes on and returns its twins to the version that they had. Where none goes on, all twins that ask for the driver
without a version return to the version before, or to the one that is named.`,
		Example:           "  pollux driver rollback my-lamp\n  pollux driver rollback my-lamp@1.0.0",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			name, version, _ := strings.Cut(args[0], "@")
			res, err := n.drivers.Rollback(cmd.Context(), req(&pb.RollbackRequest{Driver: name, Version: version}))
			if err != nil {
				return err
			}
			o := res.Msg.Rollout
			back := o.FromVersion
			if o.Phase != pb.RolloutPhase_ROLLOUT_PHASE_RETURNED {
				back = o.Version
			}
			return a.show(o, func(w io.Writer) { fmt.Fprintf(w, "%s is %s again\n", o.Driver, cmp.Or(back, "the version before")) })
		},
	}
}

func driverLogs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "logs NAME",
		Short:             "Print the log lines of all twins of a driver as they come",
		Long:              "Prints the lines from now on, until it is stopped (Ctrl-C). Of one twin: pollux twin logs.",
		Example:           "  pollux driver logs my-lamp",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, _ := strings.Cut(args[0], "@")
			if err := a.hasDriver(cmd.Context(), name); err != nil {
				return err
			}
			return a.watchTwins(cmd.Context(), &pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Driver: name}, Logs: true}, a.printLog)
		},
	}
}

// hasDriver says that a driver is not there, where a filter by its name would just find nothing.
func (a *app) hasDriver(ctx context.Context, name string) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	_, err = n.drivers.GetDriver(ctx, req(&pb.GetDriverRequest{Name: name}))
	return err
}

// printLog prints log lines, and says where some are missing.
func (a *app) printLog(m *pb.WatchTwinsResponse) error {
	if m.GetLog() == nil && m.Missed == 0 {
		return nil
	}
	return a.printChange(m)
}
