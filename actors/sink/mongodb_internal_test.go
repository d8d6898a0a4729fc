package sink

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestDocumentKeepsDigits: a number of a payload has all of its digits in the document, or else the payload is there as it came; so is what is no UTF-8.
func TestDocumentKeepsDigits(t *testing.T) {
	for payload, want := range map[string]any{
		`21`:                    21.0,
		`-0.5e3`:                -500.0,
		`9007199254740992`:      9007199254740992.0,
		`9007199254740993`:      int64(9007199254740993),
		`-9223372036854775808`:  int64(-9223372036854775808),
		`100000000000000000000`: 1e20,
		`18446744073709551615`:  nil,
		`1e400`:                 nil,
		"\"\xff\"":              nil,
		`1 2`:                   nil,
	} {
		raw, err := documentOf("p/t", &pb.TopicMessage{Payload: []byte(payload)})
		if err != nil {
			t.Errorf("%s: %v", payload, err)
			continue
		}
		var doc struct {
			Value   any    `bson:"value"`
			Payload []byte `bson:"payload"`
		}
		if err := bson.Unmarshal(raw, &doc); err != nil || doc.Value != want || want == nil && string(doc.Payload) != payload {
			t.Errorf("%s: %T %v and %q, %v; want %T %v", payload, doc.Value, doc.Value, doc.Payload, err, want, want)
		}
	}
}
