package actors

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/storage"
)

// topics finds the twins that are bound to an MQTT topic. The filters are records; in memory are only the shapes of
// filters in use (which places are wildcards) and a bounded cache of topics. What is below a project's name is for that one's twins alone,
// however others came to be bound to it: by a wildcard, by settings, or before there was such a project.
type topics struct {
	store *storage.Store
	limit int
	// has says whether there is a project. Whenever one comes or goes, all is to be forgotten.
	has func(project string) bool

	mu     sync.RWMutex
	shapes []shape
	cache  map[string]boundTwins
	change atomic.Uint64 // of any filter; written under mu
}

// boundTwins are those that get a topic's messages, and how many are bound to it and get none, as it is another project's. Shared, never changed.
type boundTwins struct {
	ids    []string
	others int
}

// shape of a filter: its number of levels, which of them are +, and whether it ends in #.
type shape struct {
	levels int
	plus   uint64
	hash   bool
}

// maxLevels bounds the levels of a filter.
const maxLevels = 32

func shapeOf(filter string) (shape, error) {
	parts := strings.Split(filter, "/")
	if filter == "" || len(parts) > maxLevels || strings.ContainsRune(filter, 0) {
		return shape{}, fmt.Errorf("filter %q: 1 to %d levels are allowed", filter, maxLevels)
	}
	var s shape
	for i, p := range parts {
		switch {
		case p == "+":
			s.plus |= 1 << i
		case p == "#" && i == len(parts)-1:
			s.hash = true
		case strings.ContainsAny(p, "+#"):
			return shape{}, fmt.Errorf("filter %q: a wildcard must be a whole level, and # the last", filter)
		}
	}
	s.levels = len(parts)
	return s, nil
}

func (s shape) key() string { return fmt.Sprintf("%02d/%016x/%t", s.levels, s.plus, s.hash) }

func parseShape(key string) (s shape, err error) {
	_, err = fmt.Sscanf(key, "%d/%x/%t", &s.levels, &s.plus, &s.hash)
	return s, err
}

// filter gives the filter of this shape that matches the topic, if any.
func (s shape) filter(parts []string) (string, bool) {
	n := s.levels
	if s.hash {
		n--
		if len(parts) < n || len(parts) == n && n == 0 {
			return "", false
		}
	} else if len(parts) != n {
		return "", false
	}
	if (s.plus&1 == 1 || s.hash && n == 0) && strings.HasPrefix(parts[0], "$") {
		return "", false // wildcards do not match the broker's own topics
	}
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte('/')
		}
		if s.plus&(1<<i) != 0 {
			b.WriteByte('+')
		} else {
			b.WriteString(parts[i])
		}
	}
	if s.hash {
		if n > 0 {
			b.WriteByte('/')
		}
		b.WriteByte('#')
	}
	return b.String(), true
}

// matchTopic says whether a filter matches a topic.
func matchTopic(filter, topic string) bool {
	s, err := shapeOf(filter)
	if err != nil {
		return false
	}
	f, ok := s.filter(strings.Split(topic, "/"))
	return ok && f == filter
}

func newTopics(s *storage.Store, limit int, has func(project string) bool) *topics {
	return &topics{store: s, limit: limit, has: has, cache: map[string]boundTwins{}}
}

// load reads the shapes in use.
func (t *topics) load() error {
	for rec, err := range t.store.Scan(tableShapes, "", "") {
		if err != nil {
			return fmt.Errorf("read shapes of topics: %w", err)
		}
		t.addShape(rec.Key)
	}
	return nil
}

func (t *topics) addShape(key string) {
	s, err := parseShape(key)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.shapes, s) {
		t.shapes = append(t.shapes, s)
		t.forget()
	}
}

// changed: a binding was written or removed.
func (t *topics) changed(key string) {
	filter, _, _ := strings.Cut(key, "\x00")
	t.mu.Lock()
	defer t.mu.Unlock()
	if strings.ContainsAny(filter, "+#") {
		t.forget()
		return
	}
	t.change.Add(1)
	delete(t.cache, filter)
}

// wrote notes this node's own changes at once; others come by the watch.
func (t *topics) wrote(writes []storage.Write) {
	for _, w := range writes {
		switch w.Table {
		case tableShapes:
			t.addShape(w.Key)
		case tableTopics:
			t.changed(w.Key)
		}
	}
}

func (t *topics) forget() {
	t.change.Add(1)
	clear(t.cache)
}

// twins gives the twins bound to a topic, each once.
func (t *topics) twins(topic string) (boundTwins, error) {
	t.mu.RLock()
	found, ok := t.cache[topic]
	change, shapes := t.change.Load(), t.shapes
	t.mu.RUnlock()
	if ok {
		return found, nil
	}
	ids, err := t.bound(topic, shapes)
	if err != nil {
		return boundTwins{}, err
	}
	found.ids = ids
	if owner := topicOwner(topic, t.has); len(ids) > 0 && owner != "" {
		found.ids = slices.DeleteFunc(ids, func(id string) bool { return ProjectOf(id) != owner })
		found.others = len(ids) - len(found.ids)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.change.Load() == change {
		remember(t.cache, t.limit, topic, found)
	}
	return found, nil
}

// bound gives the ids of all twins that are bound to a topic, by whatever filter.
func (t *topics) bound(topic string, shapes []shape) (ids []string, err error) {
	parts := strings.Split(topic, "/")
	for _, s := range shapes {
		filter, ok := s.filter(parts)
		if !ok {
			continue
		}
		for rec, err := range t.store.Scan(tableTopics, filter+"\x00", "") {
			if err != nil {
				return nil, fmt.Errorf("twins of topic %q: %w", topic, err)
			}
			if id := rec.Key[len(filter)+1:]; !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// remember puts a key into a cache. Where that is full, half of it goes, whichever: cheaper than to know which were used, and a miss costs microseconds.
func remember[V any](cache map[string]V, limit int, key string, v V) {
	if len(cache) >= limit {
		drop := limit / 2
		for k := range cache {
			if drop--; drop < 0 {
				break
			}
			delete(cache, k)
		}
	}
	cache[key] = v
}
