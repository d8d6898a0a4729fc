package rpc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// sse is a reader of server-sent events.
type sse struct {
	t      *testing.T
	status int
	events chan sseEvent
}

type sseEvent struct{ name, id, data string }

func (h *house) stream(ctx context.Context, t *testing.T, key, path string, headers ...string) *sse {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", h.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	res, err := h.http(key).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if kind := res.Header.Get("Content-Type"); kind != "text/event-stream" {
		text, _ := io.ReadAll(res.Body)
		t.Fatalf("%d %s: %s", res.StatusCode, kind, text)
	}
	s := &sse{t: t, status: res.StatusCode, events: make(chan sseEvent, 100)}
	go func() {
		defer close(s.events)
		defer res.Body.Close()
		var e sseEvent
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e.data != "" {
					s.events <- e
				}
				e = sseEvent{}
			}
		}
	}()
	return s
}

// next gives the next message; one that does not come ends the test.
func (s *sse) next() sseEvent {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if !ok {
			s.t.Fatal("the stream ended")
		}
		return e
	case <-time.After(patience):
		s.t.Fatal("no message came")
	}
	return sseEvent{}
}

func TestRestStreamsValues(t *testing.T) {
	h, p := openHouse(t), fresh("reststream")
	h.another(t, p+"/a")
	at := "/v1/twins/" + p + "/a/properties"
	put := func(v string) {
		if a := h.rest(t, h.admin, "PUT", at+"/level?wait=30s", v); a.status != 200 {
			t.Fatal(a.text)
		}
	}
	put("1")
	one, all := h.stream(t.Context(), t, h.admin, at+"/level"), h.stream(t.Context(), t, h.admin, at)
	if got := one.next(); got.data != "1" || got.id == "" || got.name != "" {
		t.Errorf("first value: %+v", got)
	}
	if got := all.next(); got.data != `{"level":1}` {
		t.Errorf("first values: %+v", got)
	}
	put("2")
	last := one.next()
	if last.data != "2" {
		t.Errorf("change: %+v", last)
	}
	if got := all.next(); got.data != `{"level":2}` {
		t.Errorf("change of all: %+v", got)
	}

	// Who comes back and has the present value is told nothing of it; who missed one hears that too.
	back := h.stream(t.Context(), t, h.admin, at+"/level", "Last-Event-ID: "+last.id)
	late := h.stream(t.Context(), t, h.admin, at+"/level", "Last-Event-ID: 1")
	if got := late.next(); got.name != "gap" {
		t.Errorf("after a gap: %+v", got)
	}
	if got := late.next(); got.data != "2" {
		t.Errorf("after a gap: %+v", got)
	}
	put("3")
	if got := back.next(); got.data != "3" || got.name != "" {
		t.Errorf("resumed: %+v", got)
	}

	if a := h.rest(t, h.admin, "GET", at+"/none", "", "Accept: text/event-stream"); a.status != 404 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if _, err := h.twins(h.admin).DeleteTwin(t.Context(), req(&pb.DeleteTwinRequest{Id: p + "/a"})); err != nil {
		t.Fatal(err)
	}
	for {
		got := back.next()
		if got.name != "end" {
			continue
		}
		if !strings.Contains(got.data, `"status":404`) || !strings.Contains(got.data, "deleted") {
			t.Errorf("end: %+v", got)
		}
		break
	}
}

// Two values may have one time, and quality and what is asked change without the value: who comes back hears of it.
func TestRestStreamsWhatChangedAtOneTime(t *testing.T) {
	h, p := openHouse(t), fresh("resttime")
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Meter","properties":{"level":{"type":"number","pollux:quality":"/q"}}}`
	if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/meter", ThingJson: thing}})); err != nil {
		t.Fatal(err)
	}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/a", Model: "meter"}})); err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Format(time.RFC3339)
	say := func(data string) {
		t.Helper()
		if status, a := h.ingest(t, h.admin, p+"/a", fmt.Sprintf(`{"data":%s,"time":%q}`, data, at)); status != 200 {
			t.Fatal(status, a)
		}
	}
	level := "/v1/twins/" + p + "/a/properties/level"
	say(`{"level":1}`)
	had := h.stream(t.Context(), t, h.admin, level).next()
	say(`{"level":2}`)
	back := h.stream(t.Context(), t, h.admin, level, "Last-Event-ID: "+had.id)
	if gap, got := back.next(), back.next(); gap.name != "gap" || got.data != "2" {
		t.Errorf("the next value of that time: %+v, %+v", gap, got)
	}
	had = h.stream(t.Context(), t, h.admin, level+"?detail=true").next()
	say(`{"level":2,"q":"bad"}`)
	back = h.stream(t.Context(), t, h.admin, level+"?detail=true", "Last-Event-ID: "+had.id)
	if got := back.next(); got.name != "" || !strings.Contains(got.data, "QUALITY_BAD") {
		t.Errorf("the same value in another quality: %+v", got)
	}
}

func TestRestStreamsEvents(t *testing.T) {
	h, p := openHouse(t), fresh("restevents")
	h.another(t, p+"/a")
	at := "/v1/twins/" + p + "/a"
	id, key := h.newKey(t, &pb.Key{Name: "v", Role: "viewer", Project: p})
	all, one := h.stream(t.Context(), t, h.admin, at+"/events"), h.stream(t.Context(), t, key, at+"/events/ticked")
	other := h.stream(t.Context(), t, h.admin, at+"/events/other", "Last-Event-ID: x")
	if got := other.next(); got.name != "gap" {
		t.Errorf("after a reconnect: %+v", got)
	}
	if a := h.rest(t, h.admin, "POST", at+"/actions/tick", `{"after_ms":1}`); a.status >= 300 {
		t.Fatal(a.text)
	}
	var named struct {
		Name, Data string
		Time       time.Time
	}
	if got := all.next(); json.Unmarshal([]byte(got.data), &named) != nil || named.Name != "ticked" || named.Data != "tock" || named.Time.IsZero() {
		t.Errorf("%+v", got)
	}
	if got := one.next(); got.data != `"tock"` || got.name != "" || got.id == "" {
		t.Errorf("%+v", got)
	}
	select {
	case got := <-other.events:
		t.Errorf("an event of another name: %+v", got)
	default:
	}
	// A stream ends with its key.
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	if got := one.next(); got.name != "end" || !strings.Contains(got.data, `"status":401`) {
		t.Errorf("end: %+v", got)
	}
}
