package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func inboxCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:   "inbox",
		Short: "What announced itself and is no twin yet",
		Long: `The inbox of a project holds the devices that drivers discovered, and the senders of messages that nobody knows. Each is
named by its alias, NETWORK/KEY/VALUE. What shall happen to unknown senders is chosen by ` + "`pollux ingest unknown`" + `.`,
		Example: `  pollux inbox list
  pollux inbox claim lora/eui/70b3d5 sensor7 --model sensor
  pollux inbox ignore lora/eui/70b3d6`,
	}))
	cmd.AddCommand(inboxList(a), watcher(a, "inbox", "entries"), inboxClaim(a), inboxIgnore(a))
	return cmd
}

func inboxList(a *app) *cobra.Command {
	r := &pb.ListInboxRequest{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List what announced itself", Args: exactly(),
		Long: `Lists devices that drivers discovered and senders that nobody knows, with how many messages they sent and what the last one
began with. Take one in with ` + "`pollux inbox claim`" + `.`,
		Example: "  pollux inbox list\n  pollux inbox list --ignored -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all, err := n.inbox(cmd.Context(), r)
			if err != nil {
				return err
			}
			return a.show(all, func(w io.Writer) { inboxTable(w, all.Entries, time.Now()) })
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	cmd.Flags().BoolVar(&r.Ignored, "ignored", false, "also those that are ignored")
	return cmd
}

// inbox reads all pages.
func (n *node) inbox(ctx context.Context, r *pb.ListInboxRequest) (*pb.ListInboxResponse, error) {
	all := &pb.ListInboxResponse{}
	r = proto.Clone(r).(*pb.ListInboxRequest)
	r.PageSize = pageSize
	for {
		res, err := n.site.ListInbox(ctx, req(r))
		if err != nil {
			return nil, err
		}
		all.Entries = append(all.Entries, res.Msg.Entries...)
		if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
			return all, nil
		}
	}
}

func inboxTable(w io.Writer, entries []*pb.InboxEntry, now time.Time) {
	row(w, "ALIAS", "NAME", "DRIVER", "MODEL", "ADDRESS", "SEEN BY", "MESSAGES", "LAST", "SAMPLE", "SETTINGS")
	for _, e := range entries {
		alias := bare(projectOf(e.Id) + "/" + aliasText(e.Alias))
		if e.Ignored {
			alias += " (ignored)"
		}
		messages, last, sample := "–", "–", "–"
		if e.Count > 0 {
			messages, last = fmt.Sprint(e.Count), ago(e.LastTime, now)
		}
		if len(e.Samples) > 0 {
			newest := e.Samples[len(e.Samples)-1]
			sample = payloadText(newest, uint32(len(newest)))
		}
		row(w, alias, dash(e.Name), dash(e.Driver), dash(e.Model), dash(e.Uri), dash(bare(e.Via)), messages, last, sample, dash(e.SettingsJson))
	}
}

func projectOf(id string) string {
	p, _, _ := strings.Cut(id, "/")
	return p
}

// entry finds an entry by its alias as the list shows it: [PROJECT/]NETWORK/KEY/VALUE.
func (n *node) entry(ctx context.Context, text string) (*pb.InboxEntry, error) {
	all, err := n.inbox(ctx, &pb.ListInboxRequest{Ignored: true})
	if err != nil {
		return nil, err
	}
	for _, e := range all.Entries {
		if full := projectOf(e.Id) + "/" + aliasText(e.Alias); full == text || full == "default/"+text || e.Id == text {
			return e, nil
		}
	}
	return nil, fmt.Errorf("there is no %s in the inbox; pollux inbox list --ignored shows what is", text)
}

func inboxClaim(a *app) *cobra.Command {
	t, f := &pb.Twin{}, &twinFlags{}
	cmd := &cobra.Command{
		Use: "claim ALIAS NAME", Short: "Make a twin of what is in the inbox", Args: exactly("ALIAS", "NAME"),
		Long: `Makes a twin that has the alias, so that its messages go to it from now on. Driver, address and settings are those that the
entry shows, unless flags say otherwise; --setting changes one and leaves the others.`,
		Example: "  pollux inbox claim lora/eui/70b3d5 sensor7 --model sensor --zone aula\n  pollux inbox claim knx/address/1.1.5 lamp5",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			e, err := n.entry(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			t.Id = args[1]
			if len(f.settings) > 0 {
				if err := asFound(t, e); err != nil {
					return err
				}
				if err := f.applySettings(cmd.Context(), n, t); err != nil {
					return err
				}
			}
			res, err := n.site.ClaimInbox(cmd.Context(), req(&pb.ClaimInboxRequest{Id: e.Id, Twin: t}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Twin, func(w io.Writer) { row(w, "twin "+res.Msg.Twin.Id+" has the alias "+aliasText(e.Alias)) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&t.Driver, "driver", "", "driver of the twin, as `NAME[@VERSION]`")
	fl.StringVar(&t.Model, "model", "", "model of a twin without a driver")
	fl.StringVar(&t.Uri, "uri", "", "address of the device")
	fl.StringVar(&t.Zone, "zone", "", "zone that it is in")
	fl.StringToStringVar(&t.Labels, "label", nil, "label as `NAME=VALUE`; many times")
	fl.StringArrayVar(&f.settings, "setting", nil, "setting as `NAME=VALUE`, beside those of the entry; many times (see: pollux driver get)")
	return cmd
}

// asFound gives a twin the settings of what was found, where it has its driver: as the node does where none are given.
func asFound(t *pb.Twin, e *pb.InboxEntry) error {
	if t.Driver == "" && t.Model == "" {
		t.Driver = e.Driver
	}
	if e.Driver == "" || t.Driver != e.Driver || e.SettingsJson == "" {
		return nil
	}
	t.Settings = &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(e.SettingsJson), t.Settings); err != nil {
		return fmt.Errorf("settings of the entry: %w", err)
	}
	return nil
}

func inboxIgnore(a *app) *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "ignore ALIAS", Short: "Hide something from the inbox", Args: exactly("ALIAS"),
		Long:    "Hides an entry from the list. What it sends goes on to be counted. --undo shows it again.",
		Example: "  pollux inbox ignore lora/eui/70b3d6\n  pollux inbox ignore lora/eui/70b3d6 --undo",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			e, err := n.entry(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			res, err := n.site.IgnoreInbox(cmd.Context(), req(&pb.IgnoreInboxRequest{Id: e.Id, Undo: undo}))
			if err != nil {
				return err
			}
			done := " is ignored"
			if undo {
				done = " is listed again"
			}
			return a.show(res.Msg.Entry, func(w io.Writer) { row(w, aliasText(e.Alias)+done) })
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "show it again")
	return cmd
}
