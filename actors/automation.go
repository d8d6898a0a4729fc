package actors

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// newAutomation makes the host of schedules and rules.
func newAutomation(e *Engine) (*automation.Host, error) {
	return automation.New(automation.Options{Store: e.store, World: e.world, Node: e.o.Node, Logger: e.log, Metrics: e.o.Metrics, Now: e.now, Stepped: e.stepped,
		Call:        func(env *cluster.Envelope, done func(cluster.Reply)) { e.cluster.Call(env, done) },
		Owned:       func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		LeaseValid:  func() bool { return e.cluster.LeaseValid() },
		JournalRead: func() bool { return e.cluster.JournalRead() },
		Note:        e.waker.note, WakeKey: wakeKey, WakeTable: tableWakes})
}

// Automation gives the schedules and rules, wherever they live.
func (c *Client) Automation() *automation.Host { return c.e.automation }

func (e *Engine) scheduleChanged(c storage.Change) {
	e.automation.Changed(automation.KindSchedule, c.Key)
}

func (e *Engine) ruleChanged(c storage.Change) {
	e.ruleRead(c.Key)
	e.automation.Changed(automation.KindRule, c.Key)
}

// memberChanged: a node of the cluster came or went, or said something of itself.
func (e *Engine) memberChanged(storage.Change) { e.automation.NodesChanged(e.rules) }

// rulesLost reads all rules anew.
func (e *Engine) rulesLost() {
	if err := e.rules.Load(); err != nil {
		e.log.Error("rules", "err", err)
	}
}

// ruleRead reads one rule anew.
func (e *Engine) ruleRead(id string) {
	if err := e.rules.Changed(id); err != nil {
		e.log.Error("rules", "rule", id, "err", err)
	}
}

// ruleTopic begins the place in the outbox of what is for a rule; no topic's id has a second slash.
const ruleTopic = automation.KindRule + "/"

// tellRules sends what the twin says to the rules that want to hear it: with the next transaction, which is the one that commits it.
func (t *twin) tellRules(s *said) {
	if t.e.rules.Count.Load() == 0 {
		return
	}
	r := t.outlook()
	if r == nil {
		return
	}
	var payload []byte
	for i := range r.rules {
		l := &r.rules[i]
		if !l.Wants(s.kind, s.name) {
			continue
		}
		r.change = expr.Change{Kind: s.kind, Name: s.name, Value: s.value, Previous: s.previous, Time: s.at}
		spare, told := l.Spare(&r.in)
		if spare {
			continue
		}
		if payload == nil {
			m := automation.Said{Twin: t.en.id, Kind: s.kind, Name: s.name, Now: s.value.AppendJSON(nil), Was: s.previous.AppendJSON(nil), Time: s.at,
				By: t.causeOf(s)}
			var err error
			if payload, err = json.Marshal(m); err != nil {
				t.e.log.Error("message to rules", "twin", t.en.id, "err", err)
				return
			}
		}
		posted := len(t.saves().outgoing)
		if t.post(ruleTopic+l.Rule, "", payload, s.at, ""); len(t.saves().outgoing) > posted {
			told()
		}
	}
}

// causeOf gives the rules whose action led to what the twin says: they asked for the value, or for the command that is answered.
func (t *twin) causeOf(s *said) string {
	if s.by != "" {
		return s.by
	}
	if s.kind == automation.SaidProperty {
		if d := t.st.FindDesired(state.Intern(s.name)); d != nil && automation.IsAddress(firstWord(d.By)) && d.Value.Equal(s.value) &&
			s.at-d.Time < 60_000 {
			return d.By
		}
	}
	if t.routing != nil && automation.IsAddress(firstWord(t.routing.by)) {
		return t.routing.by
	}
	return ""
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

// behalfOf says on whose behalf a command runs.
func behalfOf(c *command) string {
	if c == nil || len(c.replies) == 0 || c.replies[0].env == nil {
		return ""
	}
	return c.replies[0].env.Principal
}

// complain tells rules that a command has failed.
func (t *twin) complain(c *command, o pb.Outcome, why string) {
	if t.e.rules.Count.Load() == 0 || o == pb.Outcome_OUTCOME_DONE || o == pb.Outcome_OUTCOME_QUEUED {
		return
	}
	v, err := state.FromAny(map[string]any{"outcome": strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_")), "error": why})
	if err != nil {
		return
	}
	t.tellRules(&said{kind: automation.SaidFailure, name: c.label, value: v, at: t.stamp(), by: behalfOf(c)})
}

// tellRule brings what twins said to a rule.
func (o *outbox) tellRule(ctx context.Context, id string, messages []*pb.TopicMessage) error {
	m := &actorv1.UnitNotices{Revision: o.e.store.Revision()}
	for _, x := range messages {
		m.Notices = append(m.Notices, &actorv1.UnitNotice{Id: x.Id, Payload: x.Payload})
	}
	err := o.e.automation.Tell(ctx, id, m)
	if errors.Is(err, automation.ErrNotFound) {
		return nil // the rule was deleted meanwhile
	}
	return err
}

// onBehalf notes on whose behalf effects are taken, until ends is called.
func (t *twin) onBehalf(c *command) (ends func()) {
	by := behalfOf(c)
	if t.e.rules.Count.Load() == 0 || !automation.IsAddress(firstWord(by)) || t.outlook() == nil {
		return func() {}
	}
	t.routing.by = by
	return func() { t.routing.by = "" }
}

// listeners gives the rules that want to hear of a twin.
func (e *Engine) listeners(t *pb.Twin) []automation.Listener {
	if e.rules.Count.Load() == 0 {
		return nil
	}
	return e.automation.Listeners(e.rules, t.Id, func(of *pb.Selection) bool { return e.world.matches(ProjectOf(t.Id), of, t) })
}
