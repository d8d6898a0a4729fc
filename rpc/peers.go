package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// peerPatience is how long a node that is asked for its figures may take; one that hangs must not hide the others.
const peerPatience = 2 * time.Second

// peerClients speak to another node on behalf of the context's principal.
type peerClients struct {
	twins     rpcv1.TwinServiceClient
	cluster   rpcv1.ClusterServiceClient
	topics    rpcv1.TopicServiceClient
	history   rpcv1.HistoryServiceClient
	analytics rpcv1.AnalyticsServiceClient
	rules     rpcv1.AutomationServiceClient
	logics    rpcv1.LogicServiceClient
}

func (s *Server) peer(node string) (*peerClients, error) {
	hc, base, err := s.o.Peers.HTTP(node)
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", s.o.Cluster.Name(node), err)
	}
	o := connect.WithInterceptors(outgoing{})
	return &peerClients{analytics: rpcv1.NewAnalyticsServiceClient(hc, base, o),
		twins: rpcv1.NewTwinServiceClient(hc, base, o), cluster: rpcv1.NewClusterServiceClient(hc, base, o),
		topics: rpcv1.NewTopicServiceClient(hc, base, o), history: rpcv1.NewHistoryServiceClient(hc, base, o),
		rules: rpcv1.NewAutomationServiceClient(hc, base, o), logics: rpcv1.NewLogicServiceClient(hc, base, o)}, nil
}

// others gives the living members but this one.
func (s *Server) others() []string {
	self := s.o.Peers.Self()
	return slices.DeleteFunc(slices.Clone(s.o.Peers.Nodes()), func(id string) bool { return id == self })
}

// elsewhere gives the node that has the twin where it is another one, else "".
func (s *Server) elsewhere(ctx context.Context, twin string) string {
	if isLocal(ctx) {
		return ""
	}
	if owner := s.o.Peers.Owner(twin); owner != s.o.Peers.Self() {
		return owner
	}
	return ""
}

// answer of one node.
type answer[T any] struct {
	node  string
	value T
	err   error
}

// ask puts a question to all nodes at once, each bounded by peerPatience, and gives the answers in the order of the nodes.
func ask[T any](ctx context.Context, s *Server, nodes []string, question func(context.Context, *peerClients) (T, error)) []answer[T] {
	out := make([]answer[T], len(nodes))
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			out[i].node = node
			c, err := s.peer(node)
			if err == nil {
				out[i].value, err = question(ctx, c)
			}
			out[i].err = err
		})
	}
	wg.Wait()
	return out
}

// Checksums asks another node for the last checksums of its state, on this node's own behalf.
func (s *Server) Checksums(ctx context.Context, node string) ([]*pb.Checksum, error) {
	ctx = context.WithValue(ctx, principalKey{}, &Principal{ID: s.o.Peers.Self(), Name: "node", Role: RoleViewer})
	p, err := s.peer(node)
	if err != nil {
		return nil, err
	}
	res, err := p.cluster.CheckCluster(ctx, connect.NewRequest(&pb.CheckClusterRequest{}))
	if err != nil {
		return nil, err
	}
	var sums []*pb.Checksum
	for _, n := range res.Msg.Checksums {
		if n.Node == node {
			sums = append(sums, n.Sums...)
		}
	}
	return sums, nil
}
