package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// clock is how streams print the time.
const clock = "15:04:05.000"

func twinWatch(a *app) *cobra.Command {
	var f filterFlags
	var properties []string
	var events, logs bool
	cmd := &cobra.Command{
		Use:   "watch [ID…]",
		Short: "Print every change of twins as it happens",
		Long: `Prints what the chosen twins have now, and then each change, until it is stopped (Ctrl-C).
Where this terminal is too slow, what was left out is said.`,
		Example: `  pollux twin watch beamer
  pollux twin watch --label room=aula --property power --property input
  pollux twin watch --events -o json`,
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			filter.Ids = args
			r := &pb.WatchTwinsRequest{Filter: filter, Properties: properties, Events: events, Logs: logs}
			return a.watchTwins(cmd.Context(), r, a.printChange)
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&properties, "property", nil, "only the property of this `NAME`; many times")
	cmd.Flags().BoolVar(&events, "events", false, "events too")
	cmd.Flags().BoolVar(&logs, "logs", false, "log lines too")
	return cmd
}

func twinLogs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "logs ID…",
		Short:             "Print the log lines of twins' drivers as they come",
		Long:              "Prints the lines from now on, until it is stopped (Ctrl-C). Older ones are not kept.",
		Example:           "  pollux twin logs beamer",
		Args:              atLeast("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: args}, Logs: true}
			return a.watchTwins(cmd.Context(), r, a.printLog)
		},
	}
}

func (a *app) watchTwins(ctx context.Context, r *pb.WatchTwinsRequest, print func(*pb.WatchTwinsResponse) error) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	// A watch of nothing would be silent for ever: say that an id is wrong.
	for _, id := range r.GetFilter().GetIds() {
		if _, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: id})); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	stream, err := n.twins.WatchTwins(ctx, req(r))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if m := stream.Msg(); !m.GetHeartbeat() || m.Missed > 0 || m.Gap != "" {
			if err := print(m); err != nil {
				return err
			}
		}
	}
	return stream.Err()
}

// printChange prints a line for each value that changed.
func (a *app) printChange(m *pb.WatchTwinsResponse) error {
	return a.line(m, func() {
		id := bare(m.Id)
		if m.Missed > 0 {
			a.printf("(%d changes left out)\n", m.Missed)
		}
		if m.Gap != "" {
			a.printf("(%s; changes may be left out, the values follow)\n", printable(m.Gap))
		}
		switch c := m.Change.(type) {
		case *pb.WatchTwinsResponse_State:
			a.printValues(id, c.State.Properties, c.State.Desired, c.State.Status)
		case *pb.WatchTwinsResponse_Delta:
			a.printValues(id, c.Delta.Properties, c.Delta.Desired, c.Delta.Status)
		case *pb.WatchTwinsResponse_Event:
			a.printf("%s  %s  ! %s\n", a.local(c.Event.GetTime()).Format(clock), id,
				printable(c.Event.Name+" "+valueText(c.Event.Data)))
		case *pb.WatchTwinsResponse_Log:
			a.printf("%s  %s  %-5s %s\n", a.local(c.Log.GetTime()).Format(clock), id, printable(c.Log.Level), printable(c.Log.Text))
		case *pb.WatchTwinsResponse_Deleted:
			a.printf("%s  %s  deleted\n", a.local(timestamppb.Now()).Format(clock), id)
		}
	})
}

func (a *app) printValues(id string, properties map[string]*pb.Property, desired map[string]*pb.Desired, status *pb.TwinStatus) {
	if status != nil {
		text := enumText(status.Connection, "CONNECTION_")
		if status.Fault != "" {
			text += ", fault: " + status.Fault
		}
		a.printf("%s  %s  (%s)\n", a.local(timestamppb.Now()).Format(clock), id, printable(text))
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p := properties[name]
		mark := ""
		if p.Quality != pb.Quality_QUALITY_GOOD {
			mark = "  [" + enumText(p.Quality, "QUALITY_") + "]"
		}
		a.printf("%s  %s  %s\n", a.local(p.GetTime()).Format(clock), id, printable(name+" = "+valueText(p.Value)+mark))
	}
	for _, name := range slices.Sorted(maps.Keys(desired)) {
		d := desired[name]
		a.printf("%s  %s  %s\n", a.local(d.GetTime()).Format(clock), id,
			printable(name+" ← "+valueText(d.Value)+" ("+progressText(d)+", by "+d.By+")"))
	}
}

func twinTrace(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "trace ID",
		Short: "Print every byte that a twin sends and receives, as text and hex",
		Long: `Prints time, direction (> sent, < received, # opened or closed), text and hex until it is stopped (Ctrl-C).
Secrets are masked. Bytes are recorded only while somebody looks.`,
		Example:           "  pollux twin trace beamer\n  pollux twin trace beamer -o json",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			stream, err := n.twins.TraceTwin(cmd.Context(), req(&pb.TraceTwinRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
				m := stream.Msg()
				if m.Direction == pb.TraceTwinResponse_DIRECTION_UNSPECIFIED && m.Missed == 0 {
					continue // a heartbeat
				}
				if err := a.line(m, func() { a.printTrace(m) }); err != nil {
					return err
				}
			}
			return stream.Err()
		},
	}
}

// hexWidth bytes of hex stand on one line.
const hexWidth = 16

func (a *app) printTrace(m *pb.TraceTwinResponse) {
	if m.Missed > 0 {
		a.printf("(%d frames left out)\n", m.Missed)
	}
	at := a.local(m.GetTime()).Format(clock)
	topic := ""
	if m.Topic != "" {
		topic = printable(m.Topic) + "  "
	}
	switch m.Direction {
	case pb.TraceTwinResponse_DIRECTION_NOTE:
		a.printf("%s  #  %s\n", at, printable(string(m.Data)))
		return
	case pb.TraceTwinResponse_DIRECTION_SENT:
		a.printf("%s  >  %s%s\n", at, topic, quoted(m.Data))
	case pb.TraceTwinResponse_DIRECTION_RECEIVED:
		a.printf("%s  <  %s%s\n", at, topic, quoted(m.Data))
	default:
		return
	}
	for line := range slices.Chunk(m.Data, hexWidth) {
		a.printf("%17s% x\n", "", line)
	}
}

// quoted is text with what cannot be printed escaped, such as %1POWR ?\r
func quoted(b []byte) string {
	q := strconv.QuoteToASCII(string(b))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
