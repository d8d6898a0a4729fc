package actors

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestOutgoingValue: what is encoded by hand is the message that the library reads, whatever fields it has.
func TestOutgoingValue(t *testing.T) {
	long := strings.Repeat("x", 300)
	whole := &pb.TopicMessage{Key: "k", Payload: []byte(long), ContentType: "c", Headers: map[string]string{"h": "1", "": "", "long": long},
		Time: &timestamppb.Timestamp{Seconds: -1, Nanos: 999}, Id: "i", Offset: 1 << 40, PublishTime: timestamppb.Now()}
	for m, n := range map[proto.Message]int{whole: 8, &actorv1.Outgoing{}: 3, &timestamppb.Timestamp{}: 2} {
		if got := m.ProtoReflect().Descriptor().Fields().Len(); got != n {
			t.Fatalf("%T has %d fields, %d are encoded", m, got, n)
		}
	}
	for _, m := range []*pb.TopicMessage{whole, {}, {Payload: []byte("a")}, {Time: &timestamppb.Timestamp{}}, {Time: &timestamppb.Timestamp{Seconds: 1}}} {
		for _, why := range []string{"", "it is refused", "by \xff"} {
			want := &actorv1.Outgoing{Topic: "default/out", Message: m, Refused: strings.ToValidUTF8(why, "\uFFFD")}
			b, got := outgoingValue(want.Topic, m, why), &actorv1.Outgoing{}
			if err := proto.Unmarshal(b, got); err != nil || !proto.Equal(got, want) {
				t.Errorf("got %v, want %v: %v", got, want, err)
			}
			if len(b) != proto.Size(want) {
				t.Errorf("%d bytes, want %d", len(b), proto.Size(want))
			}
		}
	}
}
