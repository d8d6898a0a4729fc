package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxDepth of arrays and objects in each other: decoding is recursive, and 10,000 levels take 30 MB of stack.
	maxDepth = 100
	// maxValues of one JSON message: each takes some 200 bytes, however short it was written.
	maxValues = 20_000
)

// codecs replace connect's own, with the same bytes on the wire. They bound what a message may become in memory before it
// is decoded, and count what is refused.
func codecs(refused *metrics.Counter) connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(&binaryCodec{refused}),
		connect.WithCodec(&jsonCodec{"json", refused}),
		connect.WithCodec(&jsonCodec{"json; charset=utf-8", refused}),
	)
}

func asProto(m any) (proto.Message, error) {
	if p, ok := m.(proto.Message); ok {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %T", errWrongMessage, m)
}

type binaryCodec struct{ refused *metrics.Counter }

func (c *binaryCodec) Name() string { return "proto" }

func (c *binaryCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend lets connect use buffers again.
func (c *binaryCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	switch x := m.(type) {
	case *pb.QueryHistoryResponse:
		return appendHistory(dst, x)
	case *actors.Told:
		b, err := x.Binary()
		return append(dst, b...), err
	}
	p, err := asProto(m)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, p)
}

func (c *binaryCodec) Unmarshal(data []byte, m any) error {
	p, err := asProto(m)
	if err != nil {
		return err
	}
	// A level of JSON is up to three messages: a value, an object, its entry.
	if err := (proto.UnmarshalOptions{RecursionLimit: 4 * maxDepth}).Unmarshal(data, p); err != nil {
		c.refused.Inc()
		return err
	}
	return nil
}

// MarshalStable and IsBinary are for calls by GET.
func (c *binaryCodec) MarshalStable(m any) ([]byte, error) {
	p, err := asProto(m)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(p)
}

func (c *binaryCodec) IsBinary() bool { return true }

type jsonCodec struct {
	name    string
	refused *metrics.Counter
}

func (c *jsonCodec) Name() string { return c.name }

func (c *jsonCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

// MarshalAppend lets connect use buffers again.
func (c *jsonCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	if x, ok := m.(*actors.Told); ok {
		b, err := x.JSON()
		return append(dst, b...), err
	}
	p, err := asProto(m)
	if err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, p)
}

func (c *jsonCodec) Unmarshal(data []byte, m any) error {
	p, err := asProto(m)
	if err != nil {
		return err
	}
	if err := unmarshalJSON(data, p); err != nil {
		c.refused.Inc()
		return err
	}
	return nil
}

// MarshalStable and IsBinary are for calls by GET.
func (c *jsonCodec) MarshalStable(m any) ([]byte, error) {
	text, err := c.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil { // protojson's white space is random
		return nil, err
	}
	return out.Bytes(), nil
}

func (c *jsonCodec) IsBinary() bool { return false }

// unmarshalJSON decodes a message from a stranger. A field that no message has is refused by its name: JSON is typed by
// people, and what they mistype must not be lost in silence. The binary form keeps to protobuf's habit, for newer clients.
func unmarshalJSON(data []byte, m proto.Message) error {
	if len(data) == 0 {
		return errors.New("an empty body is no JSON object")
	}
	if err := checkShape(data); err != nil {
		return err
	}
	return protojson.UnmarshalOptions{}.Unmarshal(data, m)
}

// checkShape counts levels and values. What is no JSON at all is the decoder's to refuse.
func checkShape(data []byte) error {
	depth, values := 0, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
		case '[', '{':
			if depth++; depth > maxDepth {
				return fmt.Errorf("JSON of more than %d levels", maxDepth)
			}
			values++
		case ']', '}':
			depth--
		case ',':
			values++
		}
		if values > maxValues {
			return fmt.Errorf("JSON of more than %d values", maxValues)
		}
	}
	return nil
}

// stringEnd is the index of the quote that ends the string which begins at start, or the data's end.
func stringEnd(data []byte, start int) int {
	for at := start + 1; ; {
		n := bytes.IndexByte(data[at:], '"')
		if n < 0 {
			return len(data)
		}
		end := at + n
		escapes := 0
		for end-escapes-1 > start && data[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		at = end + 1
	}
}
