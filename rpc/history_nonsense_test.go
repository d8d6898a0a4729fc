package rpc_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestNonsenseTakesNoDigits: what a device says once for nonsense (the largest number of 32 bits) leaves the readings beside it in
// VictoriaMetrics as they were; it is in the journal.
func TestNonsenseTakesNoDigits(t *testing.T) {
	h, p := openHouse(t), fresh("nonsense")
	const model = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Room","properties":{"heat":{"type":"number"}}}`
	if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/room", ThingJson: model}})); err != nil {
		t.Fatal(err)
	}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/hall", Model: p + "/room"}})); err != nil {
		t.Fatal(err)
	}
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i, v := range []string{"20.125", "3.4028234663852886e38", "20.75", "9007199254740992", "-0.001"} {
		at := begin.Add(time.Duration(i) * time.Second).UTC().Format(time.RFC3339)
		if status, a := h.ingest(t, h.admin, p+"/hall?time="+at, fmt.Sprintf(`{"heat":%s}`, v)); status != http.StatusOK || a.Stored != 1 {
			t.Fatalf("%s: %d %+v", v, status, a)
		}
	}
	last := func(what string) (values string) {
		_, text, _ := h.get(t, "/v1/history/"+p+"/export?format=csv&twin=hall&what="+what, h.admin)
		for _, line := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
			values += line[strings.LastIndexByte(line, ',')+1:] + " "
		}
		return values
	}
	for what, want := range map[string]string{"samples": "20.125 20.75 9.007199254740992e+15 -0.001 ", "journal": "3.4028234663852886e+38 "} {
		until(t, what, func() error {
			if got := last(what); got != want {
				return fmt.Errorf("%s, want %s", got, want)
			}
			return nil
		})
	}
}
