package rpc_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestPagesFollowTheirTokens walks through a list by pages, and through every list with a word that is no token.
func TestPagesFollowTheirTokens(t *testing.T) {
	h := openHouse(t)
	project := fresh("pages")
	site := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url)
	var want, got []string
	for i := range 5 {
		id := fmt.Sprintf("%s/z%d", project, i)
		want = append(want, id)
		if _, err := site.PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: id}})); err != nil {
			t.Fatal(err)
		}
	}
	for token := ""; ; {
		page, err := site.ListZones(t.Context(), req(&pb.ListZonesRequest{Project: project, PageSize: 2, PageToken: token}))
		if err != nil || len(page.Msg.Zones) > 2 {
			t.Fatalf("%d zones, %v", len(page.Msg.GetZones()), err)
		}
		for _, z := range page.Msg.Zones {
			got = append(got, z.Id)
		}
		if token = page.Msg.NextPageToken; token == "" {
			break
		}
		if strings.Contains(token, project) {
			t.Errorf("the token %q shows what is in it", token)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for i := range 2 {
		h.newKey(t, &pb.Key{Role: "viewer", Project: project, Name: fmt.Sprint(i)})
	}
	keys, err := h.keys(h.admin).ListKeys(t.Context(), req(&pb.ListKeysRequest{PageSize: 1}))
	if err != nil || keys.Msg.NextPageToken == "" {
		t.Fatalf("first page of keys: %v, %v", keys, err)
	}
	next, err := h.keys(h.admin).ListKeys(t.Context(), req(&pb.ListKeysRequest{PageSize: 1, PageToken: keys.Msg.NextPageToken}))
	if err != nil || len(next.Msg.Keys) != 1 || next.Msg.Keys[0].Id <= keys.Msg.Keys[0].Id {
		t.Errorf("second page of keys: %v, %v", next, err)
	}
	for _, procedure := range []string{rpcv1.TwinServiceListTwinsProcedure, rpcv1.DriverServiceListDriversProcedure,
		rpcv1.SiteServiceListZonesProcedure, rpcv1.SiteServiceListSystemsProcedure, rpcv1.SiteServiceListInboxProcedure, rpcv1.ModelServiceListModelsProcedure, rpcv1.RelationServiceListRelationsProcedure,
		rpcv1.KeyServiceListKeysProcedure} {
		for _, token := range []string{"zzz", project + "/z1"} {
			status, body := h.call(t, h.admin, procedure, fmt.Sprintf(`{"pageToken":%q}`, token))
			if status != http.StatusBadRequest || !strings.Contains(body, "page_token") {
				t.Errorf("%s from %q: status %d: %.200s", procedure, token, status, body)
			}
		}
	}
}
