package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func clusterSlots(a *app) *cobra.Command {
	var moving, all bool
	var on string
	cmd := &cobra.Command{
		Use:   "slots",
		Short: "Show who owns the slots, which move, and who is awaited",
		Long: `Counts the slots by owner, by the node that shall own them and by how far the hand-over is.
With --moving or --all each slot has a line. States: settled, waiting (the owner hands over others first), releasing (its
twins finish what runs), flipping (the new owner is being committed), orphaned (its owner is dead, its lease not yet over),
unavailable (no node satisfies the selector of its twins). Slots 0 to 16383 are of twins that may live on every node; each
selector has 256 behind them.`,
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
	row(w, "SLOT", "OWNER", "SINCE", "SHALL BE", "STATE", "AWAITED", "SELECTOR")
	for _, s := range slots {
		row(w, s.Slot, nobody(s.NodeName), s.Since, dash(s.TargetName), s.State, dash(s.Awaited), dash(s.Selector))
	}
}

func nobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

func countSlots(w io.Writer, slots []*pb.Slot) {
	type kind struct{ owner, target, state, awaited, selector string }
	count := map[kind]int{}
	for _, s := range slots {
		count[kind{nobody(s.NodeName), dash(s.TargetName), s.State, s.Awaited, s.Selector}]++
	}
	kinds := make([]kind, 0, len(count))
	for k := range count {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(x, y kind) int {
		return strings.Compare(x.selector+"\x00"+x.owner+"\x00"+x.target+"\x00"+x.state+x.awaited,
			y.selector+"\x00"+y.owner+"\x00"+y.target+"\x00"+y.state+y.awaited)
	})
	row(w, "OWNER", "SHALL BE", "SLOTS", "STATE", "AWAITED", "SELECTOR")
	for _, k := range kinds {
		row(w, k.owner, k.target, count[k], k.state, dash(k.awaited), dash(k.selector))
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
