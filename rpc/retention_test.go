package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
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

// sensors makes a project with a model of the unit Cel and two twins on two floors, with a sample a minute of the last three hours: 10 + floor,
// and gives the time of the last.
func sensors(t *testing.T, h *house, p string) time.Time {
	t.Helper()
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Warm ` + p + `","properties":{"heat":{"type":"number","unit":"Cel"},"level":{"type":"number"},"mode":{"type":"string"}}}`
	if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/warm", ThingJson: thing}})); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Truncate(time.Minute)
	ingest := rpcv1.NewIngestServiceClient(h.http(h.admin), h.url)
	for floor := 1; floor <= 2; floor++ {
		name := fmt.Sprintf("s%d", floor)
		if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/" + name, Model: "warm", Labels: map[string]string{"floor": fmt.Sprint(floor)}}})); err != nil {
			t.Fatal(err)
		}
		m := &pb.IngestRequest{Project: p}
		for i := range 180 {
			m.Messages = append(m.Messages, &pb.IngestMessage{Twin: name, Historical: true, Time: timestamppb.New(end.Add(-time.Duration(i) * time.Minute)),
				Payload: fmt.Appendf(nil, `{"heat":%d,"level":%d}`, 10+floor, i%2)})
		}
		if res, err := ingest.Ingest(t.Context(), req(m)); err != nil || res.Msg.Stored != 180 {
			t.Fatalf("%v: %v", res, err)
		}
	}
	return end
}

// TestQuerySeries: one property of several twins in the same steps, alone and in groups, in another unit, with gaps filled.
func TestQuerySeries(t *testing.T) {
	h, p := openHouse(t), fresh("series")
	end := sensors(t, h, p)
	api := rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url)
	ask := func(m *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error) {
		m.Filter, m.Property, m.Step = &pb.TwinFilter{Project: p}, "heat", durationpb.New(time.Hour)
		if m.Start == nil {
			m.Start, m.End = timestamppb.New(end.Add(-3*time.Hour)), timestamppb.New(end)
		}
		res, err := api.QuerySeries(t.Context(), req(m))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	same := func(values []float64, want ...float64) bool {
		return slices.EqualFunc(values, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 || math.IsNaN(a) && math.IsNaN(b) })
	}
	none := math.NaN()
	var got *pb.QuerySeriesResponse
	until(t, "all samples are in history", func() (err error) {
		if got, err = ask(&pb.QuerySeriesRequest{Aggregate: "count"}); err != nil {
			return err
		}
		if len(got.Series) != 2 || !same(got.Series[0].Values, none, 60, 60, 60) || !same(got.Series[1].Values, none, 60, 60, 60) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if got.Series[0].Twin != p+"/s1" || !got.Start.AsTime().Equal(end.Add(-3*time.Hour)) || got.Step.AsDuration() != time.Hour || got.Series[0].Unit != "" {
		t.Errorf("counts: %v", got)
	}
	if got, err := ask(&pb.QuerySeriesRequest{Unit: "[degF]", Fill: "linear", PageSize: 1}); err != nil || len(got.Series) != 1 || got.NextPageToken == "" || got.Series[0].Unit != "[degF]" ||
		!same(got.Series[0].Values, none, 51.8, 51.8, 51.8) {
		t.Errorf("in Fahrenheit: %v %v", got, err)
	} else if next, err := ask(&pb.QuerySeriesRequest{PageSize: 1, PageToken: got.NextPageToken}); err != nil || len(next.Series) != 1 || next.Series[0].Twin != p+"/s2" || next.NextPageToken != "" {
		t.Errorf("the second page: %v %v", next, err)
	}
	for by, want := range map[string][]float64{"all": {none, 23, 23, 23}, "model": {none, 23, 23, 23}} {
		if got, err := ask(&pb.QuerySeriesRequest{GroupBy: []string{by}, GroupAggregate: "sum"}); err != nil || len(got.Series) != 1 || got.Series[0].Twins != 2 || !same(got.Series[0].Values, want...) {
			t.Errorf("by %s: %v %v", by, got, err)
		}
	}
	if got, err := ask(&pb.QuerySeriesRequest{GroupBy: []string{"label:floor"}}); err != nil || len(got.Series) != 2 || got.Series[1].Group["label:floor"] != "2" || !same(got.Series[1].Values, none, 12, 12, 12) {
		t.Errorf("by floor: %v %v", got, err)
	}
	for want, m := range map[string]*pb.QuerySeriesRequest{
		"needs group_by": {GroupAggregate: "sum"}, "is before start": {Start: timestamppb.New(end), End: timestamppb.New(end.Add(-time.Second))},
		"there is one page": {GroupBy: []string{"all"}, PageToken: "x"}, "aggregate": {Aggregate: "median"}, "next_page_token": {PageToken: "x"},
	} {
		if got, err := ask(m); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v %v", want, got, err)
		}
	}
}

// until asks again until it gets no error, within the patience of tests.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}

// TestRetention: rules are checked, what they would delete is counted, a quota is told of before it bites, and bites.
func TestRetention(t *testing.T) {
	h, p := openHouse(t), fresh("retention")
	sensors(t, h, p)
	api, ingest := rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url), rpcv1.NewIngestServiceClient(h.http(h.admin), h.url)
	put := func(change func(*pb.ProjectSettings)) error {
		s, err := ingest.GetProjectSettings(t.Context(), req(&pb.GetProjectSettingsRequest{Project: p}))
		if err != nil {
			t.Fatal(err)
		}
		s.Msg.Settings.Project = p
		change(s.Msg.Settings)
		_, err = ingest.PutProjectSettings(t.Context(), req(&pb.PutProjectSettingsRequest{Settings: s.Msg.Settings}))
		return err
	}
	rule := func(property string, hours int) *pb.SampleRetention {
		return &pb.SampleRetention{Property: property, MaxAge: durationpb.New(time.Duration(hours) * time.Hour)}
	}
	short, late := rule("heat", 1), rule("heat", 1)
	short.Downsample, late.DownsampleMaxAge = durationpb.New(2*time.Hour), durationpb.New(3*time.Hour)
	for want, rules := range map[string][]*pb.SampleRetention{
		"maxAge":                    {{Property: "heat", MaxAge: durationpb.New(time.Minute)}},
		"sampleRetention/1":         {rule("heat", 1), rule("heat", 2)},
		"sampleRetention/0/downsam": {short}, "is missing: downsampleMaxAge": {late},
	} {
		err := put(func(s *pb.ProjectSettings) { s.SampleRetention = rules })
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(strings.ReplaceAll(err.Error(), "max_age", "maxAge"), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	var would *pb.PreviewRetentionResponse
	until(t, "all that is old is counted", func() error {
		res, err := api.PreviewRetention(t.Context(), req(&pb.PreviewRetentionRequest{Project: p, SampleRules: []*pb.SampleRetention{{Model: "warm", Property: "heat", MaxAge: durationpb.New(time.Hour)}}}))
		if err != nil {
			return err
		}
		if would = res.Msg; would.Series != 2 || would.Samples < 236 || would.Properties["heat"] != would.Samples || would.Elsewhere {
			return fmt.Errorf("%v", would)
		}
		return nil
	})
	if err := put(func(s *pb.ProjectSettings) {
		s.SampleRetention, s.Quotas = []*pb.SampleRetention{rule("level", 2)}, &pb.ProjectQuotas{Twins: 3, TopicBytes: 1 << 30, Series: 1000}
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "the status has what is taken", func() error {
		res, err := api.GetRetentionStatus(t.Context(), req(&pb.GetRetentionStatusRequest{Project: p, Preview: true}))
		if err != nil {
			return err
		}
		m := res.Msg
		uses := map[string]*pb.QuotaUse{}
		for _, u := range m.Uses {
			uses[u.Resource] = u
		}
		if u := uses["twins"]; u.GetUsed() != 2 || u.GetLimit() != 3 || uses["series"].GetUsed() != 4 || len(uses) != 4 || m.Preview.GetProperties()["level"] < 100 || len(m.SampleRules) != 1 {
			return fmt.Errorf("%v", m)
		}
		return nil
	})
	create := func(name string) error {
		_, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/" + name, Model: "warm"}}))
		return err
	}
	if err := create("s3"); err != nil {
		t.Fatal(err)
	}
	if err := create("s4"); connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "3 twins of 3") {
		t.Errorf("above the quota: %v", err)
	}
	res, err := rpcv1.NewBulkServiceClient(h.http(h.admin), h.url).Apply(t.Context(), req(&pb.ApplyRequest{Project: p, Each: true, Records: []*pb.ConfigRecord{
		{Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{Id: p + "/s3", Model: "warm", Labels: map[string]string{"a": "b"}}}}, {Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{Id: p + "/s5", Model: "warm"}}}}}))
	if err != nil || res.Msg.Results[0].Outcome != pb.ApplyOutcome_APPLY_OUTCOME_CHANGED || !strings.Contains(res.Msg.Results[1].String(), "3 twins of 3") {
		t.Errorf("applied: %v %v", res, err)
	}
	told := func(want string) {
		until(t, "the alarm is "+want, func() error {
			res, err := rpcv1.NewClusterServiceClient(h.http(h.admin), h.url).GetStatus(context.Background(), req(&pb.GetStatusRequest{}))
			if err != nil {
				return err
			}
			text := strings.Join(slices.DeleteFunc(res.Msg.QuotaWarnings, func(s string) bool { return !strings.HasPrefix(s, p+":") }), "; ")
			if text != want {
				return fmt.Errorf("status says %q", text)
			}
			return nil
		})
	}
	told(p + ": the project takes 3 twins of its quota of 3 twins")
	if err := put(func(s *pb.ProjectSettings) { s.Quotas.Twins = 10 }); err != nil {
		t.Fatal(err)
	}
	told("")
	until(t, "the journal has both", func() error {
		res, err := api.ListJournal(t.Context(), req(&pb.ListJournalRequest{Project: p, Kinds: []string{"quota"}, OldestFirst: true}))
		if err != nil {
			return err
		}
		var said []string
		for _, e := range res.Msg.Entries {
			said = append(said, e.Name+" "+e.Data.GetStructValue().GetFields()["state"].GetStringValue())
		}
		if got := strings.Join(said, ", "); got != "twins reached, twins cleared" {
			return fmt.Errorf("journal: %s", got)
		}
		return nil
	})
}

// TestTopicQuota: where a project's topics hold more than its quota, the oldest messages of the largest go; one below an even share loses none.
func TestTopicQuota(t *testing.T) {
	h, p := openHouse(t), fresh("topicquota")
	topics, api := topicsOf(h, h.admin), rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url)
	for name, n := range map[string]int{"large": 300, "larger": 400, "small": 20} {
		if _, err := topics.CreateTopic(t.Context(), req(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: p + "/" + name}})); err != nil {
			t.Fatal(err)
		}
		for range n / 10 {
			m := &pb.PublishRequest{Topic: p + "/" + name}
			for range 10 {
				m.Messages = append(m.Messages, &pb.TopicMessage{Payload: make([]byte, 1000)})
			}
			if _, err := topics.Publish(t.Context(), req(m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := rpcv1.NewIngestServiceClient(h.http(h.admin), h.url).PutProjectSettings(t.Context(), req(&pb.PutProjectSettingsRequest{
		Settings: &pb.ProjectSettings{Project: p, Quotas: &pb.ProjectQuotas{TopicBytes: 100_000}}})); err != nil {
		t.Fatal(err)
	}
	until(t, "the topics keep to the quota", func() error {
		res, err := api.GetRetentionStatus(t.Context(), req(&pb.GetRetentionStatusRequest{Project: p}))
		if err != nil {
			return err
		}
		for _, u := range res.Msg.Uses {
			if u.Resource == "topic_bytes" && (u.Used > 100_000 || u.Used < 50_000) {
				return fmt.Errorf("they take %d bytes", u.Used)
			}
		}
		return nil
	})
	for name, want := range map[string][2]uint64{"large": {30, 40}, "larger": {30, 40}, "small": {20, 20}} {
		res, err := topics.GetTopic(t.Context(), req(&pb.GetTopicRequest{Id: p + "/" + name}))
		if n := res.Msg.GetTopic().GetState().GetMessages(); err != nil || n < want[0] || n > want[1] {
			t.Errorf("%s: %d messages, want %v; %v", name, n, want, err)
		}
	}
}

// TestRetentionOfModels: a rule of a model lets go the samples of its twins, and none that may be another model's, which has the same title or had it.
func TestRetentionOfModels(t *testing.T) {
	h, p := openHouse(t), fresh("titles")
	models, ingest := rpcv1.NewModelServiceClient(h.http(h.admin), h.url), rpcv1.NewIngestServiceClient(h.http(h.admin), h.url)
	api := rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url)
	thing := func(title string) string {
		return `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel",` + title + `"properties":{"heat":{"type":"number"}}}`
	}
	end, made := time.Now().Truncate(time.Minute), map[string]*pb.Model{}
	for id, title := range map[string]string{"a": `"title":"Room",`, "b": `"title":"Room",`, "c": "", "d": `"title":"Attic",`} {
		res, err := models.CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/" + id, ThingJson: thing(title)}}))
		if err != nil {
			t.Fatal(err)
		}
		made[id] = res.Msg.Model
		if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/t" + id, Model: id}})); err != nil {
			t.Fatal(err)
		}
		m := &pb.IngestRequest{Project: p}
		for i := range 180 {
			m.Messages = append(m.Messages, &pb.IngestMessage{Twin: "t" + id, Historical: true, Time: timestamppb.New(end.Add(-time.Duration(i) * time.Minute)), Payload: fmt.Appendf(nil, `{"heat":%d}`, i)})
		}
		if res, err := ingest.Ingest(t.Context(), req(m)); err != nil || res.Msg.Stored != 180 {
			t.Fatalf("%v: %v", res, err)
		}
	}
	rule := func(model string, hours int) *pb.SampleRetention {
		return &pb.SampleRetention{Model: model, Property: "heat", MaxAge: durationpb.New(time.Duration(hours) * time.Hour)}
	}
	goes := func(want uint64, series uint64, rules ...*pb.SampleRetention) {
		t.Helper()
		until(t, fmt.Sprint(rules), func() error {
			minutes := func() uint64 { return uint64(time.Since(end) / time.Minute) } // with each of them a sample of each series goes, too
			least := want + series*minutes()
			res, err := api.PreviewRetention(t.Context(), req(&pb.PreviewRetentionRequest{Project: p, SampleRules: rules}))
			if most := want + series*(minutes()+1); err == nil && (res.Msg.Series != series || res.Msg.Samples < least || res.Msg.Samples > most) {
				err = fmt.Errorf("%v, want %d to %d samples of %d series", res.Msg, least, most, series)
			}
			return err
		})
	}
	goes(4*119, 4, rule("", 1))
	goes(119, 1, rule("c", 1))
	goes(0, 0, rule("a", 1))
	goes(2*59, 2, rule("a", 1), rule("b", 2))
	goes(2*119, 2, rule("Room", 1))
	goes(3*119+59, 4, rule("", 1), rule("d", 2))
	made["d"].ThingJson = thing(`"title":"Loft",`)
	if _, err := models.UpdateModel(t.Context(), req(&pb.UpdateModelRequest{Model: made["d"]})); err != nil {
		t.Fatal(err)
	}
	goes(3*119+59, 4, rule("", 1), rule("d", 2))
	// What cannot be set cannot be tried either.
	if _, err := api.PreviewRetention(t.Context(), req(&pb.PreviewRetentionRequest{Project: p, SampleRules: []*pb.SampleRetention{rule("a", 1), rule("a", 2)}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("two rules for the same: %v", err)
	}
}

// TestJournalQuotaIsSeenBeforeItBites: what the journal has in memory counts, so that a small quota is told of before entries go.
func TestJournalQuotaIsSeenBeforeItBites(t *testing.T) {
	h, p := openHouse(t), fresh("journalquota")
	sensors(t, h, p)
	ingest := rpcv1.NewIngestServiceClient(h.http(h.admin), h.url)
	const quota = 1_000_000
	if _, err := ingest.PutProjectSettings(t.Context(), req(&pb.PutProjectSettingsRequest{Settings: &pb.ProjectSettings{Project: p, Quotas: &pb.ProjectQuotas{JournalBytes: quota}}})); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		m := &pb.IngestRequest{Project: p}
		for k := range 25 {
			text := make([]byte, 3000)
			for at := range text {
				text[at] = byte('!' + rand.IntN(90)) // what compresses little
			}
			value, err := json.Marshal(map[string]any{"mode": string(text)})
			if err != nil {
				t.Fatal(err)
			}
			m.Messages = append(m.Messages, &pb.IngestMessage{Twin: "s1", Time: timestamppb.New(time.Now().Add(time.Duration(i*25+k-500) * time.Millisecond)), Payload: value})
		}
		if res, err := ingest.Ingest(t.Context(), req(m)); err != nil || res.Msg.Stored != 25 {
			t.Fatalf("%v: %v", res, err)
		}
	}
	until(t, "it is told of", func() error {
		res, err := rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url).GetRetentionStatus(t.Context(), req(&pb.GetRetentionStatusRequest{Project: p}))
		if err != nil {
			return err
		}
		for _, u := range res.Msg.Uses {
			if u.Resource == "journal_bytes" && u.Used >= quota*8/10 {
				return nil
			}
		}
		return fmt.Errorf("%v", res.Msg.Uses)
	})
}
