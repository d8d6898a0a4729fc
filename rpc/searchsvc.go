package rpc

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// searchService finds configuration, in this node's index.
type searchService struct{ s *Server }

func (s *searchService) Search(ctx context.Context, r *connect.Request[pb.SearchRequest]) (*connect.Response[pb.SearchResponse], error) {
	if slices.Contains(r.Msg.Kinds, kindEvent) {
		return s.events(ctx, r)
	}
	res, err := paged("search", &r.Msg.PageToken, func() (*pb.SearchResponse, error) {
		return s.s.o.Registry.Search(ctx, r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.SearchResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// kindEvent is that of what the journal has.
const kindEvent = "event"

// maxEventText is how much of an event's data is shown, in bytes.
const maxEventText = 300

// events finds words in the journal.
func (s *searchService) events(ctx context.Context, r *connect.Request[pb.SearchRequest]) (*connect.Response[pb.SearchResponse], error) {
	m := r.Msg
	if len(m.Kinds) > 1 || len(m.Facets) > 0 || m.Near != nil || len(m.Within) > 0 || m.Where != "" {
		return nil, invalid("kinds", "event is found by words alone: leave out the other kinds and conditions")
	}
	list := connect.NewRequest(&pb.ListJournalRequest{Project: m.Project, Kinds: []string{kindEvent}, Text: m.Query,
		PageSize: cmp.Or(m.PageSize, 20), PageToken: m.PageToken})
	got, err := (&historyService{s.s}).ListJournal(ctx, list)
	if err != nil {
		return nil, err
	}
	res := &pb.SearchResponse{NextPageToken: got.Msg.NextPageToken, Total: uint64(len(got.Msg.Entries))}
	for _, e := range got.Msg.Entries {
		text, _ := protojson.Marshal(e.Data)
		res.Hits = append(res.Hits, &pb.SearchHit{Kind: kindEvent, Id: e.Twin, Title: e.Name, Time: e.Time,
			Description: strings.ToValidUTF8(string(text[:min(len(text), maxEventText)]), "")})
	}
	return connect.NewResponse(res), nil
}

// searchRoute is the search of the plain REST API.
func searchRoute() restRoute {
	params := []restParam{{name: "q", text: "Words, or words' beginnings.", schema: stringSchema},
		{name: "kind", text: "twin, model, zone, system, driver, topic, route, schedule, rule, detector or, alone, event.", schema: stringSchema, many: true},
		{name: "project", text: "Only of this project.", schema: stringSchema},
		{name: "near", text: "LAT,LON,METRES: only what is within so many metres.", schema: stringSchema},
		{name: "within", text: "LAT,LON: two corners of a box, or more of a polygon: only what is in it.", schema: stringSchema, many: true},
		{name: "where", text: "Only where this expression holds (docs/expressions.md).", schema: stringSchema},
		{name: "facets", text: "Count the facets.", schema: boolSchema}}
	for _, name := range searchFacets {
		params = append(params, restParam{name: name, text: "Only with this value of the facet " + name + ".", schema: stringSchema, many: true})
	}
	return restRoute{method: http.MethodGet, path: "/v1/search", id: "search", summary: "Find twins, models, zones, systems, drivers, topics, routes",
		text: "The header Link names the next page, where there is one.", procedure: rpcv1.SearchServiceSearchProcedure, serve: (*restCall).search,
		params:  append(params, pageParams("hits", 200, 20)...),
		answers: []restAnswer{{status: 200, text: "What was found, the best first", content: messageOf(&pb.SearchResponse{}), headers: linkHeader}}}
}

// searchFacets can be asked for by name, besides kind and project.
var searchFacets = []string{"model", "driver", "zone", "status", "label"}

func (c *restCall) search() error {
	req := &pb.SearchRequest{Query: c.text("q"), Kinds: c.query["kind"], Project: c.text("project"), Where: c.text("where"), PageSize: c.number("page_size"),
		PageToken: c.text("page_token"), CountFacets: c.boolean("facets")}
	for _, name := range searchFacets {
		for _, v := range c.query[name] {
			req.Facets = append(req.Facets, &pb.FacetValue{Name: name, Value: v})
		}
	}
	if text := c.text("near"); text != "" {
		x := c.decimals("near", "LAT,LON,METRES", text)
		req.Near = &pb.Near{Place: &pb.GeoPoint{Lat: x[0], Lon: x[1]}, Metres: x[2]}
	}
	for _, text := range c.query["within"] {
		x := c.decimals("within", "LAT,LON", text)
		req.Within = append(req.Within, &pb.GeoPoint{Lat: x[0], Lon: x[1]})
	}
	res, err := calls(c, rpcv1.SearchServiceSearchProcedure, req, (&searchService{c.s}).Search)
	if err != nil {
		return err
	}
	c.nextPage(res.NextPageToken)
	return c.message(http.StatusOK, res)
}

// decimals reads numbers with commas between, as many as form names.
func (c *restCall) decimals(name, form, text string) []float64 {
	parts := strings.Split(text, ",")
	out := make([]float64, strings.Count(form, ",")+1)
	for i := range out {
		var err error
		if len(parts) == len(out) {
			out[i], err = strconv.ParseFloat(strings.TrimSpace(parts[i]), 64)
		}
		if len(parts) != len(out) || err != nil {
			c.wrong(name, "want "+form)
			break
		}
	}
	return out
}
