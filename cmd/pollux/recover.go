package main

import (
	"log/slog"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux"
)

// clusterRecover works on a stopped node's data directory; it speaks to no node.
func clusterRecover(a *app) *cobra.Command {
	var survivors []string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover --data DIR",
		Short: "Make the nodes that are left a cluster of their own, after the quorum was lost for good",
		Long: `Works on the data directory of a stopped node. Use it only where so many voters are lost for ever that the others cannot
go on: what only the lost ones had acknowledged is gone.

  1. Stop every node that is left.
  2. Run this on each of them, with the same list of survivors, before any is started. Without --yes it only shows the group.
  3. Start the node with the highest term, then index, first; then the others.
  4. Never start a lost node with its old data again. It may join anew, with an empty data directory.`,
		Example: `  pollux cluster recover --data /var/lib/pollux
  pollux cluster recover --data /var/lib/pollux --yes                    this node is all that is left
  pollux cluster recover --data /var/lib/pollux --survivors a,b --yes`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
			if _, err := os.Stat(a.dataDir()); err != nil {
				return err
			}
			r, err := pollux.RecoverQuorum(a.dataDir(), survivors, yes, log)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
			row(w, "NODE", "ID", "ADDRESS", "AFTERWARDS")
			for _, v := range r.Group {
				then := "given up"
				if v.Survives {
					then = "votes"
				}
				if v.Self {
					then += ", this node"
				}
				row(w, dash(v.Name), v.ID, v.Address, then)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if !yes {
				a.printf("\nnothing was changed; repeat with --yes to do it\n")
				return nil
			}
			a.printf("\nrecovered at term %d, index %d; see `pollux cluster recover --help` for what comes next\n", r.Term, r.Index)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&survivors, "survivors", nil, "the `NODES` that are left besides this one, by name or id, with commas between")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}
