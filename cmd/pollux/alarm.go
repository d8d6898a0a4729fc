package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func alarmCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "alarm",
		Aliases: []string{"alarms"},
		Short:   "What somebody should look at",
		Long: `An alarm is raised by a rule, a schedule or a person. Its reason is there, or it is cleared; somebody has acknowledged it, or not. It needs
attention until it is both cleared and acknowledged. A shelved one is left out for a time; one whose gateway has an alarm itself is left out
as long as that is active.`,
		Example: "  pollux alarm list\n  pollux alarm ack too-hot.room1 --note 'the window was open'\n  pollux alarm shelve too-hot.room1 --for 8h\n" +
			"  pollux rule put too-hot --on '*.temperature' --if 'value > 30' --raise too-hot --severity error",
	}))
	cmd.AddCommand(alarmList(a), watcher(a, "alarm", "alarms"), alarmGet(a), alarmRaise(a), alarmCount(a), alarmHistory(a), alarmStats(a),
		alarmChange(a, "ack", "Acknowledge an alarm", "  pollux alarm ack too-hot.room1 --note 'on my way'", func(*cobra.Command, *pb.ChangeAlarmRequest) func() error { return nil },
			func(r *pb.ChangeAlarmRequest) { r.Change = &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true} }),
		alarmChange(a, "clear", "Say that an alarm's reason is gone", "  pollux alarm clear too-hot.room1", func(*cobra.Command, *pb.ChangeAlarmRequest) func() error { return nil },
			func(r *pb.ChangeAlarmRequest) { r.Change = &pb.ChangeAlarmRequest_Clear{Clear: true} }),
		alarmAssign(a), alarmShelve(a), alarmUnshelve(a),
		remover(a, "rm ID", "Forget an alarm and its past", "  pollux alarm rm too-hot.room1", "alarm", func(ctx context.Context, n *node, id string) error {
			_, err := n.automation.DeleteAlarm(ctx, req(&pb.DeleteAlarmRequest{Id: id}))
			return err
		}))
	return cmd
}

// alarmChange makes a command that changes an alarm; set says how.
func alarmChange(a *app, word, short, example string, flags func(*cobra.Command, *pb.ChangeAlarmRequest) func() error, set func(*pb.ChangeAlarmRequest)) *cobra.Command {
	r := &pb.ChangeAlarmRequest{}
	var check func() error
	cmd := &cobra.Command{
		Use: word + " ID", Short: short, Example: example, Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Id = args[0]
			set(r)
			if check != nil {
				if err := check(); err != nil {
					return err
				}
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.ChangeAlarm(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Alarm, func(w io.Writer) { row(w, "alarm "+res.Msg.Alarm.Id+": "+alarmState(res.Msg.Alarm, time.Now())) })
		},
	}
	cmd.Flags().StringVar(&r.Note, "note", "", "a word for the alarm's past")
	check = flags(cmd, r)
	return cmd
}

func alarmAssign(a *app) *cobra.Command {
	to := ""
	return alarmChange(a, "assign", "Say whose work an alarm is", "  pollux alarm assign too-hot.room1 --to kim", func(cmd *cobra.Command, _ *pb.ChangeAlarmRequest) func() error {
		cmd.Flags().StringVar(&to, "to", "", "to whom; to nobody where it is not given")
		return nil
	}, func(r *pb.ChangeAlarmRequest) { r.Change = &pb.ChangeAlarmRequest_Assign{Assign: to} })
}

func alarmShelve(a *app) *cobra.Command {
	var lasts time.Duration
	return alarmChange(a, "shelve", "Leave an alarm out for a time", "  pollux alarm shelve too-hot.room1 --for 8h --note 'being repaired'",
		func(cmd *cobra.Command, _ *pb.ChangeAlarmRequest) func() error {
			cmd.Flags().DurationVar(&lasts, "for", 8*time.Hour, "for so `LONG`")
			return func() error {
				if lasts <= 0 {
					return usagef("--for %s: want a time such as 8h", lasts)
				}
				return nil
			}
		}, func(r *pb.ChangeAlarmRequest) {
			r.Change = &pb.ChangeAlarmRequest_Shelve{Shelve: durationpb.New(lasts)}
		})
}

func alarmUnshelve(a *app) *cobra.Command {
	return alarmChange(a, "unshelve", "Leave an alarm out no longer", "  pollux alarm unshelve too-hot.room1", func(*cobra.Command, *pb.ChangeAlarmRequest) func() error { return nil },
		func(r *pb.ChangeAlarmRequest) { r.Change = &pb.ChangeAlarmRequest_Shelve{Shelve: durationpb.New(0)} })
}

// alarmState says in a few words how it is with an alarm.
func alarmState(m *pb.Alarm, now time.Time) string {
	text := "cleared"
	if m.Active {
		text = "active"
	}
	if m.Acknowledged {
		text += ", acknowledged by " + m.AcknowledgedBy
	} else {
		text += ", not acknowledged"
	}
	if m.ShelvedUntil != nil && m.ShelvedUntil.AsTime().After(now) {
		text += ", shelved until " + m.ShelvedUntil.AsTime().Local().Format("2006-01-02 15:04")
	}
	if m.SuppressedBy != "" {
		text += ", suppressed by " + bare(m.SuppressedBy)
	}
	if m.Suppresses > 0 {
		text += fmt.Sprintf(", stands for %d behind it", m.Suppresses)
	}
	return text
}

func severityOf(text string) (pb.AlarmSeverity, error) {
	if text == "" {
		return 0, nil
	}
	v, ok := pb.AlarmSeverity_value["ALARM_SEVERITY_"+strings.ToUpper(text)]
	if !ok {
		return 0, usagef("--severity %q: want info, warning, error or critical", text)
	}
	return pb.AlarmSeverity(v), nil
}

func alarmRaise(a *app) *cobra.Command {
	r := &pb.RaiseAlarmRequest{}
	severity := ""
	cmd := &cobra.Command{
		Use: "raise ID TEXT", Short: "Raise an alarm by hand", Example: "  pollux alarm raise leak 'water in the cellar' --severity critical --twin pump1", Args: exactly("ID", "TEXT"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.Id, r.Text = args[0], args[1]
			if r.Severity, err = severityOf(severity); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.RaiseAlarm(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Alarm, func(w io.Writer) { row(w, "alarm "+res.Msg.Alarm.Id+": "+alarmState(res.Msg.Alarm, time.Now())) })
		},
	}
	cmd.Flags().StringVar(&r.Twin, "twin", "", "the `ID` of the twin that it is about")
	cmd.Flags().StringVar(&severity, "severity", "", "info, `warning`, error or critical")
	return cmd
}

func alarmList(a *app) *cobra.Command {
	r := &pb.ListAlarmsRequest{PageSize: pageSize}
	severity := ""
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the alarms that need attention", Args: exactly(),
		Example: "  pollux alarm list\n  pollux alarm list --all --zone hq --severity error",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if r.Severity, err = severityOf(severity); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListAlarmsResponse{}
			for {
				res, err := n.automation.ListAlarms(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Alarms = append(all.Alarms, res.Msg.Alarms...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listAlarms(w, all.Alarms, time.Now()) })
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	cmd.Flags().StringVar(&r.Twin, "twin", "", "only of this twin")
	cmd.Flags().StringVar(&r.Zone, "zone", "", "only of twins in this zone, and in those within")
	cmd.Flags().StringVar(&severity, "severity", "", "at least so severe: info, `warning`, error or critical")
	cmd.Flags().BoolVar(&r.All, "all", false, "also those that are over, shelved or suppressed")
	return cmd
}

func listAlarms(w io.Writer, alarms []*pb.Alarm, now time.Time) {
	row(w, "ID", "SEVERITY", "SINCE", "TWIN", "STATE", "FOR", "TEXT")
	for _, m := range alarms {
		row(w, bare(m.Id), enumText(m.Severity, "ALARM_SEVERITY_"), ago(m.RaiseTime, now), dash(bare(m.Twin)), alarmState(m, now), dash(m.AssignedTo), printable(m.Text))
	}
}

func alarmGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show an alarm, its past and its escalations", Example: "  pollux alarm get too-hot.room1", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.GetAlarm(cmd.Context(), req(&pb.GetAlarmRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { a.showAlarm(w, res.Msg, time.Now()) })
		},
	}
}

func (a *app) showAlarm(w io.Writer, g *pb.GetAlarmResponse, now time.Time) {
	m := g.Alarm
	row(w, "alarm", m.Id)
	row(w, "text", printable(m.Text))
	row(w, "severity", enumText(m.Severity, "ALARM_SEVERITY_"))
	row(w, "state", alarmState(m, now))
	row(w, "twin", dash(bare(m.Twin)))
	row(w, "zone", dash(bare(m.Zone)))
	row(w, "raised", fmt.Sprintf("%d times, told %d times, by %s", m.Raised, m.Told, m.By))
	for i, e := range m.Escalate {
		row(w, fmt.Sprintf("escalation %d", i+1), "after "+e.After.AsDuration().String())
	}
	fmt.Fprintln(w)
	row(w, "TIME", "WHAT", "BY", "NOTE")
	for _, c := range m.Changes {
		row(w, timeText(c.Time, now), c.What, c.By, printable(c.Note))
	}
	a.showRuns(w, g.Runs, now)
}

func alarmCount(a *app) *cobra.Command {
	r := &pb.CountAlarmsRequest{}
	cmd := &cobra.Command{
		Use: "count", Short: "Count the active alarms by severity and zone", Example: "  pollux alarm count\n  pollux alarm count --project hotel", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.CountAlarms(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				row(w, "active", res.Msg.Active)
				row(w, "not acknowledged", res.Msg.Unacknowledged)
				for _, s := range []string{"critical", "error", "warning", "info"} {
					row(w, s, res.Msg.BySeverity[s])
				}
				for _, zone := range slices.Sorted(maps.Keys(res.Msg.ByZone)) {
					row(w, "zone "+bare(zone), res.Msg.ByZone[zone])
				}
			})
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	return cmd
}
