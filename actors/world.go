package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// world is what rules read and actions act on.
type world struct {
	e *Engine

	mu      sync.Mutex
	version uint64
	systems map[string]string // by their twins: the first one by its id

	pasts automation.Pasts
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

// Made implements automation.World.
func (w *world) Made(id string) int64 {
	t, err := w.e.readTwin(id)
	if err != nil || t == nil {
		return 0
	}
	return automation.MadeAt(t)
}

// Targets implements automation.World.
func (w *world) Targets(project string, to *pb.Targets, subject string) ([]string, error) {
	switch {
	case to.GetTwin() != "":
		id, err := w.own(project, to.Twin)
		return []string{id}, err
	case to.GetSystem() == "" && selectionOf(to) == nil:
		if subject == "" {
			return nil, nil
		}
		return []string{subject}, nil
	}
	of := selectionOf(to)
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

// selectionOf is what an action's targets have to be like; nil: it does not say.
func selectionOf(to *pb.Targets) *pb.Selection {
	if to.GetZone() == "" && to.GetInterface() == "" && to.GetModel() == "" && len(to.GetLabels()) == 0 {
		return nil
	}
	return &pb.Selection{Zone: to.Zone, Interface: to.Interface, Model: to.Model, Labels: to.Labels}
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
	var all []string
	_, err := w.each(project, of, 0, func(id string) bool {
		all = append(all, id)
		return true
	})
	slices.Sort(all)
	return slices.Compact(all), err
}

// each gives f the twins of a selection, perhaps twice where one changes meanwhile, until it says false. It looks at limit records at most (0: at all);
// whole says whether that was enough. It goes through the narrowest index that there is.
func (w *world) each(project string, of *pb.Selection, limit int, f func(id string) bool) (whole bool, err error) {
	ids := of.GetTwins()
	if s := of.GetSystem(); s != "" && len(ids) == 0 {
		ids = w.memberIDs(within(project, s))
	}
	if len(ids) > 0 || of.GetSystem() != "" {
		for _, id := range ids {
			if id = within(project, id); w.Matches(project, of, id) && !f(id) {
				return true, nil
			}
		}
		return true, nil
	}
	table, prefixes := tableTwins, []string{project + "/"}
	switch {
	case of.GetZone() != "":
		table, prefixes = tableUses, nil
		if err := w.zones(within(project, of.Zone), func(id string) { prefixes = append(prefixes, usePrefix("zone", id)) }); err != nil {
			return false, err
		}
	case len(of.GetLabels()) > 0:
		k := slices.Sorted(maps.Keys(of.Labels))[0]
		table, prefixes = tableUses, []string{usePrefix("label", project+"\x00"+k+"\x00"+of.Labels[k])}
	}
	seen := 0
	for _, prefix := range prefixes {
		for rec, err := range w.e.store.Scan(table, prefix, "") {
			if err != nil {
				return false, err
			}
			if seen++; limit > 0 && seen > limit {
				return false, nil
			}
			id, match := rec.Key, false
			if table == tableUses {
				id = strings.TrimPrefix(id, prefix)
				match = w.Matches(project, of, id)
			} else if t, err := decodeTwin(rec); err == nil {
				match = w.matches(project, of, t)
			}
			if match && !f(id) {
				return true, nil
			}
		}
	}
	return true, nil
}

// zones gives f a zone and those in it.
func (w *world) zones(zone string, f func(id string)) error {
	f(zone)
	for rec, err := range w.e.store.Scan(tableZones, ProjectOf(zone)+"/", "") {
		if err != nil {
			return err
		}
		if rec.Key != zone && w.inZone(rec.Key, zone) {
			f(rec.Key)
		}
	}
	return nil
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
	return matchFilter(&pb.TwinFilter{Labels: of.Labels, Driver: of.Driver, Model: of.Model, Interface: of.Interface}, t, w.e.catalog)
}

// inZone says whether a zone is another one, or in it.
func (w *world) inZone(zone, in string) bool { return inZone(w.e.store, zone, in) }

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

// Sources implements automation.World.
func (w *world) Sources(of *pb.Twin, set *derive.Set) ([]string, error) {
	x := &derived{}
	ids, err := w.e.derivations.members(of, x, set, maxSources)
	return w.e.derivations.there(ids, &x.absent), err
}

// Past implements automation.World.
func (w *world) Past(ctx context.Context, twin, property, aggregate string, span time.Duration, at time.Time) (float64, bool, error) {
	p := w.e.past.Load()
	if p == nil {
		return 0, false, fmt.Errorf("history of %s: this node has none: %w", twin, cluster.ErrUnavailable)
	}
	return w.pasts.Ask(ctx, *p, twin, property, aggregate, span, at)
}

// Read implements automation.World.
func (w *world) Read(ctx context.Context, id string, at, after uint64, wait time.Duration) ([]*pb.TopicMessage, uint64, error) {
	page, err := w.e.streams.ReadAfter(ctx, id, at, after, wait)
	return page.Messages, page.Offset, err
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
func (w *world) MQTT(project, topic string, payload []byte, qos byte, retain bool) error {
	p := w.e.publish.Load()
	if p == nil {
		return fmt.Errorf("publish %s: this node has no MQTT broker: %w", topic, cluster.ErrUnavailable)
	}
	if other := w.e.othersTopic(project, topic); other != "" {
		return fmt.Errorf("publish to %q: it is a topic of project %s: %w", topic, other, drivers.ErrDenied)
	}
	return (*p)(topic, payload, qos, retain)
}

// Verdict implements automation.World.
func (w *world) Verdict(err error) automation.Verdict {
	var failed *CommandError
	switch {
	case errors.As(err, &failed):
		// A call of unknown outcome is made again with its key: the twin says what became of it, or that it cannot tell.
		refused := failed.Outcome == pb.Outcome_OUTCOME_REJECTED
		return automation.Verdict{Unknown: failed.Outcome == pb.Outcome_OUTCOME_UNKNOWN, Refused: refused, Busy: refused && failed.Retryable,
			Silent: failed.Outcome == pb.Outcome_OUTCOME_TIMED_OUT}
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrInvalid), errors.Is(err, ErrStopped), errors.Is(err, cluster.ErrCycle), errors.Is(err, drivers.ErrDenied):
		return automation.Verdict{}
	case errors.Is(err, cluster.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		return automation.Verdict{Unknown: true} // its key, or its nature, lets it happen once
	}
	return automation.Verdict{Busy: true}
}
