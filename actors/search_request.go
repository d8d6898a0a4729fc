package actors

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/search"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// The words of a search's expression.
var entryWords = sync.OnceValues(func() (*expr.Env, error) { return expr.New(expr.ScopeTwin | expr.ScopeEntry) })

// defaultHits of a page where nobody says how many.
const defaultHits = 20

// Search finds configuration in the projects that the caller may read; projects nil: all. Bad conditions are ErrInvalid.
func (r *Registry) Search(ctx context.Context, req *pb.SearchRequest, projects func(string) bool) (*pb.SearchResponse, error) {
	q, err := r.searchQuery(req, projects)
	if err != nil {
		return nil, err
	}
	found, err := r.e.searcher.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	res := &pb.SearchResponse{Total: uint64(found.Total), Truncated: found.Truncated, Building: found.Building}
	if projects == nil { // how many there are of other projects is not for those of one
		res.Entries = uint64(found.Entries)
	}
	for i := range found.Hits {
		h := &found.Hits[i]
		hit := &pb.SearchHit{Kind: h.Kind, Id: h.ID, Title: h.Title, Description: h.Detail, Model: h.Model, Driver: h.Driver, Zone: h.Zone,
			Status: h.Status, Labels: h.Labels, Distance: h.Distance}
		if h.At != nil {
			hit.Place = &pb.GeoPoint{Lat: h.At.Lat, Lon: h.At.Lon}
		}
		res.Hits = append(res.Hits, hit)
	}
	for _, name := range search.FacetNames {
		if len(found.Facets[name]) == 0 {
			continue
		}
		f := &pb.Facet{Name: name}
		for _, c := range found.Facets[name] {
			f.Values = append(f.Values, &pb.FacetCount{Value: c.Value, Hits: uint64(c.Hits)})
		}
		res.Facets = append(res.Facets, f)
	}
	if next := q.Offset + len(found.Hits); next < found.Total && next < search.MaxHits && len(found.Hits) > 0 {
		res.NextPageToken = strconv.Itoa(next)
	}
	return res, nil
}

// searchQuery checks a request.
func (r *Registry) searchQuery(req *pb.SearchRequest, projects func(string) bool) (*search.Query, error) {
	where, err := condition(entryWords, "/where", req.GetWhere())
	if err != nil {
		return nil, err
	}
	q := &search.Query{Text: req.GetQuery(), Kinds: req.GetKinds(), Where: where, Projects: projects, Limit: int(req.GetPageSize()), Count: req.GetCountFacets()}
	if q.Limit == 0 {
		q.Limit = defaultHits
	}
	if p := req.GetProject(); p != "" {
		q.Projects = func(name string) bool { return name == p && (projects == nil || projects(name)) }
	}
	for i, f := range req.GetFacets() {
		if f.Name == "label" && !strings.Contains(f.Value, "=") {
			return nil, invalid(fmt.Sprintf("/facets/%d/value", i), "%q is no label; want key=value", f.Value)
		}
		if f.Name == "status" && !slices.Contains(statusWords, f.Value) {
			return nil, invalid(fmt.Sprintf("/facets/%d/value", i), "%q is no status; there are %s", f.Value, strings.Join(statusWords, ", "))
		}
		value, err := r.facetValue(req.GetProject(), f)
		if err != nil {
			return nil, err
		}
		q.Facets = append(q.Facets, search.Facet{Name: f.Name, Value: value})
	}
	if n := req.GetNear(); n != nil {
		q.Near, q.Metres = &expr.Point{Lat: n.GetPlace().GetLat(), Lon: n.GetPlace().GetLon()}, n.Metres
	}
	for _, p := range req.GetWithin() {
		q.Within = append(q.Within, expr.Point{Lat: p.Lat, Lon: p.Lon})
	}
	if len(q.Within) == 1 {
		return nil, invalid("/within", "one corner is no area; want two of a box, or more of a polygon")
	}
	if token := req.GetPageToken(); token != "" {
		if q.Offset, err = strconv.Atoi(token); err != nil || q.Offset < 0 || q.Offset >= search.MaxHits {
			return nil, invalid("/page_token", "it is not the next_page_token of a search")
		}
	}
	return q, nil
}

// statusWords are what the status of a twin can be.
var statusWords = []string{"connected", "connecting", "disconnected", "sleeping", "stopped", "none", "fault"}

// hasModel says whether there is a model of that id.
func (r *Registry) hasModel(id string) bool {
	_, there, err := r.store.Get(tableThings, id)
	return there && err == nil
}

// facetValue completes the bare name of a zone, and that of a model that the project has; any other model is the title that a driver gives.
func (r *Registry) facetValue(project string, f *pb.FacetValue) (string, error) {
	id := within(cmp.Or(project, "default"), f.Value)
	switch f.Name {
	case "zone":
		return id, nil
	case "model":
		if _, there, err := r.store.Get(tableThings, id); err != nil || there {
			return id, err
		}
	}
	return f.Value, nil
}
