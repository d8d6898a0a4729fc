package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// drainLook is how often a drain's progress is asked for.
const drainLook = 250 * time.Millisecond

func clusterDrain(a *app) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything away from a node, and show how far it is",
		Long: `Has a node hand its slots over, one after the other, to the other nodes. Its twins finish what runs; calls meanwhile
wait and are answered by the new owner. The node stays a member without slots until it is undrained or stopped.
Ctrl-C ends the progress and not the drain: "pollux cluster undrain NODE" takes it back.`,
		Example:           "  pollux cluster drain b\n  pollux cluster drain b --wait=false",
		Args:              exactly("NODE"),
		ValidArgsFunction: a.completeNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.DrainNode(cmd.Context(), req(&pb.DrainNodeRequest{Node: args[0]}))
			if err != nil {
				return err
			}
			now := res.Msg.Node
			if wait {
				if now, err = a.followDrain(cmd.Context(), n, now); err != nil {
					return err
				}
			}
			return a.show(now, func(w io.Writer) {
				if now.Slots > 0 && keepsRest(now) {
					fmt.Fprintf(w, "node %s keeps %d slots: no other node satisfies their selectors, so that their twins are unavailable once it is stopped\n",
						printable(nodeLabel(now.Name, now.Id)), now.Slots)
					return
				}
				if now.Slots > 0 {
					fmt.Fprintf(w, "node %s drains: %d slots to hand over\n", printable(nodeLabel(now.Name, now.Id)), now.Slots)
					return
				}
				fmt.Fprintf(w, "node %s has no slots left; it can be stopped\n", printable(nodeLabel(now.Name, now.Id)))
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until the node has no slots left")
	return cmd
}

// followDrain waits until the node has no slots. Progress goes to the error output, so that it is seen and not parsed.
func (a *app) followDrain(ctx context.Context, n *node, now *pb.Node) (*pb.Node, error) {
	began, total, shown := time.Now(), now.Slots, ""
	var lost error
	for lastGood := time.Now(); now.Slots > 0 && !keepsRest(now); {
		text := drainText(now, total, time.Since(began))
		if lost != nil {
			text = "no answer: " + connectText(lost)
		}
		a.overwrite(text, &shown)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(drainLook):
		}
		next, err := n.findNode(ctx, now.Id)
		lost = err
		switch {
		case err != nil && time.Since(lastGood) > 30*time.Second:
			return nil, err
		case err != nil:
			continue
		case next == nil:
			return nil, fmt.Errorf("node %s is no member any more", now.Name)
		case next.State != "draining" && next.State != "left" && next.Slots > 0:
			return nil, fmt.Errorf("the drain of node %s was ended: the node is %s and has %d slots", next.Name, next.State, next.Slots)
		}
		lastGood, now = time.Now(), next
		total = max(total, now.Slots)
	}
	a.overwrite(drainText(now, total, time.Since(began)), &shown)
	if shown != "" && a.terminal() {
		fmt.Fprintln(a.err)
	}
	return now, nil
}

// keepsRest says whether a node that drains has handed over all but what no other node may have.
func keepsRest(n *pb.Node) bool { return n.State == "draining" && n.Slots == n.SlotsTarget }

func connectText(err error) string {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce.Message()
	}
	return err.Error()
}

const drainBar = 30

func drainText(n *pb.Node, total uint32, took time.Duration) string {
	if total == 0 {
		return fmt.Sprintf("%s has no slots", nodeLabel(n.Name, ""+n.Id))
	}
	gone := total - n.Slots
	filled := int(drainBar * uint64(gone) / uint64(total))
	bar := make([]rune, drainBar)
	for i := range bar {
		if bar[i] = '·'; i < filled {
			bar[i] = '█'
		}
	}
	return fmt.Sprintf("%s  %d of %d slots handed over, %d twins in memory, %s", string(bar), gone, total, n.Actors, took.Round(time.Second))
}

// overwrite shows a line: on a terminal in place of the one before, else only where it changed.
func (a *app) overwrite(text string, shown *string) {
	if text == *shown {
		return
	}
	*shown = text
	if a.terminal() {
		fmt.Fprintf(a.err, "\r\x1b[K%s", printable(text))
		return
	}
	fmt.Fprintln(a.err, printable(text))
}

// terminal says whether the error output is one.
func (a *app) terminal() bool {
	f, ok := a.err.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func clusterUndrain(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "undrain NODE",
		Short:             "Let a node have slots again",
		Example:           "  pollux cluster undrain b",
		Args:              exactly("NODE"),
		ValidArgsFunction: a.completeNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.UndrainNode(cmd.Context(), req(&pb.UndrainNodeRequest{Node: args[0]}))
			if err != nil {
				return err
			}
			c := res.Msg.Node
			return a.show(c, func(w io.Writer) {
				fmt.Fprintf(w, "node %s drains no more and is given slots again\n", printable(nodeLabel(c.Name, c.Id)))
			})
		},
	}
}

func clusterRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NODE",
		Aliases: []string{"rm"},
		Short:   "Take a node out of the cluster for ever",
		Long: `Forgets a node that was stopped or is dead: it counts no more among the voters, and its certificate is worth nothing.
To come back it has to join anew, with an empty data directory. A node that lives is refused: drain and stop it first.`,
		Example:           "  pollux cluster drain b && ssh b systemctl stop pollux && pollux cluster remove b",
		Args:              exactly("NODE"),
		ValidArgsFunction: a.completeNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.RemoveNode(cmd.Context(), req(&pb.RemoveNodeRequest{Node: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Node, func(w io.Writer) {
				fmt.Fprintf(w, "node %s removed\n", printable(nodeLabel(res.Msg.Node.Name, res.Msg.Node.Id)))
			})
		},
	}
}

func clusterTransfer(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "transfer-leader [NODE]",
		Short: "Have another node lead the consensus group",
		Long: `The leader brings what is committed into order; any node takes calls. Without NODE, the voter leads that is nearest
to the leader. A leader that is stopped as planned does this by itself.`,
		Example:           "  pollux cluster transfer-leader\n  pollux cluster transfer-leader b",
		Args:              between(0, "NODE"),
		ValidArgsFunction: a.completeNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			r := &pb.TransferLeadershipRequest{}
			if len(args) > 0 {
				r.Node = args[0]
			}
			res, err := n.cluster.TransferLeadership(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				if res.Msg.Leader == "" {
					fmt.Fprintln(w, "leadership was handed over; this node has not heard of the new leader yet")
					return
				}
				fmt.Fprintf(w, "node %s leads\n", printable(nodeLabel(res.Msg.LeaderName, res.Msg.Leader)))
			})
		},
	}
}

func clusterToken(a *app) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a token that lets new nodes in, and print the line to paste there",
		Long: `A join token lets nodes obtain their certificate until it expires; it is shown once. The line that is printed starts a
node on another machine, which joins by itself. Nodes of one user on one machine need no token on loopback addresses.`,
		Example: `  pollux cluster token
  pollux cluster token --ttl 24h
  pollux cluster token -o json | jq -r .token
  pollux cluster token list
  pollux cluster token rm ID`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < 0 || cmd.Flags().Changed("ttl") && ttl == 0 {
				return usagef("--ttl %s: want more than 0", ttl)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			r := &pb.CreateJoinTokenRequest{}
			if ttl > 0 {
				r.Ttl = durationpb.New(ttl)
			}
			res, err := n.cluster.CreateJoinToken(cmd.Context(), req(r))
			if err != nil {
				return a.waitsForOthers(err)
			}
			return a.show(res.Msg, func(w io.Writer) {
				fmt.Fprintln(w, res.Msg.Command)
				a.errorf("token %s is good until %s; it is not shown again\n", res.Msg.Id, a.local(res.Msg.ExpireTime).Format("2006-01-02 15:04:05"))
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long nodes can join with it (default 1h, at most 720h)")
	cmd.AddCommand(tokenList(a),
		remover(a, "rm ID", "Revoke a join token; nodes that joined with it stay", "  pollux cluster token rm k3jq5z7m", "join token",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.cluster.RevokeJoinToken(ctx, req(&pb.RevokeJoinTokenRequest{Id: id}))
				return err
			}))
	return cmd
}

// firstToken in the data directory of a node that founds a cluster and waits for others.
const firstToken = "cluster/join.token"

// waitsForOthers says where the token of a founder is that answers nobody yet.
func (a *app) waitsForOthers(err error) error {
	file := filepath.Join(a.dataDir(), firstToken)
	if _, serr := os.Stat(file); serr != nil || !unsent(err) {
		return err
	}
	return fmt.Errorf("%w\n  does the node wait for others? then its token is in %s", err, file)
}

func tokenList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the join tokens, without their secrets", Example: "  pollux cluster token list",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.ListJoinTokens(cmd.Context(), req(&pb.ListJoinTokensRequest{}))
			if err != nil {
				return err
			}
			now := time.Now()
			return a.show(res.Msg, func(w io.Writer) {
				row(w, "ID", "CREATED", "EXPIRES", "BY", "NODES JOINED")
				for _, t := range res.Msg.Tokens {
					row(w, t.Id, ago(t.CreateTime, now), timeText(t.ExpireTime, now), dash(t.By), t.Used)
				}
			})
		},
	}
}

func clusterRotateKeys(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-keys",
		Short: "Replace the key that gossip is encrypted with",
		Long: `Gives all nodes a new key, then uses it, then forgets the former one; nothing stops meanwhile. Do it when somebody who
knew the key should not know it any more.`,
		Example: "  pollux cluster rotate-keys",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.RotateGossipKey(cmd.Context(), req(&pb.RotateGossipKeyRequest{}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				fmt.Fprintf(w, "gossip has a new key; %d are understood until all nodes use it\n", res.Msg.Keys)
			})
		},
	}
}

func clusterRotateCA(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-ca",
		Short: "Replace the authority that signs the nodes' certificates",
		Long: `Makes a new authority; every node gets a certificate of it, and the former one is trusted until then. Nothing stops.
Join tokens made before name the former authority: make new ones.`,
		Example: "  pollux cluster rotate-ca",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.cluster.RotateCA(cmd.Context(), req(&pb.RotateCARequest{}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				fmt.Fprintf(w, "new authority %.16s…\n", res.Msg.Fingerprint)
				if res.Msg.FormerUntil != nil {
					fmt.Fprintf(w, "the former one is trusted until %s\n", a.local(res.Msg.FormerUntil).Format("2006-01-02 15:04:05"))
				}
			})
		},
	}
}
