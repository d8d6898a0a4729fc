package actors

import (
	"errors"
	"fmt"
	"testing"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
)

// One twin refuses for good, another may commit later: the message must come again, so it is not acknowledged.
func TestGatheringPrefersComingAgain(t *testing.T) {
	later, final := fmt.Errorf("b: %w", cluster.ErrUnavailable), fmt.Errorf("a: %w", mqtt.ErrRefused)
	for _, order := range [][]error{{final, later}, {later, final}, {nil, later}} {
		var got error
		g := &gathering{done: func(err error) { got = err }}
		g.left.Store(int32(len(order)))
		for _, err := range order {
			g.one(err)
		}
		var r *mqtt.Refusal
		if got == nil || errors.As(got, &r) {
			t.Errorf("%v gives %v", order, got)
		}
	}
}
