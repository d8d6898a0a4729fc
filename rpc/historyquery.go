package rpc

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
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
	// A twin that is gone still has a past, of whatever type; one that never was has none.
	if perr != nil && len(out.Samples) == 0 {
		if out, err = t.textHistory(ctx, r.Msg, &q, "text"); err != nil || len(out.Samples) == 0 {
			return nil, perr
		}
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
		if q.Step < time.Millisecond {
			return history.Query{}, invalid("step", "must be a millisecond or more")
		}
	} else if q.Aggregate != "" {
		return history.Query{}, invalid("aggregate", "needs a step")
	}
	if q.Step == 0 && m.Fill != "" && m.Fill != "none" {
		return history.Query{}, invalid("fill", "needs a step")
	}
	if q.End.Before(q.Start) {
		return history.Query{}, invalid("end", "is before start")
	}
	if m.PageToken != "" {
		if q.Step > 0 {
			return history.Query{}, invalid("page_token", "is of raw samples: there must be no step")
		}
		from, err := historyPosition(m.PageToken)
		if err != nil {
			return history.Query{}, err
		}
		q.End = time.UnixMilli(from.at.Time)
		if m.Start == nil {
			q.Start = time.UnixMilli(from.start)
		}
	}
	return q, nil
}

// historyPage is where a page of raw values begins: at a time, and of values out of the journal behind the entry that the page before ended
// with. start is that of the whole range, which would move on with the clock where nobody says it.
type historyPage struct {
	at    journal.Position
	start int64
}

func historyToken(at journal.Position, q *history.Query) string {
	return pageToken("history", fmt.Sprintf("%d %d %d", at.Time, at.Sequence, q.Start.UnixMilli()))
}

func historyPosition(token string) (p historyPage, err error) {
	last, err := afterToken("history", token)
	if err == nil {
		_, err = fmt.Sscanf(last, "%d %d %d", &p.at.Time, &p.at.Sequence, &p.start)
	}
	if err != nil {
		return p, invalid("page_token", "is not the next_page_token of such a query")
	}
	return p, nil
}

// numberHistory gives what is in the history.
func (t *twinService) numberHistory(ctx context.Context, m *pb.QueryHistoryRequest, q *history.Query) (*pb.QueryHistoryResponse, error) {
	limit := cmp.Or(q.Limit, history.DefaultLimit)
	asked := *q
	if q.Step == 0 {
		asked.Limit = min(limit+1, history.MaxLimit) // one more: the oldest time may be there in part
	}
	res, err := t.s.o.History.Query(ctx, asked)
	if err != nil {
		return nil, err
	}
	points := res.Points
	out := &pb.QueryHistoryResponse{Truncated: res.Truncated || len(points) > limit}
	if q.Step == 0 && out.Truncated && len(points) > 0 {
		// Those of the oldest time may not be all of it: they come with the next page, unless it is the only time.
		next := points[0].Time
		if points[len(points)-1].Time > next {
			points = points[slices.IndexFunc(points, func(p history.Point) bool { return p.Time > next }):]
		} else {
			next--
		}
		if next >= q.Start.UnixMilli() {
			out.NextPageToken = historyToken(journal.Position{Time: next}, q)
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

// qualities notes at raw samples, oldest first, the quality that the journal has of them, since the start of the range: they may be a page of it.
func (t *twinService) qualities(ctx context.Context, q *history.Query, samples []*pb.Sample) error {
	first := samples[0].Time.AsTime().UnixMilli()
	jq := journal.Query{Project: q.Project, Twin: q.Twin, Kinds: []string{"quality"}, Names: []string{q.Property}, Start: min(q.Start.UnixMilli(), first), End: first,
		Newest: true, Limit: 1}
	page, err := t.s.o.Journal.List(ctx, jq)
	if err != nil {
		return err
	}
	changes := page.Entries
	jq.Start, jq.End, jq.Newest, jq.Limit = first+1, q.End.UnixMilli(), false, journal.MaxLimit
	for more := jq.Start <= jq.End; more; more = jq.After != nil {
		if page, err = t.s.o.Journal.List(ctx, jq); err != nil {
			return err
		}
		changes, jq.After = append(changes, page.Entries...), page.Next
	}
	now := pb.Quality_QUALITY_UNSPECIFIED
	for _, s := range samples {
		for ; len(changes) > 0 && changes[0].Time <= s.Time.AsTime().UnixMilli(); changes = changes[1:] {
			word := jsonValue(changes[0].Data).GetStructValue().GetFields()["quality"].GetStringValue()
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
	jq := journal.Query{Project: q.Project, Twin: q.Twin, Kinds: []string{"value"}, Names: []string{q.Property},
		Start: q.Start.UnixMilli(), End: q.End.UnixMilli(), Newest: true, Limit: min(cmp.Or(q.Limit, history.DefaultLimit), journal.MaxLimit)}
	t.s.o.Journal.CatchUp(ctx, journalPatience)
	if q.Step > 0 {
		return t.textSteps(ctx, m.Aggregate, q, &jq)
	}
	if page, err := historyPosition(m.PageToken); err == nil && page.at.Sequence > 0 {
		jq.After = &page.at
	}
	page, err := t.s.o.Journal.List(ctx, jq)
	if err != nil {
		return nil, err
	}
	out := &pb.QueryHistoryResponse{Truncated: page.Next != nil}
	if page.Next != nil {
		out.NextPageToken = historyToken(*page.Next, q)
	}
	for _, e := range slices.Backward(page.Entries) {
		out.Samples = append(out.Samples, &pb.Sample{Time: timestamppb.New(time.UnixMilli(e.Time)), Data: jsonValue(e.Data)})
	}
	return out, nil
}

// textSteps gives the newest steps of a range, over as many entries as they have.
func (t *twinService) textSteps(ctx context.Context, aggregate string, q *history.Query, jq *journal.Query) (*pb.QueryHistoryResponse, error) {
	end, step := jq.End, q.Step.Milliseconds()
	most := int64(cmp.Or(q.Limit, history.DefaultLimit))
	n := (end-jq.Start)/step + 1
	jq.Start, jq.Limit = end-min(n, most)*step+1, journal.MaxLimit
	out := &pb.QueryHistoryResponse{}
	for { // from the newest entry to the oldest
		page, err := t.s.o.Journal.List(ctx, *jq)
		if err != nil {
			return nil, err
		}
		for i := range page.Entries {
			e := &page.Entries[i]
			at := end - (end-e.Time)/step*step
			last := len(out.Samples) - 1
			if fresh := last < 0 || out.Samples[last].Time.AsTime().UnixMilli() != at; fresh {
				out.Samples = append(out.Samples, &pb.Sample{Time: timestamppb.New(time.UnixMilli(at))})
				last++
				if aggregate == "last" {
					out.Samples[last].Data = jsonValue(e.Data)
				}
			}
			switch aggregate {
			case "count":
				out.Samples[last].Value++
			case "first":
				out.Samples[last].Data = jsonValue(e.Data)
			}
		}
		if jq.After = page.Next; jq.After == nil {
			break
		}
	}
	slices.Reverse(out.Samples)
	if n > most { // there are more steps; whether there is anything in them is another question
		older, err := t.s.o.Journal.List(ctx, journal.Query{Project: jq.Project, Twin: jq.Twin, Kinds: jq.Kinds, Names: jq.Names,
			Start: q.Start.UnixMilli(), End: jq.Start - 1, Newest: true, Limit: 1})
		if err != nil {
			return nil, err
		}
		out.Truncated = len(older.Entries) > 0
	}
	return out, nil
}
