package main

import (
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestIngestTables(t *testing.T) {
	golden(t, "ingest_status", table(func(w io.Writer) {
		ingestTable(w, &pb.GetIngestStatusResponse{InboxEntries: 2, Refusals: 3, Counts: []*pb.IngestCount{
			{Project: "default", Door: "http", Received: 1016, Stored: 1000, Refused: 3, Inbox: 7, Duplicate: 2, InFlight: 4},
			{Project: "hotel", Door: "mqtt", Received: 9, Stored: 9}}}, "")
		ingestTable(w, &pb.GetIngestStatusResponse{InboxEntries: 1}, "")
		ingestTable(w, &pb.GetIngestStatusResponse{}, "nosuch")
	}))
	golden(t, "ingest_refusals", table(func(w io.Writer) {
		refusalTable(w, []*pb.Refusal{
			{Time: before(time.Minute), Door: "http", Twin: "default/lobby", Code: "malformed", Reason: "no JSON: unexpected end", Payload: []byte("{\"a\":\x1b[31m"), Size: 9},
			{Time: before(time.Hour), Door: "mqtt", Alias: &pb.Alias{Network: "lora", Key: "eui", Value: "7"}, Code: "unknown_sender", Reason: "refused",
				Payload: []byte("a long text that fills the line and goes on behind its end, as texts do, for a while"), Size: 4000},
			{Time: before(0), Door: "http", Code: "too_large", Reason: "2 MiB"}}, noon)
	}))
	golden(t, "ingest_unknown", table(func(w io.Writer) {
		unknownTable(w, &pb.ProjectSettings{Project: "default", UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION,
			Rules: []*pb.ProvisionRule{{Network: "lora*", Model: "sensor", Zone: "default/aula", Name: "s-{value}"}, {Driver: "echo@1.0.0"}}})
	}))
	golden(t, "ingest_settings", table(func(w io.Writer) {
		timesTable(w, &pb.ProjectSettings{Project: "default"})
		timesTable(w, &pb.ProjectSettings{Project: "hotel", MaxAge: durationpb.New(90 * time.Minute), MaxHistoryAge: durationpb.New(87600 * time.Hour),
			MaxAhead: durationpb.New(90 * time.Second)})
		pushTable(w, &pb.ProjectSettings{Project: "default"})
		pushTable(w, &pb.ProjectSettings{Project: "hotel", PubsubPush: &pb.PubSubPush{Audience: "https://twins.example/push", Senders: []string{"a@b.example", "c@d.example"}}})
	}))
	golden(t, "inbox_list", table(func(w io.Writer) {
		inboxTable(w, []*pb.InboxEntry{
			{Id: "default/lora/eui/7", Alias: &pb.Alias{Network: "lora", Key: "eui", Value: "7"}, Count: 12, LastTime: before(time.Minute),
				Samples: [][]byte{[]byte("{}"), []byte("{\"rssi\":-80}")}},
			{Id: "hotel/knx/address/1.1.5", Alias: &pb.Alias{Network: "knx", Key: "address", Value: "1.1.5"}, Driver: "knx", Name: "Lamp", Via: "hotel/gateway",
				SettingsJson: "{\"line\":1}", Ignored: true}}, noon)
	}))
}

func TestRules(t *testing.T) {
	rules, err := parseRules([]string{"network=lora* model=sensor name={value}"})
	if err != nil || len(rules) != 1 || rules[0].Network != "lora*" || rules[0].Model != "sensor" || rules[0].Name != "{value}" {
		t.Errorf("%v, %v", rules, err)
	}
	for _, bad := range []string{"network", "colour=red", "model"} {
		if _, err := parseRules([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for text, want := range map[string]string{"a": "default a", "p/a": "p a", "n/k/v": "default n/k/v", "p/n/k/v": "p n/k/v"} {
		project, m, err := messageFor(text)
		got := project + " " + m.GetTwin()
		if m.GetAlias() != nil {
			got += aliasText(m.Alias)
		}
		if err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}
