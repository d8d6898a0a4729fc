package peer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/polluxhq/pollux/cluster"
)

// Peers is this node's side of the peer port and its links to other nodes. Its methods may be called concurrently.
type Peers struct {
	o         Options
	m         *counters
	sentinels sentinels
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup // goroutines that end at Close
	unwatch   func()

	nodes atomic.Pointer[map[string]*[lanes]*lane] // copied to add one, so that looking one up costs no allocation
	h2    *http2.Transport
	http  atomic.Pointer[http2.Transport] // for requests; replaced when the identity changes
	raft  *raftLayer
	// streams are the links that stand or are being made, by their ids.
	streams sync.Map

	mu     sync.Mutex
	closed bool
	conns  map[*serverConn]struct{}
	blobs  chan struct{} // one for each blob that may be taken in now

	said     sync.Mutex
	lastSaid map[string]time.Time
}

// Open serves the peer port and returns at once. Links to other nodes are made when they are needed.
func Open(o Options) (*Peers, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open peers: %w", err)
	}
	o.defaults()
	p := &Peers{o: o, sentinels: newSentinels(o.Errors), conns: map[*serverConn]struct{}{}, lastSaid: map[string]time.Time{},
		blobs: make(chan struct{}, blobsAtOnce)}
	p.nodes.Store(&map[string]*[lanes]*lane{})
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.m = newCounters(p, o.Metrics)
	p.h2 = p.newTransport()
	p.http.Store(p.newRequests())
	p.raft = newRaftLayer(p)
	p.unwatch = o.Identity.Watch(func() { p.goDo(p.identityChanged) })
	p.goDo(p.accept)
	return p, nil
}

// Close ends everything: calls that wait are answered (ErrUnknown where they may have run), connections are closed. It
// returns when no goroutine of the peers is left. It does not wait for calls that run here.
func (p *Peers) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	p.unwatch()
	err := p.o.Listener.Close()
	p.raft.Close()
	p.cancel() // before the links end: they need no line in the log
	for l := range p.allLanes() {
		l.end(ErrClosed)
	}
	for _, c := range p.inbound() {
		c.close()
	}
	p.running.Wait()
	p.http.Load().CloseIdleConnections()
	p.m.unregister()
	if err != nil {
		return fmt.Errorf("close peers: %w", err)
	}
	return nil
}

// goDo runs fn in a goroutine that Close waits for; false where it is closed already.
func (p *Peers) goDo(fn func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Go(fn)
	return true
}

// begin counts a goroutine that is not ours in, which ends with running.Done; false where it is closed already.
func (p *Peers) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.running.Add(1)
	}
	return !p.closed
}

func (p *Peers) goLink(k *link) bool { return p.goDo(k.run) }

func (p *Peers) closing() bool { return p.ctx.Err() != nil }

// Addr is the address of the peer port.
func (p *Peers) Addr() net.Addr { return p.o.Listener.Addr() }

func (p *Peers) lane(node string, n int) *lane {
	if l, ok := (*p.nodes.Load())[node]; ok {
		return l[n]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := *p.nodes.Load()
	if l, ok := old[node]; ok {
		return l[n]
	}
	nodes := maps.Clone(old)
	l := new([lanes]*lane)
	for i := range l {
		l[i] = &lane{p: p, node: node}
	}
	nodes[node] = l
	p.nodes.Store(&nodes)
	return l[n]
}

func (p *Peers) allLanes() iter.Seq[*lane] {
	return func(yield func(*lane) bool) {
		for _, n := range *p.nodes.Load() {
			for _, l := range n {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// Disconnect ends every connection with a node, such as one that was removed: calls to it that wait end as ErrUnknown. It may
// connect again unless Options.Admit refuses it.
func (p *Peers) Disconnect(node string) {
	for _, c := range p.inbound() {
		if c.known.Load() && c.node == node {
			c.close()
		}
	}
	for l := range p.allLanes() {
		if l.node == node {
			l.end(errDisconnected)
		}
	}
}

var errDisconnected = errors.New("disconnected")

func (p *Peers) inbound() []*serverConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.conns))
}

// Send brings a call to a node (cluster.Transport). It never blocks; done is called exactly once, from any goroutine, and
// must not block. The envelope must not be changed until then. Errors: ErrUnavailable, it did not leave this node;
// ErrOverloaded, a limit is reached; ErrDeadline, it did not leave in time; ErrUnknown, the link was lost or the deadline
// passed after it left; ErrTooLarge; else what the other node answered.
func (p *Peers) Send(node string, env *cluster.Envelope, done func(cluster.Reply)) {
	if err := p.send(node, env, done); err != nil {
		p.m.refusedCalls.Inc()
		done(cluster.Reply{Err: err})
	}
}

// Post brings a call to a node and wants no answer. It never blocks. An error says that it did not leave; nil does not say
// that it arrived. The envelope is encoded when Post returns.
func (p *Peers) Post(node string, env *cluster.Envelope) error {
	err := p.send(node, env, nil)
	if err != nil {
		p.m.refusedCalls.Inc()
	}
	return err
}

func (p *Peers) send(node string, env *cluster.Envelope, done func(cluster.Reply)) error {
	size, err := messageSize(env.Message)
	if err != nil {
		return err
	}
	return p.lane(node, laneCalls).with(func(k *link) error { return k.call(env, size, done) })
}

// Propose brings an entry to the log of a node, the leader. It never blocks; done is called exactly once, from any
// goroutine, with what the leader answered, and must not block. entry may be changed after Propose. ctx gives the deadline
// alone. Errors as of Send.
func (p *Peers) Propose(ctx context.Context, node string, entry []byte, done func(result []byte, err error)) {
	deadline, _ := ctx.Deadline()
	err := error(nil)
	if len(entry) > MaxMessage {
		err = fmt.Errorf("proposal of %d bytes, %d are allowed: %w", len(entry), MaxMessage, ErrTooLarge)
	} else {
		err = p.lane(node, laneProposals).with(func(k *link) error {
			return k.propose(entry, deadline, func(result []byte, _ uint64, err error) { done(result, err) })
		})
	}
	if err != nil {
		p.m.refusedCalls.Inc()
		done(nil, err)
	}
}

// CommitIndex asks a node, the leader, for an index of the log that holds everything that was acknowledged before. It blocks
// until the answer or the end of ctx.
func (p *Peers) CommitIndex(ctx context.Context, node string) (uint64, error) {
	type answer struct {
		index uint64
		err   error
	}
	answers := make(chan answer, 1)
	deadline, _ := ctx.Deadline()
	err := p.lane(node, laneProposals).with(func(k *link) error {
		return k.askIndex(deadline, func(_ []byte, index uint64, err error) { answers <- answer{index, err} })
	})
	if err != nil {
		return 0, fmt.Errorf("commit index: %w", err)
	}
	select {
	case a := <-answers:
		if a.err != nil {
			return 0, fmt.Errorf("commit index: %w", a.err)
		}
		return a.index, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("commit index: %w", context.Cause(ctx))
	}
}

// identityChanged puts fresh links, with the new certificate, beside those that stand, and gives the others time to do the same
// before connections are closed whose certificate is not trusted any more.
func (p *Peers) identityChanged() {
	for l := range p.allLanes() {
		l.renew()
	}
	old := p.http.Swap(p.newRequests())
	old.CloseIdleConnections() // the others end with their requests and IdleConnTimeout
	select {
	case <-time.After(identityGrace):
	case <-p.ctx.Done():
		return
	}
	for _, c := range p.inbound() {
		if !c.known.Load() {
			continue
		}
		if _, err := p.o.Identity.Verify(&c.state); err != nil {
			p.o.Logger.Warn("connection closed, its certificate is not trusted any more", "node", c.node, "error", err)
			c.close()
		}
	}
}

// identityGrace is how long connections stand whose certificate has lost its authority.
const identityGrace = 10 * time.Second

// seldom says whether a line may be logged again: at most every ten seconds for each key.
func (p *Peers) seldom(key string) bool {
	p.said.Lock()
	defer p.said.Unlock()
	now := time.Now()
	if now.Sub(p.lastSaid[key]) < 10*time.Second {
		return false
	}
	if len(p.lastSaid) > 1024 {
		clear(p.lastSaid)
	}
	p.lastSaid[key] = now
	return true
}
