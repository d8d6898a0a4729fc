package drivers

import (
	"context"
	"sync"
	"time"
)

const (
	// tryStep is how much of the time between two looks counts as computed at most. The sandbox looks after half a millisecond of computing at the
	// latest, by what it has seen so far: where the next look comes much later the machine was busy elsewhere.
	tryStep = time.Millisecond
	// tryWhole bounds a try in all, by how often its limit of computing: for code that waits.
	tryWhole = 12
)

// trying is the context of a file's own code that is tried: it ends once that has computed for its limit, however busy the machine is.
type trying struct {
	context.Context
	mu   sync.Mutex
	left time.Duration
	seen time.Time
}

func newTrying(ctx context.Context, limit time.Duration) (*trying, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, tryWhole*limit)
	return &trying{Context: ctx, left: limit, seen: time.Now()}, cancel
}

// Deadline is the earliest end of what is left.
func (c *trying) Deadline() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.left -= min(now.Sub(c.seen), tryStep)
	c.seen = now
	return now.Add(c.left), true
}
