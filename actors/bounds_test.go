package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"

	"google.golang.org/protobuf/types/known/structpb"
)

// TestDesiredValuesFitTheRecord fills a twin with large desired values. What no longer fits is refused, and the twin goes on
// being committed.
func TestDesiredValuesFitTheRecord(t *testing.T) {
	n := open(t, nil, 1)
	n.driverWith("wide", "1.0.0", mqttTransport, func(m map[string]any) {
		props := m["model"].(map[string]any)["properties"].(map[string]any)
		for i := range 40 {
			props[fmt.Sprintf("w%d", i)] = map[string]any{"type": "string"}
		}
	})
	n.twin(`{"id":"a","driver":"wide","settings":{"topic":"a1"}}`)
	large, refused := structpb.NewStringValue(strings.Repeat("x", 16_000)), 0
	for i := range 40 {
		_, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: fmt.Sprintf("w%d", i), Value: large}, "tester")
		var invalid *actors.InvalidError
		switch {
		case err == nil:
		case errors.As(err, &invalid) && strings.Contains(err.Error(), "bytes"):
			refused++
		default:
			t.Fatalf("value %d: %v", i, err)
		}
	}
	if refused == 0 || refused > 30 {
		t.Errorf("%d of 40 values refused", refused)
	}
	if err := n.offer("dev/a1/state", `{"level":1}`, 1); err != nil {
		t.Errorf("the twin is not committed any more: %v", err)
	}
}
