package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/hashicorp/raft"
)

// RaftOptions are the parts that a raft node stands on. The stores and the state machine belong to package storage, the
// transport to package peer.
type RaftOptions struct {
	// ID is the node's id, for ever.
	ID        string
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	FSM       raft.FSM
	Logger    *slog.Logger
	// Metrics gets the counters; nil: a set of raft's own.
	Metrics *metrics.Set

	// Transport brings raft's messages to the other nodes (NewRaftTransport). Close closes it. nil: this node is alone, and
	// a log without entries is bootstrapped with it as the only voter.
	Transport raft.Transport
	// Bootstrap lists the first voters, this node among them. It counts only where there is no raft state yet, and only
	// the founder gives it; the others wait until a leader finds them.
	Bootstrap []raft.Server

	// Forward brings an entry to the leader's ApplyLocal, without blocking. done must be called exactly once: with what
	// ApplyLocal answered, or an error. One that wraps ErrUnavailable or ErrOverloaded says that the entry did not get
	// into the log; every other error counts as ErrUnknown.
	Forward func(leader string, entry []byte, done func(result []byte, err error))
	// RemoteIndex asks the leader for its LeaderIndex.
	RemoteIndex func(ctx context.Context, leader string) (uint64, error)
	// Applied is the index that the state machine has applied, WaitApplied blocks until it is above after. nil: raft's own
	// index, which runs a little ahead of the state machine.
	Applied     func() uint64
	WaitApplied func(ctx context.Context, after uint64) error

	// Healthy says whether another node seems to be alive, by gossip. nil: what raft itself hears of it.
	Healthy func(id string) bool
	// Gone tells of a node, by its id or its address, whether it has left on purpose or is about to: that it does not answer is
	// no warning then. nil: none has.
	Gone func(node string) bool
	// Lost lists the nodes that recoveries have given up (LostNodes), beside those that this node's own stores know of;
	// nothing is taken from them. nil: none. It is called for every message, and must be quick.
	Lost func() []string
	// LogStall is how long a write of the log may take while the other voters could go on without this node; then Fatal
	// is called. Default 1.5 s.
	LogStall time.Duration
	// Fatal is told, once, why this node must end. nil: an error line only.
	Fatal func(error)

	// SnapshotThreshold is the number of entries after which a snapshot is due; 0 means 65,536.
	SnapshotThreshold uint64
	// TrailingLogs is the number of entries kept behind a snapshot, for followers that are a little late; 0 means 256: entries
	// are up to 512 KiB. While a follower that is in contact needs more, more is kept.
	TrailingLogs uint64
}

// Raft is this node's part in the consensus group. It brings entries to the log (storage.Proposer).
type Raft struct {
	raft  *raft.Raft
	id    raft.ServerID
	o     RaftOptions
	m     *raftMetrics
	links *linkWatch

	futures chan pending
	flying  atomic.Int64 // entries on their way through this node's raft
	order   sync.Mutex   // keeps futures in the order of the log
	// gathered waits for the entries on their way; order guards it.
	gathered      []gathered
	gatheredBytes int
	waiting       atomic.Int64 // len(gathered)

	forwardMu sync.Mutex
	forwards  map[*forward]struct{}

	leaders leaderWatch
	leads   leadership

	closing chan struct{}
	done    sync.WaitGroup
	mu      sync.RWMutex // read-held while a future is handed over, so that Close sees all
	closed  bool
}

const (
	heartbeatTimeout = 500 * time.Millisecond
	leaseTimeout     = 250 * time.Millisecond
	// maxAppend bounds the entries of one message between nodes: 128 of the usual largest size are 32 MiB.
	maxAppend = 128
	// logCache is the number of newest entries that are kept in memory, where raft looks for what it sends and applies: at most
	// 32 MiB, of the usual largest size 16 MiB.
	logCache = 64
)

// OpenRaft starts raft.
func OpenRaft(o RaftOptions) (*Raft, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Transport == nil {
		addr, transport := raft.NewInmemTransport(raft.ServerAddress(o.ID))
		o.Transport = transport
		o.Bootstrap = []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(o.ID), Address: addr}}
	}
	lost, err := readLost(o.Stable)
	if err != nil {
		return nil, err
	}
	m := newRaftMetrics(o.Metrics)
	r := &Raft{id: raft.ServerID(o.ID), o: o, m: m, links: newLinkWatch(o.Transport, o.Log.LastIndex, lost, o.Lost, o.Logger, m.snapshots),
		futures: make(chan pending, maxProposals), forwards: map[*forward]struct{}{}, leaders: leaderWatch{kick: make(chan raft.Observation, 1)}, closing: make(chan struct{})}
	cfg := raftConfig(o)
	log := &watchedLog{LogStore: o.Log, r: r, stall: o.LogStall}
	if log.stall <= 0 {
		log.stall = 1500 * time.Millisecond
	}
	founded, err := bootstrap(cfg, o, r.links)
	if err != nil {
		return nil, err
	}
	// Lowering the timeout of a running raft lets it look for a leader at once, which is the only way to say so.
	first := *cfg
	first.HeartbeatTimeout += time.Millisecond
	first.ElectionTimeout += time.Millisecond
	cached, err := raft.NewLogCache(logCache, log)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	r.raft, err = raft.NewRaft(&first, o.FSM, cached, o.Stable, o.Snapshots, r.links)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	log.ready.Store(true)
	if founded || r.alone() {
		if err := r.raft.ReloadConfig(raft.ReloadableConfig{TrailingLogs: cfg.TrailingLogs, SnapshotInterval: cfg.SnapshotInterval,
			SnapshotThreshold: cfg.SnapshotThreshold, HeartbeatTimeout: cfg.HeartbeatTimeout, ElectionTimeout: cfg.ElectionTimeout}); err != nil {
			return nil, errors.Join(fmt.Errorf("start raft: %w", err), r.raft.Shutdown().Error())
		}
	}
	r.done.Add(2)
	go r.complete()
	go r.watchLeaders()
	r.m.gauges(r)
	return r, nil
}

func raftConfig(o RaftOptions) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(o.ID)
	// Measured on three processes: a leader's loss costs 0.7 to 1.3 s with these, and no false change under load.
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = heartbeatTimeout, heartbeatTimeout, leaseTimeout
	// Followers are told at once what is committed (raft_nudge.go); this is for what went past that, and each is a wake-up of
	// an idle node.
	cfg.CommitTimeout = 250 * time.Millisecond
	cfg.SnapshotInterval = 30 * time.Second
	cfg.SnapshotThreshold = orDefault(o.SnapshotThreshold, 65536)
	cfg.TrailingLogs = orDefault(o.TrailingLogs, 256)
	cfg.MaxAppendEntries = maxAppend
	cfg.BatchApplyCh = true
	cfg.NoSnapshotRestoreOnStart = true // the state machine's own database is newer than any snapshot
	cfg.NoLegacyTelemetry = true
	cfg.Logger = raftLogger(o.Logger, o.Gone)
	return cfg
}

// bootstrap writes the first configuration where the founder gives one and there is no state.
func bootstrap(cfg *raft.Config, o RaftOptions, transport raft.Transport) (bool, error) {
	known, err := raft.HasExistingState(o.Log, o.Stable, o.Snapshots)
	if err != nil {
		return false, fmt.Errorf("read raft state: %w", err)
	}
	if known || len(o.Bootstrap) == 0 {
		return false, nil
	}
	if err := raft.BootstrapCluster(cfg, o.Log, o.Stable, o.Snapshots, transport, raft.Configuration{Servers: o.Bootstrap}); err != nil {
		return false, fmt.Errorf("bootstrap raft: %w", err)
	}
	return true, nil
}

func orDefault(v, d uint64) uint64 {
	if v == 0 {
		return d
	}
	return v
}

// alone says that this node is the only voter.
func (r *Raft) alone() bool {
	voters, self := 0, false
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == r.id
		}
	}
	return voters == 1 && self
}

// IsLeader says whether this node leads, as far as it knows: another may lead already. It does not block.
func (r *Raft) IsLeader() bool { return r.raft.State() == raft.Leader }

// Leader is the id of the leader as this node knows it; "": none.
func (r *Raft) Leader() string {
	_, id := r.raft.LeaderWithID()
	return string(id)
}

// WaitLeader blocks until the group has a leader, and returns its id.
func (r *Raft) WaitLeader(ctx context.Context) (string, error) {
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if id := r.Leader(); id != "" {
			tick.Stop()
			return id, nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return "", fmt.Errorf("wait for a raft leader: %w", context.Cause(ctx))
		case <-r.closing:
			tick.Stop()
			return "", fmt.Errorf("wait for a raft leader: %w", raft.ErrRaftShutdown)
		case <-tick.C:
		}
	}
}

// HasState says whether this node has a place in a group already: a log, a term or a snapshot. Who has none is founded by
// its options or waits for a leader.
func HasState(o RaftOptions) (bool, error) {
	known, err := raft.HasExistingState(o.Log, o.Stable, o.Snapshots)
	if err != nil {
		return false, fmt.Errorf("read raft state: %w", err)
	}
	return known, nil
}

// Snapshot asks raft for a snapshot now and waits for it. While the group changes there can be none, so it tries for up
// to 2 s.
func (r *Raft) Snapshot() error {
	for end := time.Now().Add(2 * time.Second); ; {
		err := r.raft.Snapshot().Error()
		switch {
		case err == nil || errors.Is(err, raft.ErrNothingNewToSnapshot):
			return nil
		case !strings.HasPrefix(err.Error(), "cannot take snapshot now") || time.Now().After(end):
			return fmt.Errorf("raft snapshot: %w", err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.closing:
			return fmt.Errorf("raft snapshot: %w", raft.ErrRaftShutdown)
		}
	}
}

// Close stops raft; entries on their way end as unknown. It returns when no further callback comes.
func (r *Raft) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.failGathered()
	err := r.raft.Shutdown().Error()
	close(r.closing)
	close(r.futures)
	r.failForwards(func(*forward) bool { return true }, raft.ErrRaftShutdown)
	r.done.Wait()
	r.m.close()
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}
