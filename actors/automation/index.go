package automation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// What twins say, as messages to rules have it.
const (
	SaidProperty = "property"
	SaidEvent    = "event"
	// SaidFailure: a command has failed.
	SaidFailure = "command"
	// SaidWebhook: somebody posted to the rule. SaidTopic: a message came to a topic that it reads.
	SaidWebhook = "webhook"
	SaidTopic   = "topic"
	saidNode    = "node"
	saidAbsent  = "absent"
	saidTime    = "schedule"
)

// Index has all rules of the cluster, for twins to find those that want to hear of them. Safe for concurrent use.
type Index struct {
	store *storage.Store
	// Generation rises with each change. Count is how many rules there are: none costs an atomic load per change of a property.
	Generation atomic.Uint64
	Count      atomic.Int64

	mu    sync.Mutex
	rules map[string]*pb.Rule
	// named are the rules that name each of their twins, by these; open are the others, by their projects. So ten thousand rules for a twin each
	// cost each of these twins one look.
	named, open map[string]map[string]*pb.Rule
}

// NewIndex makes an index; Load it.
func NewIndex(s *storage.Store) *Index {
	x := &Index{store: s}
	x.clear()
	return x
}

func (x *Index) clear() {
	x.rules, x.named, x.open = map[string]*pb.Rule{}, map[string]map[string]*pb.Rule{}, map[string]map[string]*pb.Rule{}
}

// Load reads all rules.
func (x *Index) Load() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.clear()
	for rec, err := range x.store.Scan(TableRules, "", "") {
		if err != nil {
			return err
		}
		if err := x.put(rec.Key, rec.Value); err != nil {
			return err
		}
	}
	x.changed()
	return nil
}

// Changed reads one rule anew, which may have been removed.
func (x *Index) Changed(id string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	rec, ok, err := x.store.Get(TableRules, id)
	if err != nil {
		return err
	}
	x.drop(id)
	if ok {
		err = x.put(id, rec.Value)
	}
	x.changed()
	return err
}

func (x *Index) changed() {
	x.Count.Store(int64(len(x.rules)))
	x.Generation.Add(1)
}

func (x *Index) put(id string, value []byte) error {
	m := &pb.Rule{}
	if err := proto.Unmarshal(value, m); err != nil {
		return fmt.Errorf("record of rule %s: %w", id, err)
	}
	x.rules[id] = m
	twins, all := namedBy(m)
	if !all {
		project, _, _ := strings.Cut(id, "/")
		add(x.open, project, m)
		return nil
	}
	for _, twin := range twins {
		add(x.named, twin, m)
	}
	return nil
}

func (x *Index) drop(id string) {
	m := x.rules[id]
	if m == nil {
		return
	}
	delete(x.rules, id)
	twins, _ := namedBy(m)
	for _, twin := range twins {
		remove(x.named, twin, id)
	}
	project, _, _ := strings.Cut(id, "/")
	remove(x.open, project, id)
}

func add(to map[string]map[string]*pb.Rule, key string, m *pb.Rule) {
	if to[key] == nil {
		to[key] = map[string]*pb.Rule{}
	}
	to[key][m.Id] = m
}

func remove(from map[string]map[string]*pb.Rule, key, id string) {
	if delete(from[key], id); len(from[key]) == 0 {
		delete(from, key)
	}
}

// namedBy gives the twins that a rule's triggers name; all: there are no others that it wants to hear of.
func namedBy(m *pb.Rule) (twins []string, all bool) {
	all = true
	for _, t := range m.When {
		kind, of, _ := triggerOf(t)
		if kind == "" {
			continue
		}
		all = all && len(of.GetTwins()) > 0
		twins = append(twins, of.GetTwins()...)
	}
	return twins, all
}

// Listener is a rule that wants to hear of some of what a twin says.
type Listener struct {
	// Rule is its id.
	Rule   string
	says   []saying
	screen *screen
}

type saying struct {
	kind  string
	names []string // none: any
}

// Wants says whether it wants to hear this.
func (l *Listener) Wants(kind, name string) bool {
	for _, s := range l.says {
		if s.kind == kind && (len(s.names) == 0 || slices.Contains(s.names, name)) {
			return true
		}
	}
	return false
}

// Listeners gives the rules that want to hear of a twin, by their ids. matches says whether it is among the twins of a selection.
func (h *Host) Listeners(x *Index, twin string, matches func(*pb.Selection) bool) (all []Listener) {
	project, _, _ := strings.Cut(twin, "/")
	x.mu.Lock()
	rules := slices.AppendSeq(slices.Collect(maps.Values(x.named[twin])), maps.Values(x.open[project]))
	x.mu.Unlock()
	slices.SortFunc(rules, func(a, b *pb.Rule) int { return strings.Compare(a.Id, b.Id) })
	for _, r := range rules {
		if r.Paused {
			continue
		}
		l := Listener{Rule: r.Id}
		for _, t := range r.When {
			kind, of, names := triggerOf(t)
			if kind != "" && matches(of) {
				l.says = append(l.says, saying{kind, names})
			}
		}
		if len(l.says) > 0 {
			l.screen = h.programs.screen(r)
			all = append(all, l)
		}
	}
	return all
}

// withNodes gives the rules that want to hear of nodes.
func (x *Index) withNodes() (ids []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, r := range x.rules {
		if slices.ContainsFunc(r.When, func(t *pb.Trigger) bool { return t.GetNode() != nil }) && !r.Paused {
			ids = append(ids, id)
		}
	}
	return ids
}

// triggerOf gives what of twins a trigger is about; kind is empty where it is about something else.
func triggerOf(t *pb.Trigger) (kind string, of *pb.Selection, names []string) {
	switch x := t.On.(type) {
	case *pb.Trigger_Property:
		return SaidProperty, x.Property.Of, x.Property.Names
	case *pb.Trigger_Event:
		return SaidEvent, x.Event.Of, x.Event.Names
	case *pb.Trigger_Command:
		return SaidFailure, x.Command.Of, x.Command.Names
	}
	return "", nil, nil
}

// NodesChanged has the rules of this node that want to hear of nodes look at them.
func (h *Host) NodesChanged(x *Index) {
	for _, id := range x.withNodes() {
		a := Address(KindRule, id)
		if own := h.o.Owned(SlotOf(a)); own != nil {
			// One that is about to move looks when it has.
			_ = h.pass(a, own, item{fn: func(t *turn) {}})
		}
	}
}
