package actors

import (
	"fmt"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A device that sleeps hears nothing until it wakes. Its driver knows when that is: it says so by the capability
// connection. What is asked of the device meanwhile waits, for a day unless the caller says for how long; values stay good.

// slumber: the driver says that its device sleeps, or wakes.
type slumber struct{ asleep bool }

// sleep takes what the driver says of its device's sleep. It holds whatever the call comes to: so it is with a device.
func (h *host) sleep(asleep bool) error {
	if h.e.owned[h.en.slot].Load() != h.own {
		return fmt.Errorf("twin %s: %w", h.en.id, drivers.ErrDenied)
	}
	h.en.tokens.Add(1)
	h.en.send(&slumber{asleep})
	return nil
}

func (m *slumber) run(t *twin) {
	if t.mode != modeLive || t.cfg.stopped || t.spec == nil || t.sleeping() == m.asleep {
		return
	}
	if m.asleep {
		t.reached()
		t.connection(pb.Connection_CONNECTION_SLEEPING)
		t.emitStatus()
		return
	}
	t.connection(t.awake())
	t.emitStatus()
	t.resend()
}

// awake is the connection of a device that has woken.
func (t *twin) awake() pb.Connection {
	switch {
	case t.spec.via(t.cfg.uri) == nil:
		return pb.Connection_CONNECTION_NONE
	case !t.spec.dials(t.cfg.uri):
		return pb.Connection_CONNECTION_CONNECTED // it was heard of
	case t.link != nil && t.link.up:
		return pb.Connection_CONNECTION_CONNECTED
	}
	return pb.Connection_CONNECTION_CONNECTING
}
