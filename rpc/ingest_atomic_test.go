package rpc_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestAtomicIngest: of a request that is all or nothing, nothing is taken where one of its messages is wrong, be it found at the door, in who sends, or
// by the model of its twin; without that, all others are. The wrong one has its line, the others are told to come again.
func TestAtomicIngest(t *testing.T) {
	h := openHouse(t)
	bad := append([]struct{ name, payload, code string }{{"in part of an unknown path", `{"t":21,"flow":1}`, "unknown_path"}}, badInputs...)
	for _, d := range []struct {
		name string
		send func(t *testing.T, project string, atomic bool, messages ...atomicMessage) *pb.IngestResponse
	}{{"http", h.atomicHTTP}, {"connect", h.atomicConnect}} {
		t.Run(d.name, func(t *testing.T) {
			p := h.meter(t)
			stopped := &pb.Twin{Id: p + "/stopped", Model: p + "/meter", Stopped: true}
			if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: stopped})); err != nil {
				t.Fatal(err)
			}
			settings := &pb.ProjectSettings{Project: p, UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE}
			if _, err := h.ingests().PutProjectSettings(t.Context(), req(&pb.PutProjectSettingsRequest{Settings: settings})); err != nil {
				t.Fatal(err)
			}
			good := atomicMessage{twin: "meter", payload: `{"t":20}`}
			wrong := []atomicMessage{{twin: "nobody", payload: `{"t":1}`, code: "unknown_twin"}, {twin: "stopped", payload: `{"t":1}`, code: "stopped"},
				{alias: "9", payload: `{"t":1}`, code: "unknown_sender"}}
			for _, b := range bad {
				if d.name == "http" && b.code == "malformed" {
					b.payload = `{"t":1]` // the line's own brackets go together
				}
				wrong = append(wrong, atomicMessage{twin: "meter", payload: b.payload, code: b.code}, atomicMessage{alias: "7", payload: b.payload, code: b.code})
			}
			want := &pb.IngestCount{}
			for _, w := range wrong {
				res := d.send(t, p, true, good, w, good)
				if res.Stored != 0 || res.Refused != 1 || res.Retry != 2 || len(res.Results) != 3 || res.Results[1].Code != w.code {
					t.Errorf("%s of %s%s, all or nothing: %v; want %s", w.payload[:min(len(w.payload), 40)], w.twin, w.alias, res, w.code)
				}
				want.Refused++
			}
			h.awaitCount(t, p, d.name, want)
			if res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: p + "/meter"})); err != nil || len(res.Msg.Twin.State.GetProperties()) > 0 {
				t.Fatalf("after requests of which nothing was to be taken the twin is %v, %v", res, err)
			}
			if res := d.send(t, p, true, good, good, good); res.Stored != 3 {
				t.Fatalf("a request without fault, all or nothing: %v", res)
			}
			want.Stored += 3
			for _, w := range wrong {
				if w.payload == bad[0].payload {
					continue // its other value is taken
				}
				if res := d.send(t, p, false, good, w, good); res.Stored != 2 || res.Refused != 1 || res.Results[0].Code != w.code {
					t.Errorf("%s of %s%s among others: %v; want %s", w.payload[:min(len(w.payload), 40)], w.twin, w.alias, res, w.code)
				}
				want.Stored, want.Refused = want.Stored+2, want.Refused+1
			}
			h.awaitCount(t, p, d.name, want)
		})
	}
}

// atomicMessage is of a twin, or of the sender plant/serial/ALIAS; code is why it is refused.
type atomicMessage struct{ twin, alias, payload, code string }

func (h *house) atomicHTTP(t *testing.T, project string, atomic bool, messages ...atomicMessage) *pb.IngestResponse {
	t.Helper()
	var lines []string
	for _, m := range messages {
		who := fmt.Sprintf(`"twin":%q`, m.twin)
		if m.twin == "" {
			who = fmt.Sprintf(`"alias":{"network":"plant","key":"serial","value":%q}`, m.alias)
		}
		lines = append(lines, fmt.Sprintf(`{%s,"data":%s}`, who, m.payload))
	}
	status, a := h.ingest(t, h.admin, fmt.Sprint(project, "?atomic=", atomic), strings.Join(lines, "\n"))
	if want := map[bool]int{true: http.StatusOK, false: http.StatusUnprocessableEntity}[a.Stored > 0]; status != want {
		t.Errorf("status %d, want %d: %+v", status, want, a)
	}
	res := &pb.IngestResponse{Stored: a.Stored, Refused: a.Refused, Retry: a.Retry}
	for _, r := range a.Results {
		res.Results = append(res.Results, &pb.IngestResult{Index: r.Line, Code: r.Code, Reason: r.Reason})
	}
	return res
}

func (h *house) atomicConnect(t *testing.T, project string, atomic bool, messages ...atomicMessage) *pb.IngestResponse {
	t.Helper()
	r := &pb.IngestRequest{Project: project, Atomic: atomic}
	for _, m := range messages {
		x := &pb.IngestMessage{Twin: m.twin, Payload: []byte(m.payload)}
		if m.twin == "" {
			x.Alias = &pb.Alias{Network: "plant", Key: "serial", Value: m.alias}
		}
		r.Messages = append(r.Messages, x)
	}
	res, err := h.ingests().Ingest(t.Context(), req(r))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}
