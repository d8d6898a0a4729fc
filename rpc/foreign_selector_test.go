package rpc_test

import (
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestForeignSelectors: a key of one project sees the selectors of that one's twins, and how many of those no node may have; what others wrote into theirs it does not.
func TestForeignSelectors(t *testing.T) {
	h, hall := openHouse(t), fresh("sel")
	vault := hall + "-vault"
	_, key := h.newKey(t, &pb.Key{Role: "admin", Project: hall})
	h.echo(t, hall+"/plain")
	call := func(who, procedure, body string) string {
		t.Helper()
		status, got := h.call(t, who, "/pollux.v1."+procedure, strings.NewReplacer("HALL", hall, "VAULT", vault).Replace(body))
		if status != 200 {
			t.Fatalf("%s %s: %d %s", procedure, body, status, got)
		}
		return got
	}
	for _, id := range []string{hall + "/a", hall + "/b", vault + "/c"} {
		selector := "own=word"
		if strings.HasPrefix(id, vault) {
			selector = "customer=quokka"
		}
		call(h.admin, "TwinService/CreateTwin", `{"twin":{"id":"`+id+`","driver":"echo","selector":"`+selector+`"}}`)
		defer call(h.admin, "TwinService/DeleteTwin", `{"id":"`+id+`"}`)
	}
	for _, x := range []string{"GetStatus", "ListSlots", "CheckCluster"} {
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // the node learns of new ones by its watch
			all := call(h.admin, "ClusterService/"+x, `{}`)
			if strings.Contains(all, "customer=quokka") && strings.Contains(all, "own=word") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s does not tell an administrator: %.300s", x, all)
			}
		}
		own := call(key, "ClusterService/"+x, `{}`)
		if strings.Contains(own, "customer=quokka") {
			t.Errorf("%s tells a key of one project what others wrote", x)
		}
		if has := strings.Contains(own, "own=word"); has != (x != "CheckCluster") {
			t.Errorf("%s tells a key of one project its own: %t", x, has)
		}
	}
	if got := strings.ReplaceAll(call(key, "ClusterService/GetStatus", `{}`), " ", ""); !strings.Contains(got, `"unmetSelectors":{"own=word":2}`) {
		t.Errorf("%s", got)
	}
}
