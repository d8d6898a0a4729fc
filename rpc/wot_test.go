package rpc_test

import (
	"encoding/json"
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A key of one project finds the things of that project, by addresses that it can use.
func TestThingsAreThoseOfTheKey(t *testing.T) {
	h, p := openHouse(t), fresh("things")
	h.another(t, p+"/a")
	h.another(t, p+"/b")
	h.another(t, fresh("elsewhere")+"/c")
	_, key := h.newKey(t, &pb.Key{Name: "v", Role: "viewer", Project: p})
	var bases []string
	for path := "/v1/things?page_size=1"; path != ""; {
		a := h.rest(t, key, "GET", path, "")
		var page []struct{ Id, Base, Title string }
		if err := json.Unmarshal([]byte(a.text), &page); err != nil || a.header.Get("Content-Type") != "application/ld+json" || len(page) != 1 {
			t.Fatalf("%d %v %s", a.status, err, a.text)
		}
		bases = append(bases, page[0].Base)
		path, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	if len(bases) != 2 || bases[0] != h.url+"/v1/twins/"+p+"/a/" || bases[1] != h.url+"/v1/twins/"+p+"/b/" {
		t.Errorf("%v", bases)
	}
	var td struct {
		Properties map[string]struct{ Forms []struct{ Href string } }
	}
	a := h.rest(t, key, "GET", strings.TrimPrefix(bases[0], h.url)+"td", "")
	if err := json.Unmarshal([]byte(a.text), &td); err != nil || td.Properties["level"].Forms[0].Href != "properties/level" {
		t.Fatalf("%v %s", err, a.text)
	}
	if a := h.rest(t, key, "GET", strings.TrimPrefix(bases[0], h.url)+td.Properties["level"].Forms[0].Href, ""); a.status != 404 || a.problem(t).Reason != "not_found" {
		t.Errorf("a form leads to %d %s", a.status, a.text)
	}
	if a := h.rest(t, key, "GET", "/v1/things?page_size=101", ""); a.problem(t).Path != "query.page_size" {
		t.Error(a.text)
	}
	if a := h.rest(t, key, "GET", "/v1/things?project=elsewhere", ""); a.status != 403 {
		t.Error(a.text)
	}
	for _, path := range []string{"/.well-known/wot", "/v1/things", "/v1/twins/" + p + "/a/tm"} {
		if a := h.rest(t, "", "GET", path, ""); a.status != 401 {
			t.Errorf("%s without a key: %d", path, a.status)
		}
		if a := h.rest(t, key, "GET", path, ""); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
}
