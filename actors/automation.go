package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

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
	return automation.New(automation.Options{Store: e.store, World: e.world, Node: e.o.Node, Logger: e.log, Metrics: e.o.Metrics, Now: e.now,
		Call:       func(env *cluster.Envelope, done func(cluster.Reply)) { e.cluster.Call(env, done) },
		Owned:      func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		LeaseValid: func() bool { return e.cluster.LeaseValid() },
		Note:       e.waker.note, WakeKey: wakeKey, WakeTable: tableWakes})
}

// Automation gives the schedules and rules, wherever they live.
func (c *Client) Automation() *automation.Host { return c.e.automation }

func (e *Engine) scheduleChanged(c storage.Change) {
	e.automation.Changed(automation.KindSchedule, c.Key)
}

func (e *Engine) ruleChanged(c storage.Change) {
	e.rulesLost()
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
		if payload == nil {
			m := automation.Said{Twin: t.en.id, Kind: s.kind, Name: s.name, Now: s.value.AppendJSON(nil), Was: s.previous.AppendJSON(nil), Time: s.at,
				By: t.causeOf(s)}
			var err error
			if payload, err = json.Marshal(m); err != nil {
				t.e.log.Error("message to rules", "twin", t.en.id, "err", err)
				return
			}
		}
		t.post(ruleTopic+l.Rule, "", payload, s.at, "")
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
	project := ProjectOf(t.Id)
	return e.rules.Of(project, func(of *pb.Selection) bool { return e.world.matches(project, of, t) })
}

// world is what rules read and actions act on.
type world struct {
	e *Engine

	mu      sync.Mutex
	version uint64
	systems map[string]string // by their twins: the first one by its id
}

// View implements automation.World.
func (w *world) View(id string) (*expr.Twin, bool) {
	t, err := w.e.readTwin(id)
	if err != nil || t == nil {
		return nil, false
	}
	st, since := w.e.stored(id)
	v := w.e.sight(t, st, since)
	return &v, true
}

// Targets implements automation.World.
func (w *world) Targets(project string, to *pb.Targets, subject string) ([]string, error) {
	switch {
	case to.GetTwin() != "":
		id, err := w.own(project, to.Twin)
		return []string{id}, err
	case to.GetSystem() == "" && to.GetZone() == "" && to.GetInterface() == "" && to.GetModel() == "" && len(to.GetLabels()) == 0:
		if subject == "" {
			return nil, nil
		}
		return []string{subject}, nil
	}
	of := &pb.Selection{Zone: to.Zone, Interface: to.Interface, Model: to.Model, Labels: to.Labels}
	if to.System == "" {
		return w.Selected(project, of)
	}
	id, err := w.own(project, to.System)
	if err != nil {
		return nil, err
	}
	s, err := w.e.registry.GetSystem(id)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range s.Members {
		if meant(to.Name, m.Name) && w.Matches(project, of, m.Twin) {
			all = append(all, m.Twin)
		}
	}
	return all, nil
}

// own completes an id, which must be in the project.
func (w *world) own(project, id string) (string, error) {
	id, err := CanonicalID(within(project, id))
	if err == nil && ProjectOf(id) != project {
		err = fmt.Errorf("%s is in another project", id)
	}
	return id, err
}

// Selected implements automation.World.
func (w *world) Selected(project string, of *pb.Selection) ([]string, error) {
	ids := of.GetTwins()
	if s := of.GetSystem(); s != "" && len(ids) == 0 {
		for _, id := range w.Members(within(project, s)) {
			ids = append(ids, id)
		}
		if len(ids) == 0 {
			return nil, nil
		}
	}
	var all []string
	if len(ids) > 0 {
		for _, id := range ids {
			if id = within(project, id); w.Matches(project, of, id) {
				all = append(all, id)
			}
		}
		slices.Sort(all)
		return slices.Compact(all), nil
	}
	for rec, err := range w.e.store.Scan(tableTwins, project+"/", "") {
		if err != nil {
			return nil, err
		}
		t, err := decodeTwin(rec)
		if err == nil && w.matches(project, of, t) {
			all = append(all, t.Id)
		}
	}
	return all, nil
}

// Matches implements automation.World.
func (w *world) Matches(project string, of *pb.Selection, id string) bool {
	t, err := w.e.readTwin(id)
	return err == nil && t != nil && w.matches(project, of, t)
}

func (w *world) matches(project string, of *pb.Selection, t *pb.Twin) bool {
	if ProjectOf(t.Id) != project {
		return false
	}
	if of == nil {
		return true
	}
	if len(of.Twins) > 0 && !slices.ContainsFunc(of.Twins, func(id string) bool { return within(project, id) == t.Id }) {
		return false
	}
	if of.System != "" && !slices.ContainsFunc(w.memberIDs(within(project, of.System)), func(id string) bool { return id == t.Id }) {
		return false
	}
	if of.Zone != "" && !w.inZone(t.Zone, within(project, of.Zone)) {
		return false
	}
	model := of.Model
	if model != "" && t.Model != "" {
		model = within(project, model)
	}
	return matchFilter(&pb.TwinFilter{Labels: of.Labels, Driver: of.Driver, Model: model, Interface: of.Interface}, t, w.e.catalog)
}

// inZone says whether a zone is another one, or in it.
func (w *world) inZone(zone, in string) bool {
	for n := 0; zone != "" && n < 32; n++ {
		if zone == in {
			return true
		}
		z := w.Zone(zone)
		if z == nil {
			return false
		}
		zone = z.Parent
	}
	return false
}

func (w *world) memberIDs(system string) (ids []string) {
	for _, id := range w.Members(system) {
		ids = append(ids, id)
	}
	return ids
}

// Members implements automation.World.
func (w *world) Members(system string) map[string]string {
	if system == "" {
		return nil
	}
	s, err := w.e.registry.GetSystem(system)
	if err != nil {
		return nil
	}
	all := make(map[string]string, len(s.Members))
	for _, m := range s.Members {
		all[m.Name] = m.Twin
	}
	return all
}

// SystemOf implements automation.World.
func (w *world) SystemOf(twin string) string {
	version := w.e.store.Version(tableSystems)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.systems == nil || w.version != version {
		all := map[string]string{}
		for rec, err := range w.e.store.Scan(tableSystems, "", "") {
			s := &pb.System{}
			if err != nil || proto.Unmarshal(rec.Value, s) != nil {
				break
			}
			for _, m := range s.Members {
				if all[m.Twin] == "" {
					all[m.Twin] = rec.Key
				}
			}
		}
		w.systems, w.version = all, version
	}
	return w.systems[twin]
}

// Zone implements automation.World.
func (w *world) Zone(id string) *pb.Zone {
	if id == "" {
		return nil
	}
	z, err := get(w.e.store, tableZones, id, &pb.Zone{})
	if err != nil {
		return nil
	}
	return z
}

// Locate implements automation.World.
func (w *world) Locate(s *pb.Sun) (*pb.Place, bool) {
	if s.Place != nil {
		return s.Place, true
	}
	zone := s.ZoneId
	if s.TwinId != "" {
		v, ok := w.View(s.TwinId)
		if !ok {
			return nil, false
		}
		if p, ok := v.Location(); ok {
			return &pb.Place{Latitude: p.Lat, Longitude: p.Lon}, true
		}
		zone = v.Config.Zone
	}
	for n := 0; n < 32; n++ {
		z := w.Zone(zone)
		if z == nil {
			return nil, false
		}
		if z.Place != nil {
			return z.Place, true
		}
		zone = z.Parent
	}
	return nil, false
}

// Nodes implements automation.World.
func (w *world) Nodes() map[string]string {
	all := map[string]string{}
	for rec, err := range w.e.store.Scan(cluster.TableMember, "", "") {
		if err != nil {
			break
		}
		m, err := cluster.DecodeMember(rec.Key, rec.Value)
		if err != nil {
			continue
		}
		name := m.Name
		if name == "" {
			name = rec.Key
		}
		all[name] = m.State.String()
	}
	return all
}

// LastSeen implements automation.World.
func (w *world) LastSeen(ctx context.Context, id, property string) (time.Time, error) {
	s, err := w.e.client.State(ctx, id, false)
	if err != nil {
		return time.Time{}, err
	}
	at := s.GetStatus().GetLastSeen()
	if property != "" {
		at = s.GetProperties()[property].GetTime()
	}
	if at == nil {
		return time.Time{}, nil
	}
	return at.AsTime(), nil
}

// Invoke implements automation.World.
func (w *world) Invoke(ctx context.Context, req *pb.InvokeRequest, by string) error {
	_, err := w.e.client.Invoke(ctx, req, by)
	return err
}

// SetDesired implements automation.World.
func (w *world) SetDesired(ctx context.Context, req *pb.SetDesiredRequest, by string) error {
	_, err := w.e.client.SetDesired(ctx, req, by)
	return err
}

// Publish implements automation.World.
func (w *world) Publish(ctx context.Context, req *pb.PublishRequest) error {
	_, err := w.e.streams.Publish(ctx, req)
	return err
}

// MQTT implements automation.World.
func (w *world) MQTT(topic string, payload []byte, qos byte, retain bool) error {
	p := w.e.publish.Load()
	if p == nil {
		return fmt.Errorf("publish %s: this node has no MQTT broker: %w", topic, cluster.ErrUnavailable)
	}
	return (*p)(topic, payload, qos, retain)
}

// Verdict implements automation.World.
func (w *world) Verdict(err error) (again, unknown bool) {
	var failed *CommandError
	switch {
	case errors.As(err, &failed):
		// A call of unknown outcome is made again with its key: the twin says what became of it, or that it cannot tell.
		unknown = failed.Outcome == pb.Outcome_OUTCOME_UNKNOWN
		return unknown || failed.Retryable && failed.Outcome == pb.Outcome_OUTCOME_REJECTED, unknown
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrInvalid), errors.Is(err, ErrStopped), errors.Is(err, cluster.ErrCycle):
		return false, false
	case errors.Is(err, cluster.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		return true, true // its key, or its nature, lets it happen once
	}
	return true, false
}
