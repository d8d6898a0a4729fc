package actors

import (
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// desired is a desired value for the API, with what it waits for.
func (t *twin) desired(d *state.Desired) *pb.Desired {
	p := d.Proto()
	if open(d) {
		p.WaitsFor = t.waitsFor(d)
	}
	return p
}

// waitsFor says in words what keeps a desired value from being confirmed.
func (t *twin) waitsFor(d *state.Desired) string {
	var c *command
	if t.work != nil {
		c = t.work.find(func(c *command) bool { return c.isSet && c.desired == d.Name && c.revision == d.Revision })
	}
	switch now := t.nowMS(); {
	case t.cfg == nil || t.cfg.stopped:
		return "the twin is stopped"
	case t.backoff > now:
		return "the driver is left alone after a failure: " + t.st.Fault
	case t.sleeping():
		return "the device sleeps; it is told when it wakes"
	case t.connecting(), t.offline():
		return t.away()
	case t.spec.bare():
		return "no driver tells the device; it is confirmed when a message reports the value"
	case t.spec == nil || !t.loaded:
		return "the driver is being loaded"
	case c == nil && d.Progress == uint8(pb.Progress_PROGRESS_ASKED):
		return "it is being committed"
	case c == nil:
		return "the device was told, and does not report the value yet"
	case c.refusal != "":
		return "the device answered: " + c.refusal + "; it is asked again"
	case c.notBefore > now:
		return "its time has not come"
	case t.work.pending == c, t.work.call != nil && t.work.call.command == c:
		return "the device's answer"
	}
	return "other commands come before it"
}
