package rpc_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
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

// TestPastOfATwinThatIsGone: a twin that was deleted has its past, numbers and texts alike; one that never was has none.
func TestPastOfATwinThatIsGone(t *testing.T) {
	h, p := openHouse(t), fresh("gone")
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	h.past(t, p+"/a", fmt.Sprintf(`{"data":{"level":7,"mode":"eco"},"time":%d}`, at.UnixMilli()))
	ask := func(id, property string) (*pb.QueryHistoryResponse, error) {
		res, err := h.twins(h.admin).QueryHistory(t.Context(), req(&pb.QueryHistoryRequest{Id: p + "/" + id, Property: property, Start: timestamppb.New(at), End: timestamppb.New(at)}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	for _, property := range []string{"level", "mode"} { // both have arrived
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			if res, err := ask("a", property); err == nil && len(res.Samples) == 1 {
				break
			} else if time.Now().After(deadline) {
				t.Fatal(property, res, err)
			}
		}
	}
	if _, err := h.twins(h.admin).DeleteTwin(t.Context(), req(&pb.DeleteTwinRequest{Id: p + "/a"})); err != nil {
		t.Fatal(err)
	}
	if res, err := ask("a", "level"); err != nil || len(res.Samples) != 1 || res.Samples[0].Value != 7 {
		t.Errorf("level: %v %v", res, err)
	}
	if res, err := ask("a", "mode"); err != nil || len(res.Samples) != 1 || res.Samples[0].Data.GetStringValue() != "eco" {
		t.Errorf("mode: %v %v", res, err)
	}
	for id, property := range map[string]string{"a": "volume", "b": "level"} {
		if res, err := ask(id, property); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s of %s: %v %v", property, id, res, err)
		}
	}
}

// TestJournalOfAllProjects: a list that names no project has those of all that the caller may read, by pages in the order of time.
func TestJournalOfAllProjects(t *testing.T) {
	h, p, other := openHouse(t), fresh("journala"), fresh("journalb")
	at := time.Now().Add(-time.Hour).Truncate(time.Second).UnixMilli()
	word := fresh("word")
	var want, own []string
	for n := range 6 {
		of := []string{p, other}[n%2]
		text := fmt.Sprintf("%s %d", word, n)
		message := fmt.Sprintf(`{"data":{"mode":%q},"time":%d}`, text, at+int64(n))
		if n < 2 {
			h.past(t, of+"/a", message)
		} else if status, _ := h.ingest(t, h.admin, of+"/a?historical=true", message); status != http.StatusOK {
			t.Fatal(status)
		}
		want = append(want, of+"/a "+text)
		if of == p {
			own = append(own, of+"/a "+text)
		}
	}
	_, key := h.newKey(t, &pb.Key{Role: "viewer", Project: p})
	list := func(key string, newest bool) (all []string, err error) {
		r := &pb.ListJournalRequest{Text: word, PageSize: 2, OldestFirst: !newest}
		for {
			res, err := rpcv1.NewHistoryServiceClient(h.http(key), h.url).ListJournal(t.Context(), req(r))
			if err != nil {
				return nil, err
			}
			for _, e := range res.Msg.Entries {
				all = append(all, e.Twin+" "+e.Data.GetStringValue())
			}
			if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
				return all, nil
			}
		}
	}
	for _, x := range []struct {
		key    string
		newest bool
		want   []string
	}{{h.admin, false, want}, {h.admin, true, reversed(want)}, {key, false, own}, {key, true, reversed(own)}} {
		until(t, "the journal has them", func() error {
			got, err := list(x.key, x.newest)
			if err != nil || !slices.Equal(got, x.want) {
				return fmt.Errorf("newest %v: %q, want %q, %w", x.newest, got, x.want, err)
			}
			return nil
		})
	}
}

func reversed(of []string) []string {
	all := slices.Clone(of)
	slices.Reverse(all)
	return all
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

// TestQualityOnEachPage: a value has the same quality on a page as in the whole range.
func TestQualityOnEachPage(t *testing.T) {
	h, p := openHouse(t), fresh("quality")
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Room","properties":{"level":{"type":"number","readOnly":true,"maximum":10}}}`
	if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/room", ThingJson: thing}})); err != nil {
		t.Fatal(err)
	}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/a", Model: "room"}})); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	var messages []string
	for i, level := range []int{1, 20, 21, 22, 2, 3, 23, 24} { // above 10 it is uncertain
		messages = append(messages, fmt.Sprintf(`{"data":{"level":%d},"time":%d}`, level, start.UnixMilli()+int64(i)*1000))
	}
	if status, a := h.ingest(t, h.admin, p+"/a", strings.Join(messages, "\n")); status != http.StatusOK || a.Stored != uint64(len(messages)) {
		t.Fatalf("status %d, %+v", status, a)
	}
	const want = "1 UNSPECIFIED, 20 UNCERTAIN, 21 UNCERTAIN, 22 UNCERTAIN, 2 GOOD, 3 GOOD, 23 UNCERTAIN, 24 UNCERTAIN"
	for _, limit := range []uint32{100, 1, 2, 3} {
		got := ""
		for deadline := time.Now().Add(patience); got != want && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			var all []string
			for _, s := range h.pages(t, &pb.QueryHistoryRequest{Id: p + "/a", Property: "level", Limit: limit, Start: timestamppb.New(start.Add(-time.Minute)), End: timestamppb.New(start.Add(time.Minute))}) {
				all = append(all, fmt.Sprint(s.Value, " ", strings.TrimPrefix(s.Quality.String(), "QUALITY_")))
			}
			got = strings.Join(all, ", ")
		}
		if got != want {
			t.Fatalf("by %d:\ngot  %s\nwant %s", limit, got, want)
		}
	}
}
