package rpc_test

import (
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestChangesAreLogged: one line for each change, with who did it; none for what failed, was read or was used.
func TestChangesAreLogged(t *testing.T) {
	h := openHouse(t)
	project, name := fresh("changes"), fresh("changer")
	keyID, key := h.newKey(t, &pb.Key{Role: "admin", Name: name})
	twin := project + "/a"
	h.echo(t, twin) // by the administrator
	for _, c := range []struct{ procedure, body string }{
		{rpcv1.SiteServicePutZoneProcedure, `{"zone":{"id":"` + project + `/z","kind":"room"}}`},
		{rpcv1.SiteServicePutSystemProcedure, `{"system":{"id":"` + project + `/s"}}`},
		{rpcv1.TwinServiceCreateTwinProcedure, `{"twin":{"id":"` + project + `/b","driver":"echo","settings":{"topic":"` + project + `_b"}}}`},
		{rpcv1.TwinServiceGetTwinProcedure, `{"id":"` + twin + `"}`},
		{rpcv1.TwinServiceInvokeProcedure, `{"id":"` + twin + `","action":"echo"}`},
		{rpcv1.SiteServiceDeleteZoneProcedure, `{"id":"` + project + `/z"}`},
		{rpcv1.SiteServiceDeleteSystemProcedure, `{"id":"` + project + `/s"}`},
		{rpcv1.TwinServiceDeleteTwinProcedure, `{"id":"` + twin + `"}`},
	} {
		if status, body := h.call(t, key, c.procedure, c.body); status != 200 {
			t.Errorf("%s: status %d: %s", c.procedure, status, body)
		}
	}
	if status, _ := h.call(t, key, rpcv1.TwinServiceDeleteTwinProcedure, `{"id":"`+project+`/none"}`); status != 404 {
		t.Errorf("delete what is not there: status %d", status)
	}
	lines := h.log.with("key=" + keyID)
	want := []string{`msg="zone put" id=` + project + "/z", `msg="system put" id=` + project + "/s", `msg="twin created" id=` + project + "/b",
		`msg="zone deleted" id=` + project + "/z", `msg="system deleted" id=` + project + "/s", `msg="twin deleted" id=` + twin}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, ""))
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]+" by="+name+" ") || !strings.Contains(line, "level=INFO") {
			t.Errorf("got %s, want %s", line, want[i])
		}
	}
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: keyID})); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`msg="key created" id=` + keyID + " by=", `msg="key deleted" id=` + keyID + " by=",
		`msg="twin created" id=` + twin + " by="} {
		if got := h.log.with(text); len(got) != 1 {
			t.Errorf("%s: %d lines", text, len(got))
		}
	}
	if got := h.log.with(`msg="driver uploaded" id=echo@`); len(got) != 1 {
		t.Errorf("the driver was uploaded by many tests and changed once, but there are %d lines", len(got))
	}
}
