package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/state"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// dryRunWithin bounds a dry run.
const dryRunWithin = time.Minute

// past answers what conditions of rules ask of the history, on this node's own behalf: of this node's where it is complete, else of another's.
func (s *Server) past(ctx context.Context, twin, property, aggregate string, span time.Duration, at time.Time) (float64, bool, error) {
	project, name, _ := strings.Cut(twin, "/")
	nodes := s.o.Cluster.HistoryNodes()
	if len(nodes) == 0 {
		res, err := s.o.History.Query(ctx, history.Query{Project: project, Twin: name, Property: property, Start: at.Add(-span), End: at, Step: span, Aggregate: aggregate, Limit: 1})
		if err != nil || len(res.Points) == 0 {
			return 0, false, err
		}
		return res.Points[len(res.Points)-1].Value, true, nil
	}
	ctx = context.WithValue(ctx, principalKey{}, &Principal{ID: s.o.Peers.Self(), Name: "node", Role: RoleViewer})
	res, err := fromHistory(ctx, s, nodes, func(p *peerClients) (*connect.Response[pb.QueryHistoryResponse], error) {
		return p.twins.QueryHistory(ctx, connect.NewRequest(&pb.QueryHistoryRequest{Id: twin, Property: property, Start: timestamppb.New(at.Add(-span)),
			End: timestamppb.New(at), Step: durationpb.New(span), Aggregate: aggregate, Limit: 1}))
	})
	if err != nil || len(res.Msg.Samples) == 0 {
		return 0, false, err
	}
	return res.Msg.Samples[len(res.Msg.Samples)-1].Value, true, nil
}

// readings answers what detectors that begin ask of the history, as past does.
func (s *Server) readings(ctx context.Context, twin, property string, start, end time.Time, most int) (all []actors.Reading, err error) {
	project, name, _ := strings.Cut(twin, "/")
	nodes := s.o.Cluster.HistoryNodes()
	if len(nodes) == 0 {
		res, err := s.o.History.Query(ctx, history.Query{Project: project, Twin: name, Property: property, Start: start, End: end, Limit: most})
		for _, p := range res.Points {
			all = append(all, actors.Reading{Time: p.Time, Value: p.Value})
		}
		return all, err
	}
	ctx = context.WithValue(ctx, principalKey{}, &Principal{ID: s.o.Peers.Self(), Name: "node", Role: RoleViewer})
	res, err := fromHistory(ctx, s, nodes, func(p *peerClients) (*connect.Response[pb.QueryHistoryResponse], error) {
		return p.twins.QueryHistory(ctx, connect.NewRequest(&pb.QueryHistoryRequest{Id: twin, Property: property, Start: timestamppb.New(start),
			End: timestamppb.New(end), Limit: uint32(most)}))
	})
	if err != nil {
		return nil, err
	}
	for _, p := range res.Msg.Samples {
		all = append(all, actors.Reading{Time: p.Time.AsTime().UnixMilli(), Value: p.Value})
	}
	return all, nil
}

func (a *automationService) DryRunRule(ctx context.Context, r *connect.Request[pb.DryRunRuleRequest]) (*connect.Response[pb.DryRunRuleResponse], error) {
	if at := a.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, a.s, at, func(p *peerClients) (*connect.Response[pb.DryRunRuleResponse], error) {
			return p.rules.DryRunRule(ctx, connect.NewRequest(r.Msg))
		})
	}
	m, err := a.meant(r.Msg.Id, r.Msg.Rule)
	if err != nil {
		return nil, err
	}
	end := time.Now()
	if r.Msg.End != nil {
		end = r.Msg.End.AsTime()
	}
	start := end.Add(-24 * time.Hour)
	if r.Msg.Start != nil {
		start = r.Msg.Start.AsTime()
	}
	if !start.Before(end) {
		return nil, invalid("start", "is not before end")
	}
	ctx, cancel := context.WithTimeout(ctx, dryRunWithin)
	defer cancel()
	a.s.o.Journal.CatchUp(ctx, journalPatience)
	res, err := a.host().Rehearse(ctx, automation.Rehearsal{Rule: m, Start: start, End: end, Limit: int(r.Msg.Limit), Tape: a.tape})
	switch {
	case errors.Is(err, automation.ErrTooMuch):
		return nil, invalid("start", err.Error()+": choose a shorter time, or fewer twins")
	case err != nil:
		return nil, fmt.Errorf("dry run of %s: %w", m.Id, err)
	}
	return connect.NewResponse(res), nil
}

// meant is the rule that a request names, or has in it.
func (a *automationService) meant(id string, given *pb.Rule) (*pb.Rule, error) {
	if given != nil {
		return a.s.o.Registry.CheckRule(given)
	}
	return a.s.o.Registry.Rule(id)
}

// lookBack is how long before a dry run the values are looked for that twins had at its begin.
const lookBack = 24 * time.Hour

// tape reads what is recorded of a twin: samples, and out of the journal what is no number.
func (a *automationService) tape(ctx context.Context, twin string, start, end time.Time, limit int) ([]automation.Recorded, error) {
	project, name, _ := strings.Cut(twin, "/")
	var all []automation.Recorded
	bools := a.bools(twin)
	err := a.s.o.History.Walk(ctx, history.WalkQuery{Project: project, Twins: []string{name}, Start: start.Add(-lookBack), End: end}, func(t storage.TwinSamples) error {
		for _, x := range t.Samples {
			v := state.NumberValue(x.Value)
			if bools[x.Property] {
				v = state.BoolValue(x.Value != 0)
			}
			all = append(all, automation.Recorded{Time: x.Time, Kind: automation.SaidProperty, Name: x.Property, Value: v})
		}
		if len(all) > 2*limit {
			return automation.ErrTooMuch
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	q := journal.Query{Project: project, Twin: name, Kinds: []string{"value", "event", "command"}, Start: start.Add(-lookBack).UnixMilli(), End: end.UnixMilli(), Limit: 1000}
	for {
		page, err := a.s.o.Journal.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page.Entries {
			if rec, ok := recorded(&page.Entries[i]); ok {
				all = append(all, rec)
			}
		}
		if q.After = page.Next; q.After == nil {
			break
		}
		if len(all) > 2*limit {
			return nil, automation.ErrTooMuch
		}
	}
	slices.SortStableFunc(all, func(x, y automation.Recorded) int { return int(min(1, max(-1, x.Time-y.Time))) })
	return fromStart(all, start.UnixMilli()), nil
}

// recorded makes of a journal's entry what the twin said.
func recorded(e *storage.JournalEntry) (automation.Recorded, bool) {
	kind := map[string]string{"value": automation.SaidProperty, "event": automation.SaidEvent, "command": automation.SaidFailure}[e.Kind]
	if kind == automation.SaidFailure {
		var o struct{ Outcome string }
		if json.Unmarshal(e.Data, &o) != nil || o.Outcome == "done" || o.Outcome == "queued" {
			return automation.Recorded{}, false
		}
	}
	data := e.Data
	if len(data) == 0 {
		data = []byte("null")
	}
	v, err := state.ParseValue(data)
	return automation.Recorded{Time: e.Time, Kind: kind, Name: e.Name, Value: v}, err == nil
}

// fromStart leaves of what was before start the last value of each property.
func fromStart(all []automation.Recorded, start int64) []automation.Recorded {
	at := slices.IndexFunc(all, func(r automation.Recorded) bool { return r.Time >= start })
	if at < 0 {
		at = len(all)
	}
	seen := map[string]bool{}
	var before []automation.Recorded
	for _, r := range slices.Backward(all[:at]) {
		if r.Kind == automation.SaidProperty && !seen[r.Name] {
			seen[r.Name] = true
			before = append(before, r)
		}
	}
	slices.Reverse(before)
	return append(before, all[at:]...)
}

// bools are the properties of a twin that are true or false: history has them as 1 and 0.
func (a *automationService) bools(twin string) map[string]bool {
	all := map[string]bool{}
	if st, ok := a.s.o.Client.Stored(twin); ok {
		for i := range st.Properties {
			p := &st.Properties[i]
			all[p.Name.Value()] = p.Value == state.BoolValue(true) || p.Value == state.BoolValue(false)
		}
	}
	return all
}

func (a *automationService) ListRuleTemplates(context.Context, *connect.Request[pb.ListRuleTemplatesRequest]) (*connect.Response[pb.ListRuleTemplatesResponse], error) {
	all, err := automation.Templates()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListRuleTemplatesResponse{Templates: all}), nil
}

func (a *automationService) FillRuleTemplate(_ context.Context, r *connect.Request[pb.FillRuleTemplateRequest]) (*connect.Response[pb.FillRuleTemplateResponse], error) {
	m, err := automation.FillTemplate(r.Msg.Template, r.Msg.Id, r.Msg.Values)
	var field *automation.FieldError
	if errors.As(err, &field) {
		return nil, invalid(field.Path, field.Reason)
	}
	if err == nil {
		m, err = a.s.o.Registry.CheckRule(m)
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.FillRuleTemplateResponse{Rule: m}), nil
}

// rehearsedRule: the rule that the request names, or has in it.
func rehearsedRule(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.DryRunRuleRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	if msg.Rule != nil {
		return named("rule", "rule.id", &msg.Rule.Id)
	}
	return named("rule", "id", &msg.Id)
}

// filledRule: the rule that is to be made.
func filledRule(m any, _ *Principal) (Resource, error) {
	msg, ok := m.(*pb.FillRuleTemplateRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	if msg.Id == "" {
		msg.Id = msg.Template
	}
	return named("rule", "id", &msg.Id)
}

// ruleHookPath is where somebody posts to a rule with a webhook trigger: no twin's name begins with @.
const ruleHookPath = "POST /hooks/{project}/@rule/{name}"

// ruleHook gives a rule what was posted, wherever the rule lives, and answers when what came of it is committed. Whoever may not all get the same
// answer.
func (s *Server) ruleHook(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("project") + "/" + r.PathValue("name")
	sum := sha256.Sum256([]byte(takeToken(r)))
	m, err := s.o.Registry.Rule(id)
	if err != nil || !slices.ContainsFunc(m.When, func(t *pb.Trigger) bool {
		return t.GetWebhook() != nil && subtle.ConstantTimeCompare([]byte(t.GetWebhook().SecretSha256), []byte(hex.EncodeToString(sum[:]))) == 1
	}) {
		s.refused.hooks.Inc()
		s.log.Debug("webhook refused", "rule", id, "from", r.RemoteAddr)
		http.Error(w, "there is no webhook for you here", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRuleHook+1))
	if err == nil && len(body) > maxRuleHook {
		http.Error(w, fmt.Sprintf("the body is larger than %d bytes", maxRuleHook), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), topicTimeout)
	defer cancel()
	notice := &actorv1.UnitNotice{Payload: automation.Posted(body, time.Now())}
	if err := s.o.Client.Automation().Tell(ctx, m.Id, &actorv1.UnitNotices{Notices: []*actorv1.UnitNotice{notice}}); err != nil {
		w.Header().Set("Retry-After", "2")
		http.Error(w, "the rule cannot be reached now", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// maxRuleHook bounds what is posted to a rule, in bytes: it is in the state of a rule that waits.
const maxRuleHook = 64 << 10
