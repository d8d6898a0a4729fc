package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func historySeries(a *app) *cobra.Command {
	r := &pb.QuerySeriesRequest{Filter: &pb.TwinFilter{}}
	var span rangeFlags
	var step time.Duration
	var labels, twins []string
	cmd := &cobra.Command{
		Use: "series PROPERTY", Short: "Compare a property of many twins, or of groups of them",
		Long: `Gives one property of all twins that the flags choose, in the same steps: a line per twin with the smallest, mean, largest and last
of its steps. With --by it gives a line per zone, model, driver or value of a label. With -o json or -o yaml it prints the steps.`,
		Example: "  pollux history series temperature --label floor=3 --since 24h --step 1h\n  pollux history series power --by zone --group-aggregate sum --step 15m\n" +
			"  pollux history series temperature --by label:floor --aggregate max --unit '[degF]' --step 5m -o json",
		Args: exactly("PROPERTY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if step <= 0 {
				return usagef("--step: want more than 0, such as 5m")
			}
			if err := checkSteps(step, r.Aggregate, r.Fill); err != nil {
				return err
			}
			var err error
			if r.Start, r.End, err = span.read(time.Now()); err != nil {
				return err
			}
			for _, pair := range labels {
				key, value, ok := strings.Cut(pair, "=")
				if !ok || key == "" {
					return usagef("--label %q: want KEY=VALUE", pair)
				}
				if r.Filter.Labels == nil {
					r.Filter.Labels = map[string]string{}
				}
				r.Filter.Labels[key] = value
			}
			r.Property, r.Step, r.Filter.Ids = args[0], durationpb.New(step), twins
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.QuerySeriesResponse{}
			for {
				res, err := n.history.QuerySeries(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Start, all.Step, all.Series = res.Msg.Start, res.Msg.Step, append(all.Series, res.Msg.Series...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { seriesTable(w, r, all) })
		},
	}
	span.add(cmd, "1h")
	cmd.Flags().DurationVar(&step, "step", 5*time.Minute, "one value per so much time")
	cmd.Flags().StringVar(&r.Aggregate, "aggregate", "", aggregateHelp)
	cmd.Flags().StringVar(&r.Fill, "fill", "", "a step without samples: none (default), previous, linear")
	cmd.Flags().StringVar(&r.Unit, "unit", "", "the values in this unit, UCUM or QUDT")
	cmd.Flags().StringSliceVar(&r.GroupBy, "by", nil, "group by zone, model, driver, label:KEY, or all; may be given several times")
	cmd.Flags().StringVar(&r.GroupAggregate, "group-aggregate", "", "of a group's twins: avg (default), min, max, sum, count")
	cmd.Flags().StringVar(&r.Filter.Project, "project", "", "of this project (default where it is not given)")
	cmd.Flags().StringSliceVar(&twins, "twin", nil, "only these twins")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "only with this label, `KEY=VALUE`; all must hold")
	cmd.Flags().StringVar(&r.Filter.Zone, "zone", "", "only in this zone, and in those within")
	cmd.Flags().StringVar(&r.Filter.Model, "model", "", "only of this model, by its title")
	cmd.Flags().StringVar(&r.Filter.Driver, "driver", "", "only of this driver")
	return cmd
}

func seriesTable(w io.Writer, r *pb.QuerySeriesRequest, all *pb.QuerySeriesResponse) {
	if len(all.Series) == 0 {
		fmt.Fprintf(w, "no twin of those has numbers of %s in this time, in project %s; what is no number is in the journal: pollux history journal --name %[1]s\n",
			printable(r.Property), cmp.Or(r.GetFilter().GetProject(), "default"))
		return
	}
	head := []any{"TWIN"}
	if len(r.GroupBy) > 0 {
		head = nil
		for _, by := range r.GroupBy {
			head = append(head, strings.ToUpper(strings.TrimPrefix(by, "label:")))
		}
		head = append(head, "TWINS")
	}
	row(w, append(head, "MIN", "MEAN", "MAX", "LAST", "UNIT", "STEPS")...)
	for _, s := range all.Series {
		cells := []any{bare(s.Twin)}
		if len(r.GroupBy) > 0 {
			cells = nil
			for _, by := range r.GroupBy {
				cells = append(cells, dash(printable(s.Group[by])))
			}
			cells = append(cells, s.Twins)
		}
		values := slices.DeleteFunc(slices.Clone(s.Values), math.IsNaN)
		if len(values) == 0 {
			row(w, append(cells, "–", "–", "–", "–", dash(printable(s.Unit)), 0)...)
			continue
		}
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		row(w, append(cells, number(slices.Min(values)), number(sum/float64(len(values))), number(slices.Max(values)), number(values[len(values)-1]),
			dash(printable(s.Unit)), len(values))...)
	}
}

func historyQuery(a *app) *cobra.Command {
	var span rangeFlags
	var step time.Duration
	project := "default"
	cmd := &cobra.Command{
		Use: "query METRICSQL", Short: "Ask VictoriaMetrics, for one project's samples",
		Long: `Passes a query of MetricsQL (PromQL and more) through. The series are pollux_property{twin,model,property}; every selector is held
to the project. It prints the answer's JSON: the values now, or with --step those of a range. Grafana asks the same at
/v1/prometheus/PROJECT as a data source of the kind Prometheus.`,
		Example: "  pollux history query 'avg(pollux_property{property=\"temperature\"}) by (model)'\n" +
			"  pollux history query 'rate(pollux_property{property=\"energy\"}[1h])' --since 24h --step 1h --project plant",
		Args: exactly("METRICSQL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notNegative("step", step); err != nil {
				return err
			}
			now := time.Now()
			start, end, err := span.read(now)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			at, form := "query", url.Values{"query": {args[0]}}
			if end != nil {
				now = end.AsTime()
			}
			if step > 0 {
				at = "query_range"
				form.Set("start", strconv.FormatInt(start.AsTime().Unix(), 10))
				form.Set("end", strconv.FormatInt(now.Unix(), 10))
				form.Set("step", step.String())
			} else {
				form.Set("time", strconv.FormatInt(now.Unix(), 10))
			}
			text, err := n.plain(cmd.Context(), http.MethodPost, "/v1/prometheus/"+url.PathEscape(project)+"/api/v1/"+at, "application/x-www-form-urlencoded",
				[]byte(form.Encode()))
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, text, "", "  "); err != nil {
				return fmt.Errorf("query: the answer is no JSON: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), out.String())
			return err
		},
	}
	cmd.Flags().StringVar(&project, "project", project, "of this project")
	cmd.Flags().DurationVar(&step, "step", 0, "values of a range, one per so much time, instead of those now")
	span.add(cmd, "1h")
	return cmd
}
