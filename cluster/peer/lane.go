package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/pki"
)

// Lanes to a node. A proposal is large and must not stand before calls.
const (
	laneCalls = iota
	laneProposals
	lanes
)

const (
	// backoffMin and backoffMax bound the pause between attempts to reach a node.
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
)

// lane is the way to a node for one purpose: a link while it stands, and a pause after it failed. A link is made when a call
// wants one.
type lane struct {
	p    *Peers
	node string
	cur  atomic.Pointer[link]

	mu      sync.Mutex
	retryAt time.Time
	backoff time.Duration
	why     error  // why the last link ended
	tried   string // address of the last link
	next    *link  // will replace cur, see renew
	again   bool   // the identity changed while next was being made
}

// with calls fn with a link that may take a call; fn's errLinkOver asks for another one.
func (l *lane) with(fn func(*link) error) error {
	if k := l.cur.Load(); k != nil {
		if err := fn(k); !errors.Is(err, errLinkOver) {
			return err
		}
	}
	for range 3 {
		k, err := l.open()
		if err != nil {
			return err
		}
		if err := fn(k); !errors.Is(err, errLinkOver) {
			return err
		}
	}
	return fmt.Errorf("node %s: %w", l.node, cluster.ErrUnavailable)
}

// open gives the link that stands, or begins a new one unless the pause after the last is not over.
func (l *lane) open() (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.cur.Load(); k != nil && !k.isOver() {
		return k, nil
	}
	addr, _ := l.p.o.Address(l.node)
	if wait := time.Until(l.retryAt); wait > 0 && l.why != nil && addr == l.tried {
		return nil, fmt.Errorf("node %s: %w: %w", l.node, l.why, cluster.ErrUnavailable)
	}
	l.tried = addr
	k := newLink(l)
	if !l.p.goLink(k) {
		return nil, fmt.Errorf("node %s: %w: %w", l.node, ErrClosed, cluster.ErrUnavailable)
	}
	l.cur.Store(k)
	return k, nil
}

func (k *link) isOver() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.over != nil || k.retired
}

// up says that a link stands.
func (l *lane) up(k *link) {
	l.mu.Lock()
	old := l.cur.Load()
	if l.next == k {
		l.next = nil
		l.cur.Store(k)
	}
	again := l.again && l.next == nil
	l.again = l.again && !again
	l.backoff, l.why = 0, nil
	l.mu.Unlock()
	if old != nil && old != k {
		old.retire()
	}
	if again {
		l.renew()
	}
	l.p.m.links.Inc()
	l.p.o.Logger.Debug("peer link is up", "node", l.node)
}

// ended says that a link is over, with its calls that were lost.
func (l *lane) ended(k *link, why error, lost int, planned bool) {
	l.mu.Lock()
	if l.next == k {
		l.next = nil
		time.AfterFunc(time.Second, l.renew)
	}
	if planned || l.p.closing() {
		l.mu.Unlock()
		return
	}
	first := l.why == nil
	if l.cur.Load() == k {
		l.backoff = min(max(2*l.backoff, backoffMin), backoffMax)
		l.retryAt = time.Now().Add(l.backoff/2 + rand.N(l.backoff/2))
		l.why = why
	}
	l.mu.Unlock()
	l.p.m.lost.Inc()
	switch refused := isRefusal(why); {
	case refused && l.p.seldom("refused "+l.node):
		l.p.o.Logger.Error("peer is refused", "node", l.node, "error", why)
	case !refused && (first || lost > 0 && l.p.seldom("lost "+l.node)):
		level := slog.LevelWarn
		if lost == 0 {
			level = slog.LevelDebug // nobody waited for it; that a node is gone, others tell
		}
		l.p.o.Logger.Log(context.Background(), level, "peer link lost", "node", l.node, "lost_calls", lost, "error", why)
	}
}

// end ends the links that stand or are being made.
func (l *lane) end(why error) {
	l.mu.Lock()
	both := [...]*link{l.cur.Load(), l.next}
	l.mu.Unlock()
	for _, k := range both {
		if k != nil {
			k.end(why)
			k.stop()
		}
	}
}

// alive says that the node has called us: it can be tried again at once.
func (l *lane) alive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retryAt, l.backoff = time.Time{}, 0
}

func isRefusal(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, pki.ErrWrongCluster) || errors.Is(err, pki.ErrWrongNode) ||
		errors.Is(err, pki.ErrUntrusted) || errors.Is(err, pki.ErrExpired)
}

// renew puts a fresh link, with the node's present certificate, in the place of the one that stands. The old one goes on
// until the new one is up, and ends when its calls are answered.
func (l *lane) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.cur.Load()
	if k == nil || k.isOver() {
		return
	}
	if l.next != nil {
		l.again = true
		return
	}
	l.next = newLink(l)
	if !l.p.goLink(l.next) {
		l.next = nil
	}
}
