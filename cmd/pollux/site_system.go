package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func zoneGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a zone", Example: "  pollux zone get aula", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			z, err := n.zone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(z, func(w io.Writer) {
				row(w, "Zone", z.Id)
				row(w, "Title", dash(z.Title))
				row(w, "Kind", dash(z.Kind))
				row(w, "Parent", dash(bare(z.Parent)))
				if z.Place != nil {
					row(w, "Place", fmt.Sprintf("%v,%v", z.Place.Latitude, z.Place.Longitude))
				}
				row(w, "Revision", fmt.Sprint(z.Revision))
			})
		},
	}
}

func systemGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a system and its members", Example: "  pollux system get room1", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			s, err := n.system(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(s, func(w io.Writer) {
				row(w, "System", s.Id)
				row(w, "Title", dash(s.Title))
				row(w, "Zone", dash(bare(s.Zone)))
				row(w, "Revision", fmt.Sprint(s.Revision))
				fmt.Fprintln(w)
				row(w, "MEMBER", "TWIN")
				for _, m := range s.Members {
					row(w, m.Name, bare(m.Twin))
				}
			})
		},
	}
}

// systemSwitch makes the commands that start and stop a system.
func systemSwitch(a *app, word, short, example string, call func(context.Context, *node, string) ([]*pb.MemberResult, message, error)) *cobra.Command {
	return &cobra.Command{
		Use: word + " ID", Short: short, Example: example, Args: exactly("ID"),
		Long: "Members that are so already stay as they are. A member that cannot be changed is told of, and holds nobody else back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			results, all, err := call(cmd.Context(), n, args[0])
			if err != nil {
				return err
			}
			if err := a.show(all, func(w io.Writer) {
				row(w, "MEMBER", "TWIN", "WHAT")
				for _, r := range results {
					what := "as it was"
					if r.Changed {
						what = "done"
					}
					if r.Error != "" {
						what = r.Error
					}
					row(w, r.Name, bare(r.Twin), what)
				}
			}); err != nil {
				return err
			}
			return failedMembers(results)
		},
	}
}

// failedMembers makes the exit code of a call that some members did not do.
func failedMembers(results []*pb.MemberResult) error {
	n := 0
	for _, r := range results {
		if r.Error != "" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d members did not do it", n, len(results))
}

func systemStart(a *app) *cobra.Command {
	return systemSwitch(a, "start", "Have the members of a system run", "  pollux system start room1",
		func(ctx context.Context, n *node, id string) ([]*pb.MemberResult, message, error) {
			res, err := n.site.StartSystem(ctx, req(&pb.StartSystemRequest{Id: id}))
			if err != nil {
				return nil, nil, err
			}
			return res.Msg.Results, res.Msg, nil
		})
}

func systemStop(a *app) *cobra.Command {
	return systemSwitch(a, "stop", "Stop the members of a system: no connections, no commands", "  pollux system stop room1",
		func(ctx context.Context, n *node, id string) ([]*pb.MemberResult, message, error) {
			res, err := n.site.StopSystem(ctx, req(&pb.StopSystemRequest{Id: id}))
			if err != nil {
				return nil, nil, err
			}
			return res.Msg.Results, res.Msg, nil
		})
}

func systemCall(a *app) *cobra.Command {
	var q queueFlags
	var member string
	cmd := &cobra.Command{
		Use:   "call ID ACTION [JSON]",
		Short: "Run an action of all members of a system, or of some",
		Long: `Runs the action side by side, and prints what each member did. A member that does not have the action is told of, and holds
nobody else back. The input is JSON; what is no JSON is sent as a string.`,
		Example: `  pollux system call room1 refresh
  pollux system call room1 mute --member Display        Display_1, Display_2 …
  pollux system call room1 dim '{"level": 20}' --member Light_1`,
		Args: between(2, "ID", "ACTION", "JSON"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := q.options(cmd)
			if err != nil {
				return err
			}
			r := &pb.InvokeSystemRequest{Id: args[0], Action: args[1], Options: options, Member: member}
			if len(args) == 3 {
				if r.Input, err = parseValue(args[2], schema{}); err != nil {
					return err
				}
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.site.InvokeSystem(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			if err := a.show(res.Msg, func(w io.Writer) { memberResults(w, res.Msg.Results) }); err != nil {
				return err
			}
			return failedMembers(res.Msg.Results)
		},
	}
	q.add(cmd)
	cmd.Flags().StringVar(&member, "member", "", "only the member of this `NAME`, or all of a kind: Display stands for Display_1, Display_2 …")
	return cmd
}

func memberResults(w io.Writer, results []*pb.MemberResult) {
	row(w, "MEMBER", "TWIN", "OUTCOME", "RESULT")
	for _, r := range results {
		result := valueText(r.Output)
		if r.Error != "" {
			result = r.Error
		}
		row(w, r.Name, bare(r.Twin), enumText(r.Outcome, "OUTCOME_"), dash(result))
	}
}
