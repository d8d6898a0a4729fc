package actors

import (
	"strings"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What keeps a device from calling in, which nobody would see otherwise: the twin waits, and the device is turned away
// before it is anybody's.

// fromCallers marks a fault that says so. It is no event of the driver's.
const fromCallers drivers.Event = -2

type linkTroubled struct {
	l   *link
	why string
}

// Troubled is called by what waits for the device.
func (l *link) Troubled(err error) {
	m := &linkTroubled{l: l}
	if err != nil {
		m.why = err.Error()
	}
	l.post(m)
}

func (m *linkTroubled) run(t *twin) {
	if !t.fresh(m.l) || t.cfg.stopped {
		return
	}
	if m.why != "" {
		t.uncallable(m.why)
	} else if t.callable() && !m.l.up {
		t.connection(pb.Connection_CONNECTION_CONNECTING)
		t.emitStatus()
	}
}

// uncallable shows why the device cannot call in, behind what is wrong with the driver or the configuration. A device that
// has called in nevertheless stays connected.
func (t *twin) uncallable(why string) {
	if t.st.Fault != "" && t.faultFrom != fromCallers && t.faultFrom != fromLink {
		return
	}
	if pb.Connection(t.st.Connection) != pb.Connection_CONNECTION_CONNECTED {
		t.connection(pb.Connection_CONNECTION_DISCONNECTED)
	}
	t.fault(why, fromCallers)
}

// callable takes that back, and says whether there was something to take back.
func (t *twin) callable() bool {
	if t.st.Fault == "" || t.faultFrom != fromCallers {
		return false
	}
	t.fault("", 0)
	return true
}

// hooked looks whether anybody may call a twin whose device comes by webhook.
func (t *twin) hooked() {
	via := t.cfg.binding
	if via == nil || via.Scheme != drivers.SchemeWebhook {
		return
	}
	token := via.Inbound != nil && via.Inbound.Token != ""
	address := &transport.Address{Scheme: via.Scheme}
	var err error
	if t.cfg.uri != "" {
		address, err = transport.ParseAddress(t.cfg.uri, via)
	}
	if err == nil && !token {
		from, wrong := address.Callers(via)
		if err = wrong; err == nil && len(from) == 0 {
			t.uncallable("nobody may call: " + t.hookAdvice())
			return
		}
	}
	if err != nil {
		t.uncallable("connect: " + err.Error())
		return
	}
	if t.callable() {
		t.connection(pb.Connection_CONNECTION_CONNECTING)
		t.emitStatus()
	}
}

// hookAdvice says what lets somebody call.
func (t *twin) hookAdvice() string {
	advice := "say by ?from= in the twin's address who may, as in --uri " + transport.Example(drivers.SchemeWebhook)
	declared := t.spec.via(t.cfg.uri)
	if declared == nil || declared.Inbound == nil {
		return advice
	}
	if name, found := strings.CutPrefix(declared.Inbound.Token, "{"); found && strings.HasSuffix(name, "}") {
		return "give a token by the setting " + strings.TrimSuffix(name, "}") + ", or " + advice
	}
	return advice
}
