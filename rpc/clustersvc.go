package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type clusterService struct{ s *Server }

// GetStatus adds what the other nodes count to what this one does.
func (c *clusterService) GetStatus(ctx context.Context, _ *connect.Request[pb.GetStatusRequest]) (*connect.Response[pb.GetStatusResponse], error) {
	res, err := c.s.o.Cluster.Status(ctx)
	if err != nil {
		return nil, err
	}
	if res.Refused == nil {
		res.Refused = make(map[string]uint64)
	}
	for why, n := range c.s.Refused() {
		res.Refused["http "+why] += n
	}
	if isLocal(ctx) {
		return connect.NewResponse(res), nil
	}
	silent := make(map[string]bool)
	for _, a := range ask(ctx, c.s, c.s.others(), func(ctx context.Context, p *peerClients) (*pb.GetStatusResponse, error) {
		res, err := p.cluster.GetStatus(ctx, connect.NewRequest(&pb.GetStatusRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}) {
		if a.err != nil {
			silent[a.node] = true
			res.Silent = append(res.Silent, c.s.o.Cluster.Name(a.node))
			continue
		}
		addStatus(res, a.value)
	}
	slices.Sort(res.Silent)
	slices.Sort(res.DiskWarnings)
	if res.UnmetSelectors, err = c.s.ownUnmet(principalFrom(ctx), res.UnmetSelectors); err != nil {
		return nil, err
	}
	res.OutboxHeld = heldLanes(res.OutboxHeld, projectsOf(principalFrom(ctx)))
	nodes, err := c.s.o.Cluster.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	slots := c.s.o.Cluster.Slots()
	for i := range slots {
		if slots[i].moving() {
			res.SlotsMoving++
		}
	}
	res.NodeName = c.s.o.Cluster.Name(res.Node)
	if res.Leader != "" {
		res.LeaderName = c.s.o.Cluster.Name(res.Leader)
	}
	survive(res, nodes, silent)
	if res.QuotaWarnings, err = c.s.o.Registry.QuotaWarnings(projectsOf(principalFrom(ctx))); err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// addStatus adds what another node counts.
func addStatus(to, from *pb.GetStatusResponse) {
	to.ActiveTwins += from.ActiveTwins
	to.ConnectedTwins += from.ConnectedTwins
	to.FaultyTwins += from.FaultyTwins
	to.HistoryLag = max(to.HistoryLag, from.HistoryLag)
	to.CheckpointIntervalMs = max(to.CheckpointIntervalMs, from.CheckpointIntervalMs)
	to.OutboxMessages += from.OutboxMessages
	to.OutboxHeld = append(to.OutboxHeld, from.OutboxHeld...)
	to.DiskWarnings = append(to.DiskWarnings, from.DiskWarnings...)
	for why, n := range from.Refused {
		to.Refused[why] += n
	}
}

// heldLanes sorts the lanes of all nodes, the longest first, and gives those that may be seen.
func heldLanes(all []*pb.OutboxLane, projects func(string) bool) []*pb.OutboxLane {
	all = slices.DeleteFunc(all, func(l *pb.OutboxLane) bool {
		of := strings.Split(l.To, "/")
		return projects != nil && (len(of) < 2 || !projects(of[len(of)-2]))
	})
	slices.SortFunc(all, func(a, b *pb.OutboxLane) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), strings.Compare(a.To, b.To), strings.Compare(a.Node, b.Node))
	})
	return all[:min(len(all), 20)]
}

func (c *clusterService) ListNodes(ctx context.Context, _ *connect.Request[pb.ListNodesRequest]) (*connect.Response[pb.ListNodesResponse], error) {
	nodes, err := c.s.nodes(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListNodesResponse{Nodes: nodes}), nil
}

// nodes gives every member by name, with the figures of those that answer. Asked locally, it gives this node's view: its
// own figures and, where it leads, when it last heard of the others.
func (s *Server) nodes(ctx context.Context) ([]*pb.Node, error) {
	nodes, err := s.o.Cluster.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	self := s.o.Peers.Self()
	if isLocal(ctx) {
		return nodes, nil
	}
	byID := make(map[string]*pb.Node, len(nodes))
	for _, n := range nodes {
		byID[n.Id] = n
		n.Slots, n.SlotsTarget = 0, 0
		if n.Id != self && self != "" && n.Silence == "" {
			if n.Silence = "the node is " + n.State; n.State == "suspect" {
				n.Silence = "the other nodes do not hear it"
			}
		}
	}
	slots := s.o.Cluster.Slots()
	for i := range slots {
		if n := byID[slots[i].Node]; n != nil {
			n.Slots++
		}
		if n := byID[slots[i].Target]; n != nil {
			n.SlotsTarget++
		}
	}
	s.figures(ctx, byID)
	slices.SortFunc(nodes, func(a, b *pb.Node) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Id, b.Id))
	})
	return nodes, nil
}

// figures asks the other nodes for their own.
func (s *Server) figures(ctx context.Context, byID map[string]*pb.Node) {
	for _, a := range ask(ctx, s, s.others(), func(ctx context.Context, p *peerClients) ([]*pb.Node, error) {
		res, err := p.cluster.ListNodes(ctx, connect.NewRequest(&pb.ListNodesRequest{}))
		if err != nil {
			return nil, err
		}
		return res.Msg.Nodes, nil
	}) {
		n := byID[a.node]
		if n == nil {
			continue
		}
		if a.err != nil {
			n.Silence = "the node does not answer: " + plainText(a.err)
			continue
		}
		for _, from := range a.value {
			if from.Id == a.node {
				addFigures(n, from)
			}
			if to := byID[from.Id]; to != nil && from.RaftContactTime != nil {
				to.RaftContactTime = from.RaftContactTime
			}
		}
	}
}

// addFigures takes what only the node itself knows.
func addFigures(to, from *pb.Node) {
	to.Silence = ""
	to.Version, to.Addresses, to.StartTime = from.Version, from.Addresses, from.StartTime
	to.Actors, to.MemoryBytes, to.GuestMemoryBytes, to.DiskBytes = from.Actors, from.MemoryBytes, from.GuestMemoryBytes, from.DiskBytes
	to.DiskFreeBytes, to.DiskSizeBytes = from.DiskFreeBytes, from.DiskSizeBytes
	to.CpuShare, to.Goroutines, to.LeaseMs = from.CpuShare, from.Goroutines, from.LeaseMs
	to.AppliedIndex, to.HistoryComplete = from.AppliedIndex, from.HistoryComplete
	to.CertificateExpireTime = from.CertificateExpireTime
}

// plainText is an error without its code.
func plainText(err error) string {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce.Message()
	}
	return err.Error()
}

// node finds a member by id, else by name.
func (s *Server) node(ctx context.Context, word string) (*pb.Node, error) {
	nodes, err := s.o.Cluster.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var named []*pb.Node
	names := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if n.Id == word {
			return n, nil
		}
		if n.Name == word {
			named = append(named, n)
		}
		names = append(names, n.Name)
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		slices.Sort(names)
		return nil, fmt.Errorf("node %.128q: %w (nodes: %s)", word, ErrNoNode, strings.Join(names, ", "))
	}
	return nil, invalid("node", fmt.Sprintf("%q is the name of %d nodes: give the id", word, len(named)))
}

func (c *clusterService) ListSlots(ctx context.Context, r *connect.Request[pb.ListSlotsRequest]) (*connect.Response[pb.ListSlotsResponse], error) {
	// Read first: what is newer than the slots is watched once more, and nothing is missed.
	res := &pb.ListSlotsResponse{Revision: c.s.o.Store.Revision()}
	only := ""
	if r.Msg.Node != "" {
		n, err := c.s.node(ctx, r.Msg.Node)
		if err != nil {
			return nil, err
		}
		only = n.Id
	}
	slots := c.s.o.Cluster.Slots()
	for i := range slots {
		if slots[i].moving() {
			res.Moving++
		}
	}
	if r.Msg.Map {
		res.Map = c.s.slotMap(slots[:min(len(slots), cluster.SlotCount)])
		return connect.NewResponse(res), nil
	}
	name := c.s.names()
	twins, err := c.s.classesOf(principalFrom(ctx))
	if err != nil {
		return nil, err
	}
	for i := range slots {
		t := &slots[i]
		if class := cluster.Slot(i).Class(); twins != nil && twins[class] == 0 {
			t.Selector = ""
		}
		if only != "" && t.Node != only && t.Target != only || r.Msg.Moving && !t.moving() {
			continue
		}
		res.Slots = append(res.Slots, &pb.Slot{Slot: uint32(i), Node: t.Node, NodeName: name(t.Node), Incarnation: t.Incarnation,
			Since: t.Since, Target: t.Target, TargetName: name(t.Target), State: t.state(), Awaited: t.Awaited, Selector: t.Selector})
	}
	return connect.NewResponse(res), nil
}

// name of a node; nobody has none.
func (s *Server) name(node string) string {
	if node == "" {
		return ""
	}
	return s.o.Cluster.Name(node)
}

// names remembers what it has looked up: lists have many nodes of few names.
func (s *Server) names() func(node string) string {
	known := make(map[string]string)
	return func(node string) string {
		name, ok := known[node]
		if !ok {
			name = s.name(node)
			known[node] = name
		}
		return name
	}
}

func (s *Server) slotMap(slots []SlotState) *pb.SlotMap {
	m := &pb.SlotMap{Owners: make([]uint32, len(slots)), Targets: make([]uint32, len(slots)), Since: make([]uint64, len(slots))}
	index := map[string]uint32{"": 0}
	for i := range slots {
		index[slots[i].Node], index[slots[i].Target] = 0, 0
	}
	for id := range index {
		if id != "" {
			m.Nodes = append(m.Nodes, id)
		}
	}
	slices.Sort(m.Nodes)
	for i, id := range m.Nodes {
		index[id] = uint32(i) + 1
		m.Names = append(m.Names, s.o.Cluster.Name(id))
	}
	for i := range slots {
		m.Owners[i], m.Targets[i], m.Since[i] = index[slots[i].Node], index[slots[i].Target], slots[i].Since
	}
	return m
}

// defaultMoves is the length of a list of hand-overs where the caller does not say.
const defaultMoves = 200

// ListMoves puts together what the nodes know: how far a hand-over is, the node knows that hands over.
func (c *clusterService) ListMoves(ctx context.Context, r *connect.Request[pb.ListMovesRequest]) (*connect.Response[pb.ListMovesResponse], error) {
	limit := cmp.Or(int(r.Msg.Limit), defaultMoves)
	moves := c.s.o.Cluster.Moves()
	if isLocal(ctx) {
		return connect.NewResponse(&pb.ListMovesResponse{Moves: moves[:min(limit, len(moves))]}), nil
	}
	known := newMoves(c.s.o.Peers.Self(), moves)
	for _, a := range ask(ctx, c.s, c.s.others(), func(ctx context.Context, p *peerClients) ([]*pb.Move, error) {
		res, err := p.cluster.ListMoves(ctx, connect.NewRequest(&pb.ListMovesRequest{Limit: uint32(limit)}))
		if err != nil {
			return nil, err
		}
		return res.Msg.Moves, nil
	}) {
		known.add(a.node, a.value)
	}
	out := known.newest(limit)
	name := c.s.names()
	for _, m := range out {
		m.FromName, m.ToName = name(m.From), name(m.To)
	}
	return connect.NewResponse(&pb.ListMovesResponse{Moves: out}), nil
}

// moveSet holds each hand-over once.
type moveSet struct{ byKey map[moveKey][]knownMove }

type moveKey struct {
	slot     uint32
	from, to string
}

type knownMove struct {
	*pb.Move
	// own: told by the node that hands over.
	own bool
}

// sameMove: nodes see one hand-over this close together, in nanoseconds; a slot does not come back faster.
const sameMove = int64(5e9)

func newMoves(self string, moves []*pb.Move) *moveSet {
	s := &moveSet{byKey: make(map[moveKey][]knownMove)}
	s.add(self, moves)
	return s
}

func (s *moveSet) add(teller string, moves []*pb.Move) {
	for _, m := range moves {
		key := moveKey{m.Slot, m.From, m.To}
		k := knownMove{m, m.From == teller}
		all := s.byKey[key]
		i := slices.IndexFunc(all, func(o knownMove) bool {
			d := o.BeginTime.AsTime().Sub(m.BeginTime.AsTime())
			return int64(d.Abs()) < sameMove
		})
		switch {
		case i < 0:
			s.byKey[key] = append(all, k)
		case !all[i].own && (k.own || all[i].EndTime == nil):
			all[i] = k
		}
	}
}

// newest gives those that run, then the newest of the others.
func (s *moveSet) newest(limit int) []*pb.Move {
	var out []*pb.Move
	for _, all := range s.byKey {
		for _, m := range all {
			out = append(out, m.Move)
		}
	}
	slices.SortFunc(out, func(a, b *pb.Move) int {
		if (a.EndTime == nil) != (b.EndTime == nil) {
			if a.EndTime == nil {
				return -1
			}
			return 1
		}
		last := func(m *pb.Move) int64 {
			if m.EndTime != nil {
				return m.EndTime.AsTime().UnixNano()
			}
			return m.BeginTime.AsTime().UnixNano()
		}
		return cmp.Or(cmp.Compare(last(b), last(a)), cmp.Compare(a.Slot, b.Slot))
	})
	return out[:min(limit, len(out))]
}
