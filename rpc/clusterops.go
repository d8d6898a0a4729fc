package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// defaultJoinTTL is how long a join token is good where the caller does not say.
	defaultJoinTTL = time.Hour
	// leaderPatience is how long the answer waits for this node to hear of a new leader.
	leaderPatience = 5 * time.Second
)

// change resolves the node's name, does what is asked of it, and gives the node as it is then.
func (c *clusterService) change(ctx context.Context, word string, do func(ctx context.Context, node string) error) (*pb.Node, error) {
	n, err := c.s.node(ctx, word)
	if err != nil {
		return nil, err
	}
	if err := do(ctx, n.Id); err != nil {
		return nil, err
	}
	nodes, err := c.s.nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, now := range nodes {
		if now.Id == n.Id {
			return now, nil
		}
	}
	return n, nil
}

func (c *clusterService) DrainNode(ctx context.Context, r *connect.Request[pb.DrainNodeRequest]) (*connect.Response[pb.DrainNodeResponse], error) {
	n, err := c.change(ctx, r.Msg.Node, c.s.o.Cluster.Drain)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DrainNodeResponse{Node: n}), nil
}

func (c *clusterService) UndrainNode(ctx context.Context, r *connect.Request[pb.UndrainNodeRequest]) (*connect.Response[pb.UndrainNodeResponse], error) {
	n, err := c.change(ctx, r.Msg.Node, c.s.o.Cluster.Undrain)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UndrainNodeResponse{Node: n}), nil
}

func (c *clusterService) RemoveNode(ctx context.Context, r *connect.Request[pb.RemoveNodeRequest]) (*connect.Response[pb.RemoveNodeResponse], error) {
	n, err := c.s.node(ctx, r.Msg.Node)
	if err != nil {
		return nil, err
	}
	if err := c.s.o.Cluster.Remove(ctx, n.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.RemoveNodeResponse{Node: n}), nil
}

// TransferLeadership is done by the leader, wherever it is asked for.
func (c *clusterService) TransferLeadership(ctx context.Context, r *connect.Request[pb.TransferLeadershipRequest]) (*connect.Response[pb.TransferLeadershipResponse], error) {
	to := ""
	if r.Msg.Node != "" {
		n, err := c.s.node(ctx, r.Msg.Node)
		if err != nil {
			return nil, err
		}
		to = n.Id
	}
	before, err := c.s.leader(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case before == "":
		return nil, fmt.Errorf("transfer leadership: %w: no node leads now", ErrNoQuorum)
	case before == to:
		return connect.NewResponse(&pb.TransferLeadershipResponse{Leader: before, LeaderName: c.s.name(before)}), nil
	}
	if self := c.s.o.Peers.Self(); before == self || self == "" || isLocal(ctx) {
		err = c.s.o.Cluster.TransferLeadership(ctx, to)
	} else {
		var p *peerClients
		if p, err = c.s.peer(before); err == nil {
			_, err = p.cluster.TransferLeadership(ctx, connect.NewRequest(&pb.TransferLeadershipRequest{Node: to}))
		}
	}
	if err != nil {
		return nil, err
	}
	now := c.s.newLeader(ctx, before)
	return connect.NewResponse(&pb.TransferLeadershipResponse{Leader: now, LeaderName: c.s.name(now)}), nil
}

func (s *Server) leader(ctx context.Context) (string, error) {
	res, err := s.o.Cluster.Status(ctx)
	if err != nil {
		return "", err
	}
	return res.Leader, nil
}

// newLeader waits until this node knows a leader that is not the one before; "" where it does not in time.
func (s *Server) newLeader(ctx context.Context, before string) string {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := s.leader(ctx); err == nil && now != "" && now != before {
			return now
		}
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
	}
}

// CheckCluster puts together what each node finds, and compares their checksums.
func (c *clusterService) CheckCluster(ctx context.Context, _ *connect.Request[pb.CheckClusterRequest]) (*connect.Response[pb.CheckClusterResponse], error) {
	res, err := c.s.o.Cluster.Check(ctx)
	if err != nil {
		return nil, err
	}
	if isLocal(ctx) {
		return connect.NewResponse(res), nil
	}
	self := c.s.o.Peers.Self()
	if len(res.Checksums) == 1 {
		res.Checksums[0].Node = cmp.Or(res.Checksums[0].Node, self)
	}
	seen := make(map[string]bool)
	for _, f := range res.Findings {
		f.Node = cmp.Or(f.Node, c.s.name(self))
		seen[f.Severity+f.Subject+f.Text] = true
	}
	for _, a := range ask(ctx, c.s, c.s.others(), func(ctx context.Context, p *peerClients) (*pb.CheckClusterResponse, error) {
		res, err := p.cluster.CheckCluster(ctx, connect.NewRequest(&pb.CheckClusterRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}) {
		name := c.s.name(a.node)
		if a.err != nil {
			res.Findings = append(res.Findings, &pb.Finding{Severity: "error", Subject: "node " + name,
				Text: "does not answer: " + plainText(a.err), Node: c.s.name(self)})
			res.Checksums = append(res.Checksums, &pb.NodeChecksum{Node: a.node, Error: plainText(a.err)})
			continue
		}
		for _, f := range a.value.Findings {
			if key := f.Severity + f.Subject + f.Text; !seen[key] {
				seen[key] = true
				f.Node = name
				res.Findings = append(res.Findings, f)
			}
		}
		res.Checksums = append(res.Checksums, a.value.Checksums...)
	}
	for _, s := range res.Checksums {
		s.Name = c.s.name(s.Node)
	}
	if projectsOf(principalFrom(ctx)) != nil {
		res.Findings = slices.DeleteFunc(res.Findings, func(f *pb.Finding) bool { return f.Subject == SubjectTwins })
	}
	judge(res)
	return connect.NewResponse(res), nil
}

// SubjectTwins is that of findings which name twins, or their selectors, of whatever project. They are for keys of all projects.
const SubjectTwins = "twins"

// judge compares the checksums and says whether all is well.
func judge(res *pb.CheckClusterResponse) {
	type told struct{ name, sum string }
	at := make(map[uint64][]told)
	for _, n := range res.Checksums {
		for _, s := range n.Sums {
			at[s.Index] = append(at[s.Index], told{n.Name, s.Sum})
		}
	}
	answered := 0
	for _, n := range res.Checksums {
		if n.Error == "" {
			answered++
		}
	}
	indexes := make([]uint64, 0, len(at))
	for index := range at {
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	res.AgreedIndex = 0
	for _, index := range indexes {
		all := at[index]
		differ := slices.IndexFunc(all, func(t told) bool { return t.sum != all[0].sum })
		if differ >= 0 {
			res.AgreedIndex = 0
			res.Findings = append(res.Findings, &pb.Finding{Severity: "error", Subject: fmt.Sprintf("state at index %d", index),
				Text: fmt.Sprintf("%s has checksum %s, %s has %s", all[0].name, all[0].sum, all[differ].name, all[differ].sum)})
			break
		}
		if len(all) == answered {
			res.AgreedIndex = index
		}
	}
	res.Ok = !slices.ContainsFunc(res.Findings, func(f *pb.Finding) bool { return f.Severity != "remark" })
}

func (c *clusterService) CreateJoinToken(ctx context.Context, r *connect.Request[pb.CreateJoinTokenRequest]) (*connect.Response[pb.CreateJoinTokenResponse], error) {
	ttl := defaultJoinTTL
	if r.Msg.Ttl != nil {
		ttl = r.Msg.Ttl.AsDuration()
	}
	res, err := c.s.o.Cluster.CreateJoinToken(ctx, ttl, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (c *clusterService) ListJoinTokens(ctx context.Context, _ *connect.Request[pb.ListJoinTokensRequest]) (*connect.Response[pb.ListJoinTokensResponse], error) {
	list, err := c.s.o.Cluster.JoinTokens(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListJoinTokensResponse{Tokens: list}), nil
}

func (c *clusterService) RevokeJoinToken(ctx context.Context, r *connect.Request[pb.RevokeJoinTokenRequest]) (*connect.Response[pb.RevokeJoinTokenResponse], error) {
	if err := c.s.o.Cluster.RevokeJoinToken(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.RevokeJoinTokenResponse{}), nil
}

func (c *clusterService) RotateGossipKey(ctx context.Context, _ *connect.Request[pb.RotateGossipKeyRequest]) (*connect.Response[pb.RotateGossipKeyResponse], error) {
	keys, err := c.s.o.Cluster.RotateGossipKey(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.RotateGossipKeyResponse{Keys: uint32(keys)}), nil
}

func (c *clusterService) RotateCA(ctx context.Context, _ *connect.Request[pb.RotateCARequest]) (*connect.Response[pb.RotateCAResponse], error) {
	res, err := c.s.o.Cluster.RotateCA(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}
