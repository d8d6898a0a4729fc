package rpc_test

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// A relation is seen from everywhere: by its service, by who watches, by who walks, and in the thing description of where it begins.
func TestRelationsAreSeen(t *testing.T) {
	h, p := openHouse(t), fresh("related")
	h.another(t, p+"/pump")
	h.another(t, p+"/boiler")
	_, key := h.newKey(t, &pb.Key{Name: "v", Role: "viewer", Project: p})
	_, foreign := h.newKey(t, &pb.Key{Name: "f", Role: "viewer", Project: fresh("elsewhere")})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch, err := rpcv1.NewWatchServiceClient(h.http(key), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: "relation"}))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if !watch.Receive() || !watch.Msg().Synced {
		t.Fatalf("%v %v", watch.Msg(), watch.Err())
	}
	relations := rpcv1.NewRelationServiceClient(h.http(h.admin), h.url)
	made, err := relations.CreateRelation(ctx, req(&pb.CreateRelationRequest{Relation: &pb.Relation{From: p + "/pump", Type: "feeds", To: "boiler"}}))
	if err != nil || made.Msg.Relation.Id != p+"/pump/feeds/boiler" {
		t.Fatalf("%v, %v", made, err)
	}
	if !watch.Receive() || watch.Msg().Id != made.Msg.Relation.Id || !strings.Contains(watch.Msg().RecordJson, `"feeds"`) {
		t.Errorf("%v %v", watch.Msg(), watch.Err())
	}
	viewer := rpcv1.NewRelationServiceClient(h.http(key), h.url)
	list, err := viewer.ListRelations(ctx, req(&pb.ListRelationsRequest{}))
	if err != nil || len(list.Msg.Relations) != 1 || list.Msg.Relations[0].From != p+"/pump" {
		t.Errorf("%v, %v", list, err)
	}
	for who, want := range map[string]connect.Code{foreign: connect.CodePermissionDenied, key: connect.CodePermissionDenied} {
		_, err := rpcv1.NewRelationServiceClient(h.http(who), h.url).DeleteRelation(ctx, req(&pb.DeleteRelationRequest{Id: made.Msg.Relation.Id}))
		if connect.CodeOf(err) != want {
			t.Error(err)
		}
	}
	if _, err := rpcv1.NewRelationServiceClient(h.http(foreign), h.url).Walk(ctx, req(&pb.WalkRequest{Path: p})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Error(err)
	}

	if a := h.rest(t, key, "GET", "/v1/walk/"+p+"/pump/@feeds", ""); a.status != 200 || !strings.Contains(a.text, `"id":"`+p+`/boiler"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := h.rest(t, key, "GET", "/v1/walk/"+p+"/boiler/@-feeds/pump", ""); a.status != 200 || !strings.Contains(a.text, `"typesFrom":["feeds"]`) {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := h.rest(t, key, "GET", "/v1/twins/"+p+"/pump/td", ""); !strings.Contains(a.text, `"href":"`+h.url+`/v1/twins/`+p+`/boiler/td","rel":"feeds"`) {
		t.Errorf("%d %s", a.status, a.text)
	}

	made.Msg.Relation.Title = "Main loop"
	if _, err := relations.UpdateRelation(ctx, req(&pb.UpdateRelationRequest{Relation: made.Msg.Relation})); err != nil {
		t.Error(err)
	}
	if _, err := relations.DeleteRelation(ctx, req(&pb.DeleteRelationRequest{Id: made.Msg.Relation.Id})); err != nil {
		t.Error(err)
	}
	if _, err := relations.GetRelation(ctx, req(&pb.GetRelationRequest{Id: made.Msg.Relation.Id})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
}
