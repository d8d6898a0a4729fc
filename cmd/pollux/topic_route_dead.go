package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func routeDead(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "dead ID", Short: "List the dead letters of a route, with the reason", Args: exactly("ID"),
		Long: `Lists what a route could not tell or publish, the oldest first: its time, the twin, the topic where it should have gone, why it did
not, and what it said. They are kept for 7 days in the topic route.ID.dead.`,
		Example: "  pollux topic route dead too-hot\n  pollux topic route dead hotel/too-hot -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			r, err := n.route(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var letters []*pb.TopicMessage
			if list := r.GetCounts().GetDeadLetters(); list != "" {
				if letters, err = n.held(cmd.Context(), list); err != nil {
					return err
				}
			}
			return a.show(&pb.SubscribeResponse{Messages: deliveries(letters)}, func(w io.Writer) { a.listLetters(w, letters) })
		},
	}
}

// route with its counts.
func (n *node) route(ctx context.Context, id string) (*pb.Route, error) {
	project, full := whole(id)
	all, err := n.routes(ctx, project)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Id == full {
			return r, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no route %s", full))
}

// held are the messages that a topic holds.
func (n *node) held(ctx context.Context, topic string) (all []*pb.TopicMessage, err error) {
	res, err := n.topics.Subscribe(ctx, req(&pb.SubscribeRequest{Topic: topic, UntilEnd: true,
		Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}}))
	if err != nil {
		return nil, err
	}
	defer res.Close()
	for res.Receive() {
		for _, d := range res.Msg().Messages {
			all = append(all, d.Message)
		}
	}
	return all, res.Err()
}

func deliveries(all []*pb.TopicMessage) (out []*pb.Delivery) {
	for _, m := range all {
		out = append(out, &pb.Delivery{Message: m})
	}
	return out
}

func (a *app) listLetters(w io.Writer, letters []*pb.TopicMessage) {
	row(w, "TIME", "TWIN", "TO", "WHY", "SAID")
	for _, m := range letters {
		row(w, a.local(m.Time).Format(time.DateTime), bare(m.Key), bare(m.Headers["pollux-topic"]), m.Headers["pollux-reason"], string(m.Payload))
	}
}

func routeReplay(a *app) *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use: "replay ID", Short: "Take the dead letters of a route through it again", Args: exactly("ID"),
		Long: `Takes dead letters through the route as it is now: where its condition holds they go to their topics, where it does not they are
let go, and what fails again is a dead letter again, with the new reason. The condition sees the twin as it is now, and no previous value.`,
		Example: "  pollux topic route put too-hot --to alarms --property temperature --when 'value > 30'\n  pollux topic route replay too-hot\n" +
			"  pollux topic route replay too-hot --limit 1",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.ReplayRoute(cmd.Context(), req(&pb.ReplayRouteRequest{Id: args[0], Limit: limit}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				row(w, fmt.Sprintf("%d published, %d passed over, %d failed again", res.Msg.Published, res.Msg.PassedOver, res.Msg.Failed))
			})
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 0, "at most so many")
	return cmd
}
