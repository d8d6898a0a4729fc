package main

import (
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// fills are what a step without samples can get.
var fills = []string{"none", "null", "previous", "linear"}

const aggregateHelp = "of the samples of a step: avg (default), min, max, sum, count, dev, first, last, delta, rate, p0 to p100"

// aggregateName is what --aggregate may be.
var aggregateName = regexp.MustCompile("^(|avg|min|max|sum|count|dev|first|last|delta|rate|p[0-9]{1,3}([.][0-9]{1,3})?)$")

// checkSteps says what of the flags about steps does not go together.
func checkSteps(step time.Duration, aggregate, fill string) error {
	switch {
	case !aggregateName.MatchString(aggregate):
		return usagef("--aggregate %q: want avg, min, max, sum, count, dev, first, last, delta, rate, or a percentile such as p95", aggregate)
	case aggregate != "" && step == 0:
		return usagef("--aggregate %s: --step is missing", aggregate)
	case fill != "" && !slices.Contains(fills, fill):
		return usagef("--fill %q: want one of %s", fill, strings.Join(fills, ", "))
	case fill != "" && step == 0:
		return usagef("--fill %s: --step is missing", fill)
	}
	return notNegative("step", step)
}

func twinHistory(a *app) *cobra.Command {
	var since, step time.Duration
	var aggregate, unit, fill string
	var limit uint32
	cmd := &cobra.Command{
		Use:   "history ID PROPERTY",
		Short: "Draw a property's past as a small chart",
		Long: `Draws the values of a numeric or boolean property, and lists those of another one. With -o json or -o yaml it prints them.
Without --step the samples are given as they were taken.`,
		Example: `  pollux twin history beamer lamp_hours --since 24h
  pollux twin history sensor1 temperature --since 1h --step 10s --aggregate p95 -o json
  pollux twin history sensor1 temperature --since 24h --step 1h --fill linear
  pollux twin history sensor1 temperature --unit '[degF]'`,
		Args:              exactly("ID", "PROPERTY"),
		ValidArgsFunction: a.completeTwinAnd(func(m thing) map[string]schema { return m.Properties }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if since <= 0 {
				return usagef("--since %s: want more than 0", since)
			}
			if err := checkSteps(step, aggregate, fill); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			end := time.Now()
			r := &pb.QueryHistoryRequest{Id: args[0], Property: args[1], Aggregate: aggregate, Limit: limit, Unit: unit, Fill: fill,
				Start: timestamppb.New(end.Add(-since)), End: timestamppb.New(end)}
			if step > 0 {
				r.Step = durationpb.New(step)
			}
			res, err := n.twins.QueryHistory(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				drawHistory(w, args[0]+" "+args[1], res.Msg, end.Add(-since), end)
			})
		},
	}
	cmd.Flags().DurationVar(&since, "since", time.Hour, "how far back")
	cmd.Flags().DurationVar(&step, "step", 0, "one value per so much time, instead of every sample")
	cmd.Flags().StringVar(&aggregate, "aggregate", "", aggregateHelp)
	cmd.Flags().StringVar(&fill, "fill", "", "a step without samples: none (it is left out, default), null, previous, linear")
	cmd.Flags().StringVar(&unit, "unit", "", "the values in this unit, UCUM or QUDT, such as [degF] or kW.h; default: the property's own")
	cmd.Flags().Uint32Var(&limit, "limit", 0, "at most so many values, the newest (default 10000)")
	return cmd
}

// Size of the chart in characters; each has 2 by 4 dots.
const (
	chartWidth  = 72
	chartHeight = 8
)

func drawHistory(w io.Writer, title string, r *pb.QueryHistoryResponse, start, end time.Time) {
	if len(r.Samples) == 0 {
		fmt.Fprintf(w, "%s: no values between %s and %s\n", title, stamp(start), stamp(end))
		return
	}
	if slices.ContainsFunc(r.Samples, func(s *pb.Sample) bool { return s.Data != nil }) {
		listHistory(w, r)
		return
	}
	r.Samples = slices.DeleteFunc(r.Samples, func(s *pb.Sample) bool { return s.None })
	low, high, sum := math.Inf(1), math.Inf(-1), 0.0
	for _, s := range r.Samples {
		low, high = math.Min(low, s.Value), math.Max(high, s.Value)
		sum += s.Value
	}
	unit := ""
	if r.Unit != "" {
		unit = " " + printable(r.Unit)
	}
	last := r.Samples[len(r.Samples)-1]
	fmt.Fprintf(w, "%s: last %s%s, min %s, max %s, mean %s, %d values\n", printable(title), number(last.Value), unit,
		number(low), number(high), number(sum/float64(len(r.Samples))), len(r.Samples))
	if r.Truncated {
		fmt.Fprintln(w, "(older values are left out; see --limit and --step)")
	}
	lines := chart(r.Samples, start, end, low, high)
	labels := []string{number(high), number(low)}
	width := max(len(labels[0]), len(labels[1]))
	for i, line := range lines {
		label := ""
		switch i {
		case 0:
			label = labels[0]
		case len(lines) - 1:
			label = labels[1]
		}
		if low == high {
			label = ""
			if i == len(lines)/2 {
				label = labels[0]
			}
		}
		fmt.Fprintf(w, "%*s │%s\n", width, label, line)
	}
	from, to := stamp(start), stamp(end)
	fmt.Fprintf(w, "%*s └%s\n", width, "", strings.Repeat("─", chartWidth))
	fmt.Fprintf(w, "%*s  %s%*s\n", width, "", from, chartWidth-len(from), to)
}

// listHistory shows values that are no numbers.
func listHistory(w io.Writer, r *pb.QueryHistoryResponse) {
	row(w, "TIME", "VALUE")
	for _, s := range r.Samples {
		row(w, s.Time.AsTime().Local().Format("2006-01-02 15:04:05.000"), jsonText(s.Data))
	}
	if r.Truncated {
		fmt.Fprintln(w, "(older values are left out; see --limit and --step)")
	}
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04") }

func number(f float64) string { return fmt.Sprintf("%.6g", f) }

// chart draws dots of braille: a column holds the newest value until its time, and a line joins it to the one before.
func chart(samples []*pb.Sample, start, end time.Time, low, high float64) []string {
	const columns, rows = chartWidth * 2, chartHeight * 4
	span := end.Sub(start)
	var dots [rows][columns]bool
	before := -1
	level := func(v float64) int {
		if high <= low {
			return rows / 2
		}
		return rows - 1 - int(math.Round((v-low)/(high-low)*(rows-1)))
	}
	next := 0
	for x := range columns {
		until := start.Add(span * time.Duration(x+1) / columns)
		y := before
		for ; next < len(samples) && !samples[next].Time.AsTime().After(until); next++ {
			at := level(samples[next].Value)
			if before >= 0 {
				for d := min(before, at); d <= max(before, at); d++ {
					dots[d][x] = true
				}
			}
			before, y = at, at
		}
		if y >= 0 {
			dots[y][x] = true
		}
	}
	lines := make([]string, chartHeight)
	for r := range lines {
		var b strings.Builder
		for c := range chartWidth {
			b.WriteRune(braille(func(x, y int) bool { return dots[r*4+y][c*2+x] }))
		}
		lines[r] = strings.TrimRight(b.String(), "\u2800")
	}
	return lines
}

// braille gives the character of 2 by 4 dots.
func braille(on func(x, y int) bool) rune {
	bits := [4][2]rune{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}
	r := rune(0x2800)
	for y := range bits {
		for x := range bits[y] {
			if on(x, y) {
				r |= bits[y][x]
			}
		}
	}
	return r
}
