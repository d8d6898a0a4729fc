package pollux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

// Name of a member; its id where it has none.
func (s status) Name(node string) string {
	for _, m := range s.n.cluster.Members() {
		if m.ID == node && m.Name != "" {
			return m.Name
		}
	}
	return node
}

// HistoryNodes gives nobody: this node has all of it.
func (s status) HistoryNodes() []string { return nil }

func (s status) Slots() []rpc.SlotState {
	n := s.n
	out := make([]rpc.SlotState, cluster.SlotCount)
	for i := range out {
		if own, ok := n.cluster.Owned(cluster.Slot(i)); ok {
			out[i] = rpc.SlotState{Node: n.self.id, Target: n.self.id, Incarnation: n.self.incarnation, Since: own.Since}
		}
	}
	return out
}

func (s status) Moves() []*pb.Move {
	var out []*pb.Move
	for _, m := range s.n.cluster.Moves() {
		move := &pb.Move{Slot: uint32(m.Slot), From: m.From, To: m.To, BeginTime: timestamppb.New(m.Began), State: string(m.State)}
		if !m.Ended.IsZero() {
			move.EndTime = timestamppb.New(m.Ended)
		}
		if m.Awaited != "" {
			move.Awaited = "node " + s.Name(m.Awaited)
		}
		out = append(out, move)
	}
	slices.Reverse(out)
	return out
}

func (s status) Check(ctx context.Context) (*pb.CheckClusterResponse, error) {
	n := s.n
	out := &pb.CheckClusterResponse{}
	for _, text := range n.cluster.Check(ctx) {
		out.Findings = append(out.Findings, &pb.Finding{Severity: "error", Subject: "cluster", Text: text})
	}
	sums := &pb.NodeChecksum{Node: n.self.id, AppliedIndex: n.store.AppliedIndex()}
	for _, c := range n.store.Checksums() {
		sums.Sums = append(sums.Sums, &pb.Checksum{Index: c.Index, Sum: strconv.FormatUint(c.Sum, 16)})
	}
	out.Checksums = []*pb.NodeChecksum{sums}
	return out, nil
}

func (s status) Drain(ctx context.Context, node string) error { return s.n.cluster.Drain(ctx, node) }
func (s status) Undrain(ctx context.Context, node string) error {
	return s.n.cluster.Undrain(ctx, node)
}

func (s status) Remove(ctx context.Context, node string) error {
	if node == s.n.self.id {
		return fmt.Errorf("remove node %s: %w: it lives; drain and stop it first", s.Name(node), rpc.ErrNotNow)
	}
	return s.n.cluster.Remove(ctx, node)
}

func (s status) TransferLeadership(context.Context, string) error {
	return fmt.Errorf("transfer leadership: %w: there is no other voter", rpc.ErrNotNow)
}

func (s status) CreateJoinToken(context.Context, time.Duration, string) (*pb.CreateJoinTokenResponse, error) {
	return nil, fmt.Errorf("create join token: %w", errors.ErrUnsupported)
}

func (s status) JoinTokens(context.Context) ([]*pb.JoinToken, error) { return nil, nil }

func (s status) RevokeJoinToken(_ context.Context, id string) error {
	return fmt.Errorf("revoke join token %s: %w", id, rpc.ErrNoSuchToken)
}

func (s status) RotateGossipKey(context.Context) (int, error) {
	return 0, fmt.Errorf("rotate gossip key: %w", errors.ErrUnsupported)
}

func (s status) RotateCA(context.Context) (*pb.RotateCAResponse, error) {
	return nil, fmt.Errorf("rotate the authority: %w", errors.ErrUnsupported)
}

func (s status) Backup(context.Context, io.Writer, bool) (*pb.BackupSummary, error) {
	return nil, fmt.Errorf("backup: %w", errors.ErrUnsupported)
}

func (s status) Restore(context.Context, io.Reader) (*pb.BackupSummary, error) {
	return nil, fmt.Errorf("restore: %w", errors.ErrUnsupported)
}
