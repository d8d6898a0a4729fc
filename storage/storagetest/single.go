// Package storagetest runs a storage.Store under a real raft of one voter, for tests. Nothing in it is a stand-in: the
// log, the state machine and raft are those of a node; only the network is in memory.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
)

// TB is what a test gives, testing.TB: named here so that programs that run driver tests do not carry package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(fn func())
}

// Option changes how a Node is opened.
type Option func(*config)

type config struct {
	store storage.Options
	raft  *raft.Config
	name  string
	wrap  func(storage.Proposer) storage.Proposer
	// leader is who a joining node follows; nil: the node is alone and leads.
	leader *Node
}

// WithStore changes the store's options.
func WithStore(fn func(*storage.Options)) Option { return func(c *config) { fn(&c.store) } }

// WithRaft changes raft's configuration.
func WithRaft(fn func(*raft.Config)) Option { return func(c *config) { fn(c.raft) } }

// WithProposer puts a proposer of the test's around the real one.
func WithProposer(wrap func(storage.Proposer) storage.Proposer) Option {
	return func(c *config) { c.wrap = wrap }
}

// Node is a store under a raft of one voter.
type Node struct {
	Store *storage.Store
	Raft  *raft.Raft

	proposer *Proposer
	trans    *raft.InmemTransport
	addr     raft.ServerAddress
	once     sync.Once
	err      error
}

// OpenSingle opens a node in dir on fs (nil: the disk), waits until it leads, and starts its store. It is closed with
// the test.
func OpenSingle(t TB, dir string, fs vfs.FS, opts ...Option) *storage.Store {
	t.Helper()
	return OpenNode(t, dir, fs, opts...).Store
}

// OpenNode is OpenSingle for tests that need raft too.
func OpenNode(t TB, dir string, fs vfs.FS, opts ...Option) *Node {
	t.Helper()
	n, err := Open(dir, fs, opts...)
	if err != nil {
		t.Fatalf("open node: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

// Join opens a node of the given name that follows leader as a non-voter: it gets the leader's log, or its snapshot, and
// proposes to it. It is closed with the test, before its leader.
func Join(t TB, leader *Node, name, dir string, fs vfs.FS, opts ...Option) *Node {
	t.Helper()
	n, err := open(config{name: name, leader: leader}, dir, fs, opts...)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

// Open is OpenNode without a test.
func Open(dir string, fs vfs.FS, opts ...Option) (*Node, error) {
	return open(config{name: "n1"}, dir, fs, opts...)
}

func open(c config, dir string, fs vfs.FS, opts ...Option) (*Node, error) {
	c.raft = raft.DefaultConfig()
	c.store = storage.Options{Dir: dir, FS: fs, Logger: slog.New(slog.DiscardHandler), MemTableBytes: 4 << 20}
	c.raft.LocalID = raft.ServerID(c.name)
	c.raft.HeartbeatTimeout = 20 * time.Millisecond
	c.raft.ElectionTimeout = 20 * time.Millisecond
	c.raft.LeaderLeaseTimeout = 20 * time.Millisecond
	c.raft.CommitTimeout = 5 * time.Millisecond
	c.raft.NoSnapshotRestoreOnStart = true
	c.raft.BatchApplyCh = true
	c.raft.Logger = hclog.NewNullLogger()
	for _, o := range opts {
		o(&c)
	}
	s, err := storage.Open(c.store)
	if err != nil {
		return nil, err
	}
	n := &Node{Store: s}
	if err := n.start(&c); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) start(c *config) error {
	s := n.Store
	addr, trans := raft.NewInmemTransport("")
	n.addr, n.trans = addr, trans
	has, err := raft.HasExistingState(s.LogStore(), s.StableStore(), s.SnapshotStore())
	if err != nil {
		return fmt.Errorf("look for raft's state: %w", err)
	}
	self := raft.Configuration{Servers: []raft.Server{{ID: c.raft.LocalID, Address: addr}}}
	if !has && c.leader == nil {
		if err := raft.BootstrapCluster(c.raft, s.LogStore(), s.StableStore(), s.SnapshotStore(), trans, self); err != nil {
			return fmt.Errorf("bootstrap raft: %w", err)
		}
	}
	r, err := raft.NewRaft(c.raft, s.FSM(), s.LogStore(), s.StableStore(), s.SnapshotStore(), trans)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.Raft = r
	if c.leader != nil {
		err = n.follow(c)
	} else {
		n.proposer = NewProposer(r)
		err = n.waitLeader(20 * time.Second)
	}
	if err != nil {
		return err
	}
	incarnation, err := s.NextIncarnation()
	if err != nil {
		return err
	}
	var p storage.Proposer = n.proposer
	if c.wrap != nil {
		p = c.wrap(p)
	}
	return s.Start(p, c.name, incarnation)
}

// follow makes n a non-voter of the leader's.
func (n *Node) follow(c *config) error {
	l := c.leader
	n.trans.Connect(l.addr, l.trans)
	l.trans.Connect(n.addr, n.trans)
	n.proposer = NewProposer(l.Raft)
	return l.Raft.AddNonvoter(c.raft.LocalID, n.addr, 0, 20*time.Second).Error()
}

func (n *Node) waitLeader(within time.Duration) error {
	deadline := time.Now().Add(within)
	for n.Raft.State() != raft.Leader {
		if time.Now().After(deadline) {
			return errors.New("wait for leadership: time is over")
		}
		time.Sleep(time.Millisecond)
	}
	return n.proposer.Barrier(context.Background())
}

// Close stops raft and closes the store.
func (n *Node) Close() error {
	n.once.Do(func() {
		var errs []error
		if n.Raft != nil {
			errs = append(errs, n.Raft.Shutdown().Error())
			if n.proposer != nil {
				n.proposer.Close()
			}
		}
		if n.trans != nil {
			errs = append(errs, n.trans.Close())
		}
		n.err = errors.Join(append(errs, n.Store.Close())...)
	})
	return n.err
}

// Proposer brings entries to a raft of this process.
type Proposer struct {
	raft  *raft.Raft
	queue chan pending
	wg    sync.WaitGroup
	mu    sync.RWMutex
	over  bool
}

type pending struct {
	future raft.ApplyFuture
	done   func(any, error)
}

var _ storage.Proposer = (*Proposer)(nil)

// NewProposer gives a proposer that must be closed after r is shut down.
func NewProposer(r *raft.Raft) *Proposer {
	p := &Proposer{raft: r, queue: make(chan pending, 1024)}
	p.wg.Add(1)
	go p.run()
	return p
}

// run answers in the order of the proposals, as raft does.
func (p *Proposer) run() {
	defer p.wg.Done()
	for w := range p.queue {
		err := w.future.Error()
		switch {
		case err == nil:
			w.done(w.future.Response(), nil)
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
			w.done(nil, err)
		default:
			w.done(nil, fmt.Errorf("%w: %w", storage.ErrUnknown, err))
		}
	}
}

// Propose implements storage.Proposer.
func (p *Proposer) Propose(entry []byte, done func(any, error)) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.over {
		done(nil, raft.ErrRaftShutdown)
		return
	}
	p.queue <- pending{future: p.raft.Apply(entry, 5*time.Second), done: done}
}

// Barrier implements storage.Proposer.
func (p *Proposer) Barrier(ctx context.Context) error {
	timeout := time.Minute
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	return p.raft.Barrier(timeout).Error()
}

// Close waits until every proposal is answered, but not for ever: a raft that shuts down while one arrives may lose it
// unanswered.
func (p *Proposer) Close() {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	p.mu.Unlock()
	close(p.queue)
	answered := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(5 * time.Second):
	}
}
