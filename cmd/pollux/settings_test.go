package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers/replay"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestSettingsTables(t *testing.T) {
	values, err := structpb.NewStruct(map[string]any{"poll_s": 20, "password": "***", "inputs": map[string]any{"hdmi1": "31", "evil": "a\x1b[2Jb"}})
	if err != nil {
		t.Fatal(err)
	}
	zone := &pb.GetSettingsResponse{Settings: &pb.Settings{Version: 3, By: "ann", Time: before(2 * time.Hour), Values: values}}
	twin := &pb.GetSettingsResponse{Settings: zone.Settings, Values: []*pb.SettingValue{
		{Name: "inputs/hdmi1", Value: structpb.NewStringValue("31"), Source: "twin default/beamer"},
		{Name: "password", Value: structpb.NewStringValue("***"), Source: "zone default/aula", Secret: true, Title: "Password"},
		{Name: "poll_s", Value: structpb.NewNumberValue(20), Source: "default", Title: "Poll interval"}}}
	diff := &pb.DiffSettingsResponse{From: 2, To: 3, Changes: []*pb.SettingChange{
		{Name: "password", Before: structpb.NewStringValue("***"), After: structpb.NewStringValue("***"), Secret: true},
		{Name: "poll_s", After: structpb.NewNumberValue(20)}}}
	golden(t, "settings", table(func(w io.Writer) {
		drawSettings(w, twin, noon)
		row(w)
		drawSettings(w, zone, noon)
		row(w)
		drawSettings(w, &pb.GetSettingsResponse{Settings: &pb.Settings{}}, noon)
		row(w)
		drawSettingsDiff(w, diff)
		row(w)
		drawSettingsDiff(w, &pb.DiffSettingsResponse{From: 1, To: 2})
	}))
}

func TestInterfaceTable(t *testing.T) {
	golden(t, "interface", table(func(w io.Writer) {
		drawInterface(w, &pb.Interface{Name: "Powerable", Description: "Can be switched.", Drivers: []string{"pjlink"},
			ModelJson: `{"properties":{"power":{"type":"boolean","title":"On"}},"actions":{"stop":{}}}`})
	}))
}

func TestReplayTable(t *testing.T) {
	golden(t, "replay", table(func(w io.Writer) {
		drawReplay(w, &replay.Result{From: "lamp@1.0.0", To: "lamp@1.0.1", Calls: 7, Missed: 2, FailedBefore: 1, Differences: []replay.Difference{
			{Call: 3, Time: noon, Event: "received", What: "error", Recorded: "TypeError: undefined is no object\n at lamp.js:12"},
			{Call: 3, Time: noon, Event: "received", What: "property level", Replayed: "7"},
			{Event: "at the end", What: "property level", Replayed: strings.Repeat("long ", 30)},
		}})
		row(w)
		drawReplay(w, &replay.Result{From: "lamp@1.0.0", To: "lamp@1.0.0", Calls: 7, Truncated: true})
	}))
}
