package actors

import (
	"errors"
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/actors/model"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// doorDriver is the door of what a driver says by itself: of a connection of the twin's own, a timer, a command.
const doorDriver = "driver"

// maxMisfits of one call have lines of their own in the list of refusals.
const maxMisfits = 16

// wrongOutput is counted where an action's output does not fit: it is passed on as it is, for the device has done what it did.
const wrongOutput = "wrong_output"

// misfit is a value, or an event's data, of another type than the model gives.
type misfit struct {
	why  string
	data []byte
}

// takeMisfits takes out of the effects of a call what is wrongly typed. What the model does not know is not looked at.
func takeMisfits(eff *drivers.Effects, m *drivers.Model) (out []misfit) {
	if m == nil {
		return nil // the driver went meanwhile
	}
	eff.Changes = slices.DeleteFunc(eff.Changes, func(c drivers.Change) bool {
		p := m.Property(c.Property)
		if p == nil || p.Fits(c.Value) {
			return false
		}
		out = append(out, misfit{model.Refusal{Property: c.Property, Reason: p.Misfit(c.Value)}.Why(), c.Value})
		return true
	})
	eff.Events = slices.DeleteFunc(eff.Events, func(x drivers.Emitted) bool {
		known := m.Event(x.Name)
		if known == nil {
			return false
		}
		err := known.Fits(x.Data)
		if err != nil {
			out = append(out, misfit{err.Error(), x.Data})
		}
		return err != nil
	})
	return out
}

// listMisfits counts what a call said that is wrongly typed, and has the list of refusals say so: with the message that it was made of, where
// there is one.
func (t *twin) listMisfits(v *event, all []misfit) {
	t.filtered(model.WrongType, len(all))
	for i, x := range all {
		f := v.frame
		if f == nil {
			f = &actorv1.Frame{Door: doorDriver, Payload: x.data}
		}
		if i == maxMisfits {
			t.listRefusal(f, model.WrongType, fmt.Sprintf("and %d more", len(all)-i))
			return
		}
		t.listRefusal(f, model.WrongType, t.cfg.veil(x.why))
	}
}

// checkOutput notes where an action's output is not what the model promises. The command is done nevertheless.
func (t *twin) checkOutput(c *command, output []byte) {
	if c.isSet || t.model == nil || c.noAnswer && len(output) == 0 {
		return
	}
	a := t.model.Action(c.label)
	if a == nil {
		return
	}
	var wrong *drivers.SchemaError
	if errors.As(a.CheckOutput(output), &wrong) {
		t.filtered(wrongOutput, 1)
		t.note("warn", "the command is done, and what it answers is not what the model says: "+wrong.Error())
	}
}
