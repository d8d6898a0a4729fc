package main

import (
	"context"
	"fmt"
	"io"
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
	row(w, "NAME", "STATE", "ROLE", "ZONE", "SLOTS", "ACTORS", "MEMORY", "DISK", "FREE", "LEASE", "HEARD", "UP", "VERSION", "ID")
	for _, n := range nodes {
		slots := fmt.Sprint(n.Slots)
		if n.SlotsTarget != n.Slots {
			slots += fmt.Sprintf(" → %d", n.SlotsTarget)
		}
		if n.Silence != "" {
			row(w, dash(n.Name), n.State, dash(n.Role), dash(zoneText(n)), slots, "–", "–", "–", "–", "–", heard(n, now), "–", dash(n.Version), n.Id)
			continue
		}
		row(w, dash(n.Name), n.State, dash(n.Role), dash(zoneText(n)), slots, n.Actors, bytesText(n.MemoryBytes), bytesText(n.DiskBytes), roomText(n),
			leaseText(n.LeaseMs), heard(n, now), strings.TrimSuffix(ago(n.StartTime, now), " ago"), dash(n.Version), n.Id)
	}
	for _, n := range nodes {
		if len(n.Labels) > 0 {
			row(w, "")
			row(w, n.Name+" has the labels "+labelText(n.Labels))
		}
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

// roomText is what is free on the file system of a node's data; a node of an older version does not say.
func roomText(n *pb.Node) string {
	if n.DiskSizeBytes == 0 {
		return "–"
	}
	return bytesText(n.DiskFreeBytes)
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
				if p.Absent {
					row(w, "There is no twin "+p.Id+"; this is where it would live.")
				}
				row(w, "Twin", p.Id)
				row(w, "Node", nodeLabel(p.NodeName, p.Node))
				row(w, "Slot", fmt.Sprintf("%d, owner number %d", p.Slot, p.Since))
				row(w, "In memory", yesNo(p.Active))
				if p.Selector != "" {
					row(w, "May live on", p.Selector)
				}
				if p.Awaited != "" {
					row(w, "Unavailable", p.Awaited)
				} else if p.Target != p.Node {
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
