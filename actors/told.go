package actors

import (
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Told is a message to watchers. Those who watch the same share it, and what it is on the wire: nobody may change it. Its methods may be
// called concurrently.
type Told struct {
	*pb.WatchTwinsResponse
	binary, json atomic.Pointer[[]byte]
}

// Binary gives the message in protobuf's binary form, which is made once for all watchers. The bytes must not be changed.
func (m *Told) Binary() ([]byte, error) {
	return once(&m.binary, m.WatchTwinsResponse, proto.Marshal)
}

// JSON gives the message in protobuf's JSON, made once like Binary.
func (m *Told) JSON() ([]byte, error) {
	return once(&m.json, m.WatchTwinsResponse, protojson.Marshal)
}

// once encodes a message unless somebody has. Two who come at the same time both do.
func once(kept *atomic.Pointer[[]byte], m proto.Message, encode func(proto.Message) ([]byte, error)) ([]byte, error) {
	if b := kept.Load(); b != nil {
		return *b, nil
	}
	b, err := encode(m)
	if err == nil {
		kept.Store(&b)
	}
	return b, err
}

func deletedMessage(id string) *Told {
	return &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: id, Change: &pb.WatchTwinsResponse_Deleted{Deleted: true}}}
}

func logMessage(id string, l *pb.LogLine) *Told {
	return &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: id, Change: &pb.WatchTwinsResponse_Log{Log: l}}}
}
