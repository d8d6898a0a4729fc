package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ruleOfFile gives the first rule of a file.
func ruleOfFile(file string) (*pb.Rule, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	lines, err := parseConfig(in, file, "default")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(lines, func(l *planLine) bool { return l.rec.GetRule() != nil })
	if i < 0 {
		return nil, usagef("-f %s: there is no rule in it", file)
	}
	return lines[i].rec.GetRule(), nil
}

func ruleDryRun(a *app) *cobra.Command {
	r := &pb.DryRunRuleRequest{}
	var file string
	var span rangeFlags
	cmd := &cobra.Command{
		Use: "dry-run [ID]", Short: "Have a rule live through what was recorded, without doing anything", Args: cobra.MaximumNArgs(1),
		Long: `Has a rule, one that is stored or that of a file, live through what was recorded of its twins, on a clock of its own, and shows when it would have
fired, of what values, and what it would have done. Nothing is done. Values come from the history and the journal; what of other things (places, models,
twins that are there) the rule reads is as it is now.`,
		Example: "  pollux rule dry-run too-hot --since 24h\n  pollux rule dry-run -f rule.yaml --since 168h",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			switch {
			case len(args) == 1 && file == "":
				r.Id = args[0]
			case len(args) == 0 && file != "":
				if r.Rule, err = ruleOfFile(file); err != nil {
					return err
				}
			default:
				return usagef("name a rule, or give a file by -f")
			}
			if r.Start, r.End, err = span.read(time.Now()); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.DryRunRule(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { showDryRun(w, res.Msg) })
		},
	}
	span.add(cmd, "24h")
	cmd.Flags().StringVarP(&file, "file", "f", "", "a rule in this `FILE`")
	cmd.Flags().Uint32Var(&r.Limit, "limit", 100, "show so many firings; all are counted")
	return cmd
}

func showDryRun(w io.Writer, m *pb.DryRunRuleResponse) {
	const layout = "2006-01-02 15:04:05.000"
	row(w, "from", m.Start.AsTime().Local().Format(layout))
	row(w, "to", m.End.AsTime().Local().Format(layout))
	row(w, "twins", m.Twins)
	row(w, "recorded", m.Records)
	row(w, "evaluations", m.State.GetEvaluations())
	row(w, "firings", m.State.GetFirings())
	for _, x := range []struct {
		name string
		n    uint64
	}{{"left out: too soon", m.State.GetDampened()}, {"left out: window", m.State.GetOutside()}, {"left out: too many", m.State.GetStorm()}} {
		if x.n > 0 {
			row(w, x.name, x.n)
		}
	}
	if text := m.State.GetStopped(); text != "" {
		row(w, "would stop", printable(text))
	}
	if text := m.State.GetError(); text != "" {
		row(w, "error", printable(text))
	}
	for _, text := range m.Notes {
		row(w, "note", printable(text))
	}
	if len(m.Firings) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "TIME", "OF", "CAUSE", "SEEN", "WOULD")
	for _, f := range m.Firings {
		cause := f.Cause
		if f.Otherwise {
			cause += ", ceased"
		}
		row(w, f.Time.AsTime().Local().Format(layout), dash(bare(f.Subject)), printable(cause), printable(valuesText(f.Values)), printable(strings.Join(f.Actions, "; ")))
	}
	if n := m.State.GetFirings(); n > uint64(len(m.Firings)) {
		row(w, fmt.Sprintf("… and %d more", n-uint64(len(m.Firings))))
	}
}
