package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/history"
)

// seriesOf: the twins of a filter, within one project.
func seriesOf(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.QuerySeriesRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	if msg.Filter == nil {
		msg.Filter = &pb.TwinFilter{}
	}
	if msg.Filter.Project == "" && len(msg.Filter.Ids) > 0 {
		msg.Filter.Project, _, _ = strings.Cut(canonicalID(msg.Filter.Ids[0]), "/")
	}
	if _, err := ofOneProject("twin", &msg.Filter.Project, p); err != nil {
		return Resource{}, err
	}
	return filtered(func(m *pb.QuerySeriesRequest) **pb.TwinFilter { return &m.Filter })(m, p)
}

func (h *historyService) QuerySeries(ctx context.Context, r *connect.Request[pb.QuerySeriesRequest]) (*connect.Response[pb.QuerySeriesResponse], error) {
	if at := h.s.o.Cluster.HistoryNodes(); len(at) > 0 && !isLocal(ctx) {
		return fromHistory(ctx, h.s, at, func(p *peerClients) (*connect.Response[pb.QuerySeriesResponse], error) {
			return p.history.QuerySeries(ctx, connect.NewRequest(r.Msg))
		})
	}
	if len(r.Msg.GroupBy) > 0 && r.Msg.PageToken != "" {
		return nil, invalid("page_token", "groups come whole: there is one page")
	}
	page, err := seriesPosition(r.Msg.PageToken, time.Now())
	if err != nil {
		return nil, err
	}
	q, err := seriesQuery(r.Msg, page.now)
	if err != nil {
		return nil, err
	}
	twins, next, err := h.twinsOf(ctx, r.Msg, page.after)
	if err != nil {
		return nil, err
	}
	for _, t := range twins {
		_, name, _ := strings.Cut(t.Id, "/")
		q.Twins = append(q.Twins, name)
	}
	all, err := h.s.o.History.Series(ctx, q)
	if err != nil {
		return nil, err
	}
	c := &comparison{h: h, m: r.Msg, steps: q.Steps, units: map[string]string{}, twins: map[string]*pb.Twin{}}
	for _, t := range twins {
		c.twins[t.Id] = t
	}
	out := &pb.QuerySeriesResponse{Step: durationpb.New(q.Step), NextPageToken: seriesToken(page, next),
		Start: timestamppb.New(q.End.Truncate(time.Millisecond).Add(-time.Duration(q.Steps-1) * q.Step))}
	if out.Series, err = c.series(ctx, q.Project, all); err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// seriesPage is a page's place in the list of twins, and when the first page was asked for: all pages are in the same steps.
type seriesPage struct {
	after string
	now   time.Time
}

func seriesToken(p seriesPage, next string) string {
	if next == "" {
		return ""
	}
	return pageToken("series", fmt.Sprintf("%d %s", p.now.UnixMilli(), next))
}

func seriesPosition(token string, now time.Time) (seriesPage, error) {
	if token == "" {
		return seriesPage{now: now}, nil
	}
	p, ms := seriesPage{}, int64(0)
	last, err := afterToken("series", token)
	if err == nil {
		_, err = fmt.Sscanf(last, "%d %s", &ms, &p.after)
	}
	if err != nil {
		return p, invalid("page_token", "is not the next_page_token of such a query")
	}
	p.now = time.UnixMilli(ms)
	return p, nil
}

func seriesQuery(m *pb.QuerySeriesRequest, now time.Time) (history.SeriesQuery, error) {
	q := history.SeriesQuery{Project: m.Filter.Project, Property: m.Property, End: now, Step: m.Step.AsDuration().Truncate(time.Millisecond), Aggregate: m.Aggregate}
	if m.End != nil {
		q.End = m.End.AsTime()
	}
	start := q.End.Add(-defaultSpan)
	if m.Start != nil {
		start = m.Start.AsTime()
	}
	switch {
	case q.Step < time.Millisecond:
		return q, invalid("step", "must be a millisecond or more")
	case start.After(q.End):
		return q, invalid("end", "is before start")
	case len(m.GroupBy) == 0 && m.GroupAggregate != "":
		return q, invalid("group_aggregate", "needs group_by")
	}
	steps := q.End.Sub(start)/q.Step + 1
	if steps > history.MaxLimit {
		return q, invalid("step", fmt.Sprintf("makes %d steps of the range, %d are allowed", steps, history.MaxLimit))
	}
	q.Steps = int(steps)
	return q, nil
}

// twinsOf gives the twins of the page behind one of them, or all of them for groups.
func (h *historyService) twinsOf(ctx context.Context, m *pb.QuerySeriesRequest, after string) (all []*pb.Twin, next string, err error) {
	size := m.PageSize
	if len(m.GroupBy) > 0 {
		size = 1000
	}
	for {
		res, err := h.s.o.Registry.ListTwins(&pb.ListTwinsRequest{Filter: m.Filter, PageSize: size, PageToken: after}, projectsOf(principalFrom(ctx)))
		if err != nil {
			return nil, "", err
		}
		all = append(all, res.Twins...)
		if after = res.NextPageToken; len(m.GroupBy) == 0 || after == "" {
			return all, after, nil
		}
		if len(all) >= history.MaxTwins {
			return nil, "", invalid("filter", fmt.Sprintf("fits more than %d twins, which cannot be grouped at once", history.MaxTwins))
		}
	}
}

// comparison puts the series of twins side by side, or together.
type comparison struct {
	h     *historyService
	m     *pb.QuerySeriesRequest
	steps int
	twins map[string]*pb.Twin
	// units of the property, by what decides it.
	units map[string]string
}

func (c *comparison) series(ctx context.Context, project string, all []history.Series) ([]*pb.HistorySeries, error) {
	out := make([]*pb.HistorySeries, 0, len(all))
	groups := map[string]*group{}
	for _, s := range all {
		twin := c.twins[project+"/"+s.Twin]
		unit, err := c.unit(ctx, twin)
		if err != nil {
			return nil, err
		}
		if c.m.Unit != "" {
			conv, err := conversionOf(unit, c.m.Unit, c.m.Aggregate)
			if err != nil {
				return nil, fmt.Errorf("twin %s: %w", twin.Id, err)
			}
			for i, v := range s.Values {
				s.Values[i] = conv.value(v)
			}
			unit = c.m.Unit
		}
		unit = unitOf(unit, c.m.Aggregate)
		fillGaps(s.Values, c.m.Fill)
		if len(c.m.GroupBy) == 0 {
			out = append(out, &pb.HistorySeries{Twin: twin.Id, Unit: unit, Values: s.Values})
			continue
		}
		if err := c.join(groups, twin, unit, s.Values); err != nil {
			return nil, err
		}
	}
	for _, g := range groups {
		out = append(out, g.done(c.m.GroupAggregate))
	}
	if len(groups) > 0 {
		slices.SortFunc(out, func(a, b *pb.HistorySeries) int { return slices.Compare(c.values(a.Group), c.values(b.Group)) })
	}
	return out, nil
}

func (c *comparison) values(group map[string]string) (out []string) {
	for _, by := range c.m.GroupBy {
		out = append(out, group[by])
	}
	return out
}

// unit of the property. Twins of one model have the same.
func (c *comparison) unit(ctx context.Context, t *pb.Twin) (string, error) {
	key, err := c.h.s.o.Registry.ModelKey(t)
	if err != nil {
		key = t.Id
	}
	if unit, ok := c.units[key]; ok {
		return unit, nil
	}
	p, err := (&twinService{c.h.s}).property(ctx, t.Id, c.m.Property)
	if err != nil && !errors.Is(err, actors.ErrNotFound) {
		return "", err
	}
	c.units[key] = p.unit
	return p.unit, nil
}

// group gathers its twins' values in each step.
type group struct {
	of                  map[string]string
	unit                string
	twins               uint32
	sum, low, high, num []float64
}

func (c *comparison) join(groups map[string]*group, t *pb.Twin, unit string, values []float64) error {
	of := make(map[string]string, len(c.m.GroupBy))
	for _, by := range c.m.GroupBy {
		switch by {
		case "all":
			of[by] = ""
		case "zone":
			of[by] = t.Zone
		case "model":
			of[by] = t.Model
		case "driver":
			of[by], _, _ = strings.Cut(t.Driver, "@")
		default:
			of[by] = t.Labels[strings.TrimPrefix(by, "label:")]
		}
	}
	key := strings.Join(c.values(of), "\x00")
	g := groups[key]
	if g == nil {
		g = &group{of: of, unit: unit, sum: make([]float64, c.steps), low: make([]float64, c.steps), high: make([]float64, c.steps), num: make([]float64, c.steps)}
		groups[key] = g
	}
	if g.unit != unit && c.m.GroupAggregate != "count" {
		return invalid("unit", fmt.Sprintf("twin %s is in %q, others of its group in %q: say in which unit they shall be compared", t.Id, unit, g.unit))
	}
	g.twins++
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if g.num[i] == 0 {
			g.low[i], g.high[i] = v, v
		}
		g.sum[i], g.low[i], g.high[i], g.num[i] = g.sum[i]+v, min(g.low[i], v), max(g.high[i], v), g.num[i]+1
	}
	return nil
}

func (g *group) done(aggregate string) *pb.HistorySeries {
	out := &pb.HistorySeries{Group: g.of, Unit: g.unit, Twins: g.twins}
	switch aggregate {
	case "sum":
		out.Values = g.sum
	case "min":
		out.Values = g.low
	case "max":
		out.Values = g.high
	case "count":
		out.Values, out.Unit = g.num, ""
	default:
		out.Values = g.sum
		for i := range out.Values {
			out.Values[i] /= g.num[i] // NaN where there is none
		}
	}
	for i, n := range g.num {
		if n == 0 && aggregate != "count" {
			out.Values[i] = math.NaN()
		}
	}
	return out
}
