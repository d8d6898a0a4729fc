package model

// Nothing is why a message is refused that has something, and the model a place for none of it.
var Nothing = Refusal{Code: UnknownPath, Reason: "the model has a place for nothing of the message"}

// Flaw gives the first thing that is refused of a message, or Nothing; false: all of it that has a place can be taken.
func (m *Message) Flaw() (Refusal, bool) {
	switch {
	case len(m.Refused) > 0:
		return m.Refused[0], true
	case len(m.Readings) == 0 && m.Ignored > 0:
		return Nothing, true
	}
	return Refusal{}, false
}

// Why is the refusal's reason, with the property that it is about.
func (r Refusal) Why() string {
	if r.Property == "" {
		return r.Reason
	}
	return r.Property + ": " + r.Reason
}
