package actors

import (
	"fmt"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/storage"
)

// existTables are those by which a project is there, as far as its messages go; that of projects themselves besides.
var existTables = []storage.Table{tableTwins, tableThings, tableInbox}

// exists says whether there is such a project, as far as its messages go: it has settings, a twin, a model for one, or somebody in its inbox.
// The default one is always there.
func exists(s *storage.Store, project string) bool {
	if _, ok, err := s.Get(tableProjects, project); project == defaultProject || err == nil && ok {
		return true
	}
	for _, table := range existTables {
		for _, err := range s.Scan(table, project+"/", "") {
			return err == nil
		}
	}
	return false
}

// projects knows which ones exist: each message of MQTT asks for its topic's. The names are in memory, all of them; the store's watch keeps
// them right. Safe for concurrent use.
type projects struct {
	store *storage.Store
	// flipped is called after one came or went; set before use.
	flipped func()

	mu    sync.RWMutex
	names map[string]struct{}
}

func newProjects(s *storage.Store, flipped func()) *projects {
	return &projects{store: s, flipped: flipped, names: map[string]struct{}{}}
}

// load reads the names: one key of each table for each of them.
func (p *projects) load() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.names)
	if err := p.hop(tableProjects, func(key string) string { return key }); err != nil {
		return err
	}
	for _, table := range existTables {
		if err := p.hop(table, func(key string) string { return ProjectOf(key) + "/\xff" }); err != nil {
			return err
		}
	}
	return nil
}

// hop takes the names of a table's keys; past gives behind which key the next project begins.
func (p *projects) hop(table storage.Table, past func(key string) string) error {
	for after, more := "", true; more; {
		more = false
		for rec, err := range p.store.Scan(table, "", after) {
			if err != nil {
				return fmt.Errorf("read names of projects: %w", err)
			}
			p.names[ProjectOf(rec.Key)], more, after = struct{}{}, true, past(rec.Key)
			break
		}
	}
	return nil
}

// has says whether a project exists.
func (p *projects) has(name string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok := p.names[name]
	return ok || name == defaultProject
}

// changed: a record by which a project exists was written or removed.
func (p *projects) changed(c storage.Change) { p.look(ProjectOf(c.Key), c.Deleted) }

func (p *projects) look(name string, removed bool) {
	if p.has(name) != removed {
		return
	}
	p.mu.Lock()
	_, was := p.names[name]
	now := exists(p.store, name) // asked under the lock: whoever writes the next record of it is told after this
	if now {
		p.names[name] = struct{}{}
	} else {
		delete(p.names, name)
	}
	p.mu.Unlock()
	if was != now {
		p.flipped()
	}
}

// wrote notes this node's own changes at once; others come by the watch.
func (p *projects) wrote(writes []storage.Write) {
	for _, w := range writes {
		switch w.Table {
		case tableProjects, tableTwins, tableThings, tableInbox:
			p.look(ProjectOf(w.Key), w.Value == nil)
		}
	}
}

// lost: changes may have been missed.
func (p *projects) lost() {
	if p.load() == nil {
		p.flipped()
	}
}

// topicOwner is the project that has an MQTT topic or filter: `PROJECT` and `PROJECT/…`, as keys of a project have them, where there is that project, and
// `topics/PROJECT/…`, which is durable. Else "".
func topicOwner(topic string, has func(project string) bool) string {
	rest, durable := strings.CutPrefix(topic, "topics/")
	owner, _, _ := strings.Cut(rest, "/")
	if !durable && (!isName(owner, 64, false) || !has(owner)) {
		return ""
	}
	return owner
}

// othersTopic is the project, another one than this, that has an MQTT topic. Else "".
func (e *Engine) othersTopic(project, topic string) string {
	if owner := topicOwner(topic, e.projects.has); owner != project {
		return owner
	}
	return ""
}

// ownTopics says that a twin is to be bound to another project's topics, by which it would hear nothing. Those that it was bound to already are let be: there
// may be a project of that name since.
func (r *Registry) ownTopics(id string, now map[storage.Table]map[string][]byte, was func() map[storage.Table]map[string][]byte) error {
	for key := range now[tableTopics] {
		filter, _, _ := strings.Cut(key, "\x00")
		owner := topicOwner(filter, func(project string) bool { return exists(r.store, project) })
		if owner == "" || owner == ProjectOf(id) || was()[tableTopics][key] != nil {
			continue
		}
		return invalid("/settings", "the MQTT topic %q is one of project %s", filter, owner)
	}
	return nil
}

// freeTopics says that a project that is to be made would take the messages of others' twins, which are bound to topics below its name.
func (r *Registry) freeTopics(project string) error {
	if exists(r.store, project) {
		return nil
	}
	for rec, err := range r.store.Scan(tableTopics, project+"/", "") {
		if err != nil {
			return fmt.Errorf("read bindings below %s: %w", project, err)
		}
		if filter, id, _ := strings.Cut(rec.Key, "\x00"); ProjectOf(id) != project {
			return invalid("/settings/project", "a twin of another project is bound to the MQTT topic %q, whose messages would be %s's: take another name", filter, project)
		}
	}
	return nil
}
