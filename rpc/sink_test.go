package rpc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestSinkService walks through the procedures of a sink's life: what it sends arrives, its secret is never shown, and not sent elsewhere.
func TestSinkService(t *testing.T) {
	h, p := openHouse(t), fresh("sink")
	topics := topicsOf(h, h.admin)
	sinks := rpcv1.NewSinkServiceClient(h.http(h.admin), h.url)
	if _, err := topics.CreateTopic(t.Context(), req(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: p + "/changes"}})); err != nil {
		t.Fatal(err)
	}
	var signed atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Pollux-Signature"), "sha256=") {
			signed.Add(1)
		}
	}))
	defer server.Close()
	for _, x := range []struct {
		m    *pb.Sink
		want string
	}{
		{&pb.Sink{Id: p + "/hook", Topic: p + "/none", Url: server.URL}, "there is no topic " + p + "/none"},
		{&pb.Sink{Id: p + "/hook", Topic: "other/changes", Url: server.URL}, "is in another project"},
		{&pb.Sink{Id: p + "/hook", Topic: p + "/changes", Url: "gopher://x"}, `the scheme "gopher" is none of a sink's`},
		{&pb.Sink{Id: p + "/Hook!", Topic: p + "/changes", Url: server.URL}, "Hook!"},
	} {
		_, err := sinks.CreateSink(t.Context(), req(&pb.CreateSinkRequest{Sink: x.m}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v, want %s", x.m, err, x.want)
		}
	}
	made, err := sinks.CreateSink(t.Context(), req(&pb.CreateSinkRequest{Sink: &pb.Sink{Id: p + "/hook", Topic: p + "/changes", Url: server.URL, Secret: "sesame", Oldest: true,
		BatchWait: durationpb.New(10 * time.Millisecond)}}))
	if err != nil || made.Msg.Sink.Secret != "" || !made.Msg.Sink.HasSecret || made.Msg.Sink.Id != p+"/hook" {
		t.Fatalf("created: %v, %v", made, err)
	}
	if _, err := topics.Publish(t.Context(), req(&pb.PublishRequest{Topic: p + "/changes", Messages: []*pb.TopicMessage{{Payload: []byte("{}")}, {Payload: []byte("{}")}}})); err != nil {
		t.Fatal(err)
	}
	var m *pb.Sink
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		res, err := sinks.GetSink(t.Context(), req(&pb.GetSinkRequest{Id: p + "/hook"}))
		if err != nil {
			t.Fatal(err)
		}
		if m = res.Msg.Sink; m.State.Delivered == 2 && m.State.Lag == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("never delivered: %v", m)
		}
	}
	if m.Secret != "" || !m.HasSecret || signed.Load() == 0 {
		t.Errorf("%v; %d requests were signed", m, signed.Load())
	}
	m.Url = "https://elsewhere.example/in"
	if _, err := sinks.UpdateSink(t.Context(), req(&pb.UpdateSinkRequest{Sink: m})); connect.CodeOf(err) != connect.CodeInvalidArgument ||
		!strings.Contains(err.Error(), "not sent to another host") {
		t.Errorf("another host for the same secret: %v", err)
	}
	m.Url, m.Paused = server.URL+"/v2", true
	changed, err := sinks.UpdateSink(t.Context(), req(&pb.UpdateSinkRequest{Sink: m}))
	if err != nil || !changed.Msg.Sink.HasSecret {
		t.Fatalf("updated: %v, %v", changed, err)
	}
	if _, err := sinks.UpdateSink(t.Context(), req(&pb.UpdateSinkRequest{Sink: m})); connect.CodeOf(err) != connect.CodeAborted && connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("an old revision: %v", err)
	}
	m = changed.Msg.Sink
	m.Url, m.Secret = "https://elsewhere.example/in", "another"
	if _, err := sinks.UpdateSink(t.Context(), req(&pb.UpdateSinkRequest{Sink: m, RemoveSecret: true})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a secret that is given and removed: %v", err)
	}
	m.Secret = ""
	changed, err = sinks.UpdateSink(t.Context(), req(&pb.UpdateSinkRequest{Sink: m, RemoveSecret: true}))
	if err != nil || changed.Msg.Sink.HasSecret {
		t.Fatalf("without its secret it may go anywhere: %v, %v", changed, err)
	}
	all, err := sinks.ListSinks(t.Context(), req(&pb.ListSinksRequest{Project: p}))
	if err != nil || len(all.Msg.Sinks) != 1 || all.Msg.Sinks[0].State.Delivered != 2 || all.Msg.Sinks[0].Secret != "" {
		t.Errorf("list: %v, %v", all, err)
	}
	if _, err := sinks.DeleteSink(t.Context(), req(&pb.DeleteSinkRequest{Id: p + "/hook"})); err != nil {
		t.Fatal(err)
	}
	if _, err := sinks.GetSink(t.Context(), req(&pb.GetSinkRequest{Id: p + "/hook"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a sink that was deleted: %v", err)
	}
}
