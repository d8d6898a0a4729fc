package history

import (
	"context"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/netstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/promql"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/searchutil"
)

// evalTime bounds an evaluation, as VictoriaMetrics' own -search.maxQueryDuration does.
const evalTime = 30 * time.Second

// eval evaluates an expression of MetricsQL in this process, by the call that query_range ends in: a chart of a hundred twins has
// 144,000 points, and to write them as JSON and read them again took longer than to find them.
func (e *Embedded) eval(ctx context.Context, expr string, first, last, step int64, fn eachSeries) error {
	wait, cancel := context.WithTimeout(ctx, queryWait)
	defer cancel()
	select {
	case e.evals <- struct{}{}:
	case <-wait.Done():
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %d queries run, and none has ended for %s", ErrUnavailable, cap(e.evals), queryWait)
	}
	type answer struct {
		series []netstorage.Result
		err    error
	}
	done := make(chan answer, 1)
	e.running.Go(func() {
		defer func() { <-e.evals }()
		var a answer
		ec := &promql.EvalConfig{Start: first, End: last, Step: step, MaxPointsPerSeries: MaxLimit, RoundDigits: 100,
			Deadline: searchutil.NewDeadline(time.Now(), evalTime, "a query of history"), GetRequestURI: func() string { return "" }}
		ec.QueryStats = promql.NewQueryStats(expr, nil, ec)
		if err := guarded("query history", func() { a.series, a.err = promql.Exec(nil, ec, expr, false) }); err != nil {
			a.err = err
		}
		done <- a
	})
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.err != nil {
		return fmt.Errorf("%w: %w", ErrQuery, a.err)
	}
	for i := range a.series {
		s := &a.series[i]
		err := fn(string(s.MetricName.GetTagValue("twin")), func(point func(at int64, v float64)) error {
			for k, v := range s.Values {
				point(s.Timestamps[k], v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
