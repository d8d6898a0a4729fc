package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func topicRoute(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "route", Aliases: []string{"routes"}, Short: "What twins say, and the topics where it goes",
		Long: `A route brings changes of properties and events of twins to topics, in the transaction that commits the change and in the
twin's order. Each message has the twin's id as its key, and as its payload JSON with twin, kind, name, value and time. What cannot
be published, and what a condition cannot be told of, is a dead letter of the route, with the reason: see pollux topic route dead.`,
		Example: "  pollux topic route put all-changes --to changes\n  pollux topic route put too-hot --to alarms --property temperature --when 'value > 30'\n" +
			"  pollux topic route list\n  pollux topic route dead too-hot\n  pollux topic route replay too-hot",
	})
	watch := watcher(a, "route", "routes")
	watch.Example = "  pollux topic route watch"
	cmd.AddCommand(routePut(a), routeGet(a), watch, routeList(a), routeDead(a), routeReplay(a), remover(a, "rm ID", "Remove a route", "  pollux topic route rm too-hot", "route",
		func(ctx context.Context, n *node, id string) error {
			_, err := n.topics.DeleteRoute(ctx, req(&pb.DeleteRouteRequest{Id: id}))
			return err
		}))
	return cmd
}

func routePut(a *app) *cobra.Command {
	r := &pb.Route{}
	var labels []string
	cmd := &cobra.Command{
		Use: "put ID", Short: "Create or replace a route", Args: exactly("ID"),
		Long: `Creates a route, or replaces the one of that name by what the flags say. The routes of a project are tried in the order of
their names. --when is an expression over twin, kind (property or event), name, value, previous and time (docs/expressions.md).`,
		Example: "  pollux topic route put all --to changes\n  pollux topic route put 10-hot --to alarms --property temperature --when 'value > 30' --terminate\n" +
			"  pollux topic route put lobby --to lobby --label floor=0 --event pressed",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Id, r.Labels = args[0], map[string]string{}
			for _, l := range labels {
				key, value, ok := strings.Cut(l, "=")
				if !ok || key == "" {
					return usagef("--label %q: want KEY=VALUE", l)
				}
				r.Labels[key] = value
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.PutRoute(cmd.Context(), req(&pb.PutRouteRequest{Route: r}))
			if connect.CodeOf(err) == connect.CodeAlreadyExists {
				project, full := whole(args[0])
				var all []*pb.Route
				if all, err = n.routes(cmd.Context(), project); err != nil {
					return err
				}
				for _, old := range all {
					if old.Id == full {
						r.Revision = old.Revision
					}
				}
				res, err = n.topics.PutRoute(cmd.Context(), req(&pb.PutRouteRequest{Route: r}))
			}
			if err != nil {
				return err
			}
			return a.show(res.Msg.Route, func(w io.Writer) { row(w, "route "+res.Msg.Route.Id+" is there") })
		},
	}
	cmd.Flags().StringArrayVar(&r.Topics, "to", nil, "`TOPIC` where it goes; many times")
	cmd.Flags().StringArrayVar(&r.Twins, "twin", nil, "only of the twin of this `ID`; many times")
	cmd.Flags().StringVar(&r.Zone, "zone", "", "only of twins in this zone, and in those within")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "only of twins with `KEY=VALUE`; many times")
	cmd.Flags().StringVar(&r.Driver, "driver", "", "only of twins with this driver")
	cmd.Flags().StringVar(&r.Model, "model", "", "only of twins with this model")
	cmd.Flags().StringArrayVar(&r.Properties, "property", nil, "only the property of this `NAME`; many times")
	cmd.Flags().StringArrayVar(&r.Events, "event", nil, "only the event of this `NAME`; many times")
	cmd.Flags().StringVar(&r.When, "when", "", "only where this CEL `EXPRESSION` holds")
	cmd.Flags().BoolVar(&r.Terminate, "terminate", false, "what it matches goes to no later route")
	cmd.Flags().StringVar(&r.Run, "run", "", "through the run of this `LOGIC` first (docs/logic.md)")
	cmd.MarkFlagsOneRequired("to", "run")
	return cmd
}

func routeList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the routes", Example: "  pollux topic route list", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all, err := n.routes(cmd.Context(), project)
			if err != nil {
				return err
			}
			return a.show(&pb.ListRoutesResponse{Routes: all}, func(w io.Writer) { listRoutes(w, all) })
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

// routes of a project, or of all.
func (n *node) routes(ctx context.Context, project string) ([]*pb.Route, error) {
	var all []*pb.Route
	for token := ""; ; {
		res, err := n.topics.ListRoutes(ctx, req(&pb.ListRoutesRequest{Project: project, PageSize: pageSize, PageToken: token}))
		if err != nil {
			return nil, err
		}
		all = append(all, res.Msg.Routes...)
		if token = res.Msg.NextPageToken; token == "" {
			return all, nil
		}
	}
}

func listRoutes(w io.Writer, routes []*pb.Route) {
	row(w, "ID", "OF", "WHAT", "WHEN", "TO", "SEEN", "MATCHED", "FAILED", "DEAD")
	for _, r := range routes {
		to := strings.Join(names(r.Topics, bare), " ")
		if r.Run != "" {
			to = strings.TrimSpace("through " + bare(r.Run) + " " + to)
		}
		if r.Terminate {
			to += ", and no further"
		}
		c := r.GetCounts()
		row(w, bare(r.Id), routeOf(r), routeWhat(r), dash(r.When), to, fmt.Sprint(c.GetSeen()), fmt.Sprint(c.GetMatched()), fmt.Sprint(c.GetFailed()), fmt.Sprint(c.GetDead()))
	}
}

// routeOf says of which twins a route is.
func routeOf(r *pb.Route) string {
	of := names(r.Twins, bare)
	if r.Zone != "" {
		of = append(of, "zone "+bare(r.Zone))
	}
	if r.Driver != "" {
		of = append(of, "driver "+r.Driver)
	}
	if r.Model != "" {
		of = append(of, "model "+r.Model)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		of = append(of, k+"="+r.Labels[k])
	}
	if len(of) == 0 {
		return "all twins"
	}
	return strings.Join(of, " ")
}

func routeWhat(r *pb.Route) string {
	if len(r.Properties)+len(r.Events) == 0 {
		return "all properties and events"
	}
	return strings.Join(append(slices.Clone(r.Properties), names(r.Events, func(e string) string { return "event " + e })...), " ")
}

func routeGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a route and what passed it", Args: exactly("ID"), Example: "  pollux topic route get too-hot\n  pollux topic route get too-hot -o yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.GetRoute(cmd.Context(), req(&pb.GetRouteRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Route, func(w io.Writer) { listRoutes(w, []*pb.Route{res.Msg.Route}) })
		},
	}
}
