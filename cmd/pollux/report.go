package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// scheduleReport makes a schedule whose action mails a table of the history.
func scheduleReport(a *app) *cobra.Command {
	var when timingFlags
	var of pb.Selection
	var table pb.HistoryTable
	var since, step time.Duration
	var formats, labels []string
	notice := &pb.NotifyAction{}
	cmd := &cobra.Command{
		Use: "report ID", Short: "Have a table of the history mailed at times", Args: exactly("ID"),
		Long: `Creates a schedule, or replaces the one of that name, that has a notifier send what properties were: a row for each --step of the time
before the firing, a column for each twin and property, as CSV or HTML. A notifier of mail or a signed webhook carries it. The table ends at the
time when the report was due, also where it is sent later.`,
		Example: "  pollux schedule report energy --daily 07:00 --zone Europe/Berlin --notifier mail --property power --model meter --since 24h --step 1h\n" +
			"  pollux schedule report week --daily 06:00 --weekdays mon --notifier mail --property temperature,humidity --in-zone hq --since 168h --step 24h --aggregate max --format html",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			m := &pb.Schedule{Id: args[0]}
			if m.Timing, m.Windows, err = when.timing(); err != nil {
				return err
			}
			if of.Labels, err = pairs("label", labels); err != nil {
				return err
			}
			table.Of, table.Since, table.Step, table.Zone = &of, durationpb.New(since), durationpb.New(step), when.zone
			for _, f := range formats {
				v, ok := pb.TableFormat_value["TABLE_FORMAT_"+strings.ToUpper(f)]
				if !ok || v == 0 {
					return usagef("--format %q: want csv or html", f)
				}
				table.Format = pb.TableFormat(v)
				notice.Attachments = append(notice.Attachments, &pb.Attachment{Name: bare(m.Id) + "." + f, Content: &pb.Attachment_History{History: proto.Clone(&table).(*pb.HistoryTable)}})
			}
			if notice.Subject == "" {
				notice.Subject = "Report " + bare(m.Id)
			}
			if notice.Body == "" {
				notice.Body = fmt.Sprintf("%s of the %s before ${due}.", strings.Join(table.Properties, ", "), since)
			}
			m.Actions = []*pb.Action{{Do: &pb.Action_Notify{Notify: notice}}}
			return a.putSchedule(cmd, m)
		},
	}
	when.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&notice.Notifier, "notifier", "", "`NOTIFIER` that sends it")
	fl.StringSliceVar(&notice.To, "mail-to", nil, "`RECIPIENTS` instead of the notifier's own")
	fl.StringVar(&notice.Subject, "subject", "", "of the mail")
	fl.StringVar(&notice.Body, "body", "", "of the mail")
	fl.StringSliceVar(&table.Properties, "property", nil, "these `PROPERTIES`")
	fl.StringSliceVar(&of.Twins, "twin", nil, "of these `TWINS`")
	fl.StringVar(&of.Model, "model", "", "of the twins of this model")
	fl.StringVar(&of.Zone, "in-zone", "", "of the twins in this zone, and in those within")
	fl.StringVar(&of.System, "system", "", "of the twins of this system")
	fl.StringArrayVar(&labels, "label", nil, "of the twins with this label, `KEY=VALUE`; many times")
	fl.DurationVar(&since, "since", 24*time.Hour, "how far back")
	fl.DurationVar(&step, "step", time.Hour, "a row for each so `LONG`")
	fl.StringVar(&table.Aggregate, "aggregate", "", "of a row's values: `avg`, min, max, sum, count, first or last")
	fl.StringSliceVar(&formats, "format", []string{"csv"}, "csv, html, or both")
	_ = cmd.MarkFlagRequired("notifier")
	_ = cmd.MarkFlagRequired("property")
	return cmd
}

// putSchedule makes a schedule, or replaces the one of its name, which stays paused, or on, where no flag says otherwise.
func (a *app) putSchedule(cmd *cobra.Command, m *pb.Schedule) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	res, err := n.automation.PutSchedule(cmd.Context(), req(&pb.PutScheduleRequest{Schedule: m}))
	if connect.CodeOf(err) == connect.CodeAlreadyExists {
		old, gone := n.automation.GetSchedule(cmd.Context(), req(&pb.GetScheduleRequest{Id: m.Id}))
		if gone != nil {
			return gone
		}
		m.Revision = old.Msg.Schedule.Revision
		if !cmd.Flags().Changed("paused") {
			m.Paused = old.Msg.Schedule.Paused
		}
		res, err = n.automation.PutSchedule(cmd.Context(), req(&pb.PutScheduleRequest{Schedule: m}))
	}
	if err != nil {
		return err
	}
	return a.show(res.Msg.Schedule, func(w io.Writer) {
		row(w, "schedule "+res.Msg.Schedule.Id+" is there"+rests(res.Msg.Schedule.Paused, "schedule", res.Msg.Schedule.Id))
		showNotes(w, res.Msg.Notes)
	})
}
