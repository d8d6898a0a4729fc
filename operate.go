package pollux

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
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

// HistoryNodes implements rpc.Cluster.
func (s status) HistoryNodes() []string {
	n := s.n
	if n.exporter.Complete() && n.journal.Complete() {
		return nil
	}
	var ids []string
	for _, r := range n.raft.Servers() {
		if r.Voter() && r.ID != n.self.id && n.alive(r.ID) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// Slots implements rpc.Cluster.
func (s status) Slots() []rpc.SlotState {
	n := s.n
	selectors := n.cluster.Classes()
	out := make([]rpc.SlotState, cluster.SlotCount+cluster.ClassSlots*len(selectors))
	for i := range out {
		slot, o := cluster.Slot(i), &out[i]
		o.Target = n.cluster.Target(slot)
		if c := slot.Class(); c > 0 {
			o.Selector, o.Unmet = selectors[c-1].Selector, len(selectors[c-1].Nodes) == 0
		}
	}
	for _, at := range n.cluster.Slots() {
		if int(at.Slot) >= len(out) {
			continue // its selector has come since
		}
		o := &out[at.Slot]
		o.Node, o.Incarnation, o.Since = at.Node, at.Incarnation, at.Since
	}
	for _, m := range n.cluster.Moves() {
		if m.State == cluster.MoveDone || int(m.Slot) >= len(out) {
			continue
		}
		o := &out[m.Slot]
		o.State = string(m.State)
		if m.Awaited != "" {
			o.Awaited = "node " + s.Name(m.Awaited)
		}
		if m.Awaited == leaderAwaited {
			o.State, o.Awaited = "orphaned", "the end of the lease of "+s.Name(m.From)
		}
	}
	return out
}

// leaderAwaited is what a move waits for whose slot's owner is dead.
const leaderAwaited = "leader"

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
	for _, c := range n.cluster.Check(ctx) {
		subject := "cluster"
		if c.Actors {
			subject = rpc.SubjectTwins
		}
		out.Findings = append(out.Findings, &pb.Finding{Severity: "error", Subject: subject, Text: c.Text})
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
	if err := s.n.cluster.Remove(ctx, node); err != nil {
		return err
	}
	_, err := s.n.store.Commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: tableCluster, Key: prefixRemoved + node,
		Value: []byte(time.Now().UTC().Format(time.RFC3339)), Quiet: true}}})
	if err != nil {
		return fmt.Errorf("keep node %s out: %w", s.Name(node), err)
	}
	s.n.peers.Disconnect(node)
	return nil
}

func (s status) TransferLeadership(ctx context.Context, node string) error {
	if s.n.raft.Status().Voters < 2 {
		return fmt.Errorf("transfer leadership: %w: there is no other voter", rpc.ErrNotNow)
	}
	return s.n.raft.TransferLeadership(ctx, node)
}
