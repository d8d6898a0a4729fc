package main

import (
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
		Short: "How long a project's journal is kept",
		Long: `Rules say how long journal entries are kept, by kind or by kind and name; the closest counts. Samples are kept for metrics-retention
(see ` + "`pollux serve --help`" + `), on all projects alike, and the journal no longer than that. What rules would delete can be asked first.`,
		Example: "  pollux retention show\n  pollux retention preview event=30d event/door=7d\n  pollux retention set event=30d event/door=7d all=90d",
	}))
	cmd.AddCommand(retentionShow(a), retentionPreview(a), retentionSet(a))
	return cmd
}

func retentionShow(a *app) *cobra.Command {
	project := "default"
	cmd := &cobra.Command{
		Use: "show", Short: "Show the rules, and what they would delete now", Args: exactly(),
		Example: "  pollux retention show --project plant",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			s, err := n.projectSettings(cmd.Context(), project)
			if err != nil {
				return err
			}
			res, err := n.history.PreviewRetention(cmd.Context(), req(&pb.PreviewRetentionRequest{Project: project, Current: true}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				rulesTable(w, s.JournalRetention, res.Msg.DefaultMaxAge.AsDuration())
				fmt.Fprintln(w)
				previewText(w, res.Msg)
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	return cmd
}

func retentionPreview(a *app) *cobra.Command {
	project := "default"
	cmd := &cobra.Command{
		Use: "preview KIND[/NAME]=AGE ...", Short: "Count what rules would delete; nothing is deleted", Args: cobra.MinimumNArgs(1),
		Example: "  pollux retention preview event=30d event/door=7d all=90d",
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := retentionRules(args)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.history.PreviewRetention(cmd.Context(), req(&pb.PreviewRetentionRequest{Project: project, Rules: rules}))
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
		Use: "set KIND[/NAME]=AGE ...", Short: "Replace the rules; each node deletes what they let go within ten minutes",
		Example: "  pollux retention set event=30d event/door=7d all=90d\n  pollux retention set --none",
		RunE: func(cmd *cobra.Command, args []string) error {
			if none == (len(args) > 0) {
				return usagef("want rules such as event=30d, or --none")
			}
			rules, err := retentionRules(args)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			s, err := n.projectSettings(cmd.Context(), project)
			if err != nil {
				return err
			}
			s.JournalRetention = rules
			res, err := n.ingest.PutProjectSettings(cmd.Context(), req(&pb.PutProjectSettingsRequest{Settings: s}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Settings, func(w io.Writer) { rulesTable(w, res.Msg.Settings.JournalRetention, 0) })
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	cmd.Flags().BoolVar(&none, "none", false, "no rules: everything is kept as long as history is")
	return cmd
}

// retentionRules reads KIND[/NAME]=AGE; the kind `all` is every kind.
func retentionRules(texts []string) (rules []*pb.RetentionRule, err error) {
	for _, text := range texts {
		what, span, ok := strings.Cut(text, "=")
		age, err := daysOrSpan(span)
		if !ok || what == "" || err != nil || age < time.Minute {
			return nil, usagef("%q: want KIND=AGE or KIND/NAME=AGE, such as event=30d, event/door=36h or all=90d", text)
		}
		kind, name, _ := strings.Cut(what, "/")
		if kind == "all" {
			kind = ""
		}
		rules = append(rules, &pb.RetentionRule{Kind: kind, Name: name, MaxAge: durationpb.New(age)})
	}
	return rules, nil
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
	return d.String()
}

func rulesTable(w io.Writer, rules []*pb.RetentionRule, longest time.Duration) {
	row(w, "KIND", "NAME", "KEPT FOR")
	for _, r := range rules {
		kind := r.Kind
		if kind == "" {
			kind = "all"
		}
		age := ageText(r.MaxAge.AsDuration())
		if longest > 0 && r.MaxAge.AsDuration() > longest {
			age = ageText(longest) + " (metrics-retention; the rule says " + age + ")"
		}
		row(w, printable(kind), dash(printable(r.Name)), age)
	}
	if longest > 0 {
		row(w, "others", "–", ageText(longest))
	}
}

func previewText(w io.Writer, r *pb.PreviewRetentionResponse) {
	fmt.Fprintf(w, "the journal takes about %d KiB on a node\n", r.UsedBytes>>10)
	if r.Entries == 0 {
		fmt.Fprintln(w, "nothing would be deleted now")
		return
	}
	fmt.Fprintf(w, "%d entries (%d KiB before compression) would be deleted now, from %s to %s:", r.Entries, r.Bytes>>10, stamp(r.Oldest.AsTime().Local()), stamp(r.Newest.AsTime().Local()))
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		fmt.Fprintf(w, " %s %d", printable(kind), r.Kinds[kind])
	}
	fmt.Fprintln(w)
}
