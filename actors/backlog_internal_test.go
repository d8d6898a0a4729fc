package actors

import (
	"fmt"
	"testing"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// What a twin certainly did not take waits, whatever its QoS: a lease that is over for a moment costs nothing. What it may have taken comes
// again a few times, but not with QoS 0.
func TestFrameMayWait(t *testing.T) {
	for _, c := range []struct {
		err       error
		qos0, qos uint // how often it comes again, 9 for ever
	}{
		{cluster.ErrOverloaded, 9, 9},
		{fmt.Errorf("no lease: %w", cluster.ErrUnavailable), 9, 9},
		{cluster.ErrNotOwner, 9, 9},
		{fmt.Errorf("link lost: %w: %w", cluster.ErrUnknown, cluster.ErrUnavailable), 0, maxUnknown},
		{mqtt.ErrRefused, 0, 0},
		{cluster.ErrDeadline, 0, 0},
	} {
		for qos, want := range []uint{c.qos0, c.qos} {
			l, n := &late{frame: &actorv1.Frame{Qos: uint32(qos)}}, uint(0)
			for n < 9 && l.mayWait(c.err) {
				n++
			}
			if n != want {
				t.Errorf("%v with QoS %d: it waits %d times, want %d", c.err, qos, n, want)
			}
		}
	}
}
