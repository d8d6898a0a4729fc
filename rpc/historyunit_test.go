package rpc

import (
	"errors"
	"math"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestHistoryInAnotherUnit(t *testing.T) {
	answer := func(unit string) *pb.QueryHistoryResponse {
		return &pb.QueryHistoryResponse{Unit: unit, Samples: []*pb.Sample{{Value: 0}, {Value: 20}}}
	}
	out := answer("Cel")
	if err := inUnit(out, "[degF]", "avg"); err != nil || out.Unit != "[degF]" || math.Abs(out.Samples[0].Value-32) > 1e-9 || math.Abs(out.Samples[1].Value-68) > 1e-9 {
		t.Errorf("%v, %v", out, err)
	}
	out = answer("kWh")
	if err := inUnit(out, "W.h", "sum"); err != nil || out.Samples[1].Value != 20_000 {
		t.Errorf("%v, %v", out, err)
	}
	for _, c := range []struct{ unit, wanted, aggregate string }{
		{"Cel", "%", ""}, {"Cel", "flibbles", ""}, {"", "Cel", ""}, {"mystery", "Cel", ""}, {"Cel", "[degF]", "sum"}, {"Cel", "K", "count"},
	} {
		var wrong *invalidError
		if err := inUnit(answer(c.unit), c.wanted, c.aggregate); !errors.As(err, &wrong) || wrong.path != "unit" {
			t.Errorf("%v: %v", c, err)
		}
		if err := inUnit(&pb.QueryHistoryResponse{Unit: c.unit}, c.wanted, c.aggregate); err == nil {
			t.Errorf("%v without samples: no error", c)
		}
	}
}
