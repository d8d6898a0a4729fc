package actors

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What an outbox keeps of a message is written for each message that a twin says, and again for each that a logic lets go on. So it is
// encoded by hand: the library takes six allocations for it and several times as long.

// outgoingValue encodes an actorv1.Outgoing. What is refused with may be a guest's words, of any bytes: nobody could read a record with those.
func outgoingValue(to string, m *pb.TopicMessage, refused string) []byte {
	refused = strings.ToValidUTF8(refused, "\uFFFD")
	size := messageSize(m)
	b := make([]byte, 0, size+len(to)+len(refused)+16)
	b = appendField(b, 1, to)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.BytesType), uint64(size))
	b = appendMessage(b, m)
	return appendField(b, 3, refused)
}

func messageSize(m *pb.TopicMessage) int {
	n := fieldSize(len(m.Key)) + fieldSize(len(m.Payload)) + fieldSize(len(m.ContentType)) + fieldSize(len(m.Id))
	for k, v := range m.Headers {
		n += 1 + protowire.SizeBytes(headerSize(k, v))
	}
	if m.Offset != 0 {
		n += 1 + protowire.SizeVarint(m.Offset)
	}
	return n + stampSize(m.Time) + stampSize(m.PublishTime)
}

func appendMessage(b []byte, m *pb.TopicMessage) []byte {
	b = appendField(b, 1, m.Key)
	b = appendField(b, 2, m.Payload)
	b = appendField(b, 3, m.ContentType)
	for k, v := range m.Headers {
		b = protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.BytesType), uint64(headerSize(k, v)))
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), k)
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), v)
	}
	b = appendTime(b, 5, m.Time)
	b = appendField(b, 6, m.Id)
	b = appendNumber(b, 7, m.Offset)
	return appendTime(b, 8, m.PublishTime)
}

func headerSize(k, v string) int {
	return 2 + protowire.SizeBytes(len(k)) + protowire.SizeBytes(len(v))
}

func fieldSize(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func appendField[T ~string | ~[]byte](b []byte, field protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return append(protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v))), v...)
}

func appendNumber(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func stampSize(t *timestamppb.Timestamp) int {
	if t == nil {
		return 0
	}
	return 1 + protowire.SizeBytes(stampBody(t))
}

func stampBody(t *timestamppb.Timestamp) (n int) {
	if t.Seconds != 0 {
		n += 1 + protowire.SizeVarint(uint64(t.Seconds))
	}
	if t.Nanos != 0 {
		n += 1 + protowire.SizeVarint(uint64(t.Nanos))
	}
	return n
}

func appendTime(b []byte, field protowire.Number, t *timestamppb.Timestamp) []byte {
	if t == nil {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(stampBody(t)))
	return appendNumber(appendNumber(b, 1, uint64(t.Seconds)), 2, uint64(t.Nanos))
}
