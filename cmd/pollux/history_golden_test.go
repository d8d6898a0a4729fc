package main

import (
	"io"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestHistoryTables(t *testing.T) {
	golden(t, "history_journal", table(func(w io.Writer) {
		journalTable(w, []*pb.JournalEntry{
			{Project: "default", Twin: "default/beamer", Kind: "event", Name: "overheated", Time: before(time.Minute), Sequence: 7,
				Data: structpb.NewNumberValue(81.5)},
			{Project: "default", Twin: "default/door", Kind: "value", Name: "evil\x1b[31m", Time: before(time.Hour), Data: structpb.NewStringValue("open\nline")},
			{Project: "default", Kind: "alarm", Name: "leak", Time: before(90 * time.Minute), Data: structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"what": structpb.NewStringValue("raised"), "text": structpb.NewStringValue("water in the cellar"), "twin": structpb.NewStringValue("default/pump")}})},
			{Project: "default", Kind: "quota", Name: "twins", Time: before(2 * time.Hour), Data: structpb.NewNullValue()}})
	}))
	golden(t, "history_series", table(func(w io.Writer) {
		seriesTable(w, &pb.QuerySeriesRequest{Property: "temperature"}, &pb.QuerySeriesResponse{Start: before(2 * time.Hour), Step: durationpb.New(time.Hour), Series: []*pb.HistorySeries{
			{Twin: "default/a", Unit: "Cel", Values: []float64{20, math.NaN(), 21.25}}, {Twin: "default/b", Values: []float64{math.NaN()}}}})
	}))
	golden(t, "history_groups", table(func(w io.Writer) {
		seriesTable(w, &pb.QuerySeriesRequest{Property: "temperature", GroupBy: []string{"zone", "label:floor"}}, &pb.QuerySeriesResponse{Start: before(time.Hour), Step: durationpb.New(time.Hour),
			Series: []*pb.HistorySeries{{Group: map[string]string{"zone": "default/aula", "label:floor": "2"}, Twins: 3, Unit: "Cel", Values: []float64{1, 2, 3}}}})
	}))
}

func TestRetentionTables(t *testing.T) {
	days := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * 24 * time.Hour) }
	status := &pb.GetRetentionStatusResponse{
		Rules: []*pb.RetentionRule{{Kind: "event", Name: "door", MaxAge: days(7)}, {MaxAge: days(900)}},
		SampleRules: []*pb.SampleRetention{{Property: "power", MaxAge: days(7), Downsample: durationpb.New(5 * time.Minute), DownsampleMaxAge: days(365)},
			{Model: "room", Property: "co2", MaxAge: durationpb.New(90 * time.Minute), Downsample: durationpb.New(time.Minute)}, {MaxAge: days(500)}},
		Preview: &pb.PreviewRetentionResponse{Entries: 12, Bytes: 4096, Oldest: before(900 * time.Hour), Newest: before(800 * time.Hour), Kinds: map[string]uint64{"event": 11, "value": 1},
			UsedBytes: 5 << 20, DefaultMaxAge: days(395), Samples: 1000, Series: 3, Properties: map[string]uint64{"power": 1000}},
		Uses:     []*pb.QuotaUse{{Resource: "twins", Used: 850, Limit: 1000}, {Resource: "journal_bytes", Used: 3 << 20}, {Resource: "topic_bytes", Used: 1 << 19, Limit: 1 << 20}, {Resource: "series", Used: 7}},
		Curation: &pb.Curation{Node: "n1", StartTime: before(time.Minute), Running: "power", Entries: 5, Samples: 600, Rolled: 500, Series: 2},
	}
	golden(t, "retention_show", table(func(w io.Writer) { describeRetention(w, "plant", status, noon) }))
	status.Preview = &pb.PreviewRetentionResponse{DefaultMaxAge: days(395), Elsewhere: true}
	status.Curation = &pb.Curation{Node: "n2", EndTime: before(time.Hour), Error: "the disk\x1b is full"}
	golden(t, "retention_elsewhere", table(func(w io.Writer) { describeRetention(w, "plant", status, noon) }))
}

func TestRetentionRules(t *testing.T) {
	rules, samples, err := retentionRules([]string{"event/door=36h", "all=90d", "samples=180d", "samples/power=7d,5m:365d", "samples/room/*=2h,1m", "samples/*/heat=1d",
		"samples/plant/T/H sensor/*=1d"})
	if err != nil || len(rules) != 2 || rules[0].Name != "door" || rules[1].Kind != "" || rules[1].MaxAge.AsDuration() != 90*24*time.Hour || len(samples) != 5 {
		t.Fatalf("%v %v: %v", rules, samples, err)
	}
	if s := samples[1]; s.Model != "" || s.Property != "power" || s.Downsample.AsDuration() != 5*time.Minute || s.DownsampleMaxAge.AsDuration() != 365*24*time.Hour {
		t.Errorf("%v", s)
	}
	if s := samples[2]; s.Model != "room" || s.Property != "" || s.Downsample.AsDuration() != time.Minute || s.DownsampleMaxAge != nil {
		t.Errorf("%v", s)
	}
	if s := samples[3]; s.Model != "" || s.Property != "heat" || s.Downsample != nil {
		t.Errorf("%v", s)
	}
	if s := samples[4]; s.Model != "plant/T/H sensor" || s.Property != "" {
		t.Errorf("%v", s)
	}
	for _, bad := range []string{"event", "=1d", "event=x", "event=1s", "samples=30m", "samples/a=1d,x", "samples/a=1d,5m:x", "samples"} {
		if _, _, err := retentionRules([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	q := &pb.ProjectQuotas{Series: 5, Twins: 9}
	set, err := quotasOf([]string{"twins=0", "journal=2GiB", "topics=5MiB"})
	if err != nil {
		t.Fatal(err)
	}
	if set(q); q.Twins != 0 || q.Series != 5 || q.JournalBytes != 2<<30 || q.TopicBytes != 5<<20 {
		t.Errorf("%v", q)
	}
	for _, bad := range []string{"twins", "twins=-1", "cats=1", "journal=1XB"} {
		if _, err := quotasOf([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
