package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func ruleCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "rule",
		Aliases: []string{"rules"},
		Short:   "When something holds, do something",
		Long: `A rule is evaluated when something happens (a property changes, an event, silence, a time, a command that fails, a node that goes), looks
whether its condition holds, and acts where it begins to, or ceases to. One rule can be for thousands of twins. "why" says what it saw.`,
		Example: "  pollux rule put too-hot --on room1.temperature --if 'value > 28' --until 'value < 26' --for 5m --set fan1.power=on --else-set fan1.power=off\n" +
			"  pollux rule why too-hot\n  pollux rule test too-hot --twin room1 --value temperature=31\n  pollux rule list",
	}))
	cmd.AddCommand(rulePut(a), watcher(a, "rule", "rules"), ruleCreate(a), ruleTemplates(a), ruleList(a), ruleGet(a), ruleWhy(a), ruleTest(a), ruleDryRun(a),
		rulePause(a, "pause", true), rulePause(a, "resume", false),
		remover(a, "rm ID", "Remove a rule", "  pollux rule rm too-hot", "rule", func(ctx context.Context, n *node, id string) error {
			_, err := n.automation.DeleteRule(ctx, req(&pb.DeleteRuleRequest{Id: id}))
			return err
		}))
	return cmd
}

func rulePause(a *app, word string, paused bool) *cobra.Command {
	short, done := "Have a rule rest", " rests"
	if !paused {
		short, done = "Have a rule that was paused, or has stopped by itself, begin anew", " is evaluated again"
	}
	return &cobra.Command{
		Use: word + " ID", Short: short, Example: "  pollux rule " + word + " too-hot", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			old, err := n.automation.GetRule(cmd.Context(), req(&pb.GetRuleRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			old.Msg.Rule.Paused = paused
			made, err := n.putRule(cmd.Context(), old.Msg.Rule, false)
			if err != nil {
				return err
			}
			return a.show(made.Rule, func(w io.Writer) { row(w, "rule "+made.Rule.Id+done) })
		},
	}
}

func ruleList(a *app) *cobra.Command {
	r := &pb.ListRulesRequest{PageSize: pageSize}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the rules", Example: "  pollux rule list", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListRulesResponse{}
			for {
				res, err := n.automation.ListRules(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Rules, all.States = append(all.Rules, res.Msg.Rules...), append(all.States, res.Msg.States...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listRules(w, all.Rules, all.States) })
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	return cmd
}

func listRules(w io.Writer, rules []*pb.Rule, states []*pb.RuleState) {
	row(w, "ID", "ON", "IF", "FOR", "THEN", "ELSE", "FIRED", "")
	for i, r := range rules {
		note, fired := "", uint64(0)
		if i < len(states) {
			fired = states[i].Firings
			note = ruleNote(states[i])
		}
		if r.Paused {
			note = "paused"
		}
		lasts := "-"
		if d := r.For.AsDuration(); d > 0 {
			lasts = d.String()
		}
		row(w, bare(r.Id), strings.Join(names(r.When, triggerText), ", "), dash(printable(r.If)), lasts, len(r.Then), len(r.Otherwise), fired, note)
	}
}

// ruleNote says what somebody should look at of a rule.
func ruleNote(st *pb.RuleState) string {
	switch {
	case st.Stopped != "":
		return "stopped: " + printable(st.Stopped)
	case st.Storming != nil:
		return fmt.Sprintf("action storm: %d firings left out", st.Storm)
	}
	return ""
}

// triggerText says a trigger in a few words.
func triggerText(t *pb.Trigger) string {
	of := func(s *pb.Selection) string {
		text := strings.Join(names(s.GetTwins(), bare), " ")
		for _, x := range []struct{ what, name string }{{"zone", bare(s.GetZone())}, {"system", bare(s.GetSystem())}, {"model", bare(s.GetModel())}, {"driver", s.GetDriver()}} {
			if x.name != "" {
				text += " " + x.what + " " + x.name
			}
		}
		for k, v := range s.GetLabels() {
			text += " " + k + "=" + v
		}
		if text = strings.TrimSpace(text); text == "" {
			return "*"
		}
		return text
	}
	some := func(list []string) string {
		if len(list) == 0 {
			return "*"
		}
		return strings.Join(list, "|")
	}
	switch x := t.On.(type) {
	case *pb.Trigger_Property:
		return of(x.Property.Of) + "." + some(x.Property.Names)
	case *pb.Trigger_Event:
		return "event " + of(x.Event.Of) + "." + some(x.Event.Names)
	case *pb.Trigger_Absent:
		return "silence of " + of(x.Absent.Of) + " for " + x.Absent.Since.AsDuration().String()
	case *pb.Trigger_Schedule:
		return timingText(x.Schedule)
	case *pb.Trigger_Command:
		return "failed commands of " + of(x.Command.Of)
	case *pb.Trigger_Node:
		return "nodes"
	case *pb.Trigger_Webhook:
		return "webhook"
	case *pb.Trigger_Topic:
		return "topic " + bare(x.Topic.Topic)
	}
	return "-"
}

func ruleGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a rule and its state", Example: "  pollux rule get too-hot\n  pollux rule get too-hot -o yaml", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.GetRule(cmd.Context(), req(&pb.GetRuleRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { showRule(w, res.Msg.Rule, res.Msg.State, time.Now()) })
		},
	}
}

func showRuleState(w io.Writer, st *pb.RuleState, now time.Time) {
	if st == nil {
		return
	}
	if st.Stopped != "" {
		row(w, "stopped", printable(st.Stopped))
	}
	if st.Storming != nil {
		row(w, "action storm", "since "+timeText(st.Storming, now))
	}
	row(w, "holds for", st.Active)
	if st.Pending > 0 {
		row(w, "waits for", st.Pending)
	}
	row(w, "firings", st.Firings)
	row(w, "evaluations", st.Evaluations)
	for _, x := range []struct {
		name string
		n    uint64
	}{{"left out: too soon", st.Dampened}, {"left out: window", st.Outside}, {"left out: too many", st.Storm}} {
		if x.n > 0 {
			row(w, x.name, x.n)
		}
	}
	if st.Last != nil {
		row(w, "fired last", timeText(st.Last, now))
	}
	if st.Error != "" {
		row(w, "error", printable(st.Error))
	}
	row(w, "node", st.Node)
}

func ruleWhy(a *app) *cobra.Command {
	r := &pb.WhyRuleRequest{}
	cmd := &cobra.Command{
		Use: "why ID", Short: "Show why a rule has fired, or has not", Args: exactly("ID"),
		Long: `Shows what the rule says at present, its last evaluations with the values that it saw and what came of them, and its last runs with
the outcome of each action. Evaluations are kept by the rule's node since the rule came to it.`,
		Example: "  pollux rule why too-hot\n  pollux rule why low-battery --twin sensor17",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			r.Id = args[0]
			res, err := n.automation.WhyRule(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { a.showWhy(w, res.Msg, time.Now()) })
		},
	}
	cmd.Flags().StringVar(&r.Subject, "twin", "", "only of this twin")
	return cmd
}

func (a *app) showWhy(w io.Writer, m *pb.WhyRuleResponse, now time.Time) {
	showRuleState(w, m.State, now)
	showNotes(w, m.Notes)
	if m.Now != nil {
		fmt.Fprintln(w)
		row(w, "now", "of "+dash(bare(m.Now.Subject)), evaluationText(m.Now), printable(valuesText(m.Now.Values)))
	}
	if len(m.Evaluations) > 0 {
		fmt.Fprintln(w)
		row(w, "TIME", "OF", "TRIGGER", "VERDICT", "SEEN")
		for _, e := range m.Evaluations[:min(len(m.Evaluations), 20)] {
			row(w, timeText(e.Time, now), dash(bare(e.Subject)), printable(e.Trigger), evaluationText(e), printable(valuesText(e.Values)))
		}
	}
	a.showRuns(w, m.Runs[:min(len(m.Runs), 5)], now)
}

func evaluationText(e *pb.Evaluation) string {
	text := e.Verdict
	if e.Run > 0 {
		text += fmt.Sprintf(" (run %d)", e.Run)
	}
	if e.Error != "" {
		text += ": " + e.Error
	}
	return printable(text)
}

func ruleTest(a *app) *cobra.Command {
	r := &pb.TestRuleRequest{Values: map[string]*structpb.Value{}}
	var values []string
	var file string
	cmd := &cobra.Command{
		Use: "test [ID]", Short: "Evaluate a rule without doing anything", Args: cobra.MaximumNArgs(1),
		Long: `Evaluates a rule, one that is stored or that of a file, for a twin with its present values, or with those that --value gives, and shows
what it would do. Nothing is done.`,
		Example: "  pollux rule test too-hot --twin room1 --value temperature=31\n  pollux rule test -f rule.yaml --twin room1",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && file == "":
				r.Id = args[0]
			case len(args) == 0 && file != "":
				m, err := ruleOfFile(file)
				if err != nil {
					return err
				}
				r.Rule = m
			default:
				return usagef("name a rule, or give a file by -f")
			}
			for _, text := range values {
				name, value, ok := strings.Cut(text, "=")
				if !ok {
					return usagef("--value %q: want PROPERTY=VALUE", text)
				}
				r.Values[name] = jsonOrText(value)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.TestRule(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				row(w, "verdict", evaluationText(res.Msg.Evaluation))
				row(w, "seen", printable(valuesText(res.Msg.Evaluation.Values)))
				for _, text := range res.Msg.Actions {
					row(w, "would", printable(text))
				}
			})
		},
	}
	cmd.Flags().StringVar(&r.Twin, "twin", "", "the `ID` of the twin that it is evaluated for")
	cmd.Flags().StringVar(&r.Name, "name", "", "the property or event that triggers; the first that the rule names, if not given")
	cmd.Flags().StringArrayVar(&values, "value", nil, "`PROPERTY=VALUE` instead of the twin's own; many times")
	cmd.Flags().StringVarP(&file, "file", "f", "", "a rule in this `FILE`")
	return cmd
}
