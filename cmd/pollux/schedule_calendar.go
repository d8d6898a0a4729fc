package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func scheduleCalendar(a *app) *cobra.Command {
	r := &pb.ListFiringsRequest{PageSize: pageSize}
	from, days := "", 7
	cmd := &cobra.Command{
		Use: "calendar [ID]", Short: "Show what is due on which day", Args: between(0, "ID"),
		Long: `Shows the firings of all schedules, or of one, by day: what is to come, what was done today as far as it is remembered, days that a schedule's
exceptions leave out, and times that a change of the clocks moves.`,
		Example: "  pollux schedule calendar\n  pollux schedule calendar --days 31 --zone Europe/Berlin\n  pollux schedule calendar lights-out --from 2026-12-20 --days 14",
		RunE: func(cmd *cobra.Command, args []string) error {
			zone, err := time.LoadLocation(r.Zone)
			if err != nil {
				return usagef("--zone %q: want a zone such as Europe/Berlin", r.Zone)
			}
			now := time.Now().In(zone)
			start := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, zone)
			if from != "" {
				if start, err = time.ParseInLocation("2006-01-02", from, zone); err != nil {
					return usagef("--from %q: want a day such as 2026-12-24", from)
				}
			}
			if days < 1 || days > 62 {
				return usagef("--days %d: want 1 to 62", days)
			}
			r.Start, r.End = timestamppb.New(start), timestamppb.New(start.AddDate(0, 0, days))
			if len(args) > 0 {
				r.Schedule = args[0]
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListFiringsResponse{Faults: map[string]string{}}
			for {
				res, err := n.automation.ListFirings(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Firings = append(all.Firings, res.Msg.Firings...)
				for _, c := range res.Msg.ClockChanges {
					if !slices.ContainsFunc(all.ClockChanges, func(o *pb.ClockChange) bool { return o.Zone == c.Zone && o.Time.AsTime().Equal(c.Time.AsTime()) }) {
						all.ClockChanges = append(all.ClockChanges, c)
					}
				}
				for id, why := range res.Msg.Faults {
					all.Faults[id] = why
				}
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			slices.SortStableFunc(all.Firings, func(a, b *pb.Firing) int { return a.Time.AsTime().Compare(b.Time.AsTime()) })
			return a.show(all, func(w io.Writer) { drawCalendar(w, all, zone) })
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "first `DAY`, as in 2026-12-24; today where it is not given")
	cmd.Flags().IntVar(&days, "days", 7, "how many")
	cmd.Flags().StringVar(&r.Zone, "zone", "", "whose clocks are shown, as in Europe/Berlin (UTC where it is not given)")
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	return cmd
}

// firingWords are the states of firings as a calendar says them.
var firingWords = map[pb.FiringState]string{pb.FiringState_FIRING_STATE_PLANNED: "", pb.FiringState_FIRING_STATE_LEFT_OUT: "left out", pb.FiringState_FIRING_STATE_OPEN: "goes on",
	pb.FiringState_FIRING_STATE_DONE: "done", pb.FiringState_FIRING_STATE_FAILED: "failed"}

func drawCalendar(w io.Writer, m *pb.ListFiringsResponse, zone *time.Location) {
	row(w, "DAY", "TIME", "SCHEDULE", "", "")
	day := ""
	for _, f := range m.Firings {
		at := f.Time.AsTime().In(zone)
		shown := at.Format("Mon 2006-01-02")
		if shown == day {
			shown = ""
		} else {
			day = shown
		}
		note := f.Note
		if f.More {
			note = "and more that day"
		}
		row(w, shown, at.Format("15:04:05"), bare(f.Schedule), firingWords[f.State], printable(note))
	}
	if len(m.Firings) == 0 {
		row(w, "nothing is due")
	}
	for _, c := range m.ClockChanges {
		row(w, fmt.Sprintf("clocks of %s are set by %+dm at %s", c.Zone, int(c.By.AsDuration().Minutes()), c.Time.AsTime().UTC().Format("2006-01-02 15:04 MST")))
	}
	for id, why := range m.Faults {
		row(w, bare(id)+" cannot fire: "+printable(why))
	}
}
