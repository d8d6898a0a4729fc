package rpc

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// activePatience is how long the owner of a twin may take to say whether the twin is in memory.
const activePatience = 500 * time.Millisecond

// scanPatience bounds the search for a node's twins; the page is short then, with a token to go on.
const scanPatience = time.Second

func (c *clusterService) GetPlacement(ctx context.Context, r *connect.Request[pb.GetPlacementRequest]) (*connect.Response[pb.GetPlacementResponse], error) {
	out := &pb.GetPlacementResponse{}
	var err error
	switch {
	case r.Msg.Id != "":
		out.Placement, err = c.s.placeOf(ctx, r.Msg.Id)
	case r.Msg.Node != "":
		out, err = c.s.twinsOf(ctx, r.Msg)
	default:
		out.Nodes, err = c.s.placements(ctx)
	}
	if err != nil {
		return nil, err
	}
	out.SlotsByNode = make(map[string]uint32)
	slots := c.s.o.Cluster.Slots()
	for i := range slots {
		if slots[i].Node != "" {
			out.SlotsByNode[slots[i].Node]++
		}
	}
	return connect.NewResponse(out), nil
}

// placeOf says where a twin is. Whether it is in memory, its owner knows.
func (s *Server) placeOf(ctx context.Context, id string) (*pb.Placement, error) {
	id, err := actors.CanonicalID(id)
	if err != nil {
		return nil, err
	}
	p := s.named(s.o.Cluster.Where(id))
	p.Id = id
	_, err = s.o.Registry.GetTwin(id)
	p.Absent = errors.Is(err, actors.ErrNotFound)
	if node := s.elsewhere(ctx, id); node != "" {
		ctx, cancel := context.WithTimeout(ctx, activePatience)
		defer cancel()
		if peer, err := s.peer(node); err == nil {
			if res, err := peer.cluster.GetPlacement(ctx, connect.NewRequest(&pb.GetPlacementRequest{Id: id})); err == nil {
				p.Active = res.Msg.GetPlacement().GetActive()
			}
		}
	}
	return p, nil
}

// named completes names and state.
func (s *Server) named(p *pb.Placement) *pb.Placement {
	p.Target = cmp.Or(p.Target, p.Node)
	p.NodeName, p.TargetName = s.name(p.Node), s.name(p.Target)
	if p.State == "" {
		p.State = (&SlotState{Node: p.Node, Target: p.Target}).state()
	}
	return p
}

// twinsOf gives a page of the twins that a node has, of those that the caller may see.
func (s *Server) twinsOf(ctx context.Context, r *pb.GetPlacementRequest) (*pb.GetPlacementResponse, error) {
	node, err := s.node(ctx, r.Node)
	if err != nil {
		return nil, err
	}
	limit := cmp.Or(int(r.PageSize), 100)
	out := &pb.GetPlacementResponse{}
	end := time.Now().Add(scanPatience)
	// take gives a page of all twins, by the token of the page before it.
	take := func() (*pb.GetPlacementResponse, error) {
		list := &pb.ListTwinsRequest{PageSize: 1000, PageToken: r.PageToken}
		for {
			page, err := s.o.Registry.ListTwins(list, projectsOf(principalFrom(ctx)))
			if err != nil {
				return nil, err
			}
			for i, t := range page.Twins {
				p := s.o.Cluster.Where(t.Id)
				if p.Node != node.Id {
					continue
				}
				p.Id = t.Id
				out.Twins = append(out.Twins, s.named(p))
				if len(out.Twins) == limit && (i < len(page.Twins)-1 || page.NextPageToken != "") {
					out.NextPageToken = t.Id
					return out, nil
				}
			}
			if list.PageToken = page.NextPageToken; list.PageToken == "" || ctx.Err() != nil || time.Now().After(end) {
				out.NextPageToken = list.PageToken
				return out, ctx.Err()
			}
		}
	}
	return paged("placement", &r.PageToken, take, func(res *pb.GetPlacementResponse) *string { return &res.NextPageToken })
}

// placements gives what each node has, by name.
func (s *Server) placements(ctx context.Context) ([]*pb.NodePlacement, error) {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*pb.NodePlacement, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, &pb.NodePlacement{Id: n.Id, Name: n.Name, State: n.State, AvailabilityZone: n.AvailabilityZone,
			Weight: n.Weight, Slots: n.Slots, SlotsTarget: n.SlotsTarget, Actors: n.Actors})
	}
	slices.SortFunc(out, func(a, b *pb.NodePlacement) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
