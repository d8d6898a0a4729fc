package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func sourceCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "source", Aliases: []string{"sources"}, Short: "Doors at which Pollux fetches messages: consumers of Kafka",
		Long: `A source reads a topic of Kafka as a member of a consumer group. Its records go the way of all messages: to a twin, to the inbox or to the
refusals (pollux ingest status, door kafka). Kafka is told that a record was read when that is committed.

The header "twin" of a record names its twin. Else the record's key is the value of the alias NETWORK/KEY/VALUE, where network is kafka and key the topic unless the
URL says otherwise.`,
		Example: "  pollux source create plant --from 'kafka://kafka-1:9092/readings?network=plant&key=serial'\n  pollux source list",
	}))
	cmd.AddCommand(sourceCreate(a), watcher(a, "source", "sources"), sourceGet(a), sourceUpdate(a), sourceList(a), sourcePause(a, "pause", true), sourcePause(a, "resume", false),
		remover(a, "rm ID", "Remove a source; its group's position stays in Kafka", "  pollux source rm plant", "source",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.sources.DeleteSource(ctx, req(&pb.DeleteSourceRequest{Id: id}))
				return err
			}))
	return cmd
}

// sourceFlags are what can be configured of a source.
type sourceFlags struct{ title, from, secretFile string }

func (f *sourceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.title, "title", "", "name for people")
	cmd.Flags().StringVar(&f.from, "from", "", "`URL`: kafka://HOST:PORT,HOST:PORT/TOPIC?group=&network=&key=&user=&sasl=&tls=")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", "`FILE` with the password; - is the input, '' for none")
}

func (f *sourceFlags) into(cmd *cobra.Command, m *pb.Source) (err error) {
	if cmd.Flags().Changed("title") {
		m.Title = f.title
	}
	if cmd.Flags().Changed("from") {
		m.Url = f.from
	}
	if cmd.Flags().Changed("secret-file") {
		m.Secret, err = readSecret(cmd, f.secretFile)
	}
	return err
}

func sourceCreate(a *app) *cobra.Command {
	var f sourceFlags
	cmd := &cobra.Command{
		Use: "create ID", Short: "Create a source", Args: exactly("ID"),
		Long: "Creates a source. A group that is new to Kafka begins with the oldest record.",
		Example: "  pollux source create plant --from kafka://kafka-1:9092/readings\n" +
			"  pollux source create plant --from 'kafka://kafka-1:9092/readings?sasl=scram-sha-512&user=pollux&group=pollux' --secret-file kafka.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			m := &pb.Source{Id: args[0]}
			if err := f.into(cmd, m); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.sources.CreateSource(cmd.Context(), req(&pb.CreateSourceRequest{Source: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Source, func(w io.Writer) { row(w, "source "+res.Msg.Source.Id+" is there") })
		},
	}
	f.add(cmd)
	_ = cmd.MarkFlagRequired("from")
	return cmd
}

// changeSource reads a source, changes it and writes it.
func changeSource(a *app, cmd *cobra.Command, id, done string, change func(*pb.UpdateSourceRequest) error) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	old, err := n.sources.GetSource(cmd.Context(), req(&pb.GetSourceRequest{Id: id}))
	if err != nil {
		return err
	}
	m := old.Msg.Source
	m.State = nil
	r := &pb.UpdateSourceRequest{Source: m}
	if err := change(r); err != nil {
		return err
	}
	res, err := n.sources.UpdateSource(cmd.Context(), req(r))
	if err != nil {
		return err
	}
	return a.show(res.Msg.Source, func(w io.Writer) { row(w, "source "+res.Msg.Source.Id+" is "+done) })
}

func sourceUpdate(a *app) *cobra.Command {
	var f sourceFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a source", Args: exactly("ID"), Long: "Changes what the flags name and leaves the rest.",
		Example: "  pollux source update plant --from kafka://kafka-2:9092/readings\n  pollux source update plant --secret-file ''                   without a secret from now on",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeSource(a, cmd, args[0], "changed", func(r *pb.UpdateSourceRequest) error {
				r.RemoveSecret = cmd.Flags().Changed("secret-file") && f.secretFile == ""
				return f.into(cmd, r.Source)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func sourcePause(a *app, use string, paused bool) *cobra.Command {
	short, done := "Have a source go on where its group stands", "resumed"
	if paused {
		short, done = "Have a source wait", "paused"
	}
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: exactly("ID"), Example: "  pollux source " + use + " plant",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeSource(a, cmd, args[0], done, func(r *pb.UpdateSourceRequest) error {
				r.Source.Paused = paused
				return nil
			})
		},
	}
}

func sourceList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the sources and how they do", Example: "  pollux source list\n  pollux source list --project hotel", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListSourcesResponse{}
			for token := ""; ; {
				res, err := n.sources.ListSources(cmd.Context(), req(&pb.ListSourcesRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Sources = append(all.Sources, res.Msg.Sources...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "FROM", "READ", "NODE", "STATUS")
				for _, m := range all.Sources {
					row(w, bare(m.Id), m.Url, m.GetState().GetRead(), dash(m.GetState().GetNode()), sourceStatus(m))
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

// sourceStatus says in words how a source does.
func sourceStatus(m *pb.Source) string {
	switch s := m.GetState(); {
	case m.Paused:
		return "paused"
	case s.GetError() != "":
		return fmt.Sprintf("failing since %s: %s", s.ErrorTime.AsTime().Local().Format(time.DateTime), s.Error)
	}
	return "running"
}

func sourceGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a source and how it does", Args: exactly("ID"), Example: "  pollux source get plant\n  pollux source get plant -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.sources.GetSource(cmd.Context(), req(&pb.GetSourceRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			m := res.Msg.Source
			return a.show(m, func(w io.Writer) {
				row(w, "source", m.Id)
				row(w, "title", dash(m.Title))
				row(w, "from", m.Url)
				row(w, "secret", map[bool]string{true: "sealed", false: "–"}[m.HasSecret])
				row(w, "read", m.GetState().GetRead())
				row(w, "node", dash(m.GetState().GetNode()))
				row(w, "status", sourceStatus(m))
			})
		},
	}
}
