package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// alarmFilterFlags say which alarms of which time are meant.
type alarmFilterFlags struct {
	rangeFlags
	f        pb.AlarmFilter
	severity string
}

func (x *alarmFilterFlags) add(cmd *cobra.Command) {
	x.rangeFlags.add(cmd, "720h")
	cmd.Flags().StringVar(&x.f.Project, "project", "", "only of this project")
	cmd.Flags().StringVar(&x.f.Twin, "twin", "", "only of this twin")
	cmd.Flags().StringVar(&x.f.Zone, "zone", "", "only of twins in this zone, and in those within")
	cmd.Flags().StringVar(&x.f.By, "rule", "", "only those that this rule raised")
	cmd.Flags().StringVar(&x.severity, "severity", "", "at least so severe: info, `warning`, error or critical")
}

func (x *alarmFilterFlags) read() (*pb.AlarmFilter, error) {
	var err error
	if x.f.Severity, err = severityOf(x.severity); err != nil {
		return nil, err
	}
	if x.f.By != "" && strings.Count(x.f.By, "/") == 1 {
		x.f.By = "rule/" + x.f.By
	}
	x.f.Start, x.f.End, err = x.rangeFlags.read(time.Now())
	return &x.f, err
}

func alarmHistory(a *app) *cobra.Command {
	var x alarmFilterFlags
	limit := 0
	cmd := &cobra.Command{
		Use: "history [ID]", Short: "List when alarms were active", Args: between(0, "ID"),
		Long: `Lists when alarms were raised, acknowledged and cleared, those that were raised last first: of the last 30 days, or as --since says. It is
read from the journal, so it reaches as far back as that is kept (pollux retention show).`,
		Example: "  pollux alarm history\n  pollux alarm history too-hot.room1 --since 8760h\n  pollux alarm history --zone hq --severity error --since 24h",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := x.read()
			if err != nil {
				return err
			}
			if len(args) > 0 {
				f.Alarm = args[0]
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			all, r := &pb.ListAlarmSpellsResponse{}, &pb.ListAlarmSpellsRequest{Filter: f}
			for len(all.Spells) < limit {
				r.PageSize = uint32(min(limit-len(all.Spells), pageSize))
				res, err := n.automation.ListAlarmSpells(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Spells, all.Since = append(all.Spells, res.Msg.Spells...), res.Msg.Since
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listSpells(w, all.Spells, time.Now()) })
		},
	}
	x.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

func listSpells(w io.Writer, all []*pb.AlarmSpell, now time.Time) {
	row(w, "RAISED", "ID", "SEVERITY", "LASTED", "ACKNOWLEDGED", "TWIN", "TEXT")
	for _, s := range all {
		lasted, seen := "since "+shortSpan(now.Sub(s.RaiseTime.AsTime())), "no"
		if s.ClearTime != nil {
			lasted = shortSpan(s.ClearTime.AsTime().Sub(s.RaiseTime.AsTime()))
		}
		if s.AcknowledgeTime != nil {
			seen = fmt.Sprintf("after %s by %s", shortSpan(s.AcknowledgeTime.AsTime().Sub(s.RaiseTime.AsTime())), s.AcknowledgedBy)
		}
		row(w, timeText(s.RaiseTime, now), bare(s.Alarm), enumText(s.Severity, "ALARM_SEVERITY_"), lasted, seen, dash(bare(s.Twin)), printable(s.Text))
	}
}

// shortSpan is a length of time in its two largest units.
func shortSpan(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// alarmGroups are the words of --by.
var alarmGroups = map[string]pb.AlarmGroup{"alarm": pb.AlarmGroup_ALARM_GROUP_ALARM, "twin": pb.AlarmGroup_ALARM_GROUP_TWIN, "zone": pb.AlarmGroup_ALARM_GROUP_ZONE,
	"rule": pb.AlarmGroup_ALARM_GROUP_BY, "severity": pb.AlarmGroup_ALARM_GROUP_SEVERITY}

func alarmStats(a *app) *cobra.Command {
	var x alarmFilterFlags
	by := ""
	var step time.Duration
	cmd := &cobra.Command{
		Use: "stats", Aliases: []string{"statistics"}, Short: "Say how often alarms came, and how long they went on", Args: exactly(),
		Long: `Says how often alarms were raised in the last 30 days (or as --since says), how long it took on the average until somebody acknowledged
them and until they cleared, which went on longest, and how many are active: by alarm, twin, zone, rule (or whoever raised them) or severity.`,
		Example: "  pollux alarm stats\n  pollux alarm stats --by zone --since 168h\n  pollux alarm stats --by twin --rule too-hot\n  pollux alarm stats --since 24h --step 1h -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			group, ok := alarmGroups[by]
			if !ok {
				return usagef("--by %q: want alarm, twin, zone, rule or severity", by)
			}
			f, err := x.read()
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			r := &pb.GetAlarmStatisticsRequest{Filter: f, Group: group, PageSize: pageSize}
			if step > 0 {
				r.Step = durationpb.New(step)
			}
			var all *pb.GetAlarmStatisticsResponse
			for {
				res, err := n.automation.GetAlarmStatistics(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				if all == nil {
					all = res.Msg
				} else {
					all.Groups = append(all.Groups, res.Msg.Groups...)
				}
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					all.NextPageToken = ""
					break
				}
			}
			return a.show(all, func(w io.Writer) { drawStats(w, by, all) })
		},
	}
	x.add(cmd)
	cmd.Flags().StringVar(&by, "by", "alarm", "a line for each `alarm`, twin, zone, rule or severity")
	cmd.Flags().DurationVar(&step, "step", 0, "with -o json: width of the bars of what was raised; a day where it is not given")
	return cmd
}

func drawStats(w io.Writer, by string, m *pb.GetAlarmStatisticsResponse) {
	span := func(d *durationpb.Duration) string {
		if d == nil {
			return "–"
		}
		return shortSpan(d.AsDuration())
	}
	row(w, strings.ToUpper(by), "RAISED", "ACTIVE", "NOT ACKNOWLEDGED", "TO ACKNOWLEDGE", "TO CLEAR", "LONGEST")
	for _, f := range m.Groups {
		row(w, dash(bare(strings.TrimPrefix(f.Group, "rule/"))), f.Raised, f.Open, f.Unacknowledged, span(f.MeanAcknowledge), span(f.MeanClear), span(f.Longest))
	}
	t := m.Total
	row(w, "all", t.Raised, t.Open, t.Unacknowledged, span(t.MeanAcknowledge), span(t.MeanClear), span(t.Longest))
	if m.Since.AsTime().After(m.Start.AsTime()) {
		row(w)
		row(w, "there were more alarms than are counted at a time: this is since "+m.Since.AsTime().Local().Format("2006-01-02 15:04"))
	}
}
