package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func scheduleCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "schedule",
		Aliases: []string{"schedules"},
		Short:   "What is done at times",
		Long: `A schedule does something once, every so often, by cron, by a calendar, or at sunrise and sunset. It is kept in the store and fires
wherever its node is; what was missed while no node was there is made up for once, or as --missed says.`,
		Example: "  pollux schedule put lights-out --daily 22:30 --zone Europe/Berlin --set lamp1.power=false\n" +
			"  pollux schedule put dusk --sunset --offset -20m --place 52.52,13.41 --set lamp1.power=on\n  pollux schedule next dusk\n  pollux schedule list",
	}))
	cmd.AddCommand(schedulePut(a), watcher(a, "schedule", "schedules"), scheduleReport(a), scheduleList(a), scheduleGet(a), scheduleNext(a), scheduleCalendar(a), scheduleCancel(a),
		schedulePause(a, "pause", true), schedulePause(a, "resume", false),
		remover(a, "rm ID", "Remove a schedule", "  pollux schedule rm lights-out", "schedule", func(ctx context.Context, n *node, id string) error {
			_, err := n.automation.DeleteSchedule(ctx, req(&pb.DeleteScheduleRequest{Id: id}))
			return err
		}))
	return cmd
}

// timingFlags say when.
type timingFlags struct {
	at, cron, zone, place, sunZone, sunTwin, from, to string
	every, offset, jitter                             time.Duration
	daily, weekdays, dates, except                    []string
	days                                              []int32
	months                                            []uint
	sunrise, sunset                                   bool
}

func (f *timingFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.at, "at", "", "once, at this `TIME`, as in 2026-12-24T18:00:00+01:00")
	cmd.Flags().DurationVar(&f.every, "every", 0, "every so `LONG`, as in 90s or 2h")
	cmd.Flags().StringVar(&f.cron, "cron", "", "by cron's five `FIELDS`, or six with the second first")
	cmd.Flags().StringSliceVar(&f.daily, "daily", nil, "at these `TIMES` of the day, as in 07:00,18:30")
	cmd.Flags().StringSliceVar(&f.weekdays, "weekdays", nil, "with --daily: only on these `DAYS`: mon to sun, 1:mon for the first Monday of a month, -1:fri for the last Friday")
	cmd.Flags().Int32SliceVar(&f.days, "days", nil, "with --daily: only on these `DAYS` of the month; -1 is the last one")
	cmd.Flags().UintSliceVar(&f.months, "months", nil, "with --daily: only in these `MONTHS`, 1 to 12")
	cmd.Flags().StringSliceVar(&f.dates, "dates", nil, "with --daily: only on these `DATES`: 2026-12-24, or 12-24 for each year")
	cmd.Flags().StringSliceVar(&f.except, "except", nil, "with --daily: not on these `DATES`, or from one to another: 12-24..01-01")
	cmd.Flags().BoolVar(&f.sunrise, "sunrise", false, "at sunrise")
	cmd.Flags().BoolVar(&f.sunset, "sunset", false, "at sunset")
	cmd.Flags().DurationVar(&f.offset, "offset", 0, "with --sunrise and --sunset: so `LONG` after it, or before it where it is negative")
	cmd.Flags().StringVar(&f.place, "place", "", "of the sun: `LATITUDE,LONGITUDE`")
	cmd.Flags().StringVar(&f.sunZone, "of-zone", "", "of the sun: where this zone is")
	cmd.Flags().StringVar(&f.sunTwin, "of-twin", "", "of the sun: where this twin is")
	cmd.Flags().StringVar(&f.zone, "zone", "", "whose clocks count, as in Europe/Berlin (UTC where it is not given)")
	cmd.Flags().StringVar(&f.from, "from", "", "only from this `TIME` of the day on; across midnight where --to is before it")
	cmd.Flags().StringVar(&f.to, "to", "", "only until this `TIME` of the day")
	cmd.Flags().DurationVar(&f.jitter, "jitter", 0, "each firing is later by up to so `LONG`")
}

// timing reads the flags.
func (f *timingFlags) timing() (*pb.Timing, []*pb.Window, error) {
	t := &pb.Timing{Zone: f.zone}
	n := 0
	if f.at != "" {
		n++
		at, err := time.Parse(time.RFC3339, f.at)
		if err != nil {
			return nil, nil, usagef("--at %q: want a time such as 2026-12-24T18:00:00+01:00", f.at)
		}
		t.When = &pb.Timing_At{At: timestamppb.New(at)}
	}
	if f.every != 0 {
		n++
		t.When = &pb.Timing_Every{Every: &pb.Every{Period: durationpb.New(f.every)}}
	}
	if f.cron != "" {
		n++
		t.When = &pb.Timing_Cron{Cron: f.cron}
	}
	if len(f.daily) > 0 {
		n++
		c := &pb.Calendar{Times: f.daily, Weekdays: f.weekdays, Days: f.days, Dates: f.dates, Except: f.except}
		for _, m := range f.months {
			if m < 1 || m > 12 {
				return nil, nil, usagef("--months %d: want 1 to 12", m)
			}
			c.Months = append(c.Months, uint32(m))
		}
		t.When = &pb.Timing_Calendar{Calendar: c}
	}
	if f.sunrise || f.sunset {
		n++
		s := &pb.Sun{Set: f.sunset, ZoneId: f.sunZone, TwinId: f.sunTwin}
		if f.offset != 0 {
			s.Offset = durationpb.New(f.offset)
		}
		if f.place != "" {
			var err error
			if s.Place, err = parsePlace(f.place); err != nil {
				return nil, nil, err
			}
		}
		t.When = &pb.Timing_Sun{Sun: s}
	}
	if n != 1 || f.sunrise && f.sunset {
		return nil, nil, usagef("say when by one of --at, --every, --cron, --daily, --sunrise and --sunset")
	}
	var windows []*pb.Window
	if f.from != "" || f.to != "" {
		windows = []*pb.Window{{From: f.from, To: f.to}}
	}
	return t, windows, nil
}

func schedulePut(a *app) *cobra.Command {
	var when timingFlags
	var what actionFlags
	var missed string
	m := &pb.Schedule{}
	cmd := &cobra.Command{
		Use: "put ID", Aliases: []string{"create"}, Short: "Create or replace a schedule", Args: exactly("ID"),
		Long: "Creates a schedule, or replaces the one of that name by what the flags say; one that is paused stays so, unless --paused=false.\n\n" + actionHelp,
		Example: "  pollux schedule put morning --daily 07:00 --weekdays mon,tue,wed,thu,fri --except 12-24..01-01 --zone Europe/Berlin --call blind1.open\n" +
			"  pollux schedule put poll --every 15m --from 22:00 --to 06:00 --call meter1.read\n" +
			"  pollux schedule put report --cron '0 0 6 1 * *' --publish reports --missed all",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			m.Id = args[0]
			if m.Timing, m.Windows, err = when.timing(); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			if m.Actions, err = what.actions(n.reader(cmd.Context(), m.Id, "", "")); err != nil {
				return err
			}
			if len(m.Actions) == 0 {
				return usagef("say what it does by --call, --set, --publish, --mqtt, --notify or --raise")
			}
			m.Jitter = spanOf(when.jitter)
			v, ok := pb.Missed_value["MISSED_"+strings.ToUpper(missed)]
			if !ok {
				return usagef("--missed %q: want skip, once or all", missed)
			}
			m.Missed = pb.Missed(v)
			return a.putSchedule(cmd, m)
		},
	}
	when.add(cmd)
	what.add(cmd)
	cmd.Flags().StringVar(&m.Title, "title", "", "name for people")
	cmd.Flags().StringVar(&missed, "missed", "once", "what becomes of firings that nobody was there for: `skip`, once or all")
	cmd.Flags().BoolVar(&m.Paused, "paused", false, "keep it, and do not fire (as it is now, where it is not given)")
	return cmd
}

// timingText says when in a few words.
func timingText(t *pb.Timing) string {
	text := ""
	switch x := t.GetWhen().(type) {
	case *pb.Timing_At:
		text = "once"
	case *pb.Timing_Every:
		text = "every " + x.Every.GetPeriod().AsDuration().String()
	case *pb.Timing_Cron:
		text = "cron " + x.Cron
	case *pb.Timing_Calendar:
		c := x.Calendar
		text = strings.Join(c.Times, " ")
		if len(c.Weekdays) > 0 {
			text += " " + strings.Join(c.Weekdays, ",")
		}
		if len(c.Days) > 0 {
			text += fmt.Sprintf(" on days %v", c.Days)
		}
		if len(c.Months) > 0 {
			text += fmt.Sprintf(" in months %v", c.Months)
		}
		if len(c.Dates) > 0 {
			text += " on " + strings.Join(c.Dates, ", ")
		}
		if len(c.Except) > 0 {
			text += " but " + strings.Join(c.Except, ", ")
		}
	case *pb.Timing_Sun:
		if text = "sunrise"; x.Sun.Set {
			text = "sunset"
		}
		if d := x.Sun.Offset.AsDuration(); d != 0 {
			text = fmt.Sprintf("%s %+d min", text, int(d.Minutes()))
		}
	}
	return text
}

func scheduleList(a *app) *cobra.Command {
	r := &pb.ListSchedulesRequest{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the schedules, and when each is due next", Args: exactly(),
		Example: "  pollux schedule list\n  pollux schedule list --twin lamp1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListSchedulesResponse{}
			r.PageSize = pageSize
			for {
				res, err := n.automation.ListSchedules(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Schedules, all.Next = append(all.Schedules, res.Msg.Schedules...), append(all.Next, res.Msg.Next...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listSchedules(w, all, time.Now()) })
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	cmd.Flags().StringVar(&r.Twin, "twin", "", "only those that act on this twin")
	return cmd
}

func listSchedules(w io.Writer, all *pb.ListSchedulesResponse, now time.Time) {
	row(w, "ID", "WHEN", "ZONE", "NEXT", "ACTIONS")
	for i, s := range all.Schedules {
		next := "never"
		switch {
		case s.Paused:
			next = "paused"
		case i < len(all.Next) && all.Next[i].GetSeconds() != 0:
			next = timeText(all.Next[i], now)
		}
		row(w, bare(s.Id), printable(timingText(s.Timing)), dash(s.Timing.GetZone()), next, len(s.Actions))
	}
}

func scheduleGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a schedule, its next firings and what became of the last ones", Example: "  pollux schedule get lights-out\n  pollux schedule get lights-out -o yaml",
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.GetSchedule(cmd.Context(), req(&pb.GetScheduleRequest{Id: args[0], Next: 3}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { a.showSchedule(w, res.Msg, time.Now()) })
		},
	}
}

func (a *app) showSchedule(w io.Writer, m *pb.GetScheduleResponse, now time.Time) {
	s, st := m.Schedule, m.State
	row(w, "schedule", s.Id)
	if s.Title != "" {
		row(w, "title", printable(s.Title))
	}
	row(w, "when", printable(timingText(s.Timing)))
	row(w, "zone", dash(s.Timing.GetZone()))
	showWindows(w, s.Windows, "")
	if s.Jitter != nil {
		row(w, "jitter", s.Jitter.AsDuration())
	}
	row(w, "if missed", enumText(cmp.Or(s.Missed, pb.Missed_MISSED_ONCE), "MISSED_"))
	for _, x := range s.Actions {
		row(w, "does", printable(actionText(x)))
	}
	if s.Paused {
		row(w, "paused", "yes")
	}
	for i, at := range m.Next {
		label := ""
		if i == 0 {
			label = "next"
		}
		row(w, label, timeText(at, now))
	}
	row(w, "firings", st.GetFirings())
	if st.GetMissed() > 0 {
		row(w, "missed", st.Missed)
	}
	row(w, "node", st.GetNode())
	if st.GetFault() != "" {
		row(w, "fault", printable(st.Fault))
	}
	a.showRuns(w, m.Runs, now)
}

func scheduleNext(a *app) *cobra.Command {
	var count uint32
	cmd := &cobra.Command{
		Use: "next ID", Short: "Show when a schedule is due next", Example: "  pollux schedule next dusk\n  pollux schedule next dusk --count 30", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.GetSchedule(cmd.Context(), req(&pb.GetScheduleRequest{Id: args[0], Next: count}))
			if err != nil {
				return err
			}
			zone, err := time.LoadLocation(res.Msg.Schedule.Timing.GetZone())
			if err != nil {
				zone = time.UTC
			}
			return a.show(&pb.GetScheduleResponse{Next: res.Msg.Next}, func(w io.Writer) {
				for _, at := range res.Msg.Next {
					row(w, at.AsTime().In(zone).Format("Mon 2006-01-02 15:04:05 MST"))
				}
				if len(res.Msg.Next) == 0 {
					row(w, "never")
				}
			})
		},
	}
	cmd.Flags().Uint32Var(&count, "count", 10, "how many")
	return cmd
}

func scheduleCancel(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel TWIN", Short: "Remove the schedules that name a twin, and show what else acts on it at times", Example: "  pollux schedule cancel lamp1", Args: exactly("TWIN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.automation.CancelSchedules(cmd.Context(), req(&pb.CancelSchedulesRequest{Twin: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				for _, id := range res.Msg.Ids {
					row(w, "schedule "+id+" is removed")
				}
				if len(res.Msg.Ids) == 0 {
					row(w, "no schedule names "+args[0])
				}
				for _, u := range res.Msg.Left {
					row(w, u.Kind+" "+u.Id+" is left: it acts on the twin at times through "+u.Reason+", and may be for others too")
				}
			})
		},
	}
}

func schedulePause(a *app, word string, paused bool) *cobra.Command {
	short, done := "Have a schedule rest", " rests"
	if !paused {
		short, done = "Have a schedule that was paused go on", " is on"
	}
	return &cobra.Command{
		Use: word + " ID", Short: short, Example: "  pollux schedule " + word + " lights-out", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			old, err := n.automation.GetSchedule(cmd.Context(), req(&pb.GetScheduleRequest{Id: args[0], Next: 1}))
			if err != nil {
				return err
			}
			old.Msg.Schedule.Paused = paused
			made, err := n.automation.PutSchedule(cmd.Context(), req(&pb.PutScheduleRequest{Schedule: old.Msg.Schedule}))
			if err != nil {
				return err
			}
			return a.show(made.Msg.Schedule, func(w io.Writer) { row(w, "schedule "+made.Msg.Schedule.Id+done) })
		},
	}
}
