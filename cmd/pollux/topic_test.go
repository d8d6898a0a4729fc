package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func someTopics() []*pb.Topic {
	return []*pb.Topic{
		{Id: "default/orders", Title: "Orders", State: &pb.TopicState{FirstOffset: 11, NextOffset: 1211, Messages: 1200, Bytes: 3 << 20, Trimmed: 10, Duplicates: 2, Node: "n1", Channels: 2}},
		{Id: "hotel/alarms\x1b[2J", State: nil},
		{Id: "default/old", Deleting: true},
	}
}

func TestTopicTables(t *testing.T) {
	golden(t, "topic_list", table(func(w io.Writer) { listTopics(w, someTopics()) }))
	orders := someTopics()[0]
	orders.MaxAge = durationpb.New(36 * time.Hour)
	golden(t, "topic_get", table(func(w io.Writer) {
		describeTopic(w, orders, []*pb.Channel{
			{Name: "billing", Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_AFTER_PROCESSING}, Lag: 12, InFlight: 3, Waiting: 1, Readers: 2,
				Acknowledged: 1180, Redelivered: 4, Dead: 1, Missed: 10, Oldest: durationpb.New(95 * time.Second)},
			{Name: "log", Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_ON_RECEIPT}, Acknowledged: 1200},
		})
	}))
}

func TestRouteTable(t *testing.T) {
	golden(t, "topic_routes", table(func(w io.Writer) {
		listRoutes(w, []*pb.Route{{Id: "default/all", Topics: []string{"default/changes", "hotel/x\x1b"}},
			{Id: "hotel/10-hot", Topics: []string{"hotel/alarms"}, Twins: []string{"hotel/oven"}, Labels: map[string]string{"floor": "1", "area": "kitchen"},
				Properties: []string{"temperature"}, Events: []string{"alarm"}, When: "value > 30.0", Terminate: true,
				Counts: &pb.RouteCounts{Seen: 1200, Matched: 7, Failed: 1, Dead: 1}}})
	}))
	golden(t, "topic_route_dead", table(func(w io.Writer) {
		(&app{zone: time.UTC}).listLetters(w, []*pb.TopicMessage{{Key: "hotel/oven", Time: before(0), Payload: []byte("{\"value\":\"hot\"}\x1b[2J"),
			Headers: map[string]string{"pollux-topic": "hotel/alarms", "pollux-reason": "1:7: no such overload"}}})
	}))
}

func TestTopicLines(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, zone: time.UTC}
	for _, d := range []*pb.Delivery{
		{Attempt: 1, Message: &pb.TopicMessage{Offset: 7, Key: "room12", Payload: []byte("{\"level\":3}"), PublishTime: before(0)}},
		{Attempt: 3, Message: &pb.TopicMessage{Offset: 8, Payload: []byte("evil\x1b[2J"), PublishTime: before(time.Second)}},
		{Attempt: 1, Message: &pb.TopicMessage{Offset: 9, Payload: []byte{0, 0xff}, PublishTime: before(0)}},
	} {
		if err := a.printDelivery(d); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "topic_tail", out.Bytes())
}

func TestTopicPosition(t *testing.T) {
	for _, tt := range []struct {
		flags positionFlags
		want  string
	}{
		{positionFlags{oldest: true}, "oldest:true"},
		{positionFlags{offset: 12}, "offset:12"},
		{positionFlags{}, "<nil>"},
	} {
		got, err := tt.flags.position(noon)
		if err != nil || got.String() != tt.want {
			t.Errorf("%+v: got %v, %v", tt.flags, got, err)
		}
	}
	for since, want := range map[string]time.Time{"10m": noon.Add(-10 * time.Minute), "2025-01-02T03:04:05Z": time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)} {
		got, err := (&positionFlags{since: since}).position(noon)
		if err != nil || !got.GetTime().AsTime().Equal(timestamppb.New(want).AsTime()) {
			t.Errorf("since %s: got %v, %v", since, got, err)
		}
	}
	if _, err := (&positionFlags{since: "yesterday"}).position(noon); err == nil {
		t.Error("yesterday was taken for a time")
	}
}
