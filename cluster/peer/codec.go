package peer

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// batchSink takes the bytes of a batch that was read. They are valid only during the call.
type batchSink interface{ consume(batch []byte) error }

// codec is Connect's protobuf codec with two short cuts: batches that are encoded already are copied, and those that are
// read go straight to who decodes them, without a message between.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(m any) ([]byte, error) { return codec{}.MarshalAppend(nil, m) }

func (codec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	switch m := m.(type) {
	case *chunk:
		return append(dst, m.buf...), nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(dst, m)
	}
	return nil, fmt.Errorf("%T is no message", m)
}

func (codec) Unmarshal(data []byte, m any) error {
	switch m := m.(type) {
	case batchSink:
		return m.consume(data)
	case proto.Message:
		return proto.Unmarshal(data, m)
	}
	return fmt.Errorf("%T is no message", m)
}

// IsBinary and the rest of Connect's optional methods are left out: there is no JSON on the peer port.
