package actors_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestSinkBeginsWithItsRecord: what is published from the moment on at which a sink is made, or is given another topic, comes, though it runs later.
func TestSinkBeginsWithItsRecord(t *testing.T) {
	var mu sync.Mutex
	var got []int
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var all []struct{ Payload int }
		err := json.NewDecoder(r.Body).Decode(&all)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		for _, m := range all {
			got = append(got, m.Payload)
		}
	}))
	defer server.Close()
	n := open(t, vfs.NewMem(), 1)
	publish := func(topic, payload string) {
		t.Helper()
		if _, err := n.client.Topics().Publish(ctx(t), &pb.PublishRequest{Topic: topic, Messages: []*pb.TopicMessage{{Payload: []byte(payload)}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"default/orders", "default/alarms"} {
		if _, err := n.reg.PutTopic(ctx(t), &pb.Topic{Id: id}); err != nil {
			t.Fatal(err)
		}
	}
	publish("default/orders", "1")
	publish("default/alarms", "2")
	m, err := n.reg.CreateSink(ctx(t), &pb.Sink{Id: "hook", Topic: "orders", Url: server.URL, Paused: true, BatchWait: durationpb.New(10 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	update := func(topic string, paused bool) {
		t.Helper()
		m.Topic, m.Paused = topic, paused
		if m, err = n.reg.UpdateSink(ctx(t), m, false); err != nil {
			t.Fatal(err)
		}
	}
	until := func(want ...int) {
		t.Helper()
		until(t, "what was published since has come", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) >= len(want)
		})
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(got, want) {
			t.Fatalf("%v came, want %v", got, want)
		}
	}
	publish("default/orders", "3")
	update("default/orders", false)
	until(3)
	update("default/alarms", true)
	publish("default/alarms", "4")
	update("default/alarms", false)
	until(3, 4)
	if s, err := n.reg.Sink(ctx(t), "hook"); err != nil || s.State.Missed != 0 {
		t.Errorf("%v, %v", s, err)
	}
}
