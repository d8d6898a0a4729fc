package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

func logicCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "logic", Aliases: []string{"logics"}, Short: "Your own code between twins: one file of JavaScript, or a module",
		Long: `A logic reacts to properties of twins, timers, webhooks and commands, and commands twins. It is a twin without a device: what
pollux twin and pollux driver do, they do for it, too (get, history, rollout, record). Its run is given messages on their way through a route
(pollux topic route put --run), by a rule, of topics (--topic), of notifiers and detectors, and lets them pass, replaces them or stops them.
See docs/logic.md.`,
		Example: "  pollux logic push room.js --system aula\n  pollux logic list\n  pollux logic logs room\n" +
			"  pollux logic try filter.js --message '{\"value\":31}'\n  pollux logic run filter --message '{\"value\":31}' --twin meter1",
	}))
	cmd.AddCommand(logicPush(a), logicList(a), logicGet(a), logicLogs(a), logicRun(a), logicTry(a),
		remover(a, "rm ID", "Remove a logic and what it keeps; its versions stay", "  pollux logic rm room", "logic",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.twins.DeleteTwin(ctx, req(&pb.DeleteTwinRequest{Id: id}))
				return err
			}))
	return cmd
}

func logicPush(a *app) *cobra.Command {
	var as, system string
	var settings, topics []string
	var stage, noTest bool
	cmd := &cobra.Command{
		Use: "push FILE|DIR", Short: "Install a version of a logic, and make its twin", Args: exactly("FILE|DIR"),
		Long: `Sends a file of JavaScript, a module, or a project that is built and tested first, as pollux driver push does. Where no twin of that name
is there, one is made. The same bytes again change nothing; another file of the same version is refused: raise the version.`,
		Example: `  pollux logic push room.js --system aula
  pollux logic push filter.js --as filter-north --setting limit=30
  pollux logic push orders.js --topic orders --topic returns=shop    its run gets their messages, of returns by the channel shop
  pollux logic push ./counter --stage       its twins go over to it by pollux driver rollout`,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.pushable(cmd.Context(), args[0], noTest)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.drivers.UploadDriver(cmd.Context(), req(&pb.UploadDriverRequest{File: file, Stage: stage}))
			if err != nil {
				return err
			}
			d := res.Msg.Driver
			if readManifest(d.ManifestJson).Kind != "logic" {
				return fmt.Errorf("%s@%s is installed, and is a driver, no logic: its file says driver({…}), not logic({…}); make a twin of it with `pollux twin create`", d.Name, d.Version)
			}
			if as == "" {
				as = d.Name
			}
			t, made, err := n.logicTwin(cmd, as, d.Name, system, settings, topics)
			if err != nil {
				return err
			}
			return a.show(t, func(w io.Writer) {
				what := "is there already, with the same bytes"
				if res.Msg.Created {
					what = "is installed"
				}
				row(w, fmt.Sprintf("%s@%s %s", d.Name, d.Version, what))
				if res.Msg.Staged {
					row(w, fmt.Sprintf("no twin goes over to it by itself: pollux driver rollout %s@%s", d.Name, d.Version))
				}
				if made {
					row(w, "logic "+t.Id+" is there"+boundText(t.System)+readsText(t.Reads))
				}
			})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "`ID` of its twin, where that is not the file's name")
	cmd.Flags().StringVar(&system, "system", "", "bind it to the `SYSTEM`")
	cmd.Flags().StringArrayVar(&settings, "setting", nil, "setting as `NAME=VALUE`; many times")
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "its run gets the messages of `TOPIC[=CHANNEL]`, by a channel of its name where none is said; many times, '' for none")
	cmd.Flags().BoolVar(&stage, "stage", false, "no twin goes over to it by itself")
	cmd.Flags().BoolVar(&noTest, "no-test", false, "of a project: neither test nor verify it here")
	return cmd
}

func boundText(system string) string {
	if system == "" {
		return ""
	}
	return ", bound to " + bare(system)
}

func readsText(all []*pb.TopicReading) string {
	if len(all) == 0 {
		return ""
	}
	return ", reads " + readsList(all)
}

func readsList(all []*pb.TopicReading) string {
	return strings.Join(names(all, func(x *pb.TopicReading) string { return bare(x.Topic) + "=" + x.Channel }), " ")
}

// topicReadings reads TOPIC[=CHANNEL] of flags.
func topicReadings(topics []string) (all []*pb.TopicReading) {
	for _, text := range topics {
		if text == "" {
			continue
		}
		topic, channel, _ := strings.Cut(text, "=")
		all = append(all, &pb.TopicReading{Topic: topic, Channel: channel})
	}
	return all
}

// logicTwin makes the twin of a logic, or changes what the flags name of the one that is there.
func (n *node) logicTwin(cmd *cobra.Command, id, driver, system string, settings, topics []string) (*pb.Twin, bool, error) {
	ctx, f := cmd.Context(), &twinFlags{settings: settings}
	old, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: id}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		t := &pb.Twin{Id: id, Driver: driver, System: system, Reads: topicReadings(topics)}
		if err := f.applySettings(ctx, n, t); err != nil {
			return nil, false, err
		}
		res, err := n.twins.CreateTwin(ctx, req(&pb.CreateTwinRequest{Twin: t}))
		if err != nil {
			return nil, false, err
		}
		return res.Msg.Twin, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	t := old.Msg.Twin
	if name, _, _ := strings.Cut(t.Driver, "@"); name != driver {
		return nil, false, fmt.Errorf("there is a twin %s already, of %s: name the logic's with --as", bare(t.Id), dash(name))
	}
	if !cmd.Flags().Changed("system") && !cmd.Flags().Changed("topic") && len(settings) == 0 {
		return t, false, nil
	}
	if cmd.Flags().Changed("topic") {
		t.Reads = topicReadings(topics)
	}
	if cmd.Flags().Changed("system") {
		t.System = system
	}
	if err := f.applySettings(ctx, n, t); err != nil {
		return nil, false, err
	}
	res, err := n.twins.UpdateTwin(ctx, req(&pb.UpdateTwinRequest{Twin: t}))
	if err != nil {
		return nil, false, err
	}
	return res.Msg.Twin, false, nil
}

func logicList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the logics", Example: "  pollux logic list", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListLogicsResponse{}
			for token := ""; ; {
				res, err := n.logics.ListLogics(cmd.Context(), req(&pb.ListLogicsRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Logics = append(all.Logics, res.Msg.Logics...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "VERSION", "SYSTEM", "ASKED BY", "CALLS", "CRASHES", "STATUS")
				for _, m := range all.Logics {
					row(w, bare(m.Id), m.Driver+"@"+m.Version, dash(bare(m.System)), dash(askers(m)),
						m.Counts.GetCalls(), m.Counts.GetCrashes(), logicStatus(m))
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

// askers says who gives messages to a logic.
func askers(m *pb.Logic) string {
	var all []string
	for _, x := range []struct {
		kind string
		ids  []string
	}{{"route", m.Routes}, {"topic", names(m.Reads, func(x *pb.TopicReading) string { return x.Topic })}, {"notifier", m.Notifiers}, {"detector", m.Detectors}} {
		for _, id := range x.ids {
			all = append(all, x.kind+" "+bare(id))
		}
	}
	return strings.Join(all, ", ")
}

func logicStatus(m *pb.Logic) string {
	switch {
	case m.Stopped:
		return "stopped"
	case m.Fault != "":
		return printable(m.Fault)
	}
	return "ok"
}

func logicGet(a *app) *cobra.Command {
	var source bool
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show a logic: its twin with what it reports, or its source", Example: "  pollux logic get room\n  pollux logic get room --source > room.js",
		Args: exactly("ID"), ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.twins.GetTwin(cmd.Context(), req(&pb.GetTwinRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			t := res.Msg.Twin
			if !source {
				return a.show(t, func(w io.Writer) { describeTwin(w, t, time.Now(), widthOf(a.out)) })
			}
			src, err := n.drivers.GetDriverSource(cmd.Context(), req(&pb.GetDriverSourceRequest{Name: strings.Split(t.Driver, "@")[0], Version: t.DriverVersion}))
			if err != nil {
				return err
			}
			return a.show(src.Msg, func(w io.Writer) { fmt.Fprint(w, src.Msg.Source) })
		},
	}
	cmd.Flags().BoolVar(&source, "source", false, "the file of JavaScript that it runs")
	return cmd
}

func logicLogs(a *app) *cobra.Command {
	cmd := twinLogs(a)
	cmd.Use, cmd.Short, cmd.Example = "logs ID…", "Print the log lines of logics as they come", "  pollux logic logs room"
	return cmd
}

func logicRun(a *app) *cobra.Command {
	var message string
	r := &pb.RunLogicRequest{}
	cmd := &cobra.Command{
		Use: "run ID", Short: "Give a message to a logic's run, as a route does", Args: exactly("ID"), ValidArgsFunction: a.completeTwins(),
		Long:    "Gives a message to the run of a logic and prints what becomes of it. What the run keeps is kept, what it calls is called; pollux logic try does neither.",
		Example: "  pollux logic run filter --message '{\"twin\":\"default/meter1\",\"name\":\"power\",\"value\":31}' --twin meter1",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.Id, r.Message, err = args[0], nil, nil; message != "" {
				if r.Message, err = parseValue(message, schema{}); err != nil {
					return err
				}
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.logics.RunLogic(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { printVerdict(w, res.Msg.Verdict, res.Msg.Message) })
		},
	}
	cmd.Flags().StringVar(&message, "message", "", "`JSON`")
	cmd.Flags().StringVar(&r.Twin, "twin", "", "the `TWIN` that the message is about")
	_ = cmd.MarkFlagRequired("message")
	return cmd
}

func printVerdict(w io.Writer, v pb.Verdict, m *structpb.Value) {
	text := enumText(v, "VERDICT_")
	if m != nil {
		text += " " + printable(valueText(m))
	}
	row(w, text)
}

func logicTry(a *app) *cobra.Command {
	var message, memory string
	var settings []string
	r := &pb.TryLogicRequest{}
	cmd := &cobra.Command{
		Use: "try FILE|ID", Short: "Give an event to a logic and see what it would do", Args: exactly("FILE|ID"),
		Long: `Gives an event to a file of JavaScript that is not deployed, or to a logic that is, and prints what it would do. Nothing is done: calls,
requests and notifications are listed. Looks at other twins are answered by what they have now. With --in the file is tried in the place of a
logic that is there: with its system, its settings but for secrets, and what it remembers.`,
		Example: "  pollux logic try filter.js --message '{\"value\":31}' --twin meter1\n" +
			"  pollux logic try room.js --event subscription --message '{\"name\":\"Motion_1\",\"property\":\"occupancy\",\"value\":true}' --memory '{\"since\":0}'\n" +
			"  pollux logic try filter.js --in filter --message '{\"value\":31}' --twin meter1",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if message != "" {
				if r.Message, err = parseValue(message, schema{}); err != nil {
					return err
				}
			}
			if memory != "" {
				if r.Memory, err = parseValue(memory, schema{}); err != nil {
					return err
				}
			}
			if strings.HasSuffix(args[0], ".js") {
				if r.File, err = readFile(args[0], rpc.MaxUpload); err != nil {
					return err
				}
			} else if r.Id != "" {
				return fmt.Errorf("--in is for a file: %s is a logic that is there, and has its own place", args[0])
			} else {
				r.Id = args[0]
			}
			given, err := pairs("setting", settings)
			if err != nil {
				return err
			}
			for k, text := range given {
				v, err := parseValue(text, schema{})
				if err != nil {
					v = structpb.NewStringValue(text)
				}
				if r.Settings == nil {
					r.Settings = &structpb.Struct{Fields: map[string]*structpb.Value{}}
				}
				r.Settings.Fields[k] = v
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.logics.TryLogic(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			if err := a.show(res.Msg, func(w io.Writer) { printTrial(w, res.Msg) }); err != nil {
				return err
			}
			if res.Msg.Error != "" && a.table() {
				return fmt.Errorf("it failed: %s", res.Msg.Error)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&r.Event, "event", "run", "run, load, subscription, timer, webhook or command")
	cmd.Flags().StringVar(&message, "message", "", "the message of a run, or the event's input (drivers/ABI.md), `JSON`")
	cmd.Flags().StringVar(&r.Twin, "twin", "", "of a run: the `TWIN` that the message is about")
	cmd.Flags().StringVar(&r.Id, "in", "", "of a file: in the place of the logic `ID`, with its system, settings and memory")
	cmd.Flags().StringVar(&memory, "memory", "", "what it remembers before, `JSON`")
	cmd.Flags().StringArrayVar(&settings, "setting", nil, "setting as `NAME=VALUE`; many times")
	return cmd
}

func printTrial(w io.Writer, r *pb.TryLogicResponse) {
	for _, l := range r.Logs {
		row(w, "log", l.Level, printable(l.Text))
	}
	for _, d := range r.Deeds {
		row(w, "would", printable(d))
	}
	if r.Memory != nil {
		row(w, "remembers", printable(valueText(r.Memory)))
	}
	if r.Output != nil {
		row(w, "answers", printable(valueText(r.Output)))
	}
	if r.Verdict != 0 {
		printVerdict(w, r.Verdict, r.Message)
	}
}
