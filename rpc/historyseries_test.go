package rpc_test

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestSeriesOfTwinsInTheirOwnUnits: two twins of one driver, which has found that their devices measure in different units, are compared in one.
func TestSeriesOfTwinsInTheirOwnUnits(t *testing.T) {
	h, p := openHouse(t), fresh("units")
	if _, err := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{
		File: drivertest.Build(t, filepath.Join(drivertest.Root(), "actors", "testdata", "probe"))})); err != nil {
		t.Fatal(err)
	}
	for name, has := range map[string]struct {
		unit  string
		level float64
	}{"a": {"Cel", 20}, "b": {"[degF]", 68}} {
		id := p + "/" + name
		if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Driver: "probe"}})); err != nil {
			t.Fatal(err)
		}
		for _, do := range []struct {
			action string
			input  map[string]any
		}{{"describe", map[string]any{"properties": map[string]any{"level": map[string]any{"unit": has.unit}}}}, {"report", map[string]any{"level": has.level}}} {
			in, err := structpb.NewValue(do.input)
			if err != nil {
				t.Fatal(err)
			}
			if res, err := h.twins(h.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: id, Action: do.action, Input: in})); err != nil || res.Msg.Outcome != pb.Outcome_OUTCOME_DONE {
				t.Fatalf("%s of %s: %v %v", do.action, id, res, err)
			}
		}
	}
	api := rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url)
	until(t, "both are at 20 °C", func() error {
		res, err := api.QuerySeries(t.Context(), req(&pb.QuerySeriesRequest{Filter: &pb.TwinFilter{Project: p}, Property: "level", Step: durationpb.New(time.Hour), Aggregate: "max", Unit: "Cel"}))
		if err != nil {
			return err
		}
		if len(res.Msg.Series) != 2 {
			return fmt.Errorf("%v", res.Msg)
		}
		for _, s := range res.Msg.Series {
			if last := s.Values[len(s.Values)-1]; !(math.Abs(last-20) < 1e-9) {
				return fmt.Errorf("%s is at %v %s", s.Twin, last, s.Unit)
			}
		}
		return nil
	})
}
