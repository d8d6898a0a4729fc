package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func historyCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:   "history",
		Short: "The past: events, commands and values of many twins",
		Long: `History has the numbers that twins report; the journal has what is no number: events, commands, strings, JSON and places.
The past of one property of one twin is drawn by ` + "`pollux twin history`" + `.`,
		Example: "  pollux history journal --twin beamer --since 24h\n  pollux history journal --kind event --name overheated\n" +
			"  pollux history series temperature --label floor=3 --since 24h --step 1h\n  pollux history series power --by zone --group-aggregate sum --step 15m\n" +
			"  pollux history query 'topk(5, rate(pollux_property{property=\"energy\"}[1h]))'",
	}))
	cmd.AddCommand(historyJournal(a), historySeries(a), historyQuery(a), historyExport(a))
	return cmd
}

// rangeFlags say of which time.
type rangeFlags struct{ since, until string }

func (f *rangeFlags) add(cmd *cobra.Command, since string) {
	cmd.Flags().StringVar(&f.since, "since", since, "from this `TIME` on: 10m ago as 10m, or 2026-01-31T12:00:00Z")
	cmd.Flags().StringVar(&f.until, "until", "", "up to this `TIME`: as --since; now where it is not given")
}

// read gives the range; a nil start: from the beginning.
func (f *rangeFlags) read(now time.Time) (start, end *timestamppb.Timestamp, err error) {
	for _, x := range []struct {
		name, text string
		to         **timestamppb.Timestamp
	}{{"since", f.since, &start}, {"until", f.until, &end}} {
		if x.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, x.text)
		if d, derr := time.ParseDuration(x.text); derr == nil {
			at, err = now.Add(-d.Abs()), nil
		}
		if err != nil {
			return nil, nil, usagef("--%s %q: want a span such as 10m, or a time such as 2026-01-31T12:00:00Z", x.name, x.text)
		}
		*x.to = timestamppb.New(at)
	}
	if start != nil && end != nil && end.AsTime().Before(start.AsTime()) {
		return nil, nil, usagef("--until %s is before --since %s", f.until, f.since)
	}
	return start, end, nil
}

func historyJournal(a *app) *cobra.Command {
	r := &pb.ListJournalRequest{}
	var span rangeFlags
	var limit int
	cmd := &cobra.Command{
		Use: "journal", Aliases: []string{"events"}, Short: "List events, commands and values that are no numbers", Args: exactly(),
		Long: `Lists what happened, the newest last: the newest --limit entries of the time that is asked for, or with --oldest-first the
first ones. Kinds are event, value (of a property that is no number), quality (a value became stale, bad or good), desired (a
property was asked for) and command (one ended); of a project alarm (what happened to one: pollux alarm history) and quota.`,
		Example: "  pollux history journal --twin beamer --since 24h\n  pollux history journal --kind event --kind command --limit 1000 -o json\n" +
			"  pollux history journal --project plant --name overheated --since 720h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.Start, r.End, err = span.read(time.Now()); err != nil {
				return err
			}
			if limit < 1 {
				return usagef("--limit %d: want 1 or more", limit)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			all, err := n.journal(cmd.Context(), r, limit)
			if err != nil {
				return err
			}
			if !r.OldestFirst {
				slices.Reverse(all.Entries)
			}
			return a.show(all, func(w io.Writer) { journalTable(w, all.Entries) })
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	cmd.Flags().StringVar(&r.Twin, "twin", "", "only of this twin")
	cmd.Flags().StringSliceVar(&r.Kinds, "kind", nil, "only of this kind; may be given several times")
	cmd.Flags().StringSliceVar(&r.Names, "name", nil, "only of this name: of the event, the property, the command")
	cmd.Flags().BoolVar(&r.OldestFirst, "oldest-first", false, "the first entries instead of the newest")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	span.add(cmd, "")
	return cmd
}

// journal reads pages until there are enough.
func (n *node) journal(ctx context.Context, r *pb.ListJournalRequest, limit int) (*pb.ListJournalResponse, error) {
	all := &pb.ListJournalResponse{}
	r = proto.Clone(r).(*pb.ListJournalRequest)
	for {
		r.PageSize = uint32(min(pageSize, limit-len(all.Entries)))
		res, err := n.history.ListJournal(ctx, req(r))
		if err != nil {
			return nil, err
		}
		all.Entries = append(all.Entries, res.Msg.Entries...)
		all.NextPageToken = res.Msg.NextPageToken
		if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" || len(all.Entries) >= limit {
			return all, nil
		}
	}
}

func journalTable(w io.Writer, entries []*pb.JournalEntry) {
	row(w, "TIME", "TWIN", "KIND", "NAME", "DATA")
	for _, e := range entries {
		twin, data := e.Twin, jsonText(e.Data)
		if e.Kind == "alarm" { // it is the project's, and says of which twin
			f := e.Data.GetStructValue().GetFields()
			twin, data = f["twin"].GetStringValue(), jsonText(structpb.NewStringValue(f["what"].GetStringValue()+": "+f["text"].GetStringValue()))
		}
		row(w, e.Time.AsTime().Local().Format("2006-01-02 15:04:05.000"), dash(bare(twin)), e.Kind, printable(e.Name), data)
	}
}

// maxShown is how much of an entry's data a table shows, in characters.
const maxShown = 100

func jsonText(v *structpb.Value) string {
	text, err := protojson.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	if r := []rune(string(text)); len(r) > maxShown {
		return printable(string(r[:maxShown-1])) + "…"
	}
	return printable(string(text))
}
