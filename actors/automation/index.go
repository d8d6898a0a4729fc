package automation

import (
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

	mu        sync.Mutex
	byProject map[string][]*pb.Rule // sorted by id
}

// NewIndex makes an index; Load it.
func NewIndex(s *storage.Store) *Index {
	return &Index{store: s, byProject: map[string][]*pb.Rule{}}
}

// Load reads all rules. They are few, and read anew whenever one changes.
func (x *Index) Load() error {
	all, n := map[string][]*pb.Rule{}, 0
	for rec, err := range x.store.Scan(TableRules, "", "") {
		if err != nil {
			return err
		}
		m := &pb.Rule{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return err
		}
		project, _, _ := strings.Cut(rec.Key, "/")
		all[project] = append(all[project], m)
		n++
	}
	x.mu.Lock()
	x.byProject = all
	x.mu.Unlock()
	x.Count.Store(int64(n))
	x.Generation.Add(1)
	return nil
}

// Listener is a rule that wants to hear of some of what a twin says.
type Listener struct {
	// Rule is its id.
	Rule string
	says []saying
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

// Of gives the rules that want to hear of a twin. matches says whether it is among the twins of a selection.
func (x *Index) Of(project string, matches func(*pb.Selection) bool) (all []Listener) {
	x.mu.Lock()
	rules := x.byProject[project]
	x.mu.Unlock()
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
			all = append(all, l)
		}
	}
	return all
}

// withNodes gives the rules that want to hear of nodes.
func (x *Index) withNodes() (ids []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, rules := range x.byProject {
		for _, r := range rules {
			if slices.ContainsFunc(r.When, func(t *pb.Trigger) bool { return t.GetNode() != nil }) && !r.Paused {
				ids = append(ids, r.Id)
			}
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
