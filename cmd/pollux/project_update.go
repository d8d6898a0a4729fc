package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// projectFlags are the settings that `project update` was given; those that are not named stay.
type projectFlags struct {
	unknown                  string
	rules, keep, quotas      []string
	maxAge, history, maxNext string
}

func projectUpdate(a *app) *cobra.Command {
	var given projectFlags
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a project's settings: unknown senders, times, retention, quotas", Args: exactly("NAME"),
		Long: `Changes the settings that flags name; the others stay. Each group of them has a command of its own that explains it:

  --unknown, --rule                        pollux ingest unknown --help   (replaces all rules; --rule none: no rules)
  --max-age, --max-history, --max-ahead    pollux ingest times --help     (0 is the usual one again)
  --keep                                   pollux retention set --help    (replaces all rules; --keep none: no rules)
  --quota                                  pollux retention quota --help  (0 takes a quota away)`,
		Example: "  pollux project update hotel --unknown refuse\n  pollux project update hotel --quota twins=1000 --quota journal=1GiB\n" +
			"  pollux project update hotel --keep event=30d --keep samples/power=7d,5m:365d --max-age 7d",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if _, err := n.projects.GetProject(cmd.Context(), req(&pb.GetProjectRequest{Project: args[0]})); err != nil {
				return err
			}
			if _, err := n.changeProject(cmd.Context(), args[0], func(s *pb.ProjectSettings) (bool, error) { return given.into(cmd, s) }); err != nil {
				return err
			}
			res, err := n.projects.GetProject(cmd.Context(), req(&pb.GetProjectRequest{Project: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Project, func(w io.Writer) { describeProject(w, res.Msg.Project) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&given.unknown, "unknown", "", "what becomes of unknown senders: inbox, refuse or provision")
	f.StringArrayVar(&given.rules, "rule", nil, "a rule of provision, as `WORDS`; many times, replaces those there were")
	f.StringVar(&given.maxAge, "max-age", "", "of a message that is to change the present, such as 7d")
	f.StringVar(&given.history, "max-history", "", "of any value, for history, such as 3650d")
	f.StringVar(&given.maxNext, "max-ahead", "", "ahead of the node's clock, such as 1h")
	f.StringArrayVar(&given.keep, "keep", nil, "how long the past is kept, as `RULE` such as event=30d; many times, replaces those there were")
	f.StringArrayVar(&given.quotas, "quota", nil, "what the project may take, as `WHAT=AMOUNT`; many times")
	return cmd
}

// into writes what was given into settings, and says whether anything was. Nothing is sent where one of them is wrong.
func (g *projectFlags) into(cmd *cobra.Command, s *pb.ProjectSettings) (changed bool, err error) {
	if g.unknown != "" {
		choice, ok := unknownChoices[g.unknown]
		if !ok {
			return false, usagef("--unknown %q: want inbox, refuse or provision", g.unknown)
		}
		s.UnknownSenders, changed = choice, true
	}
	if len(g.rules) > 0 {
		if s.Rules, err = parseRules(g.rules); err != nil {
			return false, err
		}
		changed = true
	}
	for _, t := range []struct {
		name, text string
		into       **durationpb.Duration
	}{{"max-age", g.maxAge, &s.MaxAge}, {"max-history", g.history, &s.MaxHistoryAge}, {"max-ahead", g.maxNext, &s.MaxAhead}} {
		if !cmd.Flags().Changed(t.name) {
			continue
		}
		var d time.Duration
		if d, err = daysOrSpan(t.text); err != nil {
			return false, usagef("--%s %q: want a span such as 36h or 7d, or 0", t.name, t.text)
		}
		if *t.into, changed = nil, true; d != 0 {
			*t.into = durationpb.New(d)
		}
	}
	if len(g.keep) == 1 && g.keep[0] == "none" {
		s.JournalRetention, s.SampleRetention, changed = nil, nil, true
	} else if len(g.keep) > 0 {
		if s.JournalRetention, s.SampleRetention, err = retentionRules(g.keep); err != nil {
			return false, err
		}
		changed = true
	}
	if len(g.quotas) > 0 {
		set, err := quotasOf(g.quotas)
		if err != nil {
			return false, err
		}
		if s.Quotas == nil {
			s.Quotas = &pb.ProjectQuotas{}
		}
		set(s.Quotas)
		changed = true
	}
	if !changed {
		return false, usagef("nothing to change: name a setting, such as --unknown refuse")
	}
	return true, nil
}
