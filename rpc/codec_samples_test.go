package rpc

import (
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What is written by hand is what the library writes, byte for byte.
func TestHistoryOnTheWire(t *testing.T) {
	at := func(ms int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMilli(ms)) }
	numbers := &pb.QueryHistoryResponse{Truncated: true, Unit: "Cel", NextPageToken: "more", Samples: []*pb.Sample{{}, {Time: at(0)}, {Time: at(-1), Value: -0.5},
		{Time: at(1_700_000_000_123), Value: 21.5, Quality: pb.Quality_QUALITY_GOOD}, {Time: at(1_700_000_001_000), None: true}, {Value: math.Inf(1)},
		{Value: math.Copysign(0, -1)}, {Value: math.NaN(), Time: &timestamppb.Timestamp{Nanos: -1}}}}
	text := proto.Clone(numbers).(*pb.QueryHistoryResponse)
	text.Samples[3].Data = structpb.NewStringValue("open")
	for _, m := range []*pb.QueryHistoryResponse{{}, numbers, text} {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&binaryCodec{}).Marshal(m)
		if err != nil || string(got) != string(want) {
			t.Errorf("got\n%x, want\n%x: %v", got, want, err)
		}
	}
}
