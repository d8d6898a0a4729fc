package actors

import (
	"errors"
	"fmt"

	"github.com/polluxhq/pollux/actors/model"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Check says why a message would be refused, without taking it anywhere: code and reason, or "" where it would not be. It finds the message's twin, and
// reads the message by the model that the twin would read it by; a value that is refused refuses it here. What only the twin can tell it
// does not: what a driver makes of the message, and whether the twin's record has room. It reads the local store only, and counts nothing.
func (e *Engine) Check(m *Ingest) (code, reason string) {
	if code, reason = e.check(m); code != "" {
		return code, reason
	}
	id := m.twinID()
	if id == "" {
		var err error
		a := m.Alias
		if id, err = e.intake.aliases.twin(aliasKey(m.Project, a.Network, a.Key, a.Value)); err != nil {
			return "", "" // it will be told when the message is taken
		}
	}
	if id == "" {
		return e.checkSender(m)
	}
	if m.Device != "" && m.Device != id {
		return foreignTwin(m, id)
	}
	t, err := get(e.store, tableTwins, id, &pb.Twin{})
	switch {
	case errors.Is(err, ErrNotFound):
		return CodeUnknownTwin, "there is no twin " + id
	case err != nil:
		return "", ""
	case t.Stopped:
		return CodeStopped, stoppedTwin
	case t.Model == "":
		return "", ""
	}
	spec, err := e.catalog.forTwin(t)
	if err != nil || !spec.bare() {
		return "", ""
	}
	x := intakeRooms.Get().(*intakeRoom)
	defer x.free()
	spec.thing.ReadInto(&x.message, m.Payload, m.Time, e.stamp(), e.messageTimes(m.Project))
	if r, bad := x.message.Flaw(); bad {
		return r.Code, r.Why()
	}
	if err := fitting(x.message.Readings); err != nil {
		return CodeTooLarge, err.Error()
	}
	return "", ""
}

// checkSender says why a message is refused whose alias no twin has.
func (e *Engine) checkSender(m *Ingest) (code, reason string) {
	if m.Device != "" {
		return CodeForbidden, "the key belongs to twin " + m.Device + ", which has not this alias"
	}
	settings, err := e.registry.projectSettings(m.Project)
	if err == nil && settings.UnknownSenders == pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE {
		return CodeUnknownSender, unknownSender
	}
	return "", ""
}

// foreignTwin is why a device's message for another twin is refused.
func foreignTwin(m *Ingest, id string) (code, reason string) {
	return CodeForbidden, "the key belongs to twin " + m.Device + ", and the message is for " + id
}

// Reasons that are given in several places.
const (
	stoppedTwin   = "the twin is stopped"
	unknownSender = "no twin has this alias, and the project refuses unknown senders"
)

// fitting says which reading is larger than a value may be, or nil.
func fitting(readings []model.Reading) error {
	for i := range readings {
		if r := &readings[i]; r.Value.Size() > maxValue {
			return fmt.Errorf("property %s: a value of %d bytes, %d are allowed", r.Property.Name, r.Value.Size(), maxValue)
		}
	}
	return nil
}
