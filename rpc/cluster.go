package rpc

import (
	"context"
	"io"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Cluster tells where everything is, and moves it. It speaks for one node; what other nodes count is asked by this package.
// Nodes are given by their ids, which this package has resolved. Methods with a context may block until it ends; the others
// read memory. Besides their own errors they return those of packages cluster and storage, and wrap ErrNotNow where what is
// asked cannot be done as things stand.
type Cluster interface {
	// Ready returns nil where the node serves, else what it waits for; without a lease that wraps ErrNoQuorum, and nothing
	// is tried to be committed meanwhile. It is cheap.
	Ready() error
	// Status of the cluster as far as this node knows it; the counters are this node's alone. Names, and what is counted in
	// nodes and slots, may be left out.
	Status(ctx context.Context) (*pb.GetStatusResponse, error)
	// Nodes gives every member by id, as this node sees it. Figures are this node's own; of other nodes they are left out.
	Nodes(ctx context.Context) ([]*pb.Node, error)
	// Name of a member; its id where it has none.
	Name(node string) string
	// HistoryNodes gives the ids of the nodes that answer queries of history, nearest first; none where this node does.
	HistoryNodes() []string
	// Slots gives all of them, by number. The slice is the caller's.
	Slots() []SlotState
	// Where gives slot, node, incarnation, since, target and state of a twin's slot, and whether the twin is in memory here.
	// The id is whole.
	Where(id string) *pb.Placement
	// Moves gives the hand-overs that this node knows, newest first. Names may be left out.
	Moves() []*pb.Move
	// Check looks for broken promises as this node sees them. Of the response, findings and the checksums of this node
	// count.
	Check(ctx context.Context) (*pb.CheckClusterResponse, error)

	// Drain has a node hand over all of its slots, and returns when that is committed.
	Drain(ctx context.Context, node string) error
	Undrain(ctx context.Context, node string) error
	// Remove takes a node out for ever; it wraps ErrNotNow while the node lives or has slots.
	Remove(ctx context.Context, node string) error
	// TransferLeadership returns when the node, or any other where it is empty, leads. It is called on the leader.
	TransferLeadership(ctx context.Context, node string) error

	// CreateJoinToken commits a token; by names who asked.
	CreateJoinToken(ctx context.Context, ttl time.Duration, by string) (*pb.CreateJoinTokenResponse, error)
	// JoinTokens gives those that are not over.
	JoinTokens(ctx context.Context) ([]*pb.JoinToken, error)
	// RevokeJoinToken deletes one; unknown ids wrap ErrNoSuchToken.
	RevokeJoinToken(ctx context.Context, id string) error
	// RotateGossipKey gives the number of keys in use afterwards.
	RotateGossipKey(ctx context.Context) (keys int, err error)
	RotateCA(ctx context.Context) (*pb.RotateCAResponse, error)

	// Backup writes a whole backup as of one moment. Size, digest and time of the summary are filled in by the caller.
	Backup(ctx context.Context, w io.Writer, history bool) (*pb.BackupSummary, error)
	// Restore reads a whole backup into a cluster that holds nothing yet; into another one it wraps ErrNotNow. A backup that
	// is damaged wraps ErrBadBackup and leaves nothing behind that is served.
	Restore(ctx context.Context, r io.Reader) (*pb.BackupSummary, error)
}

// SlotState is a slot as this node sees it.
type SlotState struct {
	// Node that owns it, empty for none; Target that shall.
	Node, Target string
	// Incarnation of the owner; Since counts the owners, this one included.
	Incarnation, Since uint64
	// State is a word of pb.Slot; empty means settled, or waiting where Target is another node. Awaited is a sentence, or
	// empty.
	State, Awaited string
	// Selector of the nodes that may own it, empty for all; Unmet: there is none.
	Selector string
	Unmet    bool
}

// moving says whether the slot is not where it shall be.
func (s *SlotState) moving() bool {
	return s.Node != s.Target && s.Target != "" || s.Node == "" && !s.Unmet
}

func (s *SlotState) state() string {
	switch {
	case s.State != "":
		return s.State
	case s.Unmet:
		return "unavailable"
	case s.moving():
		return "waiting"
	}
	return "settled"
}

// Peers leads to the other nodes. The methods do not block.
type Peers interface {
	// Nodes gives the ids of the members that live, this one's may be among them.
	Nodes() []string
	// Self is this node's id.
	Self() string
	// Owner is the id of the node that has the twin, or empty.
	Owner(twin string) string
	// HTTP gives a client of a node's peer door (PeerHandler) and its address.
	HTTP(node string) (connect.HTTPClient, string, error)
}

// alone is a cluster of one.
type alone struct{}

func (alone) Nodes() []string     { return nil }
func (alone) Self() string        { return "" }
func (alone) Owner(string) string { return "" }
func (alone) HTTP(string) (connect.HTTPClient, string, error) {
	return nil, "", cluster.ErrUnavailable
}
