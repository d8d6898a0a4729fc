package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// positionFlags say where reading begins.
type positionFlags struct {
	oldest, newest bool
	offset         uint64
	since          string
}

func (f *positionFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.oldest, "oldest", false, "from the oldest message that is kept")
	cmd.Flags().BoolVar(&f.newest, "newest", false, "from now on")
	cmd.Flags().Uint64Var(&f.offset, "offset", 0, "from the message of this offset")
	cmd.Flags().StringVar(&f.since, "since", "", "from this `TIME` on: 10m ago as 10m, or 2026-01-31T12:00:00Z")
	cmd.MarkFlagsMutuallyExclusive("oldest", "newest", "offset", "since")
}

// position gives what the flags say, or nil.
func (f *positionFlags) position(now time.Time) (*pb.TopicPosition, error) {
	switch {
	case f.oldest:
		return &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}, nil
	case f.newest:
		return &pb.TopicPosition{At: &pb.TopicPosition_Newest{Newest: true}}, nil
	case f.offset > 0:
		return &pb.TopicPosition{At: &pb.TopicPosition_Offset{Offset: f.offset}}, nil
	case f.since == "":
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if d, derr := time.ParseDuration(f.since); derr == nil {
		at, err = now.Add(-d), nil
	}
	if err != nil {
		return nil, usagef("--since %q: want a span such as 10m, or a time such as 2026-01-31T12:00:00Z", f.since)
	}
	return &pb.TopicPosition{At: &pb.TopicPosition_Time{Time: timestamppb.New(at)}}, nil
}

func topicTail(a *app) *cobra.Command {
	var from positionFlags
	var channel string
	var noAck, noFollow bool
	cmd := &cobra.Command{
		Use: "tail TOPIC", Short: "Print messages as they come",
		Long: `Prints each message, from now on or from where a flag says, until it is stopped (Ctrl-C). With --channel it is one of the
channel's readers: it gets its share, and acknowledges what it printed. The channel is made where there is none.
Without one, a line says how many messages the topic's limits removed before they could be printed (with -o json {"missed": "N"}).`,
		Example: "  pollux topic tail orders\n  pollux topic tail orders --since 1h -o json\n  pollux topic tail orders --oldest --no-follow\n" +
			"  pollux topic tail orders --channel billing",
		Args: exactly("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := from.position(time.Now())
			if err != nil {
				return err
			}
			if noFollow && channel != "" {
				return usagef("--no-follow is for reading without a channel")
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			r := &pb.SubscribeRequest{Topic: args[0], Channel: channel, Start: start, UntilEnd: noFollow}
			return a.tail(cmd.Context(), n, r, !noAck)
		},
	}
	from.add(cmd)
	cmd.Flags().StringVar(&channel, "channel", "", "read as one of the readers of this channel")
	cmd.Flags().BoolVar(&noAck, "no-ack", false, "with --channel: print without acknowledging; what is printed comes again")
	cmd.Flags().BoolVar(&noFollow, "no-follow", false, "end when all messages up to now are printed")
	return cmd
}

func (a *app) tail(ctx context.Context, n *node, r *pb.SubscribeRequest, ack bool) error {
	stream, err := n.topics.Subscribe(ctx, req(r))
	if err != nil {
		return err
	}
	defer stream.Close()
	reader := ""
	for stream.Receive() {
		m := stream.Msg()
		if m.Reader != "" {
			reader = m.Reader
		}
		if m.Missed > 0 {
			if err := a.line(&pb.SubscribeResponse{Missed: m.Missed}, func() {
				a.printf("%d older messages are gone: the topic's limits removed them before they were read here\n", m.Missed)
			}); err != nil {
				return err
			}
		}
		var offsets []uint64
		for _, d := range m.Messages {
			if err := a.printDelivery(d); err != nil {
				return err
			}
			offsets = append(offsets, d.Message.Offset)
		}
		if r.Channel == "" || !ack || len(offsets) == 0 {
			continue
		}
		if _, err := n.topics.Ack(ctx, req(&pb.AckRequest{Topic: r.Topic, Channel: r.Channel, Reader: reader, Offsets: offsets})); err != nil {
			return err
		}
	}
	return stream.Err()
}

func (a *app) printDelivery(d *pb.Delivery) error {
	return a.line(d, func() {
		m := d.Message
		again := ""
		if d.Attempt > 1 {
			again = fmt.Sprintf("  (attempt %d)", d.Attempt)
		}
		payload := string(m.Payload)
		if !utf8.Valid(m.Payload) {
			payload = strconv.Quote(payload)
		}
		a.printf("%s  %d  %s  %s%s\n", a.local(m.PublishTime).Format(clock), m.Offset, printable(dash(m.Key)), printable(payload), again)
	})
}

func topicSeek(a *app) *cobra.Command {
	var to positionFlags
	cmd := &cobra.Command{
		Use: "seek TOPIC CHANNEL", Short: "Have a channel read from another place",
		Long:    "Has a channel read again from an earlier place, or leave out what lies before a later one. What its readers hold now stays theirs.",
		Example: "  pollux topic seek orders billing --oldest\n  pollux topic seek orders billing --since 2h\n  pollux topic seek orders billing --newest",
		Args:    exactly("TOPIC", "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := to.position(time.Now())
			if err != nil {
				return err
			}
			if at == nil {
				return usagef("say where to: --oldest, --newest, --offset or --since")
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.SeekChannel(cmd.Context(), req(&pb.SeekChannelRequest{Topic: args[0], Name: args[1], To: at}))
			if err != nil {
				return err
			}
			c := res.Msg.Channel
			return a.show(c, func(w io.Writer) {
				row(w, fmt.Sprintf("channel %s reads from offset %d; %d messages lie ahead", c.Name, c.Position, c.Lag))
			})
		},
	}
	to.add(cmd)
	return cmd
}

func topicReplay(a *app) *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use: "replay TOPIC", Short: "Publish the dead letters of a topic again",
		Long:    "Publishes what the topic's channels gave up to the topic again, each for the channel that gave it up, and removes it from TOPIC.dead.",
		Example: "  pollux topic tail orders.dead --oldest --no-follow\n  pollux topic replay orders\n  pollux topic replay orders --limit 1",
		Args:    exactly("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.ReplayDeadLetters(cmd.Context(), req(&pb.ReplayDeadLettersRequest{Topic: args[0], Limit: limit}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { row(w, fmt.Sprintf("%d dead letters were published again", res.Msg.Replayed)) })
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 0, "at most so many")
	return cmd
}

func topicChannel(a *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "channel", Short: "Make, change and remove channels",
		Example: "  pollux topic channel put orders billing --attempts 10\n  pollux topic channel rm orders billing",
	})
	cmd.AddCommand(channelPut(a), &cobra.Command{
		Use: "rm TOPIC CHANNEL", Short: "Remove a channel; its readers' streams end", Example: "  pollux topic channel rm orders billing", Args: exactly("TOPIC", "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if _, err := n.topics.DeleteChannel(cmd.Context(), req(&pb.DeleteChannelRequest{Topic: args[0], Name: args[1]})); err != nil {
				return err
			}
			return a.removed("channel", args[1])
		},
	})
	return cmd
}

// ackModes by the words of the command line.
var ackModes = map[string]pb.AckMode{"receipt": pb.AckMode_ACK_MODE_ON_RECEIPT, "processing": pb.AckMode_ACK_MODE_AFTER_PROCESSING,
	"hand": pb.AckMode_ACK_MODE_BY_HAND}

func channelPut(a *app) *cobra.Command {
	var from positionFlags
	var ack string
	var timeout, backoffMin, backoffMax time.Duration
	var attempts, inFlight uint32
	cmd := &cobra.Command{
		Use: "put TOPIC CHANNEL", Short: "Make a channel, or replace its settings",
		Long: `Makes a channel that reads from now on, or from where a flag says. Of one that there is, it replaces the settings.
A message counts as read when it was sent (--ack receipt), when the reader says so within --timeout (processing, the default), or
when the reader says so at all (hand).`,
		Example: "  pollux topic channel put orders billing --oldest --ack processing --timeout 1m --attempts 10",
		Args:    exactly("TOPIC", "CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := from.position(time.Now())
			if err != nil {
				return err
			}
			mode, ok := ackModes[ack]
			if !ok {
				return usagef("--ack %q: want receipt, processing or hand", ack)
			}
			set := &pb.ChannelSettings{AckMode: mode, MaxAttempts: attempts, MaxInFlight: inFlight}
			for _, d := range []struct {
				to   **durationpb.Duration
				from time.Duration
			}{{&set.AckTimeout, timeout}, {&set.BackoffMin, backoffMin}, {&set.BackoffMax, backoffMax}} {
				*d.to = spanOf(d.from)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.topics.PutChannel(cmd.Context(), req(&pb.PutChannelRequest{Topic: args[0], Name: args[1], Settings: set, Start: start}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Channel, func(w io.Writer) { listChannels(w, []*pb.Channel{res.Msg.Channel}) })
		},
	}
	from.add(cmd)
	cmd.Flags().StringVar(&ack, "ack", "processing", "when a message counts as read: receipt, processing or hand")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "for how long a reader may process a message (30s)")
	cmd.Flags().Uint32Var(&attempts, "attempts", 0, "how often a message is given before it is a dead letter (5)")
	cmd.Flags().DurationVar(&backoffMin, "backoff-min", 0, "wait before the second attempt; it doubles (1s)")
	cmd.Flags().DurationVar(&backoffMax, "backoff-max", 0, "longest wait (5m)")
	cmd.Flags().Uint32Var(&inFlight, "in-flight", 0, "how many messages all readers together may hold (1000)")
	return cmd
}
