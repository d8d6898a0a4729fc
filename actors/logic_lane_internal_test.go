package actors

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestWithPayload: whatever fields a message has go along with another payload.
func TestWithPayload(t *testing.T) {
	m := &pb.TopicMessage{Key: "k", Payload: []byte("a"), ContentType: "c", Headers: map[string]string{"h": "1"}, Time: timestamppb.Now(), Id: "i",
		Offset: 7, PublishTime: timestamppb.Now()}
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); !m.ProtoReflect().Has(f) {
			t.Fatalf("the field %s is new: it has to go along", f.Name())
		}
	}
	want := proto.Clone(m).(*pb.TopicMessage)
	want.Payload = []byte("b")
	if got := withPayload(m, []byte("b")); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
