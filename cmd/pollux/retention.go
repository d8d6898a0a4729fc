package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func retentionCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:   "retention",
		Short: "How long a project's past is kept, and what the project may take",
		Long: `Rules say how long journal entries are kept, by kind or by kind and name, and samples, by property or by model and property; the closest counts.
What no rule is for is kept for metrics-retention (see ` + "`pollux serve --help`" + `), and nothing longer. What rules would delete can be asked first.

  event=30d                       journal entries of a kind (all=90d: of all kinds)
  event/door=7d                   of a kind and a name
  samples=180d                    samples of all properties
  samples/power=7d                of one property
  samples/room/power=7d           of one property of a model's twins (samples/room/*: of all properties), by its id or title
  samples/power=7d,5m             when samples go, they leave aggregates of 5 minutes
  samples/power=7d,5m:365d        which are kept for a year`,
		Example: "  pollux retention show\n  pollux retention preview event=30d samples/power=7d,5m\n  pollux retention set event=30d event/door=7d all=90d samples/power=7d,5m:365d\n" +
			"  pollux retention quota twins=1000 journal=1GiB",
	}))
	cmd.AddCommand(retentionShow(a), retentionPreview(a), retentionSet(a), retentionQuota(a))
	return cmd
}

func retentionShow(a *app) *cobra.Command {
	project := "default"
	cmd := &cobra.Command{
		Use: "show", Short: "Show the rules, what they would delete now, quotas, and how far deleting is", Args: exactly(),
		Example: "  pollux retention show --project plant",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.history.GetRetentionStatus(cmd.Context(), req(&pb.GetRetentionStatusRequest{Project: project, Preview: true}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { describeRetention(w, project, res.Msg, time.Now()) })
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	return cmd
}

func describeRetention(w io.Writer, project string, status *pb.GetRetentionStatusResponse, now time.Time) {
	row(w, "project "+project)
	fmt.Fprintln(w)
	p := status.Preview
	rulesTable(w, status.Rules, status.SampleRules, p.GetDefaultMaxAge().AsDuration(), p.GetElsewhere())
	fmt.Fprintln(w)
	previewText(w, p)
	fmt.Fprintln(w)
	row(w, "TAKES", "", "QUOTA")
	for _, u := range status.Uses {
		limit := "–"
		if u.Limit > 0 {
			limit = fmt.Sprintf("%s, %d %% of it used", quotaText(u.Resource, u.Limit), u.Used*100/u.Limit)
		}
		row(w, quotaNames[u.Resource], quotaText(u.Resource, u.Used), limit)
	}
	if c := status.Curation; c != nil {
		fmt.Fprintln(w)
		fmt.Fprintln(w, curationText(c, now))
	}
}

// curationText says how far a node is.
func curationText(c *pb.Curation, now time.Time) string {
	did := fmt.Sprintf("%d journal entries and %d samples of %d series deleted", c.Entries, c.Samples, c.Series)
	if c.Rolled > 0 {
		did += fmt.Sprintf(", %d of them made into aggregates", c.Rolled)
	}
	switch {
	case c.Running != "":
		return fmt.Sprintf("node %s is deleting (now: %s), since %s: %s", c.Node, printable(c.Running), ago(c.StartTime, now), did)
	case c.Error != "":
		return fmt.Sprintf("node %s failed %s and will try again: %s", c.Node, ago(c.EndTime, now), printable(c.Error))
	}
	return fmt.Sprintf("node %s was done %s: %s", c.Node, ago(c.EndTime, now), did)
}

func retentionPreview(a *app) *cobra.Command {
	project := "default"
	cmd := &cobra.Command{
		Use: "preview RULE ...", Short: "Count what rules would delete; nothing is deleted", Args: atLeast("RULE"),
		Example: "  pollux retention preview event=30d event/door=7d all=90d\n  pollux retention preview samples/power=7d",
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, samples, err := retentionRules(args)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.history.PreviewRetention(cmd.Context(), req(&pb.PreviewRetentionRequest{Project: project, Rules: rules, SampleRules: samples}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { previewText(w, res.Msg) })
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	return cmd
}

func retentionSet(a *app) *cobra.Command {
	project := "default"
	var none bool
	cmd := &cobra.Command{
		Use: "set RULE ...", Short: "Replace the rules; each node deletes what they let go within ten minutes",
		Example: "  pollux retention set event=30d event/door=7d all=90d samples/power=7d,5m:365d\n  pollux retention set --none",
		RunE: func(cmd *cobra.Command, args []string) error {
			if none == (len(args) > 0) {
				return usagef("want rules such as event=30d, or --none")
			}
			rules, samples, err := retentionRules(args)
			if err != nil {
				return err
			}
			s, err := changeProject(cmd, a, project, func(s *pb.ProjectSettings) { s.JournalRetention, s.SampleRetention = rules, samples })
			if err != nil {
				return err
			}
			return a.show(s, func(w io.Writer) { rulesTable(w, s.JournalRetention, s.SampleRetention, 0, false) })
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	cmd.Flags().BoolVar(&none, "none", false, "no rules: everything is kept as long as history is")
	return cmd
}

func changeProject(cmd *cobra.Command, a *app, project string, change func(*pb.ProjectSettings)) (*pb.ProjectSettings, error) {
	n, err := a.dial()
	if err != nil {
		return nil, err
	}
	s, err := n.projectSettings(cmd.Context(), project)
	if err != nil {
		return nil, err
	}
	change(s)
	res, err := n.ingest.PutProjectSettings(cmd.Context(), req(&pb.PutProjectSettingsRequest{Settings: s}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Settings, nil
}

// quotaNames are the words for what quotas are of.
var quotaNames = map[string]string{"twins": "twins", "series": "series", "journal_bytes": "journal", "topic_bytes": "topics"}

func retentionQuota(a *app) *cobra.Command {
	project := "default"
	cmd := &cobra.Command{
		Use: "quota WHAT=AMOUNT ...", Short: "Set what a project may take; 0 takes a quota away", Args: atLeast("WHAT=AMOUNT"),
		Long: `Sets quotas of a project; those that are not named stay. At 80 % of one, and when it is used up, an alarm is raised (pollux alarm list), and pollux status says so.

  twins     number of twins; above it none can be made
  journal   bytes of the journal on each node's disk; above it the oldest entries go
  topics    bytes of all messages in the project's topics; above it the oldest of the largest go
  series    series of history with samples of today; it is told of, and no sample is refused`,
		Example: "  pollux retention quota twins=1000 journal=1GiB topics=256MiB series=20000\n  pollux retention quota journal=0 --project plant",
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := quotasOf(args)
			if err != nil {
				return err
			}
			s, err := changeProject(cmd, a, project, func(s *pb.ProjectSettings) {
				if s.Quotas == nil {
					s.Quotas = &pb.ProjectQuotas{}
				}
				set(s.Quotas)
			})
			if err != nil {
				return err
			}
			return a.show(s, func(w io.Writer) {
				row(w, "QUOTA", "")
				for _, q := range [][2]any{{"twins", s.Quotas.Twins}, {"journal_bytes", s.Quotas.JournalBytes}, {"topic_bytes", s.Quotas.TopicBytes}, {"series", s.Quotas.Series}} {
					text := "none"
					if n := q[1].(uint64); n > 0 {
						text = quotaText(q[0].(string), n)
					}
					row(w, quotaNames[q[0].(string)], text)
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	return cmd
}

// quotasOf reads WHAT=AMOUNT.
func quotasOf(texts []string) (func(*pb.ProjectQuotas), error) {
	var sets []func(*pb.ProjectQuotas)
	for _, text := range texts {
		what, amount, _ := strings.Cut(text, "=")
		field := map[string]func(*pb.ProjectQuotas) *uint64{"twins": func(q *pb.ProjectQuotas) *uint64 { return &q.Twins }, "series": func(q *pb.ProjectQuotas) *uint64 { return &q.Series },
			"journal": func(q *pb.ProjectQuotas) *uint64 { return &q.JournalBytes }, "topics": func(q *pb.ProjectQuotas) *uint64 { return &q.TopicBytes }}[what]
		n, err := bytesOf(amount)
		if field == nil || err != nil {
			return nil, usagef("%q: want twins=NUMBER, series=NUMBER, journal=SIZE or topics=SIZE, such as journal=1GiB", text)
		}
		sets = append(sets, func(q *pb.ProjectQuotas) { *field(q) = n })
	}
	return func(q *pb.ProjectQuotas) {
		for _, set := range sets {
			set(q)
		}
	}, nil
}

// bytesOf reads a number, which may be of KiB, MiB or GiB.
func bytesOf(text string) (uint64, error) {
	shift := 0
	for unit, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			text, shift = digits, by
		}
	}
	n, err := strconv.ParseUint(text, 10, 63-shift)
	return n << shift, err
}

func quotaText(resource string, n uint64) string {
	if !strings.HasSuffix(resource, "_bytes") {
		return strconv.FormatUint(n, 10)
	}
	return bytesText(n)
}

// retentionRules reads rules: KIND[/NAME]=AGE of the journal, where the kind `all` is every kind, and
// samples[/MODEL][/PROPERTY]=AGE[,STEP[:AGE]].
func retentionRules(texts []string) (rules []*pb.RetentionRule, samples []*pb.SampleRetention, err error) {
	for _, text := range texts {
		what, span, ok := strings.Cut(text, "=")
		if what == "samples" || strings.HasPrefix(what, "samples/") {
			r, err := sampleRule(what, span)
			if err != nil {
				return nil, nil, usagef("%q: want samples[/MODEL][/PROPERTY]=AGE[,STEP[:AGE]] with ages of an hour or more, such as samples/power=7d,5m:365d", text)
			}
			samples = append(samples, r)
			continue
		}
		age, err := daysOrSpan(span)
		if !ok || what == "" || err != nil || age < time.Minute {
			return nil, nil, usagef("%q: want KIND=AGE or KIND/NAME=AGE with an age of a minute or more, such as event=30d, event/door=36h or all=90d, or samples/PROPERTY=AGE", text)
		}
		kind, name, _ := strings.Cut(what, "/")
		if kind == "all" {
			kind = ""
		}
		rules = append(rules, &pb.RetentionRule{Kind: kind, Name: name, MaxAge: durationpb.New(age)})
	}
	return rules, samples, nil
}

func sampleRule(what, spans string) (*pb.SampleRetention, error) {
	r := &pb.SampleRetention{}
	_, of, _ := strings.Cut(what, "/")
	if i := strings.LastIndexByte(of, '/'); i >= 0 { // a model's id or title may have slashes in it
		r.Model, of = strings.TrimPrefix(of[:i], "*"), strings.TrimPrefix(of[i+1:], "*")
	}
	r.Property = of
	raw, rest, rolled := strings.Cut(spans, ",")
	age, err := daysOrSpan(raw)
	if err != nil || age < time.Hour {
		return nil, fmt.Errorf("age %q: %w", raw, err)
	}
	r.MaxAge = durationpb.New(age)
	if !rolled {
		return r, nil
	}
	text, longer, kept := strings.Cut(rest, ":")
	step, err := daysOrSpan(text)
	if err != nil || step < time.Second {
		return nil, fmt.Errorf("step %q: %w", text, err)
	}
	r.Downsample = durationpb.New(step)
	if !kept {
		return r, nil
	}
	if age, err = daysOrSpan(longer); err != nil {
		return nil, err
	}
	r.DownsampleMaxAge = durationpb.New(age)
	return r, nil
}

// daysOrSpan reads a duration, which may be in days, as 30d.
func daysOrSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

func ageText(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func rulesTable(w io.Writer, rules []*pb.RetentionRule, samples []*pb.SampleRetention, longest time.Duration, elsewhere bool) {
	row(w, "KIND", "NAME", "KEPT FOR")
	kept := func(d time.Duration) string {
		if longest > 0 && d > longest {
			return ageText(longest) + " (metrics-retention; the rule says " + ageText(d) + ")"
		}
		return ageText(d)
	}
	for _, r := range rules {
		row(w, printable(cmp.Or(r.Kind, "all")), dash(printable(r.Name)), kept(r.MaxAge.AsDuration()))
	}
	for _, r := range samples {
		name := cmp.Or(r.Property, "all")
		if r.Model != "" {
			name += " of " + r.Model
		}
		age := kept(r.MaxAge.AsDuration())
		if r.Downsample != nil {
			age += ", then one of " + ageText(r.Downsample.AsDuration())
			if r.DownsampleMaxAge != nil {
				age += " for " + kept(r.DownsampleMaxAge.AsDuration())
			}
		}
		if elsewhere {
			age += " (on the metrics server)"
		}
		row(w, "samples", printable(name), age)
	}
	if longest > 0 {
		row(w, "others", "–", ageText(longest))
	}
}

func previewText(w io.Writer, r *pb.PreviewRetentionResponse) {
	fmt.Fprintf(w, "the journal takes about %d KiB on a node\n", r.UsedBytes>>10)
	if r.Entries+r.Samples == 0 {
		fmt.Fprintln(w, "nothing would be deleted now")
		return
	}
	if r.Entries > 0 {
		fmt.Fprintf(w, "%d entries (%d KiB before compression) would be deleted now, from %s to %s:", r.Entries, r.Bytes>>10, stamp(r.Oldest.AsTime().Local()), stamp(r.Newest.AsTime().Local()))
		countsText(w, r.Kinds)
	}
	if r.Samples > 0 {
		fmt.Fprintf(w, "%d samples of %d series are older than their rules say:", r.Samples, r.Series)
		countsText(w, r.Properties)
	}
}

func countsText(w io.Writer, counts map[string]uint64) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, " %s %d", printable(name), counts[name])
	}
	fmt.Fprintln(w)
}
