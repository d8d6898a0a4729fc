package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func twinRelease(a *app) *cobra.Command {
	var f filterFlags
	cmd := &cobra.Command{
		Use:   "release [ID...]",
		Short: "Take twins out of quarantine: their driver is tried again at once",
		Long: `A twin whose driver goes on failing is put into quarantine: its driver is tried once an hour, and what is asked of
the twin meanwhile is refused. ` + "`pollux twin get`" + ` says why. Quarantine ends by itself when the driver does well again, gets
another version, or the twin gets other settings.`,
		Example: `  pollux twin release beamer
  pollux twin release --driver pjlink        all twins of a driver
  pollux twin release --label room=aula`,
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			if filter.Ids = args; len(args) == 0 && cmd.Flags().NFlag() == 0 {
				return usagef("which twins? give ids, or choose them by --driver, --label or --project")
			}
			return a.release(cmd, filter)
		},
	}
	f.add(cmd)
	return cmd
}

func driverRelease(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "release NAME",
		Short:             "Take all twins of a driver out of quarantine",
		Long:              "Takes all twins of a driver out of quarantine: the driver is tried again at once. `pollux driver get` says how many there are.",
		Example:           "  pollux driver release pjlink",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.hasDriver(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.release(cmd, &pb.TwinFilter{Driver: args[0]})
		},
	}
}

func (a *app) release(cmd *cobra.Command, filter *pb.TwinFilter) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	res, err := n.twins.ReleaseTwins(cmd.Context(), req(&pb.ReleaseTwinsRequest{Filter: filter}))
	if err != nil {
		return err
	}
	return a.show(res.Msg, func(w io.Writer) {
		if len(res.Msg.Ids) == 0 {
			fmt.Fprintln(w, "none of them is in quarantine")
		}
		for _, id := range res.Msg.Ids {
			fmt.Fprintln(w, "released", printable(bare(id)))
		}
	})
}

func twinClear(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "clear ID",
		Short: "Reject the commands that wait in a twin's queue",
		Long: `Rejects the commands that wait, those that nobody waits for and those of desired values included. What the device was
told already goes on.`,
		Example:           "  pollux twin clear beamer",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.twins.ClearCommands(cmd.Context(), req(&pb.ClearCommandsRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { fmt.Fprintf(w, "%d commands rejected\n", res.Msg.Cleared) })
		},
	}
}
