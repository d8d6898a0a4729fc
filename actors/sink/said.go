package sink

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// said is what a message says that a route made of a twin's change or event; of any other message only value is set.
type said struct {
	twin, kind, name string
	// value is JSON, or nil.
	value wire.Value
}

func saidOf(m *pb.TopicMessage) said {
	v, err := wire.Parse(m.Payload)
	if err != nil {
		return said{}
	}
	twin, ok := v.Get("twin").Text()
	if !ok || m.Headers["pollux-route"] == "" {
		return said{value: v}
	}
	s := said{twin: twin, value: v.Get("value")}
	s.kind, _ = v.Get("kind").Text()
	s.name, _ = v.Get("name").Text()
	return s
}

// number of a value: booleans are 1 and 0, as in history.
func (s *said) number() (float64, bool) {
	if yes, ok := s.value.Bool(); ok {
		if yes {
			return 1, true
		}
		return 0, true
	}
	return s.value.Float()
}

// timeOf is when a message was made, or else published.
func timeOf(m *pb.TopicMessage) time.Time {
	if m.Time != nil {
		return m.Time.AsTime()
	}
	return m.PublishTime.AsTime()
}

// jsonOf gives a payload as JSON: as it is where it is JSON, else as a text, or as base64 where it is none.
func jsonOf(m *pb.TopicMessage) (payload json.RawMessage, encoding string) {
	if wire.Valid(m.Payload) {
		return m.Payload, ""
	}
	if utf8.Valid(m.Payload) {
		return wire.AppendString(nil, string(m.Payload)), "text"
	}
	text, err := json.Marshal(m.Payload) // base64
	if err != nil {
		return json.RawMessage("null"), ""
	}
	return text, "base64"
}
