package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
	"github.com/polluxhq/pollux/storage"
)

const patience = 30 * time.Second

// streams is raft's layer over plain TCP.
type streams struct {
	net.Listener
	// perSecond is how many bytes a connection takes, 0: all.
	perSecond int
}

func (s streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", string(to), timeout)
	if err == nil && s.perSecond > 0 {
		c = slowConn{c, s.perSecond}
	}
	return c, err
}

// slowConn is a narrow line.
type slowConn struct {
	net.Conn
	perSecond int
}

func (c slowConn) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(c.perSecond))
	return c.Conn.Write(p)
}

// group is a cluster in one process: real stores, real raft over TCP, real gossip. Only the calls from node to node that
// package peer carries go through memory.
type group struct {
	t    *testing.T
	dir  string
	key  []byte
	opts func(*cluster.RaftOptions)
	rec  func(*cluster.ReconcileOptions)
	// perSecond is what each of raft's connections takes, in bytes; 0: all.
	perSecond int

	mu    sync.Mutex
	nodes map[string]*member
	// loseReplies makes each nth answer to a forwarded entry get lost.
	loseReplies atomic.Int64
	forwards    atomic.Int64
}

type member struct {
	g           *group
	id, zone    string
	store       *storage.Store
	raft        *cluster.Raft
	gossip      *gossip.Gossip
	log         *stallLog
	layer       net.Listener
	incarnation uint64
	fatal       chan error
	cancel      context.CancelFunc
	done        chan struct{}
	up          bool
}

func newGroup(t *testing.T) *group {
	g := &group{t: t, dir: t.TempDir(), key: []byte("0123456789abcdef"), nodes: map[string]*member{}}
	t.Cleanup(func() {
		for _, n := range g.all() {
			n.stop()
		}
	})
	return g
}

func (g *group) all() []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*member
	for _, n := range g.nodes {
		if n.up {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *member) int { return strings.Compare(a.id, b.id) })
	return out
}

func (g *group) get(id string) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := g.nodes[id]; n != nil && n.up {
		return n
	}
	return nil
}

// stallLog is a log whose disk hangs on demand.
type stallLog struct {
	raft.LogStore
	hang atomic.Bool
	free chan struct{}
}

func (l *stallLog) StoreLogs(logs []*raft.Log) error {
	if l.hang.Load() {
		<-l.free
	}
	return l.LogStore.StoreLogs(logs)
}

// begin opens a node's store and listener; enter starts its raft.
func (g *group) begin(id, zone string) *member {
	g.t.Helper()
	n := &member{g: g, id: id, zone: zone, fatal: make(chan error, 4), done: make(chan struct{})}
	var err error
	if n.store, err = storage.Open(storage.Options{Dir: filepath.Join(g.dir, id), NoSync: true, DiscardSamples: true,
		MemTableBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { n.fatal <- err }}); err != nil {
		g.t.Fatal(err)
	}
	if n.incarnation, err = n.store.NextIncarnation(); err != nil {
		g.t.Fatal(err)
	}
	if n.layer, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		g.t.Fatal(err)
	}
	if n.gossip, err = gossip.Open(gossip.Options{Bind: "127.0.0.1:0", ClusterID: "c1", Keys: [][]byte{g.key},
		ReconnectEvery: 500 * time.Millisecond,
		Meta:           gossip.Meta{ID: id, Name: id, Incarnation: n.incarnation, Peer: n.layer.Addr().String(), Zone: zone}}); err != nil {
		g.t.Fatal(err)
	}
	n.log = &stallLog{LogStore: n.store.LogStore(), free: make(chan struct{})}
	return n
}

// enter joins the others by gossip and starts raft.
func (n *member) enter(bootstrap []raft.Server) *member {
	g := n.g
	g.t.Helper()
	var known []string
	for _, o := range g.all() {
		known = append(known, o.gossip.Address())
	}
	if len(known) > 0 {
		if _, err := n.gossip.Join(context.Background(), known); err != nil {
			g.t.Fatal(err)
		}
	}
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("RAFT_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("at", n.id)
	}
	o := cluster.RaftOptions{ID: n.id, Log: n.log, Stable: n.store.StableStore(), Snapshots: n.store.SnapshotStore(),
		FSM: n.store.FSM(), Logger: logger, Bootstrap: bootstrap, Lost: cluster.LostNodes(records{n.store}), Forward: n.forward, RemoteIndex: n.remoteIndex,
		Applied: n.store.AppliedIndex, WaitApplied: n.store.WaitApplied, Healthy: n.sees, Fatal: func(err error) { n.fatal <- err },
		Transport: cluster.NewRaftTransport(streams{n.layer, g.perSecond}, n.address, logger)}
	if g.opts != nil {
		g.opts(&o)
	}
	r, err := cluster.OpenRaft(o)
	if err != nil {
		g.t.Fatal(err)
	}
	n.raft = r
	if err := n.store.Start(proposer{r}, n.id, n.incarnation); err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	ro := cluster.ReconcileOptions{Raft: r, Gossip: n.gossip, Records: records{n.store}, StableAfter: 300 * time.Millisecond, SweepEvery: 200 * time.Millisecond, Logger: logger}
	if g.rec != nil {
		g.rec(&ro)
	}
	go func() { cluster.Reconcile(ctx, ro); close(n.done) }()
	g.mu.Lock()
	n.up = true
	g.nodes[n.id] = n
	g.mu.Unlock()
	return n
}

// start is begin and enter.
func (g *group) start(id, zone string) *member { return g.begin(id, zone).enter(nil) }

// found makes a group of the given number of voters, n1 and so on.
func (g *group) found(voters int) []*member {
	g.t.Helper()
	var all []*member
	var first []raft.Server
	for i := range voters {
		n := g.begin(fmt.Sprintf("n%d", i+1), "z"+fmt.Sprint(i))
		all = append(all, n)
		first = append(first, raft.Server{ID: raft.ServerID(n.id), Address: raft.ServerAddress(n.layer.Addr().String())})
	}
	for i, n := range all {
		if i == 0 {
			n.enter(first)
		} else {
			n.enter(nil)
		}
	}
	g.leader()
	return all
}

// stop ends a node as a crash does for the others: without a word.
func (n *member) stop() {
	n.g.mu.Lock()
	was := n.up
	n.up = false
	n.g.mu.Unlock()
	if !was {
		return
	}
	if n.log.hang.Swap(false) {
		close(n.log.free)
	}
	n.cancel()
	<-n.done
	n.gossip.Close()
	if err := n.raft.Close(); err != nil {
		n.g.t.Errorf("close raft of %s: %v", n.id, err)
	}
	if err := n.store.Close(); err != nil {
		n.g.t.Errorf("close store of %s: %v", n.id, err)
	}
}

func (n *member) address(id string) (string, bool) {
	m, ok := n.gossip.Member(id)
	return m.Peer, ok && m.State == gossip.Alive && m.Peer != ""
}

func (n *member) sees(id string) bool {
	m, ok := n.gossip.Member(id)
	return ok && m.State == gossip.Alive
}

func (n *member) forward(leader string, entry []byte, done func([]byte, error)) {
	to := n.g.get(leader)
	if to == nil {
		done(nil, fmt.Errorf("%w: %s is down", cluster.ErrUnavailable, leader))
		return
	}
	count := n.g.forwards.Add(1)
	to.raft.ApplyLocal(slices.Clone(entry), func(result []byte, err error) {
		if lose := n.g.loseReplies.Load(); lose > 0 && count%lose == 0 {
			result, err = nil, errors.New("the link was lost")
		}
		done(result, err)
	})
}

func (n *member) remoteIndex(ctx context.Context, leader string) (uint64, error) {
	to := n.g.get(leader)
	if to == nil {
		return 0, cluster.ErrUnavailable
	}
	return to.raft.LeaderIndex(ctx)
}

// proposer is what package pollux puts between raft and the store.
type proposer struct{ *cluster.Raft }

func (p proposer) Propose(entry []byte, done func(any, error)) {
	p.Raft.Propose(entry, func(applied any, err error) {
		if errors.Is(err, cluster.ErrUnknown) {
			err = fmt.Errorf("%w: %w", storage.ErrUnknown, err)
		}
		done(applied, err)
	})
}

// records is the part of the store that raft needs.
type records struct{ *storage.Store }

func (r records) Get(table, key string) ([]byte, error) {
	rec, ok, err := r.Store.Get(storage.Table(table), key)
	if !ok {
		return nil, err
	}
	return rec.Value, nil
}

func (r records) Commit(t cluster.Txn, done func(error)) {
	var x storage.Txn
	for _, g := range t.Guards {
		x.Guards = append(x.Guards, storage.Guard{Table: storage.Table(g.Table), Key: g.Key, Equal: g.Value})
	}
	for _, w := range t.Writes {
		x.Writes = append(x.Writes, storage.Write{Table: storage.Table(w.Table), Key: w.Key, Value: w.Value})
	}
	if err := r.Submit(&x, func(r storage.Result) { done(r.Err) }); err != nil {
		done(err)
	}
}

func (r records) Version(table string) uint64                      { return r.Store.Version(storage.Table(table)) }
func (records) Scan(string) ([]cluster.Record, error)              { return nil, errors.ErrUnsupported }
func (records) Watch(string, func([]cluster.Record)) (stop func()) { return func() {} }

func until(t *testing.T, what func() string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what())
		}
	}
}

func text(s string) func() string { return func() string { return s } }

// leader waits for one that all living nodes know.
func (g *group) leader() *member {
	g.t.Helper()
	var found *member
	until(g.t, text("a leader that all know"), func() bool {
		found = nil
		for _, n := range g.all() {
			if n.raft.IsLeader() {
				found = n
			}
		}
		if found == nil {
			return false
		}
		for _, n := range g.all() {
			if n.raft.Leader() != found.id {
				return false
			}
		}
		return true
	})
	return found
}

// shape is the group as a node sees it: voters in capitals of the word, non-voters behind a minus.
func (n *member) shape() string {
	var voters, others []string
	for _, s := range n.raft.Servers() {
		if s.Voter() {
			voters = append(voters, s.ID)
		} else {
			others = append(others, s.ID)
		}
	}
	slices.Sort(voters)
	slices.Sort(others)
	return strings.Join(voters, " ") + " - " + strings.Join(others, " ")
}

func (g *group) untilShape(want string) {
	g.t.Helper()
	var have string
	until(g.t, func() string { return fmt.Sprintf("group %q, have %q", want, have) }, func() bool {
		for _, n := range g.all() {
			if n.raft.IsLeader() {
				have = n.shape()
				return have == want
			}
		}
		return false
	})
}

func (n *member) put(key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := n.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: "t", Key: key}},
		Writes: []storage.Write{{Table: "t", Key: key, Value: []byte(value)}}})
	return err
}

func (n *member) mustPut(key, value string) {
	n.g.t.Helper()
	if err := n.put(key, value); err != nil {
		n.g.t.Fatalf("put %s at %s: %v", key, n.id, err)
	}
}

func (n *member) has(key string) bool {
	_, ok, err := n.store.Get("t", key)
	return ok && err == nil
}

func (n *member) barrier() {
	n.g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.raft.Barrier(ctx); err != nil {
		n.g.t.Fatalf("barrier at %s: %v", n.id, err)
	}
}
