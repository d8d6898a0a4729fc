package actors

import (
	"sync"
	"time"
)

// inboxes know how many devices each project's inbox holds, as far as this node has seen: each node counts anew from
// time to time, so that several that write to one inbox exceed its bound by what they add in between.
type inboxes struct {
	mu        sync.Mutex
	byProject map[string]*inbox
}

type inbox struct {
	entries int
	until   time.Time // when they are counted anew
}

const (
	// recount is how old a count may get, and fullRecount one that leaves no room.
	recount     = 10 * time.Second
	fullRecount = time.Second
	// maxInboxes bounds the projects whose counts are remembered.
	maxInboxes = 1000
)

// inboxRoom takes a place in a project's inbox, or says that there is none.
func (r *Registry) inboxRoom(project string) bool {
	x := &r.inbox
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	b := x.byProject[project]
	if b == nil || now.After(b.until) {
		n, err := r.store.Count(tableInbox, project+"/")
		if err != nil {
			return false
		}
		if len(x.byProject) >= maxInboxes {
			clear(x.byProject)
		}
		// Counting takes a hundredth of the time at most.
		b = &inbox{entries: n, until: now.Add(max(recount, 100*time.Since(now)))}
		if n >= r.e.o.Inbox {
			b.until = now.Add(max(fullRecount, 100*time.Since(now)))
		}
		x.byProject[project] = b
	}
	if b.entries >= r.e.o.Inbox {
		return false
	}
	if b.entries++; b.entries >= r.e.o.Inbox {
		b.until = now.Add(fullRecount)
	}
	return true
}
