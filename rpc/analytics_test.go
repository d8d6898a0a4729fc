package rpc_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// A detector is tried on what history has before it judges, and then judges what comes; its state, its list and its end are seen through
// the API.
func TestDetectorsOverTheAPI(t *testing.T) {
	h := openHouse(t)
	const p = "observatory"
	detectors := rpcv1.NewAnalyticsServiceClient(h.http(h.admin), h.url)
	models := rpcv1.NewModelServiceClient(h.http(h.admin), h.url)
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Sensor","properties":{"t":{"type":"number","readOnly":true}}}`
	if _, err := models.CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/sensor", ThingJson: thing}})); err != nil {
		t.Fatal(err)
	}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/dome", Model: p + "/sensor"}})); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := rand.New(rand.NewPCG(1, 2))
	const many, wrong = 600, 500
	var all []*pb.IngestMessage
	for i := range many {
		v := 20 + 0.1*r.NormFloat64()
		if i == wrong {
			v = 30
		}
		all = append(all, &pb.IngestMessage{Twin: "dome", Payload: fmt.Appendf(nil, `{"t":%.3f}`, v), Time: timestamppb.New(now.Add(time.Duration(i-many) * time.Minute))})
	}
	res, err := h.ingests().Ingest(t.Context(), req(&pb.IngestRequest{Project: p, Messages: all}))
	if err != nil || res.Msg.Stored != many {
		t.Fatalf("%v, %v", res, err)
	}
	given := &pb.Detector{Property: "t", Kind: pb.DetectorKind_DETECTOR_KIND_EWMA}
	try := func(r *pb.TryDetectorRequest) *pb.TryDetectorResponse {
		t.Helper()
		r.Twin = p + "/dome"
		res, err := detectors.TryDetector(t.Context(), req(r))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg
	}
	var tried *pb.TryDetectorResponse
	deadline := time.Now().Add(patience)
	for tried = try(&pb.TryDetectorRequest{Detector: given, Points: 100}); tried.Readings < many && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		tried = try(&pb.TryDetectorRequest{Detector: given, Points: 100})
	}
	if tried.Readings != many || tried.Judged == 0 || len(tried.Points) != 100 || tried.Truncated || len(tried.Anomalies) != 1 {
		t.Fatalf("%d readings, %d judged, %d points, anomalies %v", tried.Readings, tried.Judged, len(tried.Points), tried.Anomalies)
	}
	if a := tried.Anomalies[0]; !a.Start.AsTime().Equal(a.End.AsTime()) || a.Start.AsTime().UnixMilli() != all[wrong].Time.AsTime().UnixMilli() || a.Score < 6 {
		t.Errorf("the anomaly is %v, the reading was at %v", a, all[wrong].Time.AsTime())
	}
	made, err := detectors.CreateDetector(t.Context(), req(&pb.CreateDetectorRequest{Detector: &pb.Detector{Id: p + "/spikes", Property: "t", Kind: given.Kind,
		Of: &pb.Selection{Model: "sensor"}}}))
	if err != nil {
		t.Fatal(err)
	}
	if stored := try(&pb.TryDetectorRequest{Id: "spikes"}); len(stored.Points) != many || len(stored.Anomalies) != 1 {
		t.Errorf("the stored one finds %v among %d", stored.Anomalies, len(stored.Points))
	}
	if _, err := h.ingests().Ingest(t.Context(), req(&pb.IngestRequest{Project: p, Messages: []*pb.IngestMessage{{Twin: "dome", Payload: []byte(`{"t":20}`)}}})); err != nil {
		t.Fatal(err)
	}
	// It has learned from what is recorded, and from the reading that came meanwhile.
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		state, err := detectors.GetDetectorState(t.Context(), req(&pb.GetDetectorStateRequest{Id: "spikes", Twin: p + "/dome"}))
		if err == nil && state.Msg.State.Readings == many+1 && state.Msg.State.Output == "t_ewma" && state.Msg.State.Ready {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%v, %v", state, err)
		}
	}
	list, err := detectors.ListDetectors(t.Context(), req(&pb.ListDetectorsRequest{Project: p}))
	if err != nil || len(list.Msg.Detectors) != 1 || list.Msg.Detectors[0].Of.GetModel() != "sensor" || list.Msg.Detectors[0].Revision != made.Msg.Detector.Revision {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []*pb.TryDetectorRequest{{Twin: p + "/dome"}, {Twin: p + "/dome", Id: "spikes", Detector: given}, {Twin: p + "/dome", Id: "hotel/x"}} {
		if _, err := detectors.TryDetector(t.Context(), req(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := detectors.TryDetector(t.Context(), req(&pb.TryDetectorRequest{Twin: p + "/nobody", Id: "spikes"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("of no twin: %v", err)
	}
	got, body := h.call(t, h.admin, rpcv1.AnalyticsServiceCreateDetectorProcedure, `{"detector":{"id":"observatory/x","property":"t","kind":"DETECTOR_KIND_STUCK","readings":5}}`)
	if got != 400 || !strings.Contains(body, "it uses threshold, window, tolerance") || !json.Valid([]byte(body)) {
		t.Errorf("%d %s", got, body)
	}
	// Functions of MetricsQL that the documentation names beside them.
	for _, query := range []string{`zscore_over_time(pollux_property{property="t"}[1h])`, `outlier_iqr_over_time(pollux_property{property="t"}[1d])`,
		`mad_over_time(pollux_property{property="t"}[1d])`, `predict_linear(pollux_property{property="t"}[6h], 3600)`, `changes(pollux_property{property="t"}[1d])`} {
		got, body, _ := h.get(t, "/v1/prometheus/"+p+"/api/v1/query?query="+url.QueryEscape(query), h.admin)
		if got != 200 || !strings.Contains(body, `"success"`) {
			t.Errorf("%s: %d %s", query, got, body)
		}
	}
	if _, err := detectors.DeleteDetector(t.Context(), req(&pb.DeleteDetectorRequest{Id: p + "/spikes"})); err != nil {
		t.Fatal(err)
	}
	if _, err := detectors.GetDetector(t.Context(), req(&pb.GetDetectorRequest{Id: p + "/spikes"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("after its end: %v", err)
	}
}
