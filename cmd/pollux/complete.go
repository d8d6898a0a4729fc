package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// completionTime: a shell that waits longer feels broken.
const completionTime = 2 * time.Second

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// complete asks the node for the first argument; where it cannot be asked, there is nothing to propose.
func (a *app) complete(list func(*cobra.Command, *node) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		n, err := a.dial()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		cmd.SetContext(ctx)
		found, err := list(cmd, n)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeDrivers() completion {
	return a.complete(func(cmd *cobra.Command, n *node) ([]string, error) {
		res, err := n.drivers.ListDrivers(cmd.Context(), req(&pb.ListDriversRequest{PageSize: pageSize}))
		if err != nil {
			return nil, err
		}
		return slices.Compact(slices.Sorted(slices.Values(names(res.Msg.Drivers, (*pb.Driver).GetName)))), nil
	})
}

func (a *app) completeTwins() completion {
	return a.complete(func(cmd *cobra.Command, n *node) ([]string, error) {
		res, err := n.twins.ListTwins(cmd.Context(), req(&pb.ListTwinsRequest{PageSize: pageSize}))
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, t := range res.Msg.Twins {
			ids = append(ids, bare(t.Id))
		}
		return ids, nil
	})
}

// completeTwinAnd proposes twins first, then what the twin's model has by the given function.
func (a *app) completeTwinAnd(second func(thing) map[string]schema) completion {
	first := a.completeTwins()
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 1 {
			return first(cmd, args, typed)
		}
		inner := a.complete(func(cmd *cobra.Command, n *node) ([]string, error) {
			model, err := n.model(cmd.Context(), args[0])
			if err != nil {
				return nil, err
			}
			var found []string
			for name := range second(model) {
				found = append(found, name)
			}
			slices.Sort(found)
			return found, nil
		})
		return inner(cmd, nil, typed)
	}
}
