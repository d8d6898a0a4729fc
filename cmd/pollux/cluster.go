package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func clusterCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:   "cluster",
		Short: "The nodes: where twins live, who joins, who leaves",
		Long: `Nodes are named by their name or their id. Every twin belongs to one of 16,384 slots, and every slot to one node;
what changes the nodes moves slots, and with them twins.`,
		Example: `  pollux cluster nodes                 who is there, and how each is
  pollux cluster token                 the line that lets a new node in
  pollux cluster drain b               move everything away from b, then stop it
  pollux cluster where beamer          the node that a twin lives on
  pollux cluster check                 is every promise kept, now`,
	}))
	cmd.AddCommand(clusterNodes(a), clusterPlacement(a), clusterWhere(a), clusterSlots(a), clusterMoves(a), clusterCheck(a),
		clusterDrain(a), clusterUndrain(a), clusterRemove(a), clusterTransfer(a),
		clusterToken(a), clusterRotateKeys(a), clusterRotateCA(a), clusterRecover(a))
	return cmd
}

func clusterNodes(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"list", "ls"},
		Short:   "List the nodes: state, role in consensus, zone, twins, memory, lease",
		Long: `States: alive; suspect (the others do not hear it); draining (hands its slots over); dead (its lease is over);
left (stopped as planned); expelled (did not hand over in time).
Roles: the leader and the voters hold what is committed; non-voters follow. A node without a lease does nothing.`,
		Example: "  pollux cluster nodes\n  pollux cluster nodes -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.ListNodes(cmd.Context(), req(&pb.ListNodesRequest{}))
			if err != nil {
				return err
			}
			now := time.Now()
			return a.show(res.Msg, func(w io.Writer) { listNodes(w, res.Msg.Nodes, now) })
		},
	}
}

func listNodes(w io.Writer, nodes []*pb.Node, now time.Time) {
	row(w, "NAME", "STATE", "ROLE", "ZONE", "SLOTS", "ACTORS", "MEMORY", "DISK", "LEASE", "HEARD", "UP", "VERSION", "ID")
	for _, n := range nodes {
		slots := fmt.Sprint(n.Slots)
		if n.SlotsTarget != n.Slots {
			slots += fmt.Sprintf(" → %d", n.SlotsTarget)
		}
		if n.Silence != "" {
			row(w, dash(n.Name), n.State, dash(n.Role), dash(zoneText(n)), slots, "–", "–", "–", "–", heard(n, now), "–", dash(n.Version), n.Id)
			continue
		}
		row(w, dash(n.Name), n.State, dash(n.Role), dash(zoneText(n)), slots, n.Actors, bytesText(n.MemoryBytes), bytesText(n.DiskBytes),
			leaseText(n.LeaseMs), heard(n, now), strings.TrimSuffix(ago(n.StartTime, now), " ago"), dash(n.Version), n.Id)
	}
	for _, n := range nodes {
		if n.Silence != "" && n.State != "left" && n.State != "dead" {
			row(w, "")
			row(w, n.Name+": "+n.Silence)
		}
	}
}

func zoneText(n *pb.Node) string {
	if n.Site != "" {
		return n.Site + "/" + n.AvailabilityZone
	}
	return n.AvailabilityZone
}

func leaseText(ms int64) string {
	if ms <= 0 {
		return "none"
	}
	return fmt.Sprintf("%.1fs", float64(ms)/1000)
}

// heard is when the leader last heard of a node.
func heard(n *pb.Node, now time.Time) string {
	if n.RaftContactTime == nil {
		return "–"
	}
	return ago(n.RaftContactTime, now)
}

func clusterPlacement(a *app) *cobra.Command {
	var on string
	cmd := &cobra.Command{
		Use:     "placement",
		Short:   "Show what each node has, or the twins of one node",
		Example: "  pollux cluster placement\n  pollux cluster placement --node b",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if on == "" {
				res, err := n.cluster.GetPlacement(cmd.Context(), req(&pb.GetPlacementRequest{}))
				if err != nil {
					return err
				}
				return a.show(res.Msg, func(w io.Writer) { listPlacements(w, res.Msg.Nodes) })
			}
			all := &pb.GetPlacementResponse{}
			for token := ""; ; {
				res, err := n.cluster.GetPlacement(cmd.Context(), req(&pb.GetPlacementRequest{Node: on, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Twins = append(all.Twins, res.Msg.Twins...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "TWIN", "SLOT", "MOVING TO", "STATE")
				for _, p := range all.Twins {
					to := ""
					if p.Target != p.Node {
						to = p.TargetName
					}
					row(w, bare(p.Id), p.Slot, dash(to), p.State)
				}
			})
		},
	}
	cmd.Flags().StringVar(&on, "node", "", "the twins of this `NODE`")
	must(cmd.RegisterFlagCompletionFunc("node", flagCompletion(a.completeNodes())))
	return cmd
}

func listPlacements(w io.Writer, nodes []*pb.NodePlacement) {
	var all uint32
	for _, n := range nodes {
		all += n.Slots
	}
	row(w, "NODE", "STATE", "ZONE", "WEIGHT", "SLOTS", "SHARE", "SHALL HAVE", "ACTORS", "ID")
	for _, n := range nodes {
		share := "–"
		if all > 0 {
			share = fmt.Sprintf("%.1f %%", 100*float64(n.Slots)/float64(all))
		}
		row(w, dash(n.Name), n.State, dash(n.AvailabilityZone), n.Weight, n.Slots, share, n.SlotsTarget, n.Actors, n.Id)
	}
}

func clusterWhere(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "where TWIN",
		Short:             "Say which node a twin lives on",
		Example:           "  pollux cluster where beamer\n  pollux cluster where hotel/lamp -o json",
		Args:              exactly("TWIN"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.GetPlacement(cmd.Context(), req(&pb.GetPlacementRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			p := res.Msg.Placement
			return a.show(p, func(w io.Writer) {
				row(w, "Twin", p.Id)
				row(w, "Node", nodeLabel(p.NodeName, p.Node))
				row(w, "Slot", fmt.Sprintf("%d, owner number %d", p.Slot, p.Since))
				row(w, "In memory", yesNo(p.Active))
				if p.Target != p.Node {
					row(w, "Moving to", fmt.Sprintf("%s (%s)", nodeLabel(p.TargetName, p.Target), p.State))
				}
			})
		},
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// nodeLabel is a node as tables name it.
func nodeLabel(name, id string) string {
	switch {
	case id == "":
		return "nobody"
	case name == "" || name == id:
		return id
	}
	return name + " (" + id + ")"
}

func clusterSlots(a *app) *cobra.Command {
	var moving, all bool
	var on string
	cmd := &cobra.Command{
		Use:   "slots",
		Short: "Show who owns the slots, which move, and who is awaited",
		Long: `Counts the slots by owner, by the node that shall own them and by how far the hand-over is.
With --moving or --all each slot has a line. States: settled, waiting (the owner hands over others first), releasing (its
twins finish what runs), flipping (the new owner is being committed), orphaned (its owner is dead, its lease not yet over).`,
		Example: "  pollux cluster slots\n  pollux cluster slots --moving\n  pollux cluster slots --node b --all -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.ListSlots(cmd.Context(), req(&pb.ListSlotsRequest{Node: on, Moving: moving}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				if moving || all {
					eachSlot(w, res.Msg.Slots)
				} else {
					countSlots(w, res.Msg.Slots)
				}
				row(w, "")
				row(w, movingText(res.Msg.Moving))
			})
		},
	}
	cmd.Flags().BoolVar(&moving, "moving", false, "only slots that are not where they shall be, each on a line")
	cmd.Flags().BoolVar(&all, "all", false, "each slot on a line")
	cmd.Flags().StringVar(&on, "node", "", "only those that this `NODE` has or shall have")
	must(cmd.RegisterFlagCompletionFunc("node", flagCompletion(a.completeNodes())))
	return cmd
}

func movingText(n uint32) string {
	switch n {
	case 0:
		return "every slot is where it shall be"
	case 1:
		return "1 slot is not yet where it shall be"
	}
	return fmt.Sprintf("%d slots are not yet where they shall be", n)
}

func eachSlot(w io.Writer, slots []*pb.Slot) {
	row(w, "SLOT", "OWNER", "SINCE", "SHALL BE", "STATE", "AWAITED")
	for _, s := range slots {
		row(w, s.Slot, nobody(s.NodeName), s.Since, dash(s.TargetName), s.State, dash(s.Awaited))
	}
}

func nobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func countSlots(w io.Writer, slots []*pb.Slot) {
	type kind struct{ owner, target, state, awaited string }
	count := map[kind]int{}
	for _, s := range slots {
		count[kind{nobody(s.NodeName), dash(s.TargetName), s.State, s.Awaited}]++
	}
	kinds := make([]kind, 0, len(count))
	for k := range count {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(x, y kind) int {
		return strings.Compare(x.owner+"\x00"+x.target+"\x00"+x.state+x.awaited, y.owner+"\x00"+y.target+"\x00"+y.state+y.awaited)
	})
	row(w, "OWNER", "SHALL BE", "SLOTS", "STATE", "AWAITED")
	for _, k := range kinds {
		row(w, k.owner, k.target, count[k], k.state, dash(k.awaited))
	}
}

func clusterMoves(a *app) *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use:     "moves",
		Short:   "List the hand-overs that run and the newest that ended",
		Long:    "Slots that went the same way at the same time are one line; -o json gives each.",
		Example: "  pollux cluster moves\n  pollux cluster moves --limit 20 -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.ListMoves(cmd.Context(), req(&pb.ListMovesRequest{Limit: limit}))
			if err != nil {
				return err
			}
			now := time.Now()
			return a.show(res.Msg, func(w io.Writer) { listMoves(w, res.Msg.Moves, now) })
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 0, "at most so many (default 200)")
	return cmd
}

func listMoves(w io.Writer, moves []*pb.Move, now time.Time) {
	var lines [][]*pb.Move
	for _, m := range moves {
		i := slices.IndexFunc(lines, func(l []*pb.Move) bool { return together(l[0], m) })
		if i < 0 {
			lines = append(lines, []*pb.Move{m})
		} else {
			lines[i] = append(lines[i], m)
		}
	}
	row(w, "BEGAN", "FROM", "TO", "SLOTS", "TOOK", "STATE", "AWAITED")
	for _, l := range lines {
		m := l[0]
		row(w, timeText(m.BeginTime, now), nobody(m.FromName), nobody(m.ToName), slotsText(l), tookText(l), m.State, dash(m.Awaited))
	}
}

// tookText is how long hand-overs took that have ended.
func tookText(moves []*pb.Move) string {
	if moves[0].EndTime == nil {
		return "–"
	}
	took := func(m *pb.Move) time.Duration {
		return m.EndTime.AsTime().Sub(m.BeginTime.AsTime()).Round(time.Millisecond)
	}
	least, most := took(moves[0]), took(moves[0])
	for _, m := range moves {
		least, most = min(least, took(m)), max(most, took(m))
	}
	if least == most {
		return most.String()
	}
	return least.String() + " to " + most.String()
}

// together says whether two moves are one line: the same way, and begun within a second.
func together(a, b *pb.Move) bool {
	apart := a.BeginTime.AsTime().Sub(b.BeginTime.AsTime()).Abs()
	return a.From == b.From && a.To == b.To && a.State == b.State && a.Awaited == b.Awaited && apart < time.Second
}

// slotsText names a few slots, and counts many.
func slotsText(moves []*pb.Move) string {
	if len(moves) > 3 {
		return fmt.Sprintf("%d slots", len(moves))
	}
	var all []string
	for _, m := range moves {
		all = append(all, fmt.Sprint(m.Slot))
	}
	if len(all) == 1 {
		return "slot " + all[0]
	}
	return "slots " + strings.Join(all, ", ")
}

func clusterCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Look for broken promises now, and compare the nodes' checksums",
		Long: `Asks every node what it finds: slots without a living owner, leases that are over, owners that are no members; and
compares checksums of the state at the same places of the log. Exits with 1 where something was found.`,
		Example: "  pollux cluster check\n  pollux cluster check -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.CheckCluster(cmd.Context(), req(&pb.CheckClusterRequest{}))
			if err != nil {
				return err
			}
			if err := a.show(res.Msg, func(w io.Writer) { describeCheck(w, res.Msg) }); err != nil {
				return err
			}
			if !res.Msg.Ok {
				return fmt.Errorf("%d findings", len(res.Msg.Findings))
			}
			return nil
		},
	}
}

func describeCheck(w io.Writer, c *pb.CheckClusterResponse) {
	row(w, "NODE", "APPLIED", "CHECKSUM", "AT INDEX")
	for _, s := range c.Checksums {
		switch {
		case s.Error != "":
			row(w, dash(s.Name), "–", "–", s.Error)
		case len(s.Sums) == 0:
			row(w, dash(s.Name), s.AppliedIndex, "none yet", "–")
		default:
			last := s.Sums[len(s.Sums)-1]
			row(w, dash(s.Name), s.AppliedIndex, last.Sum, last.Index)
		}
	}
	row(w, "")
	if c.AgreedIndex > 0 {
		row(w, fmt.Sprintf("all have the same state at index %d", c.AgreedIndex))
	}
	if len(c.Findings) == 0 {
		row(w, "nothing found")
		return
	}
	row(w, "FINDING", "ABOUT", "FOUND BY", "TEXT")
	for _, f := range c.Findings {
		row(w, f.Severity, f.Subject, dash(f.Node), f.Text)
	}
}

// completeNodes proposes the names of nodes.
func (a *app) completeNodes() completion {
	return a.complete(func(cmd *cobra.Command, n *node) ([]string, error) {
		res, err := n.cluster.ListNodes(cmd.Context(), req(&pb.ListNodesRequest{}))
		if err != nil {
			return nil, err
		}
		return names(res.Msg.Nodes, (*pb.Node).GetName), nil
	})
}

// findNode gives a node by name or id as it is now; nil where it is gone.
func (n *node) findNode(ctx context.Context, word string) (*pb.Node, error) {
	res, err := n.cluster.ListNodes(ctx, req(&pb.ListNodesRequest{}))
	if err != nil {
		return nil, err
	}
	for _, c := range res.Msg.Nodes {
		if c.Id == word || c.Name == word {
			return c, nil
		}
	}
	return nil, nil
}
