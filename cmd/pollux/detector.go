package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func detectorCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "detector", Aliases: []string{"detectors"}, Short: "Judge the readings of twins: spikes, drifts, stuck and missing sensors",
		Long: `A detector judges a property of twins with each reading. What it says are properties of the same twin (OUTPUT_score, OUTPUT_anomaly …), which
rules, charts, history and filters have like any other. See docs/analytics.md.

Kinds:
` + kindHelp(),
		Example: "  pollux detector try --twin room1 --property temperature --kind ewma --since 48h\n" +
			"  pollux detector create spikes --property temperature --kind ewma --model room\n" +
			"  pollux detector create habit --property power --kind seasonal --time-zone Europe/Berlin\n" +
			"  pollux detector get spikes --twin room1",
	}))
	cmd.AddCommand(detectorCreate(a), detectorUpdate(a), detectorList(a), detectorGet(a), detectorTry(a), watcher(a, "detector", "detectors"),
		detectorPause(a, "pause", true), detectorPause(a, "resume", false),
		remover(a, "rm ID", "Remove a detector, and what twins have learned for it", "  pollux detector rm spikes", "detector",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.analytics.DeleteDetector(ctx, req(&pb.DeleteDetectorRequest{Id: id}))
				return err
			}))
	return cmd
}

// detectorKinds in the order of their numbers, each with what it does.
var detectorKinds = [][2]string{
	{"statistics", "mean, deviation, extremes and slope over a moving --window"},
	{"ewma", "spikes and steps: far from the weighted mean of the last --readings"},
	{"seasonal", "not as usual at this hour of the week (--time-zone)"},
	{"shift", "the level has changed, also by less than the noise"},
	{"stuck", "readings come and do not change, for a --window or longer than ever"},
	{"missing", "readings do not come, for a --window or longer than usual"},
	{"module", "as the run of a --logic says"},
}

func kindHelp() string {
	var b strings.Builder
	for _, k := range detectorKinds {
		fmt.Fprintf(&b, "  %-11s %s\n", k[0], k[1])
	}
	return strings.TrimRight(b.String(), "\n")
}

func kindName(k pb.DetectorKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "DETECTOR_KIND_"))
}

// detectorFlags are what can be configured of a detector.
type detectorFlags struct {
	m      pb.Detector
	kind   string
	of     pb.Selection
	labels []string
	window time.Duration
}

func (f *detectorFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.m.Title, "title", "", "name for people")
	fl.StringVar(&f.m.Property, "property", "", "`PROPERTY` that is judged: a number or a boolean")
	kinds := make([]string, 0, len(detectorKinds))
	for _, k := range detectorKinds {
		kinds = append(kinds, k[0])
	}
	fl.StringVar(&f.kind, "kind", "", "one of "+strings.Join(kinds, ", "))
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp)))
	fl.Float64Var(&f.m.Threshold, "threshold", 0, "score from which on it is an anomaly (ewma 6, seasonal 4, shift 12, stuck and missing 1)")
	fl.DurationVar(&f.window, "window", 0, "what statistics are over (1h), or how `LONG` readings may be stuck or missing (learned)")
	fl.Uint32Var(&f.m.Readings, "readings", 0, "how many ewma remembers (12), and shift learns a level from (100)")
	fl.Float64Var(&f.m.Tolerance, "tolerance", 0, "by how much readings may differ and are still the same")
	fl.StringVar(&f.m.TimeZone, "time-zone", "", "of seasonal: whose hours count, such as Europe/Berlin (UTC)")
	fl.StringVar(&f.m.Output, "prefix", "", "beginning of the names of its properties (PROPERTY_KIND, of a logic PROPERTY_LOGIC)")
	fl.StringVar(&f.m.Logic, "logic", "", "of module, which it is then: the logic `ID` whose run judges")
}

func (f *detectorFlags) addSelection(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.of.Twins, "twin", nil, "only this twin; many times")
	fl.StringVar(&f.of.Model, "model", "", "only twins of this model")
	fl.StringVar(&f.of.Zone, "zone", "", "only twins in this zone, and in those within")
	fl.StringVar(&f.of.System, "system", "", "only twins of this system")
	fl.StringVar(&f.of.Driver, "driver", "", "only twins with this driver")
	fl.StringVar(&f.of.Interface, "interface", "", "only twins that implement this interface")
	fl.StringArrayVar(&f.labels, "label", nil, "only twins with `NAME=VALUE`; many times")
}

// into changes what the command line names, and leaves the rest.
func (f *detectorFlags) into(cmd *cobra.Command, m *pb.Detector) error {
	set := cmd.Flags().Changed
	for name, do := range map[string]func(){"title": func() { m.Title = f.m.Title }, "property": func() { m.Property = f.m.Property },
		"threshold": func() { m.Threshold = f.m.Threshold }, "readings": func() { m.Readings = f.m.Readings }, "tolerance": func() { m.Tolerance = f.m.Tolerance },
		"time-zone": func() { m.TimeZone = f.m.TimeZone }, "prefix": func() { m.Output = f.m.Output },
		"logic":  func() { m.Logic, m.Kind = f.m.Logic, pb.DetectorKind_DETECTOR_KIND_MODULE },
		"window": func() { m.Window = spanOf(f.window) }} {
		if set(name) {
			do()
		}
	}
	if set("kind") {
		m.Kind = 0
		for i, k := range detectorKinds {
			if k[0] == f.kind {
				m.Kind = pb.DetectorKind(i + 1)
			}
		}
		if m.Kind == 0 {
			return usagef("--kind %q: want one of these:\n%s", f.kind, kindHelp())
		}
	}
	labels, err := pairs("label", f.labels)
	if err != nil {
		return err
	}
	if len(labels) > 0 {
		f.of.Labels = labels
	}
	if slices.ContainsFunc([]string{"twin", "model", "zone", "system", "driver", "interface", "label"}, func(name string) bool {
		return cmd.Flags().Lookup(name) != nil && set(name)
	}) {
		m.Of = &f.of
	}
	return nil
}

func detectorCreate(a *app) *cobra.Command {
	f := &detectorFlags{}
	cmd := &cobra.Command{
		Use: "create ID", Short: "Create a detector", Args: exactly("ID"),
		Long: "Creates a detector. Without --twin, --model, --zone, --system, --driver, --interface and --label it is for all twins of the project that have the property.\n\nKinds:\n" + kindHelp(),
		Example: "  pollux detector create spikes --property temperature --kind ewma --model room\n" +
			"  pollux detector create frozen --property temperature --kind stuck --zone hq --window 2h\n" +
			"  pollux detector create silent --property power --kind missing --label kind=meter\n" +
			"  pollux detector create spikes --property temperature --logic hampel --threshold 6",
		RunE: func(cmd *cobra.Command, args []string) error {
			m := &pb.Detector{Id: args[0]}
			if err := f.into(cmd, m); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.analytics.CreateDetector(cmd.Context(), req(&pb.CreateDetectorRequest{Detector: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Detector, func(w io.Writer) {
				row(w, "detector "+res.Msg.Detector.Id+" is there; its properties begin with "+outputOf(res.Msg.Detector)+"_")
			})
		},
	}
	f.add(cmd)
	f.addSelection(cmd)
	must(cmd.MarkFlagRequired("property"))
	cmd.MarkFlagsOneRequired("kind", "logic")
	return cmd
}

// outputOf is the beginning of the names of a detector's properties.
func outputOf(m *pb.Detector) string {
	if m.Output != "" {
		return m.Output
	}
	if m.Logic != "" {
		return m.Property + "_" + bare(m.Logic)
	}
	return m.Property + "_" + kindName(m.Kind)
}

// changeDetector reads a detector, changes it and writes it.
func changeDetector(a *app, cmd *cobra.Command, id, done string, change func(*pb.Detector) error) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	old, err := n.analytics.GetDetector(cmd.Context(), req(&pb.GetDetectorRequest{Id: id}))
	if err != nil {
		return err
	}
	if err := change(old.Msg.Detector); err != nil {
		return err
	}
	res, err := n.analytics.UpdateDetector(cmd.Context(), req(&pb.UpdateDetectorRequest{Detector: old.Msg.Detector}))
	if err != nil {
		return err
	}
	return a.show(res.Msg.Detector, func(w io.Writer) { row(w, "detector "+res.Msg.Detector.Id+" is "+done) })
}

func detectorUpdate(a *app) *cobra.Command {
	f := &detectorFlags{}
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a detector", Args: exactly("ID"),
		Long: `Changes what the flags name and leaves the rest; the flags that choose twins replace each other all together. Twins keep what they have
learned, unless the kind, the readings, the time zone or the window of statistics are others.`,
		Example: "  pollux detector update spikes --threshold 8\n  pollux detector update spikes --model hall",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeDetector(a, cmd, args[0], "changed", func(m *pb.Detector) error { return f.into(cmd, m) })
		},
	}
	f.add(cmd)
	f.addSelection(cmd)
	return cmd
}

func detectorPause(a *app, use string, paused bool) *cobra.Command {
	short, done := "Have a detector judge again, with what it had learned", "resumed"
	if paused {
		short, done = "Have a detector judge nothing for now", "paused"
	}
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: exactly("ID"), Example: "  pollux detector " + use + " spikes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeDetector(a, cmd, args[0], done, func(m *pb.Detector) error {
				m.Paused = paused
				return nil
			})
		},
	}
}

func detectorList(a *app) *cobra.Command {
	r := &pb.ListDetectorsRequest{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the detectors", Example: "  pollux detector list\n  pollux detector list --project hotel", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListDetectorsResponse{}
			for {
				r.PageSize = pageSize
				res, err := n.analytics.ListDetectors(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Detectors = append(all.Detectors, res.Msg.Detectors...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "KIND", "PROPERTY", "OF", "OUTPUT", "STATUS")
				for _, m := range all.Detectors {
					row(w, bare(m.Id), kindName(m.Kind), m.Property, selectionText(m.Of), outputOf(m), detectorStatus(m))
				}
			})
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	return cmd
}

func detectorStatus(m *pb.Detector) string {
	if m.Paused {
		return "paused"
	}
	return "running"
}

// selectionText says in words which twins are meant.
func selectionText(s *pb.Selection) string {
	var all []string
	for _, id := range s.GetTwins() {
		all = append(all, bare(id))
	}
	for _, x := range [][2]string{{"model", s.GetModel()}, {"zone", s.GetZone()}, {"system", s.GetSystem()}, {"driver", s.GetDriver()}, {"interface", s.GetInterface()}} {
		if x[1] != "" {
			all = append(all, x[0]+"="+bare(x[1]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.GetLabels())) {
		all = append(all, k+"="+s.Labels[k])
	}
	if len(all) == 0 {
		return "all"
	}
	return strings.Join(all, " ")
}

func detectorGet(a *app) *cobra.Command {
	var twin string
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show a detector, or how it does on a twin", Example: "  pollux detector get spikes\n  pollux detector get spikes --twin room1", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if twin != "" {
				res, err := n.analytics.GetDetectorState(cmd.Context(), req(&pb.GetDetectorStateRequest{Id: args[0], Twin: twin}))
				if err != nil {
					return err
				}
				return a.show(res.Msg.State, func(w io.Writer) { describeJudge(w, res.Msg.State) })
			}
			res, err := n.analytics.GetDetector(cmd.Context(), req(&pb.GetDetectorRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Detector, func(w io.Writer) { describeDetector(w, res.Msg.Detector) })
		},
	}
	cmd.Flags().StringVar(&twin, "twin", "", "how it does on this twin")
	must(cmd.RegisterFlagCompletionFunc("twin", a.completeTwins()))
	return cmd
}

func describeDetector(w io.Writer, m *pb.Detector) {
	row(w, "detector", m.Id)
	row(w, "title", dash(m.Title))
	row(w, "kind", strings.TrimSpace(kindName(m.Kind)+" "+bare(m.Logic)))
	row(w, "property", m.Property)
	row(w, "of", selectionText(m.Of))
	row(w, "output", outputOf(m))
	if m.Threshold > 0 {
		row(w, "threshold", m.Threshold)
	}
	if m.Window != nil {
		row(w, "window", m.Window.AsDuration())
	}
	if m.Readings > 0 {
		row(w, "readings", m.Readings)
	}
	if m.Tolerance > 0 {
		row(w, "tolerance", m.Tolerance)
	}
	if m.TimeZone != "" {
		row(w, "time zone", m.TimeZone)
	}
	row(w, "status", detectorStatus(m))
}

func describeJudge(w io.Writer, s *pb.DetectorState) {
	status := "learning"
	switch {
	case s.Error != "":
		status = s.Error
	case s.Anomaly:
		status = "anomaly"
	case s.Ready:
		status = "as usual"
	}
	row(w, "status", status)
	row(w, "output", s.Output)
	row(w, "readings", s.Readings)
	if s.Ready {
		row(w, "score", s.Score)
		row(w, "expected", number(s.Expected))
	}
	if s.Due != nil {
		row(w, "missing at", s.Due.AsTime().Local().Format(time.DateTime))
	}
	row(w, "learned", fmt.Sprintf("%d bytes", s.Bytes))
}

func detectorTry(a *app) *cobra.Command {
	f := &detectorFlags{}
	r := &pb.TryDetectorRequest{}
	var since time.Duration
	cmd := &cobra.Command{
		Use: "try [ID]", Short: "Run a detector over what history has of a twin", Args: cobra.MaximumNArgs(1),
		Long: `Runs a detector over the readings that history has, and shows its score and when it would have found anomalies. Nothing is changed. The
detector is one that is stored, or is given by flags. What it has to learn first it learns from the same readings.`,
		Example: "  pollux detector try spikes --twin room1\n" +
			"  pollux detector try --twin room1 --property temperature --kind seasonal --time-zone Europe/Berlin --since 1000h",
		RunE: func(cmd *cobra.Command, args []string) error {
			if since <= 0 {
				return usagef("--since %s: want more than 0", since)
			}
			if len(args) == 1 {
				r.Id = args[0]
			} else {
				r.Detector = &pb.Detector{}
				if err := f.into(cmd, r.Detector); err != nil {
					return err
				}
				if r.Detector.Kind == 0 || r.Detector.Property == "" {
					return usagef("which detector? give its ID, or --property and --kind")
				}
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			end := time.Now()
			r.Start, r.End = timestamppb.New(end.Add(-since)), timestamppb.New(end)
			res, err := n.analytics.TryDetector(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { describeTry(w, res.Msg, r) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&r.Twin, "twin", "", "`TWIN` whose readings are judged")
	must(cmd.MarkFlagRequired("twin"))
	must(cmd.RegisterFlagCompletionFunc("twin", a.completeTwins()))
	cmd.Flags().DurationVar(&since, "since", 14*24*time.Hour, "how far back")
	return cmd
}

func describeTry(w io.Writer, res *pb.TryDetectorResponse, r *pb.TryDetectorRequest) {
	fmt.Fprintf(w, "%d readings, %d of them judged, %d anomalies\n", res.Readings, res.Judged, len(res.Anomalies))
	if res.Truncated {
		fmt.Fprintln(w, "(older readings are left out; see --since)")
	}
	if res.Readings > 0 && res.Judged == 0 {
		fmt.Fprintln(w, "it was still learning: seasonal needs more than a week of readings, others some dozens")
	}
	title, drawn := "score", &pb.QueryHistoryResponse{}
	for _, p := range res.Points {
		value := p.Score
		if p.Max != p.Min || p.Mean != 0 { // statistics have no score
			title, value = "mean", p.Mean
		}
		if p.Ready {
			drawn.Samples = append(drawn.Samples, &pb.Sample{Time: p.Time, Value: value})
		}
	}
	if len(drawn.Samples) > 0 {
		drawHistory(w, title, drawn, r.Start.AsTime().Local(), r.End.AsTime().Local())
	}
	if len(res.Anomalies) == 0 {
		return
	}
	row(w, "FROM", "TO", "SCORE")
	for _, s := range res.Anomalies {
		row(w, s.Start.AsTime().Local().Format(time.DateTime), s.End.AsTime().Local().Format(time.DateTime), number(s.Score))
	}
}
