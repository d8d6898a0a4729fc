package cluster

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// NewRaftTransport makes raft's transport on a layer of streams, such as package peer's. address gives the present
// address of a node by its id, as gossip knows it; where it does not know, the group's configuration counts. So a group
// finds itself again though all of its nodes came back with other ports. The transport owns the layer; OpenRaft owns
// the transport.
//
// A layer that has a method DialNode(node, address string, timeout time.Duration) (net.Conn, error) must connect to that
// node only: in a stale configuration two ids may have come to share one address, and raft would count its vote twice.
func NewRaftTransport(layer raft.StreamLayer, address func(id string) (string, bool), logger *slog.Logger) raft.Transport {
	return &nodeTransport{address: address, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: nodeLayer{layer}, MaxPool: 3, Timeout: 5 * time.Second, Logger: raftLogger(logger, nil)})}
}

// nodeTransport sends to nodes, wherever they are. What it gives its NetworkTransport for an address is `id@host:port`.
type nodeTransport struct {
	*raft.NetworkTransport
	address func(id string) (string, bool)
}

func (t *nodeTransport) to(id raft.ServerID, known raft.ServerAddress) raft.ServerAddress {
	if t.address != nil {
		if addr, ok := t.address(string(id)); ok {
			known = raft.ServerAddress(addr)
		}
	}
	return raft.ServerAddress(id) + "@" + known
}

// nodeLayer dials what nodeTransport says.
type nodeLayer struct{ raft.StreamLayer }

// Dial implements raft.StreamLayer.
func (l nodeLayer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, _ := strings.Cut(string(to), "@")
	if d, ok := l.StreamLayer.(interface {
		DialNode(node, address string, timeout time.Duration) (net.Conn, error)
	}); ok {
		return d.DialNode(id, addr, timeout)
	}
	return l.StreamLayer.Dial(raft.ServerAddress(addr), timeout)
}

// AppendEntriesPipeline implements raft.Transport.
func (t *nodeTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.NetworkTransport.AppendEntriesPipeline(id, t.to(id, to))
}

// AppendEntries implements raft.Transport.
func (t *nodeTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return t.NetworkTransport.AppendEntries(id, t.to(id, to), q, a)
}

// RequestVote implements raft.Transport.
func (t *nodeTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, t.to(id, to), q, a)
}

// RequestPreVote implements raft.WithPreVote.
func (t *nodeTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, t.to(id, to), q, a)
}

// InstallSnapshot implements raft.Transport.
func (t *nodeTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest,
	a *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, t.to(id, to), q, a, data)
}

// TimeoutNow implements raft.Transport.
func (t *nodeTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, t.to(id, to), q, a)
}

// raftLogger hands raft's lines to slog, info as debug: a leader's election on one node is no news.
// gone tells of a node, by its id or address, whether it has gone on purpose or is about to: nil: none has.
func raftLogger(to *slog.Logger, gone func(node string) bool) hclog.Logger {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	l.RegisterSink(&raftSink{to: to, gone: gone, said: map[string]time.Time{}})
	return l
}

// raftSink says the same of the same node at most each 30 s; what comes between is debug.
type raftSink struct {
	to   *slog.Logger
	gone func(node string) bool
	mu   sync.Mutex
	said map[string]time.Time
}

// raftChatter are warnings that every election and every start bring. A node that is gone is told of once, by the failing
// heartbeat.
var raftChatter = []string{"heartbeat timeout reached", "no known peers", "not part of stable configuration", "Election timeout reached",
	"pre-vote", "duplicate requestVote", "rejecting", "skipping application of old log", "previous log", "failed to get previous log", "failed to make requestVote RPC",
	"failed to make pre-vote RPC", "failed to appendEntries to", "failed to contact", "failed to decode incoming command", "appendEntries rejected", "failed to pipeline"}

func (s *raftSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := map[hclog.Level]slog.Level{hclog.Warn: slog.LevelWarn, hclog.Error: slog.LevelWarn}
	lv, ok := to[level]
	for _, c := range raftChatter {
		ok = ok && (!strings.HasPrefix(msg, c) || strings.HasPrefix(msg, "failed to contact quorum"))
	}
	if ok && s.gone != nil {
		ok = !slices.ContainsFunc(peersOf(args), s.gone)
	}
	if !ok || !s.fresh(msg, args) {
		lv = slog.LevelDebug
	}
	s.to.Log(context.Background(), lv, "raft: "+msg, args...)
}

// peersOf gives the nodes that a line is about, by id or address.
func peersOf(args []any) (nodes []string) {
	for i := 0; i+1 < len(args); i += 2 {
		if k, ok := args[i].(string); ok && (k == "peer" || k == "target" || k == "server-id") {
			if f, ok := args[i+1].(interface{ String() string }); ok {
				nodes = append(nodes, f.String())
			} else if id, ok := args[i+1].(raft.ServerID); ok {
				nodes = append(nodes, string(id))
			} else if a, ok := args[i+1].(raft.ServerAddress); ok {
				nodes = append(nodes, string(a))
			}
		}
	}
	return nodes
}

// fresh says whether msg was not said of this peer lately.
func (s *raftSink) fresh(msg string, args []any) bool {
	key := strings.Join(append([]string{msg}, peersOf(args)...), " ")
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.said[key]; ok && now.Sub(at) < 30*time.Second {
		return false
	}
	if len(s.said) >= 256 {
		clear(s.said)
	}
	s.said[key] = now
	return true
}
