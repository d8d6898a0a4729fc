package actors

import (
	"sync"
	"sync/atomic"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

const (
	// maxGates bounds the gates of a shard; holdFor is how long one lasts whose sender does not come back, in milliseconds.
	maxGates = 4096
	holdFor  = 60_000
)

// gates keep the order of a twin's frames: after one of a link found no room, those that were sent behind it find none,
// until the sender comes with the first of those that wait. Senders are nodes; what they have on its way is in order.
type gates struct {
	n  atomic.Int32
	mu sync.Mutex
	by map[gateKey]int64 // until when
}

type gateKey struct{ id, link string }

// hold notes that a frame found no room. f may be nil, or of no link.
func (h *gates) hold(now int64, id string, f *actorv1.Frame) {
	if f.GetLink() == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[gateKey]int64{}
	}
	if len(h.by) >= maxGates {
		for k, until := range h.by {
			if until < now {
				delete(h.by, k)
			}
		}
		if len(h.by) >= maxGates {
			return
		}
	}
	h.by[gateKey{id, f.Link}] = now + holdFor
	h.n.Store(int32(len(h.by)))
}

// allow says whether nothing waits that was sent before the frame.
func (h *gates) allow(now int64, id string, f *actorv1.Frame) bool {
	if h.n.Load() == 0 || f.GetLink() == "" || f.First {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	until, held := h.by[gateKey{id, f.Link}]
	return !held || until < now
}

// pass notes that a frame was let in.
func (h *gates) pass(id string, f *actorv1.Frame) {
	if h.n.Load() == 0 || f.GetLink() == "" {
		return
	}
	h.mu.Lock()
	delete(h.by, gateKey{id, f.Link})
	h.n.Store(int32(len(h.by)))
	h.mu.Unlock()
}
