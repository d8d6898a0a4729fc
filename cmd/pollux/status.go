package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func statusCommand(a *app) *cobra.Command {
	return a.client(&cobra.Command{
		Use:     "status",
		Short:   "Show how the cluster is: nodes, twins, what was refused",
		Example: "  pollux status\n  pollux status -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.GetStatus(cmd.Context(), req(&pb.GetStatusRequest{}))
			if err != nil {
				return err
			}
			if !a.table() {
				return a.show(res.Msg, nil)
			}
			nodes, err := n.cluster.ListNodes(cmd.Context(), req(&pb.ListNodesRequest{}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { describeStatus(w, res.Msg, nodes.Msg.Nodes, time.Now()) })
		},
	})
}

func describeStatus(w io.Writer, s *pb.GetStatusResponse, nodes []*pb.Node, now time.Time) {
	if s.ClusterId != "" {
		row(w, "Cluster", s.ClusterId)
	}
	row(w, "Version", s.Version)
	row(w, "Answered by", nodeLabel(s.NodeName, s.Node))
	row(w, "Leader", leaderText(s))
	row(w, "Failures survived", failures(s))
	row(w, "Nodes", nodesText(s))
	row(w, "Started", ago(s.StartTime, now))
	row(w, "Twins", fmt.Sprintf("%d known, %d active, %d connected, %d faulty", s.Twins, s.ActiveTwins, s.ConnectedTwins, s.FaultyTwins))
	if s.QuarantinedTwins > 0 {
		row(w, "Quarantine", fmt.Sprintf("%d twins, whose drivers went on failing: pollux twin list --faulty", s.QuarantinedTwins))
	}
	for _, selector := range slices.Sorted(maps.Keys(s.UnmetSelectors)) {
		row(w, "Unavailable", unmetText(selector, s.UnmetSelectors[selector]))
	}
	for _, text := range s.QuotaWarnings {
		row(w, "Quota", printable(text))
	}
	for _, text := range s.DiskWarnings {
		row(w, "Disk", printable(text))
	}
	row(w, "Drivers", s.Drivers)
	row(w, "Revision", s.Revision)
	row(w, "Checkpoint every", time.Duration(s.CheckpointIntervalMs)*time.Millisecond)
	row(w, "History behind by", fmt.Sprintf("%d samples", s.HistoryLag))
	row(w, "On their way", fmt.Sprintf("%d messages to topics, rules and logics", s.OutboxMessages))
	for _, l := range s.OutboxHeld {
		row(w, "Held up", heldText(l, now))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Addresses)) {
		row(w, "Address "+k, s.Addresses[k])
	}
	title := "Refused"
	for _, k := range slices.Sorted(maps.Keys(s.Refused)) {
		if s.Refused[k] > 0 {
			row(w, title, fmt.Sprintf("%d  %s", s.Refused[k], strings.ReplaceAll(k, "_", " ")))
			title = ""
		}
	}
	if title != "" {
		row(w, title, "–")
	}
	if len(nodes) == 0 {
		return
	}
	fmt.Fprintln(w)
	listNodes(w, nodes, now)
}

// heldText says what waits for a destination that stands still.
func heldText(l *pb.OutboxLane, now time.Time) string {
	why := l.Error
	if why == "" {
		why = "it does not answer"
	}
	return fmt.Sprintf("%d for %s on %s, last moved %s: %s", l.Messages, l.To, l.Node, ago(l.Since, now), printable(why))
}

func unmetText(selector string, twins uint32) string {
	if twins == 1 {
		return "1 twin: no node satisfies " + selector
	}
	return fmt.Sprintf("%d twins: no node satisfies %s", twins, selector)
}

func leaderText(s *pb.GetStatusResponse) string {
	if s.Leader == "" {
		return "none known"
	}
	return nodeLabel(s.LeaderName, s.Leader)
}

// failures says how many nodes may fail at once, and why no more.
func failures(s *pb.GetStatusResponse) string {
	text := fmt.Sprintf("%d nodes", s.FailuresTolerated)
	switch s.FailuresTolerated {
	case 0:
		text = "none"
	case 1:
		text = "1 node"
	}
	if s.FailuresReason != "" {
		text += ": " + s.FailuresReason
	}
	return text
}

func nodesText(s *pb.GetStatusResponse) string {
	text := fmt.Sprintf("%d of %d alive, %d of %d voters answer", s.NodesAlive, s.Nodes, s.VotersAlive, s.Voters)
	if s.SlotsMoving > 0 {
		text += "; " + movingText(s.SlotsMoving)
	}
	if len(s.Silent) > 0 {
		text += "; no figures from " + strings.Join(s.Silent, ", ")
	}
	return text
}

// kinds that a node lets watch.
var kinds = []string{"alarm", "alias", "detector", "driver", "inbox", "key", "model", "node", "notifier", "project", "relation", "route", "rule", "schedule", "simulation", "sink", "slot", "source", "system", "topic", "twin", "zone"}

func watchCommand(a *app) *cobra.Command {
	var after uint64
	cmd := a.client(&cobra.Command{
		Use:   "watch KIND",
		Short: "Print changes of configuration records as they are committed",
		Long: `Prints the records that there are, then each change, until it is stopped (Ctrl-C).
KIND is one of ` + strings.Join(kinds, ", ") + `. Values of twins are watched by: pollux twin watch.`,
		Example:   "  pollux watch twin\n  pollux watch key -o json\n  pollux watch twin --after 1234",
		Args:      exactly("KIND"),
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.watchRecords(cmd.Context(), args[0], after)
		},
	})
	cmd.Flags().Uint64Var(&after, "after", 0, "only changes after this revision")
	return cmd
}

// watchRecords prints the records of a kind, and then each change, until ctx ends.
func (a *app) watchRecords(ctx context.Context, kind string, after uint64) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	stream, err := n.watch.Watch(ctx, req(&pb.WatchRequest{Kind: kind, AfterRevision: after}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		m := stream.Msg()
		if err := a.line(m, func() { a.printRecord(m) }); err != nil {
			return err
		}
	}
	return stream.Err()
}

func (a *app) printRecord(m *pb.WatchResponse) {
	switch {
	case m.Synced:
		a.printf("-- up to date at revision %d; changes follow --\n", m.Revision)
	case m.Deleted:
		a.printf("%d  %s %s  deleted\n", m.Revision, m.Kind, printable(m.Id))
	default:
		a.printf("%d  %s %s  %s\n", m.Revision, m.Kind, printable(m.Id), printable(m.RecordJson))
	}
}
