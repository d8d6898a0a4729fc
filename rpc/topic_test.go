package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/coder/websocket"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

func topicsOf(h *house, key string) rpcv1.TopicServiceClient {
	return rpcv1.NewTopicServiceClient(h.node.HTTPClient(), h.url, connect.WithInterceptors(bearer(key)))
}

type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, r)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		c := next(ctx, s)
		c.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return c
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// TestTopicService walks through the procedures of a topic's life.
func TestTopicService(t *testing.T) {
	h := openHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	c := topicsOf(h, h.admin)
	id := fresh("topic") + "/orders"
	if _, err := c.CreateTopic(ctx, connect.NewRequest(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: id, Title: "Orders"}})); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateTopic(ctx, connect.NewRequest(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: id}}))
	if connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("create again: %v", err)
	}
	p, err := c.Publish(ctx, connect.NewRequest(&pb.PublishRequest{Topic: id, Messages: []*pb.TopicMessage{
		{Key: "a", Payload: []byte("1"), Id: "x"}, {Key: "a", Payload: []byte("2")}}}))
	if err != nil || fmt.Sprint(p.Msg.Offsets) != "[1 2]" {
		t.Fatalf("publish: %v, %v", p, err)
	}
	stream, err := c.Subscribe(ctx, connect.NewRequest(&pb.SubscribeRequest{Topic: id, Channel: "work", Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}}))
	if err != nil {
		t.Fatal(err)
	}
	reader := ""
	for want := 1; want <= 2; {
		if !stream.Receive() {
			t.Fatalf("stream ended: %v", stream.Err())
		}
		if m := stream.Msg(); m.Reader != "" {
			reader = m.Reader
		}
		for _, d := range stream.Msg().Messages {
			if got := string(d.Message.Payload); got != fmt.Sprint(want) {
				t.Fatalf("message %s, want %d", got, want)
			}
			want++
			a, err := c.Ack(ctx, connect.NewRequest(&pb.AckRequest{Topic: id, Channel: "work", Reader: reader, Offsets: []uint64{d.Message.Offset}}))
			if err != nil || a.Msg.Settled != 1 {
				t.Fatalf("ack: %v, %v", a, err)
			}
		}
	}
	_ = stream.Close()
	channels, err := c.ListChannels(ctx, connect.NewRequest(&pb.ListChannelsRequest{Topic: id}))
	if err != nil || len(channels.Msg.Channels) != 1 || channels.Msg.Channels[0].Acknowledged != 2 || channels.Msg.Channels[0].Lag != 0 {
		t.Errorf("channels: %v, %v", channels, err)
	}
	got, err := c.GetTopic(ctx, connect.NewRequest(&pb.GetTopicRequest{Id: id}))
	if err != nil || got.Msg.Topic.State.GetMessages() != 2 {
		t.Fatalf("topic: %v, %v", got, err)
	}
	got.Msg.Topic.MaxMessages = 5
	if _, err := c.UpdateTopic(ctx, connect.NewRequest(&pb.UpdateTopicRequest{Topic: got.Msg.Topic})); err != nil {
		t.Error(err)
	}
	if _, err := c.UpdateTopic(ctx, connect.NewRequest(&pb.UpdateTopicRequest{Topic: got.Msg.Topic})); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("update of an old revision: %v", err)
	}
	tail, err := c.Subscribe(ctx, connect.NewRequest(&pb.SubscribeRequest{Topic: id, Start: &pb.TopicPosition{At: &pb.TopicPosition_Offset{Offset: 2}}, UntilEnd: true}))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for tail.Receive() {
		for _, d := range tail.Msg().Messages {
			texts = append(texts, string(d.Message.Payload))
		}
	}
	if tail.Err() != nil || strings.Join(texts, " ") != "2" {
		t.Errorf("tail: %v, %v", texts, tail.Err())
	}
	if _, err := c.ReplayDeadLetters(ctx, connect.NewRequest(&pb.ReplayDeadLettersRequest{Topic: id})); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteTopic(ctx, connect.NewRequest(&pb.DeleteTopicRequest{Id: id})); err != nil {
		t.Error(err)
	}
	_, err = c.Publish(ctx, connect.NewRequest(&pb.PublishRequest{Topic: id, Messages: []*pb.TopicMessage{{Payload: []byte("x")}}}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("publish to a deleted topic: %v", err)
	}
	for _, bad := range []*pb.PublishRequest{{Topic: id}, {Topic: "no/such/id", Messages: []*pb.TopicMessage{{}}}, {Topic: id, Messages: []*pb.TopicMessage{{Key: strings.Repeat("k", 600)}}}} {
		if _, err := c.Publish(ctx, connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestTopicSocket reads a channel over a WebSocket, and acknowledges there.
func TestTopicSocket(t *testing.T) {
	h := openHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	c := topicsOf(h, h.admin)
	id := fresh("topic") + "/alarms"
	if _, err := c.CreateTopic(ctx, connect.NewRequest(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: id}})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(ctx, connect.NewRequest(&pb.PublishRequest{Topic: id, Messages: []*pb.TopicMessage{
		{Key: "a", Payload: []byte("1")}, {Key: "a", Payload: []byte("2")}}})); err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/v1/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + h.admin}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	say := func(text string) {
		t.Helper()
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say(fmt.Sprintf(`{"op":"subscribe","id":"s","method":"Subscribe","request":{"topic":%q,"channel":"work","start":{"oldest":true}}}`, id))
	for want := 1; want <= 2; {
		_, data, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			Op, Error string
			Message   struct {
				Messages []struct {
					Message struct {
						Offset  string
						Payload []byte
					}
				}
			}
		}
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.Op == "end" {
			t.Fatalf("subscription ended: %s", m.Error)
		}
		for _, d := range m.Message.Messages {
			if string(d.Message.Payload) != fmt.Sprint(want) {
				t.Fatalf("message %s, want %d", d.Message.Payload, want)
			}
			want++
			say(fmt.Sprintf(`{"op":"ack","id":"s","offsets":[%s]}`, d.Message.Offset))
		}
	}
	for {
		all, err := c.ListChannels(ctx, connect.NewRequest(&pb.ListChannelsRequest{Topic: id}))
		if err != nil {
			t.Fatal(err)
		}
		if all.Msg.Channels[0].Lag == 0 {
			break
		}
	}
}
