package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ruleFlags are what can be said of a rule on the command line.
type ruleFlags struct {
	on, events, failed, absent []string
	topics                     []string
	webhook                    string
	sel                        pb.Selection
	labels                     []string
	lasts, settle, once        time.Duration
	repeat                     time.Duration
	then                       actionFlags
	elseCalls, elseSets        []string
}

func (f *ruleFlags) triggers() (all []*pb.Trigger, err error) {
	of := func(twin string) *pb.Selection {
		s := &pb.Selection{Zone: f.sel.Zone, System: f.sel.System, Model: f.sel.Model, Driver: f.sel.Driver, Interface: f.sel.Interface, Labels: map[string]string{}}
		if twin != "" && twin != "*" {
			s.Twins = []string{twin}
		}
		for _, l := range f.labels {
			k, v, _ := strings.Cut(l, "=")
			s.Labels[k] = v
		}
		return s
	}
	for _, text := range f.on {
		twin, name, err := dotted("on", "."+strings.TrimPrefix(text, "."))
		if strings.Contains(text, ".") {
			twin, name, err = dotted("on", text)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, &pb.Trigger{On: &pb.Trigger_Property{Property: &pb.PropertyTrigger{Of: of(twin), Names: []string{name}}}})
	}
	for _, text := range f.events {
		twin, name, err := dotted("on-event", text)
		if err != nil {
			return nil, err
		}
		all = append(all, &pb.Trigger{On: &pb.Trigger_Event{Event: &pb.EventTrigger{Of: of(twin), Names: []string{name}}}})
	}
	for _, twin := range f.failed {
		all = append(all, &pb.Trigger{On: &pb.Trigger_Command{Command: &pb.CommandTrigger{Of: of(twin)}}})
	}
	for _, text := range f.absent {
		what, long, ok := strings.Cut(text, "=")
		d, err := time.ParseDuration(long)
		if !ok || err != nil {
			return nil, usagef("--on-silence %q: want TWIN=LONG or TWIN.PROPERTY=LONG, as in meter1=10m", text)
		}
		twin, property, found := strings.Cut(what, ".")
		if !found {
			property = ""
		}
		all = append(all, &pb.Trigger{On: &pb.Trigger_Absent{Absent: &pb.AbsentTrigger{Of: of(twin), Property: property, Since: durationpb.New(d)}}})
	}
	for _, topic := range f.topics {
		all = append(all, &pb.Trigger{On: &pb.Trigger_Topic{Topic: &pb.TopicTrigger{Topic: topic}}})
	}
	if f.webhook != "" {
		all = append(all, &pb.Trigger{On: &pb.Trigger_Webhook{Webhook: &pb.WebhookTrigger{Secret: f.webhook}}})
	}
	return all, nil
}

// about gives the twin that a rule is about, where that is one.
func about(when []*pb.Trigger) (twin string) {
	for _, t := range when {
		var of *pb.Selection
		switch x := t.On.(type) {
		case *pb.Trigger_Property:
			of = x.Property.Of
		case *pb.Trigger_Event:
			of = x.Event.Of
		case *pb.Trigger_Command:
			of = x.Command.Of
		case *pb.Trigger_Absent:
			of = x.Absent.Of
		}
		if len(of.GetTwins()) != 1 || twin != "" && of.Twins[0] != twin {
			return ""
		}
		twin = of.Twins[0]
	}
	return twin
}

func rulePut(a *app) *cobra.Command {
	var f ruleFlags
	m := &pb.Rule{}
	cmd := &cobra.Command{
		Use: "put ID", Short: "Create or replace a rule", Args: exactly("ID"),
		Long: `Creates a rule, or replaces the one of that name by what the flags say; one that is paused stays so, unless --paused=false. A trigger's twin may be *: all twins that --model, --in-zone,
--of-system, --label and --driver leave; the rule then has a state for each of them, and an action without a twin (".power=on") is for that one.

` + actionHelp,
		Example: "  pollux rule put too-hot --on room1.temperature --if 'value > 28' --until 'value < 26' --for 5m --set fan1.power=on --else-set fan1.power=off\n" +
			"  pollux rule put low-battery --on '*.battery' --label kind=sensor --if 'value < 15' --once-per 24h --publish service\n" +
			"  pollux rule put silent --on-silence '*=15m' --model meter --mqtt 'alerts/meters=${twin.name} is silent'",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			m.Id = args[0]
			if m.When, err = f.triggers(); err != nil {
				return err
			}
			if len(m.When) == 0 {
				return usagef("say what has it evaluated by --on, --on-event, --on-failure, --on-silence, --on-topic or --on-webhook; other triggers come in a file: pollux apply -f")
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			read := n.reader(cmd.Context(), m.Id, about(m.When), f.sel.Model)
			if m.Then, err = f.then.actions(read); err != nil {
				return err
			}
			other := actionFlags{calls: f.elseCalls, sets: f.elseSets}
			if f.then.raise != "" {
				other.clears = []string{f.then.raise}
			}
			if m.Otherwise, err = other.actions(read); err != nil {
				return err
			}
			for _, x := range []struct {
				d  time.Duration
				to **durationpb.Duration
			}{{f.lasts, &m.For}, {f.settle, &m.Settle}, {f.once, &m.OncePer}, {f.repeat, &m.Repeat}} {
				*x.to = spanOf(x.d)
			}
			made, err := n.putRule(cmd.Context(), m, !cmd.Flags().Changed("paused"))
			if err != nil {
				return err
			}
			return a.showPut(made)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.on, "on", nil, "evaluate when `TWIN.PROPERTY` changes; many times")
	fl.StringArrayVar(&f.events, "on-event", nil, "evaluate at `TWIN.EVENT`; many times")
	fl.StringArrayVar(&f.failed, "on-failure", nil, "evaluate when a command of `TWIN` fails; many times")
	fl.StringArrayVar(&f.absent, "on-silence", nil, "fire when `TWIN=LONG` or TWIN.PROPERTY=LONG has been silent for so long; many times")
	fl.StringArrayVar(&f.topics, "on-topic", nil, "evaluate at each message of the durable `TOPIC`; many times")
	fl.StringVar(&f.webhook, "on-webhook", "", "evaluate when somebody posts to /hooks/PROJECT/@rule/ID with this `SECRET`, of 16 characters at least")
	fl.StringVar(&f.sel.Zone, "in-zone", "", "only of twins in this zone, and in those within")
	fl.StringVar(&f.sel.System, "of-system", "", "only of twins of this system")
	fl.StringVar(&f.sel.Model, "model", "", "only of twins of this model")
	fl.StringVar(&f.sel.Driver, "driver", "", "only of twins with this driver")
	fl.StringArrayVar(&f.labels, "label", nil, "only of twins with `KEY=VALUE`; many times")
	fl.StringVar(&m.If, "if", "", "the condition, an `EXPRESSION`; see docs/expressions.md")
	fl.StringVar(&m.Until, "until", "", "what held goes on to hold until this `EXPRESSION` does")
	fl.DurationVar(&f.lasts, "for", 0, "the condition has to hold for so `LONG`")
	fl.DurationVar(&f.settle, "settle", 0, "evaluate when nothing has come for so `LONG`")
	fl.DurationVar(&f.once, "once-per", 0, "fire at most once in so `LONG`, per twin")
	fl.DurationVar(&f.repeat, "repeat", 0, "act again every so `LONG` as long as it holds")
	fl.BoolVar(&m.Each, "each", false, "fire whenever the condition is found true, not only where it begins to hold")
	fl.Uint32Var(&m.AtLeast, "at-least", 0, "the condition holds where it does for so `MANY` of the twins")
	fl.BoolVar(&m.Together, "together", false, "one state for all twins")
	fl.Uint32Var(&m.Limit, "limit", 0, "leave out what would fire more than so `OFTEN` a minute, and raise an alarm (default 600)")
	fl.BoolVar(&m.StopOnStorm, "stop-on-storm", false, "stop where it would fire more often than --limit")
	fl.Uint32Var(&m.DisableAfter, "disable-after", 0, "stop after so `MANY` firings")
	fl.StringVar(&m.Title, "title", "", "name for people")
	fl.BoolVar(&m.Paused, "paused", false, "keep it, and do not evaluate it (as it is now, where it is not given)")
	f.then.add(cmd)
	fl.StringArrayVar(&f.elseCalls, "else-call", nil, "invoke `TWIN.ACTION` where it ceases to hold; many times")
	fl.StringArrayVar(&f.elseSets, "else-set", nil, "set `TWIN.PROPERTY=VALUE` where it ceases to hold; many times")
	return cmd
}

// putRule makes a rule, or replaces it. asPaused: one that is there stays paused, or goes on, as it was.
func (n *node) putRule(ctx context.Context, m *pb.Rule, asPaused bool) (*pb.PutRuleResponse, error) {
	res, err := n.automation.PutRule(ctx, req(&pb.PutRuleRequest{Rule: m}))
	if connect.CodeOf(err) == connect.CodeAlreadyExists {
		old, gone := n.automation.GetRule(ctx, req(&pb.GetRuleRequest{Id: m.Id}))
		if gone != nil {
			return nil, gone
		}
		m.Revision = old.Msg.Rule.Revision
		if asPaused {
			m.Paused = old.Msg.Rule.Paused
		}
		res, err = n.automation.PutRule(ctx, req(&pb.PutRuleRequest{Rule: m}))
	}
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// showPut says that a rule is there, and what of it is not.
func (a *app) showPut(m *pb.PutRuleResponse) error {
	return a.show(m.Rule, func(w io.Writer) {
		row(w, "rule "+m.Rule.Id+" is there"+rests(m.Rule.Paused, "rule", m.Rule.Id))
		showNotes(w, m.Notes)
	})
}

// rests says of what was put that it is paused.
func rests(paused bool, kind, id string) string {
	if !paused {
		return ""
	}
	return fmt.Sprintf(", and paused; to have it go on: pollux %s resume %s", kind, bare(id))
}
