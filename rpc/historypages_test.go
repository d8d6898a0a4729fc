package rpc_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// past makes a twin of a model with a number and a text, and brings it messages of an hour ago.
func (h *house) past(t *testing.T, id string, messages ...string) {
	t.Helper()
	project, _, _ := strings.Cut(id, "/")
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Room","properties":{
		"level":{"type":"number","readOnly":true},"mode":{"type":"string","readOnly":true}}}`
	if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(),
		req(&pb.CreateModelRequest{Model: &pb.Model{Id: project + "/room", ThingJson: thing}})); err != nil {
		t.Fatal(err)
	}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Model: "room"}})); err != nil {
		t.Fatal(err)
	}
	for len(messages) > 0 {
		n := min(len(messages), 2000)
		if status, a := h.ingest(t, h.admin, id+"?historical=true", strings.Join(messages[:n], "\n")); status != http.StatusOK || a.Stored != uint64(n) {
			t.Fatalf("status %d, stored %d of %d", status, a.Stored, n)
		}
		messages = messages[n:]
	}
}

// pages reads a property's raw past page by page, the newest page first, and checks each page's size.
func (h *house) pages(t *testing.T, r *pb.QueryHistoryRequest) (all []*pb.Sample) {
	t.Helper()
	for {
		res, err := h.twins(h.admin).QueryHistory(t.Context(), req(r))
		if err != nil {
			t.Fatal(err)
		}
		n, more := uint32(len(res.Msg.Samples)), res.Msg.NextPageToken != ""
		if n > r.Limit || more && n < r.Limit || more != res.Msg.Truncated {
			t.Fatalf("a page of %d by %d, truncated %v, next %q", n, r.Limit, res.Msg.Truncated, res.Msg.NextPageToken)
		}
		all = append(res.Msg.Samples, all...)
		if r.PageToken = res.Msg.NextPageToken; !more {
			return all
		}
	}
}

// TestHistoryPages: pages are as long as they may be, and together they have every value once, those of one time too.
func TestHistoryPages(t *testing.T) {
	h, p := openHouse(t), fresh("histpages")
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	var messages []string
	for i := range 7 {
		messages = append(messages, fmt.Sprintf(`{"data":{"level":%d},"time":%d}`, i, start.UnixMilli()+int64(i)*1000),
			fmt.Sprintf(`{"data":{"mode":"m%d"},"time":%d}`, i, start.UnixMilli()))
	}
	h.past(t, p+"/a", messages...)
	for _, property := range []string{"level", "mode"} {
		for limit := uint32(1); limit < 9; limit++ {
			want, got := "0 1 2 3 4 5 6", ""
			for deadline := time.Now().Add(patience); got != want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				var values []string
				for _, s := range h.pages(t, &pb.QueryHistoryRequest{Id: p + "/a", Property: property, Limit: limit,
					Start: timestamppb.New(start.Add(-time.Minute)), End: timestamppb.New(start.Add(time.Minute))}) {
					values = append(values, strings.TrimPrefix(s.Data.GetStringValue(), "m"))
					if property == "level" {
						values[len(values)-1] = fmt.Sprint(s.Value)
					}
				}
				got = strings.Join(values, " ")
			}
			if got != want {
				t.Errorf("%s by %d: %s", property, limit, got)
			}
		}
	}
}

// TestTextsInSteps: steps have all values, however many they are.
func TestTextsInSteps(t *testing.T) {
	h, p := openHouse(t), fresh("textsteps")
	const each, steps = 6000, 2
	end := time.Now().Add(-time.Hour).Truncate(time.Second)
	begin := end.Add(-steps * time.Minute)
	var messages []string
	for i := range each * steps { // of a step's first millisecond, to its last one
		messages = append(messages, fmt.Sprintf(`{"data":{"mode":"m%d"},"time":%d}`, i, begin.UnixMilli()+1+int64(i)*10))
	}
	h.past(t, p+"/a", messages...)
	for aggregate, want := range map[string]string{"count": "6000 6000", "first": "m0 m6000", "last": "m5999 m11999"} {
		got := ""
		for deadline := time.Now().Add(patience); got != want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			res, err := h.twins(h.admin).QueryHistory(t.Context(), req(&pb.QueryHistoryRequest{Id: p + "/a", Property: "mode", Aggregate: aggregate,
				Start: timestamppb.New(begin), End: timestamppb.New(end), Step: durationpb.New(time.Minute)}))
			if err != nil || res.Msg.Truncated {
				t.Fatal(res, err)
			}
			var values []string
			for _, s := range res.Msg.Samples {
				values = append(values, s.Data.GetStringValue())
				if aggregate == "count" {
					values[len(values)-1] = fmt.Sprint(s.Value)
				}
			}
			got = strings.Join(values, " ")
		}
		if got != want {
			t.Errorf("%s: %s", aggregate, got)
		}
	}
	for _, bad := range []*pb.QueryHistoryRequest{{Step: durationpb.New(time.Microsecond), Aggregate: "count"}, {Start: timestamppb.New(end), End: timestamppb.New(begin)}} {
		bad.Id, bad.Property = p+"/a", "mode"
		if _, err := h.twins(h.admin).QueryHistory(t.Context(), req(bad)); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}
