package rpc

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

func (t *twinService) QueryHistory(ctx context.Context, r *connect.Request[pb.QueryHistoryRequest]) (*connect.Response[pb.QueryHistoryResponse], error) {
	if at := t.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, t.s, at, func(p *peerClients) (*connect.Response[pb.QueryHistoryResponse], error) {
			return p.twins.QueryHistory(ctx, connect.NewRequest(r.Msg))
		})
	}
	q, err := historyQuery(r.Msg, time.Now())
	if err != nil {
		return nil, err
	}
	prop, perr := t.property(ctx, r.Msg.Id, r.Msg.Property)
	var out *pb.QueryHistoryResponse
	if perr == nil && prop.unsampled != "" {
		out, err = t.textHistory(ctx, r.Msg, &q, prop.unsampled)
	} else {
		out, err = t.numberHistory(ctx, r.Msg, &q)
	}
	if err != nil {
		return nil, err
	}
	// A twin that is gone still has a past; one that never was has none.
	if perr != nil && len(out.Samples) == 0 {
		return nil, perr
	}
	if perr == nil && !prop.known && len(out.Samples) == 0 {
		return nil, fmt.Errorf("twin %s has no property %q: %w", r.Msg.Id, r.Msg.Property, actors.ErrNotFound)
	}
	out.Unit = prop.unit
	if r.Msg.Unit != "" {
		if err := inUnit(out, r.Msg.Unit, r.Msg.Aggregate); err != nil {
			return nil, err
		}
	} else if out.Unit != "" {
		out.Unit = unitOf(out.Unit, r.Msg.Aggregate)
	}
	return connect.NewResponse(out), nil
}

func historyQuery(m *pb.QueryHistoryRequest, now time.Time) (history.Query, error) {
	project, name, err := splitID(m.Id)
	if err != nil {
		return history.Query{}, invalid("id", err.Error())
	}
	q := history.Query{Project: project, Twin: name, Property: m.Property, End: now, Aggregate: m.Aggregate, Limit: int(m.Limit)}
	if m.End != nil {
		q.End = m.End.AsTime()
	}
	q.Start = q.End.Add(-defaultSpan)
	if m.Start != nil {
		q.Start = m.Start.AsTime()
	}
	if m.Step != nil {
		q.Step = m.Step.AsDuration()
		if q.Step <= 0 {
			return history.Query{}, invalid("step", "must be more than 0")
		}
	} else if q.Aggregate != "" {
		return history.Query{}, invalid("aggregate", "needs a step")
	}
	if q.Step == 0 && m.Fill != "" && m.Fill != "none" {
		return history.Query{}, invalid("fill", "needs a step")
	}
	if m.PageToken != "" {
		if q.Step > 0 {
			return history.Query{}, invalid("page_token", "is of raw samples: there must be no step")
		}
		last, err := afterToken("history", m.PageToken)
		ms, perr := strconv.ParseInt(last, 10, 64)
		if err != nil || perr != nil {
			return history.Query{}, invalid("page_token", "is not the next_page_token of such a query")
		}
		q.End = time.UnixMilli(ms)
	}
	return q, nil
}

// numberHistory gives what is in the history.
func (t *twinService) numberHistory(ctx context.Context, m *pb.QueryHistoryRequest, q *history.Query) (*pb.QueryHistoryResponse, error) {
	res, err := t.s.o.History.Query(ctx, *q)
	if err != nil {
		return nil, err
	}
	out := &pb.QueryHistoryResponse{Truncated: res.Truncated}
	points := res.Points
	if q.Step == 0 && res.Truncated && len(points) > 1 {
		// Those of the oldest time may not be all of it: they come with the next page.
		oldest := points[0].Time
		rest := points[slices.IndexFunc(points, func(p history.Point) bool { return p.Time > oldest }):]
		if points[len(points)-1].Time > oldest {
			points = rest
			out.NextPageToken = pageToken("history", strconv.FormatInt(oldest, 10))
		}
	}
	if q.Step > 0 && m.Fill != "" && m.Fill != "none" {
		out.Samples = filled(points, q, m.Fill)
		return out, nil
	}
	out.Samples = samplesOf(len(points), func(i int) history.Point { return points[i] })
	if q.Step == 0 && len(points) > 0 {
		err = t.qualities(ctx, q, out.Samples)
	}
	return out, err
}

// samplesOf makes n samples. They and their times are each one piece of memory: a chart has thousands of them.
func samplesOf(n int, point func(i int) history.Point) []*pb.Sample {
	out, samples, times := make([]*pb.Sample, n), make([]pb.Sample, n), make([]timestamppb.Timestamp, n)
	for i := range out {
		p := point(i)
		times[i].Seconds, times[i].Nanos = p.Time/1000, int32(p.Time%1000)*1e6
		samples[i].Time, samples[i].Value = &times[i], p.Value
		out[i] = &samples[i]
	}
	return out
}

// filled gives a sample for each step of the range.
func filled(points []history.Point, q *history.Query, fill string) []*pb.Sample {
	last, step := q.End.UnixMilli(), q.Step.Milliseconds()
	n := min((last-q.Start.UnixMilli())/step+1, int64(cmp.Or(q.Limit, history.DefaultLimit)))
	begin := last - (n-1)*step
	values := make([]float64, n)
	for i := range values {
		values[i] = math.NaN()
	}
	for _, p := range points {
		if k := (p.Time - begin) / step; k >= 0 && k < n {
			values[k] = p.Value
		}
	}
	fillGaps(values, fill)
	out := samplesOf(int(n), func(i int) history.Point { return history.Point{Time: begin + int64(i)*step, Value: values[i]} })
	for i, v := range values {
		if math.IsNaN(v) {
			out[i].Value, out[i].None = 0, true
		}
	}
	return out
}

// fillGaps puts values where there are none, NaN. What has no neighbour to fill it from stays.
func fillGaps(values []float64, fill string) {
	before := -1
	for i, v := range values {
		if math.IsNaN(v) {
			if fill == "previous" && before >= 0 {
				values[i] = values[before]
			}
			continue
		}
		if fill == "linear" && before >= 0 {
			for k := before + 1; k < i; k++ {
				values[k] = values[before] + (v-values[before])*float64(k-before)/float64(i-before)
			}
		}
		before = i
	}
}

// qualities notes at raw samples, oldest first, the quality that the journal has of them.
func (t *twinService) qualities(ctx context.Context, q *history.Query, samples []*pb.Sample) error {
	start := samples[0].Time.AsTime().UnixMilli()
	page, err := t.s.o.Journal.List(ctx, journal.Query{Project: q.Project, Twin: q.Twin, Kinds: []string{"quality"}, Names: []string{q.Property},
		Start: start, End: q.End.UnixMilli(), Limit: journal.MaxLimit})
	if err != nil {
		return err
	}
	next, now := 0, pb.Quality_QUALITY_UNSPECIFIED
	for _, s := range samples {
		for ; next < len(page.Entries) && page.Entries[next].Time <= s.Time.AsTime().UnixMilli(); next++ {
			word := jsonValue(page.Entries[next].Data).GetStructValue().GetFields()["quality"].GetStringValue()
			now = pb.Quality(pb.Quality_value["QUALITY_"+strings.ToUpper(word)])
		}
		s.Quality = now
	}
	return nil
}

// textHistory gives the values of a property that is no number, out of the journal.
func (t *twinService) textHistory(ctx context.Context, m *pb.QueryHistoryRequest, q *history.Query, kind string) (*pb.QueryHistoryResponse, error) {
	if q.Step > 0 && !slices.Contains([]string{"first", "last", "count"}, m.Aggregate) {
		return nil, invalid("aggregate", fmt.Sprintf("%q is of type %s: there are first, last and count of it", m.Property, kind))
	}
	if m.Fill != "" && m.Fill != "none" {
		return nil, invalid("fill", fmt.Sprintf("%q is of type %s: only numbers are filled in", m.Property, kind))
	}
	limit := min(cmp.Or(q.Limit, history.DefaultLimit), journal.MaxLimit)
	t.s.o.Journal.CatchUp(ctx, journalPatience)
	page, err := t.s.o.Journal.List(ctx, journal.Query{Project: q.Project, Twin: q.Twin, Kinds: []string{"value"}, Names: []string{q.Property},
		Start: q.Start.UnixMilli(), End: q.End.UnixMilli(), Newest: true, Limit: limit})
	if err != nil {
		return nil, err
	}
	out := &pb.QueryHistoryResponse{Truncated: page.Next != nil}
	if n := len(page.Entries); out.Truncated && n > 0 && q.Step == 0 {
		out.NextPageToken = pageToken("history", strconv.FormatInt(page.Entries[n-1].Time-1, 10))
	}
	slices.Reverse(page.Entries)
	if q.Step == 0 {
		for i := range page.Entries {
			e := &page.Entries[i]
			out.Samples = append(out.Samples, &pb.Sample{Time: timestamppb.New(time.UnixMilli(e.Time)), Data: jsonValue(e.Data)})
		}
		return out, nil
	}
	end, step := q.End.UnixMilli(), q.Step.Milliseconds()
	for i := range page.Entries {
		e := &page.Entries[i]
		at := timestamppb.New(time.UnixMilli(end - (end-e.Time)/step*step))
		n := len(out.Samples)
		fresh := n == 0 || !out.Samples[n-1].Time.AsTime().Equal(at.AsTime())
		if fresh {
			out.Samples = append(out.Samples, &pb.Sample{Time: at})
			n++
		}
		s := out.Samples[n-1]
		switch {
		case m.Aggregate == "count":
			s.Value++
		case fresh || m.Aggregate != "first":
			s.Data = jsonValue(e.Data)
		}
	}
	return out, nil
}
