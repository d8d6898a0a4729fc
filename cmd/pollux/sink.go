package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func sinkCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "sink", Aliases: []string{"sinks"}, Short: "Ways out: topics into files, databases and brokers",
		Long: `A sink brings the messages of a topic to another system, each at least once and in their order, from a position of its own. While the
other system is away they stay in the topic, within the topic's limits; what is removed there unread is counted as missed. What it
refuses for good is in TOPIC.dead, with the reason.

Where to (--to):
  https://HOST/PATH                                     a webhook: JSON arrays, signed with the secret
  file:NAME                                             Parquet files by project and day, in the node's directory for sinks
  s3://BUCKET/PREFIX?endpoint=HOST:PORT&access_key=KEY  the same in S3-compatible storage
  kafka://HOST:PORT,HOST:PORT/TOPIC                     records with key and headers
  mqtt://HOST:PORT/PREFIX                               each message to PREFIX/KEY
  clickhouse://HOST:8123/DATABASE/TABLE?user=NAME       rows of a table, which is made if need be
  mongodb://HOST:27017/DATABASE/COLLECTION?user=NAME    documents`,
		Example: "  pollux topic create changes\n  pollux topic route put all --to changes\n  pollux sink create lake --topic changes --to file:lake\n  pollux sink list",
	}))
	cmd.AddCommand(sinkCreate(a), watcher(a, "sink", "sinks"), sinkUpdate(a), sinkList(a), sinkGet(a), sinkPause(a, "pause", true), sinkPause(a, "resume", false),
		remover(a, "rm ID", "Remove a sink and its position", "  pollux sink rm lake", "sink",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.sinks.DeleteSink(ctx, req(&pb.DeleteSinkRequest{Id: id}))
				return err
			}))
	return cmd
}

// sinkFlags are what can be configured of a sink.
type sinkFlags struct {
	title, topic, to, secretFile string
	batch                        uint32
	wait                         time.Duration
	oldest                       bool
}

func (f *sinkFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.title, "title", "", "name for people")
	cmd.Flags().StringVar(&f.topic, "topic", "", "`TOPIC` that it reads")
	cmd.Flags().StringVar(&f.to, "to", "", "`URL` where the messages go")
	cmd.Flags().BoolVar(&f.oldest, "oldest", false, "begin with the oldest message that the topic keeps")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "`FILE` with the password, secret key or signing key; - is the input, '' for none")
	cmd.Flags().Uint32Var(&f.batch, "batch", 0, "send with so many messages (50,000 of files, 500 of others, where it is not given)")
	cmd.Flags().DurationVar(&f.wait, "batch-wait", 0, "or when the first has waited so `LONG` (1m of files, 1s of others)")
}

func (f *sinkFlags) into(cmd *cobra.Command, m *pb.Sink) error {
	set := cmd.Flags().Changed
	if set("title") {
		m.Title = f.title
	}
	if set("topic") {
		m.Topic = f.topic
	}
	if set("to") {
		m.Url = f.to
	}
	if set("oldest") {
		m.Oldest = f.oldest
	}
	if set("batch") {
		m.BatchMessages = f.batch
	}
	if set("batch-wait") {
		m.BatchWait = spanOf(f.wait)
	}
	if !set("secret-file") {
		return nil
	}
	secret, err := readSecret(cmd, f.secretFile)
	m.Secret = secret
	return err
}

// readSecret from a file, or the input. No file has none.
func readSecret(cmd *cobra.Command, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(cmd.InOrStdin()) }
	}
	text, err := read()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", usagef("--secret-file %s: there is nothing in it", file)
	}
	return secret, nil
}

func sinkCreate(a *app) *cobra.Command {
	var f sinkFlags
	cmd := &cobra.Command{
		Use: "create ID", Short: "Create a sink", Args: exactly("ID"),
		Long: "Creates a sink. It begins with the next message of the topic, or with --oldest. See `pollux sink --help` for the URLs.",
		Example: "  pollux sink create lake --topic changes --to file:lake --oldest\n" +
			"  pollux sink create bus --topic changes --to kafka://kafka-1:9092,kafka-2:9092/twins\n" +
			"  pollux sink create hook --topic alarms --to https://example.com/alarms --secret-file key.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			m := &pb.Sink{Id: args[0]}
			if err := f.into(cmd, m); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.sinks.CreateSink(cmd.Context(), req(&pb.CreateSinkRequest{Sink: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Sink, func(w io.Writer) { row(w, "sink "+res.Msg.Sink.Id+" is there") })
		},
	}
	f.add(cmd)
	_ = cmd.MarkFlagRequired("topic")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

// changeSink reads a sink, changes it and writes it.
func changeSink(a *app, cmd *cobra.Command, id, done string, change func(*pb.UpdateSinkRequest) error) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	old, err := n.sinks.GetSink(cmd.Context(), req(&pb.GetSinkRequest{Id: id}))
	if err != nil {
		return err
	}
	m := old.Msg.Sink
	m.State = nil
	r := &pb.UpdateSinkRequest{Sink: m}
	if err := change(r); err != nil {
		return err
	}
	res, err := n.sinks.UpdateSink(cmd.Context(), req(r))
	if err != nil {
		return err
	}
	return a.show(res.Msg.Sink, func(w io.Writer) { row(w, "sink "+res.Msg.Sink.Id+" is "+done) })
}

func sinkUpdate(a *app) *cobra.Command {
	var f sinkFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a sink", Args: exactly("ID"),
		Long:    "Changes what the flags name and leaves the rest; 0 is the usual one again. The sink goes on where it stood, of another topic with its next message,\nor with --oldest.",
		Example: "  pollux sink update hook --to https://example.com/v2/alarms\n  pollux sink update hook --secret-file ''                       without a secret from now on",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeSink(a, cmd, args[0], "changed", func(r *pb.UpdateSinkRequest) error {
				r.RemoveSecret = cmd.Flags().Changed("secret-file") && f.secretFile == ""
				return f.into(cmd, r.Sink)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func sinkPause(a *app, use string, paused bool) *cobra.Command {
	short, done := "Have a sink go on where it stood", "resumed"
	if paused {
		short, done = "Have a sink wait; its topic keeps what comes meanwhile", "paused"
	}
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: exactly("ID"), Example: "  pollux sink " + use + " lake",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeSink(a, cmd, args[0], done, func(r *pb.UpdateSinkRequest) error {
				r.Sink.Paused = paused
				return nil
			})
		},
	}
}

func sinkList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the sinks and how far they are", Example: "  pollux sink list\n  pollux sink list --project hotel", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListSinksResponse{}
			for token := ""; ; {
				res, err := n.sinks.ListSinks(cmd.Context(), req(&pb.ListSinksRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Sinks = append(all.Sinks, res.Msg.Sinks...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "TOPIC", "TO", "DELIVERED", "REFUSED", "MISSED", "NODE", "STATUS")
				for _, m := range all.Sinks {
					s := m.GetState()
					row(w, bare(m.Id), bare(m.Topic), m.Url, s.GetDelivered(), s.GetRefused(), s.GetMissed(), dash(s.GetNode()), sinkStatus(m))
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

// sinkStatus says in words how a sink does.
func sinkStatus(m *pb.Sink) string {
	s := m.GetState()
	switch {
	case m.Paused:
		return "paused"
	case s.GetError() != "":
		return fmt.Sprintf("failing since %s: %s", s.ErrorTime.AsTime().Local().Format(time.DateTime), s.Error)
	case s.GetPosition() == 0:
		return "starting"
	}
	return "running"
}

func sinkGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a sink and how far it is", Example: "  pollux sink get lake", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.sinks.GetSink(cmd.Context(), req(&pb.GetSinkRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Sink, func(w io.Writer) { describeSink(w, res.Msg.Sink) })
		},
	}
}

func describeSink(w io.Writer, m *pb.Sink) {
	s := m.State
	secret := "none"
	if m.HasSecret {
		secret = "sealed"
	}
	row(w, "sink", m.Id)
	row(w, "title", dash(m.Title))
	row(w, "topic", m.Topic)
	row(w, "to", m.Url)
	row(w, "secret", secret)
	if m.BatchMessages > 0 {
		row(w, "batch", m.BatchMessages)
	}
	if m.BatchWait != nil {
		row(w, "batch wait", m.BatchWait.AsDuration())
	}
	if m.Oldest {
		row(w, "begins", "with the oldest message of its topic")
	}
	row(w, "status", sinkStatus(m))
	row(w, "position", fmt.Sprintf("offset %d, %d behind", s.Position, s.Lag))
	row(w, "delivered", fmt.Sprintf("%d in %d batches", s.Delivered, s.Batches))
	row(w, "refused", s.Refused)
	row(w, "missed", s.Missed)
	row(w, "node", dash(s.Node))
}
