package mqtt

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// subscription is one filter of a client.
type subscription struct {
	of *client
	// filter is what is matched, name what the client wrote: with $share/GROUP/ in front where it is shared.
	filter, name string
	shared       bool
	qos          byte
	noLocal      bool
	asPublished  bool
	handling     byte
	identifier   int
}

// index finds the subscriptions that match a topic: a tree of the levels of their filters.
type index struct {
	mu   sync.RWMutex
	root level
	n    int
}

type level struct {
	next map[string]*level
	subs []*subscription
}

func (x *index) add(s *subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := &x.root
	for part := range strings.SplitSeq(s.filter, "/") {
		if at.next == nil {
			at.next = map[string]*level{}
		}
		below := at.next[part]
		if below == nil {
			below = &level{}
			at.next[strings.Clone(part)] = below
		}
		at = below
	}
	at.subs = append(at.subs, s)
	x.n++
}

func (x *index) remove(s *subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.root.remove(s, s.filter, true, &x.n)
}

// remove takes the subscription out, and levels that nothing is left of.
func (l *level) remove(s *subscription, rest string, more bool, n *int) {
	if !more {
		if i := slices.Index(l.subs, s); i >= 0 {
			l.subs = slices.Delete(l.subs, i, i+1)
			*n--
		}
		return
	}
	part, rest, more := strings.Cut(rest, "/")
	below := l.next[part]
	if below == nil {
		return
	}
	below.remove(s, rest, more, n)
	if len(below.subs) == 0 && len(below.next) == 0 {
		delete(l.next, part)
	}
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// match gives the subscriptions of a topic, in no order.
func (x *index) match(topic string) (found []*subscription) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	x.root.match(topic, true, true, &found)
	return found
}

func (l *level) match(rest string, more, first bool, found *[]*subscription) {
	wild := !first || !strings.HasPrefix(rest, "$") // wildcards do not reach topics that begin with $
	if l.next != nil && wild {
		if all := l.next["#"]; all != nil {
			*found = append(*found, all.subs...)
		}
	}
	if !more {
		*found = append(*found, l.subs...)
		return
	}
	if l.next == nil {
		return
	}
	part, rest, more := strings.Cut(rest, "/")
	if below := l.next[part]; below != nil {
		below.match(rest, more, false, found)
	}
	if below := l.next["+"]; below != nil && wild {
		below.match(rest, more, false, found)
	}
}

// target is a client that gets a topic's messages, whichever of its filters match.
type target struct {
	of          *client
	qos         byte
	noLocal     bool
	asPublished bool
	identifiers []int
}

// group is a shared subscription: one of its members gets each message.
type group struct {
	name    string
	members []*target
}

// audience is who gets a topic's messages, as of a generation of the subscriptions.
type audience struct {
	generation uint64
	plain      []*target
	groups     []*group
}

func (a *audience) empty() bool { return len(a.plain) == 0 && len(a.groups) == 0 }

// audiences that are kept for topics that no connection remembers: those of the node and of others.
const audiences = 4096

// audienceOf gives who gets a topic's messages.
func (b *Broker) audienceOf(topic string) *audience {
	now := b.generation.Load()
	b.audienceMu.Lock()
	a := b.audiences[topic]
	b.audienceMu.Unlock()
	if a != nil && a.generation == now {
		return a
	}
	a = b.gather(topic, now)
	b.audienceMu.Lock()
	defer b.audienceMu.Unlock()
	if len(b.audiences) >= audiences {
		clear(b.audiences)
	}
	b.audiences[strings.Clone(topic)] = a
	return a
}

// gather asks the index. Several filters of one client that match make one target, with the highest QoS.
func (b *Broker) gather(topic string, generation uint64) *audience {
	a := &audience{generation: generation}
	plain := map[*client]*target{}
	groups := map[string]map[*client]*target{}
	for _, s := range b.index.match(topic) {
		of := plain
		if s.shared {
			if groups[s.name] == nil {
				groups[s.name] = map[*client]*target{}
			}
			of = groups[s.name]
		}
		t := of[s.of]
		if t == nil {
			t = &target{of: s.of, qos: s.qos, noLocal: s.noLocal, asPublished: s.asPublished}
			of[s.of] = t
		} else {
			t.qos = max(t.qos, s.qos)
			t.noLocal = t.noLocal && s.noLocal
			t.asPublished = t.asPublished || s.asPublished
		}
		if s.identifier > 0 && !slices.Contains(t.identifiers, s.identifier) {
			t.identifiers = append(t.identifiers, s.identifier)
		}
	}
	byID := func(x, y *target) int { return strings.Compare(x.of.id, y.of.id) }
	a.plain = slices.SortedFunc(maps.Values(plain), byID)
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		a.groups = append(a.groups, &group{name, slices.SortedFunc(maps.Values(groups[name]), byID)})
	}
	return a
}
