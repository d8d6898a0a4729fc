package rpc_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestSearch: everybody finds what he may read, by Connect and by REST, and bad questions say what is wrong with them.
func TestSearch(t *testing.T) {
	h := openHouse(t)
	one, two := fresh("find"), fresh("find")
	for _, p := range []string{one, two} {
		if _, err := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url).PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: p + "/attic", Title: "Roof of " + p}})); err != nil {
			t.Fatal(err)
		}
	}
	_, limited := h.newKey(t, &pb.Key{Role: "viewer", Project: one, Name: "finder"})
	find := func(key string, r *pb.SearchRequest) (*pb.SearchResponse, error) {
		res, err := rpcv1.NewSearchServiceClient(h.http(key), h.url).Search(t.Context(), req(r))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	ids := func(key string, r *pb.SearchRequest) string {
		t.Helper()
		res, err := find(key, r)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, x := range res.Hits {
			all = append(all, x.Id)
		}
		return strings.Join(all, " ")
	}
	q := func() *pb.SearchRequest {
		return &pb.SearchRequest{Query: "attic find", Kinds: []string{"zone"}, PageSize: 1}
	}
	for end := time.Now().Add(patience); ids(h.admin, &pb.SearchRequest{Query: "roof " + one}) == "" || ids(h.admin, &pb.SearchRequest{Query: "roof " + two}) == ""; {
		if time.Now().After(end) {
			t.Fatal("the zones are not found")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := ids(limited, &pb.SearchRequest{Query: "attic"}); got != one+"/attic" {
		t.Errorf("a key of one project finds %s", got)
	}
	// How many there are of other projects is no business of one.
	for key, told := range map[string]bool{h.admin: true, limited: false} {
		if res, err := find(key, &pb.SearchRequest{Query: "attic"}); err != nil || (res.Entries > 0) != told {
			t.Errorf("%v, %v", res, err)
		}
	}
	if _, err := find(limited, &pb.SearchRequest{Query: "attic", Project: two}); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("another project: %v", err)
	}
	// Ways in and out, what is simulated and what is linked.
	for what, err := range map[string]error{
		"source": second(rpcv1.NewSourceServiceClient(h.http(h.admin), h.url).CreateSource(t.Context(), req(&pb.CreateSourceRequest{
			Source: &pb.Source{Id: one + "/in", Url: "kafka://orchard.example:1/readings", Paused: true}}))),
		"simulation": second(rpcv1.NewSimulationServiceClient(h.http(h.admin), h.url).CreateSimulation(t.Context(), req(&pb.CreateSimulationRequest{
			Simulation: &pb.Simulation{Id: one + "/day", Title: "Orchard", Paused: true, Scenario: "twins: [a]\nvalues: {x: {keys: {0s: 1}}}"}}))),
		"zone": second(rpcv1.NewSiteServiceClient(h.http(h.admin), h.url).PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: one + "/cellar"}}))),
		"relation": second(rpcv1.NewRelationServiceClient(h.http(h.admin), h.url).CreateRelation(t.Context(), req(&pb.CreateRelationRequest{
			Relation: &pb.Relation{From: "zone:" + one + "/attic", Type: "orchard", To: "zone:" + one + "/cellar"}}))),
		"alarm": second(rpcv1.NewAutomationServiceClient(h.http(h.admin), h.url).RaiseAlarm(t.Context(), req(&pb.RaiseAlarmRequest{
			Id: one + "/frost", Text: "Frost in the orchard", Severity: pb.AlarmSeverity_ALARM_SEVERITY_WARNING}))),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, kind := range []string{"source", "simulation", "relation", "alarm"} {
		for end := time.Now().Add(patience); ids(h.admin, &pb.SearchRequest{Query: "orchard", Project: one, Kinds: []string{kind}}) == ""; {
			if time.Now().After(end) {
				t.Fatalf("no %s is found", kind)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	// A bare name of a zone or a model is one of the project.
	err := second(rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: one + "/gauge",
		ThingJson: `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Orchard gauge"}`}})))
	if err != nil {
		t.Fatal(err)
	}
	if err := second(h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: one + "/g1", Model: "gauge", Zone: "attic"}}))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gauge", one + "/gauge"} {
		for end := time.Now().Add(patience); ids(h.admin, &pb.SearchRequest{Project: one, Facets: []*pb.FacetValue{{Name: "model", Value: name}, {Name: "zone", Value: "attic"}}}) != one+"/g1"; {
			if time.Now().After(end) {
				t.Fatalf("no twin of model %s in the attic is found", name)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	// A route that names its model as people do is found with the model's twins.
	if err := second(rpcv1.NewTopicServiceClient(h.http(h.admin), h.url).CreateTopic(t.Context(), req(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: one + "/changes"}}))); err != nil {
		t.Fatal(err)
	}
	if err := second(rpcv1.NewTopicServiceClient(h.http(h.admin), h.url).PutRoute(t.Context(), req(&pb.PutRouteRequest{Route: &pb.Route{Id: one + "/gauges", Model: "gauge", Topics: []string{"changes"}}}))); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ids(h.admin, &pb.SearchRequest{Project: one, Kinds: []string{"route"}, Facets: []*pb.FacetValue{{Name: "model", Value: "gauge"}}}) != one+"/gauges"; {
		if time.Now().After(end) {
			t.Fatal("no route of the model is found")
		}
		time.Sleep(5 * time.Millisecond)
	}
	// Page by page.
	seen := map[string]bool{}
	for r := q(); ; {
		res, err := find(h.admin, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range res.Hits {
			seen[x.Id] = true
		}
		if r.PageToken = res.NextPageToken; r.PageToken == "" {
			break
		}
	}
	if !seen[one+"/attic"] || !seen[two+"/attic"] {
		t.Errorf("pages had %v", seen)
	}
	for what, r := range map[string]*pb.SearchRequest{
		"did you mean name": {Where: "entry.nmae == 1"},
		"no label":          {Facets: []*pb.FacetValue{{Name: "label", Value: "room"}}},
		"no status":         {Facets: []*pb.FacetValue{{Name: "status", Value: "broken"}}},
		"one corner":        {Within: []*pb.GeoPoint{{Lat: 1, Lon: 2}}},
		"page_token":        {PageToken: "zzz"},
		"90":                {Near: &pb.Near{Place: &pb.GeoPoint{Lat: 91}, Metres: 1}},
		"words alone":       {Kinds: []string{"event", "twin"}},
	} {
		if _, err := find(h.admin, r); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error with %q: %v", what, err)
		}
	}
	if got := ids(h.admin, &pb.SearchRequest{Kinds: []string{"event"}, Project: one, Query: "nothing happened"}); got != "" {
		t.Errorf("events %s", got)
	}
	path := "/v1/search?" + url.Values{"q": {"roof " + one}, "kind": {"zone"}, "facets": {"true"}, "where": {`entry.name == "attic"`}}.Encode()
	status, body, _ := h.get(t, path, limited)
	if want := fmt.Sprintf(`"id":"%s/attic"`, one); status != http.StatusOK || !strings.Contains(strings.ReplaceAll(body, " ", ""), want) || !strings.Contains(body, `"facets"`) {
		t.Errorf("%d %s", status, body)
	}
	for query, want := range map[string]string{"within=1,2": "one corner", "within=1,x&within=2,3": "LAT,LON", "within=80,170&within=81,171": `"entries"`} {
		if status, body, _ := h.get(t, "/v1/search?"+query, h.admin); (status == http.StatusOK) != (want == `"entries"`) || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, body, _ := h.get(t, "/v1/search?near=1,2", h.admin); status != http.StatusBadRequest || !strings.Contains(body, "LAT,LON,METRES") {
		t.Errorf("%d %s", status, body)
	}
}

// second is the error of an answer.
func second[M any](_ M, err error) error { return err }
