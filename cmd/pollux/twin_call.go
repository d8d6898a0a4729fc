package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// queueFlags are the fields of the twin's command queue.
type queueFlags struct {
	priority, retries uint32
	name              string
	delay, timeout    time.Duration
	pause             time.Duration
	noWait, noAnswer  bool
	clear             bool
}

func (q *queueFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Uint32Var(&q.priority, "priority", 0, "0 to 100, higher first (default 50)")
	fl.StringVar(&q.name, "name", "", "replaces a waiting command of the same name")
	fl.Uint32Var(&q.retries, "retries", 0, "tries after the first (default 3, for errors that may pass)")
	fl.DurationVar(&q.delay, "delay", 0, "wait before it is sent")
	fl.DurationVar(&q.timeout, "timeout", 0, "for the device to do it (default 5s)")
	fl.BoolVar(&q.noWait, "no-wait", false, "return as soon as the node has it")
	fl.DurationVar(&q.pause, "pause", 0, "wait after it before the next command is sent")
	fl.BoolVar(&q.noAnswer, "no-answer", false, "it is done when it is sent: do not wait for the device's answer")
	fl.BoolVar(&q.clear, "clear", false, "when it has ended, reject what waits in the queue")
}

// notNegative refuses a duration that a flag gives below 0.
func notNegative(flag string, d time.Duration) error {
	if d < 0 {
		return usagef("--%s %s: want 0 or more", flag, d)
	}
	return nil
}

// options gives nil where no flag says anything.
func (q *queueFlags) options(cmd *cobra.Command) (*pb.CommandOptions, error) {
	if err := errors.Join(notNegative("delay", q.delay), notNegative("timeout", q.timeout), notNegative("pause", q.pause)); err != nil {
		return nil, err
	}
	o := &pb.CommandOptions{Priority: q.priority, Name: q.name, NoWait: q.noWait, NoAnswer: q.noAnswer, Clear: q.clear}
	changed := q.priority > 0 || q.name != "" || q.noWait || q.noAnswer || q.clear
	if cmd.Flags().Changed("retries") {
		o.Retries, changed = &q.retries, true
	}
	if q.delay > 0 {
		o.Delay, changed = durationpb.New(q.delay), true
	}
	if q.timeout > 0 {
		o.Timeout, changed = durationpb.New(q.timeout), true
	}
	if q.pause > 0 {
		o.Pause, changed = durationpb.New(q.pause), true
	}
	if !changed {
		return nil, nil
	}
	return o, nil
}

func twinCall(a *app) *cobra.Command {
	var q queueFlags
	var once string
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "call ID ACTION [JSON]",
		Short: "Run an action of a twin and print its result",
		Long: `Runs an action and waits for the device. Where it fails, the error says whether the device did it.
The input is JSON; what is no JSON is sent as a string.`,
		Example: `  pollux twin call beamer refresh
  pollux twin call lamp1 toggle '{"relay": 1}'
  pollux twin call beamer refresh --priority 90 --timeout 20s
  pollux twin call beamer refresh --no-wait
  pollux twin call valve close --no-wait --valid-for 12h     also where the valve sleeps or is away
  pollux twin call beamer off --priority 100 --clear         and reject what waits`,
		Args:              between(2, "ID", "ACTION", "JSON"),
		ValidArgsFunction: a.completeTwinAnd(func(m thing) map[string]schema { return m.Actions }),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := q.options(cmd)
			if err == nil {
				err = notNegative("valid-for", valid)
			}
			if err != nil {
				return err
			}
			if valid > 0 {
				if options == nil {
					options = &pb.CommandOptions{}
				}
				options.ValidFor = durationpb.New(valid)
			}
			r := &pb.InvokeRequest{Id: args[0], Action: args[1], Options: options, IdempotencyKey: once}
			if len(args) == 3 {
				v, err := parseValue(args[2], schema{})
				if err != nil {
					return err
				}
				r.Input = v
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.twins.Invoke(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { printOutcome(w, res.Msg) })
		},
	}
	q.add(cmd)
	cmd.Flags().DurationVar(&valid, "valid-for", 0, "how long it may wait for a device that is away or asleep (default: 1m with --no-wait, 24h where the device sleeps)")
	cmd.Flags().StringVar(&once, "once", "", "idempotency key: calls with one key run once")
	return cmd
}

func printOutcome(w io.Writer, r *pb.InvokeResponse) {
	_, null := r.GetOutput().GetKind().(*structpb.Value_NullValue)
	switch {
	case r.Outcome == pb.Outcome_OUTCOME_QUEUED && r.CommandId != "":
		fmt.Fprintf(w, "queued as %s; pollux twin get shows how far it is\n", r.CommandId)
	case r.Outcome != pb.Outcome_OUTCOME_DONE:
		fmt.Fprintln(w, enumText(r.Outcome, "OUTCOME_"))
	case r.Output == nil || null:
		fmt.Fprintln(w, "done")
	default:
		if b, err := jsonOf(r.Output); err == nil {
			// JSON escapes control characters, so it is harmless for a terminal.
			fmt.Fprintln(w, string(b))
		}
	}
}

func twinSet(a *app) *cobra.Command {
	var q queueFlags
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "set ID PROPERTY VALUE",
		Short: "Ask for a property's value and follow it: asked, sent, confirmed",
		Long: `Commits what is asked, and then prints each step until the device reports the value (confirmed), refuses it
(rejected) or does not report it in time (expired). The value is JSON, or a string where it is no JSON or the property
wants a string; on and off are true and false where it wants a boolean. With --no-wait it returns at the commit.`,
		Example: `  pollux twin set beamer power on
  pollux twin set lamp1 dimmer 40
  pollux twin set beamer input digital1 --valid-for 2m
  pollux twin set beamer power off --no-wait`,
		Args:              exactly("ID", "PROPERTY", "VALUE"),
		ValidArgsFunction: a.completeTwinAnd(writable),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := q.options(cmd)
			if err == nil {
				err = notNegative("valid-for", valid)
			}
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			v, err := n.valueFor(cmd.Context(), args[0], args[1], args[2])
			if err != nil {
				return err
			}
			r := &pb.SetDesiredRequest{Id: args[0], Property: args[1], Value: v, Options: options}
			if valid > 0 {
				r.ValidFor = durationpb.New(valid)
			}
			if q.noWait {
				res, err := n.twins.SetDesired(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				return a.progress(res.Msg.Desired)
			}
			return a.follow(cmd.Context(), n, r)
		},
	}
	q.add(cmd)
	cmd.Flags().DurationVar(&valid, "valid-for", 0, "what is not confirmed by then is expired (default 30s)")
	return cmd
}

func writable(m thing) map[string]schema {
	out := make(map[string]schema)
	for name, s := range m.Properties {
		if !s.ReadOnly {
			out[name] = s
		}
	}
	return out
}

// valueFor reads a value as the property wants it.
func (n *node) valueFor(ctx context.Context, id, property, text string) (*structpb.Value, error) {
	m, err := n.model(ctx, id)
	if err != nil {
		return nil, err
	}
	return parseValue(text, m.Properties[property])
}

// progress prints one step, with the time at which it is known here.
func (a *app) progress(d *pb.Desired) error {
	return a.line(d, func() {
		at := a.local(timestamppb.Now())
		a.printf("%s  %-9s  %s\n", at.Format(clock), enumText(d.Progress, "PROGRESS_"), printable(valueText(d.Value)+errorSuffix(d)))
	})
}

func errorSuffix(d *pb.Desired) string {
	if d.Error == "" {
		return ""
	}
	return ": " + d.Error
}

// follow watches first and asks then, so that no step is missed.
func (a *app) follow(ctx context.Context, n *node, r *pb.SetDesiredRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := n.twins.WatchTwins(ctx, req(&pb.WatchTwinsRequest{
		Filter: &pb.TwinFilter{Ids: []string{r.Id}}, Properties: []string{r.Property}}))
	if err != nil {
		return err
	}
	defer stream.Close()
	// The first message says that the watch is in place.
	if !stream.Receive() {
		return stream.Err()
	}
	res, err := n.twins.SetDesired(ctx, req(r))
	if err != nil {
		return err
	}
	last := res.Msg.Desired
	if err := a.progress(last); err != nil {
		return err
	}
	if !final(last.Progress) {
		defer a.tellWaiting(ctx, n, r)()
	}
	for !final(last.Progress) {
		if !stream.Receive() {
			return fmt.Errorf("watch ended before the device answered: %w", stream.Err())
		}
		d := desiredIn(stream.Msg(), r.Property)
		switch {
		case stream.Msg().GetDeleted():
			return fmt.Errorf("twin %s was deleted", r.Id)
		case d == nil || d.Revision < last.Revision || d.Revision == last.Revision && d.Progress <= last.Progress:
			continue
		case d.Revision > last.Revision:
			return fmt.Errorf("somebody else (%s) asked for %s meanwhile", printable(d.By), printable(valueText(d.Value)))
		}
		last = d
		if err := a.progress(d); err != nil {
			return err
		}
	}
	if last.Progress != pb.Progress_PROGRESS_CONFIRMED {
		return fmt.Errorf("%s of %s: %s", r.Property, r.Id, printable(enumText(last.Progress, "PROGRESS_")+errorSuffix(last)))
	}
	return nil
}

// tellWaiting says on the standard error what a value waits for that takes longer than a second, and again when that
// changes, until stop is called.
func (a *app) tellWaiting(ctx context.Context, n *node, r *pb.SetDesiredRequest) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		told := ""
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			res, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: r.Id}))
			if err != nil {
				continue // the watch tells
			}
			if why := res.Msg.Twin.GetState().GetDesired()[r.Property].GetWaitsFor(); why != "" && why != told {
				told = why
				fmt.Fprintf(a.err, "  waits: %s\n", printable(why))
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func final(p pb.Progress) bool { return p >= pb.Progress_PROGRESS_CONFIRMED }

func desiredIn(m *pb.WatchTwinsResponse, property string) *pb.Desired {
	if s := m.GetState(); s != nil {
		return s.Desired[property]
	}
	return m.GetDelta().GetDesired()[property]
}
