package actors

import (
	"fmt"

	"github.com/polluxhq/pollux/actors/model"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// A twin's transaction carries, beside the state, what its values are for others: samples, journal entries, messages of routes. How much is
// bounded. So a message is taken when all that it brings finds room in the transaction that comes next, with the counters that say that it is
// stored; else it is held, with those behind it, until that transaction has left. What one message brings beyond an empty transaction is listed.

// maxCargo in bytes is what a transaction carries at most beside the state and the model's patch.
const maxCargo = maxSamples + maxJournal + maxOutgoingBytes

// heldFrame is a frame that was let in and has no effect yet.
type heldFrame struct {
	f *actorv1.Frame
	m *call
}

// hold keeps a frame until there is room.
func (t *twin) hold(f *actorv1.Frame, m *call) {
	s := t.saves()
	s.held = append(s.held, heldFrame{f, m})
	s.heldBytes += len(f.Topic) + len(f.Payload)
}

// holds says whether frames wait for room.
func (t *twin) holds() bool { return t.save != nil && len(t.save.held) > 0 }

// board takes what was held and finds room now.
func (t *twin) board() {
	for t.holds() {
		s, x := t.save, t.save.held[0]
		if !t.accept(x.f, x.m) {
			return
		}
		s.heldBytes -= len(x.f.Topic) + len(x.f.Payload)
		s.held[0] = heldFrame{}
		if s.held = s.held[1:]; len(s.held) == 0 {
			s.held = nil
		}
	}
}

// unhold answers what was held and will not be taken here.
func (s *save) unhold(err error) {
	held := s.held
	s.held, s.heldBytes = nil, 0
	for _, x := range held {
		x.m.refuse(err)
	}
}

// unload forgets the samples and journal entries that the next transaction would bring.
func (s *save) unload() {
	s.samples, s.sampleBytes = nil, 0
	s.journal, s.journalBytes = nil, 0
}

// shed gives up the samples and journal entries of a transaction that is too large, and says whether there were any. It is as with a message
// that brings too much: what counts as stored is in the state, and the list of refusals says what is nowhere else.
func (t *twin) shed() bool {
	s := t.saves()
	samples, entries := len(s.samples), len(s.journal)
	if samples+entries == 0 {
		return false
	}
	s.unload()
	f := &actorv1.Frame{}
	if g := t.st.Ingested; g != nil && len(g.Doors) > 0 {
		f.Door = g.Doors[0].Name.Value()
	}
	t.listRefusal(f, CodeTooLarge, fmt.Sprintf("%d numbers for history and %d entries for the journal of several messages, the state with them, and what routes "+
		"make of them are too much for one transaction; the state has them, history and journal do not", samples, entries))
	return true
}

// laden says whether half of what a transaction can carry waits for the next one.
func (t *twin) laden() bool {
	s := t.save
	return s != nil && (s.sampleBytes > maxSamples/2 || s.journalBytes > maxJournal/2 ||
		len(s.outgoing) > maxOutgoing/2 || s.outgoingBytes > maxOutgoingBytes/2)
}

// hasRoom says whether what readings bring finds room in the next transaction; in one that carries nothing yet it always does.
func (t *twin) hasRoom(readings []model.Reading) bool {
	s := t.save
	if s == nil {
		return true
	}
	samples, journal := 0, 0
	for i := range readings {
		r := &readings[i]
		if _, number := point(r.Value); number {
			samples += sampleSize(storage.Sample{Property: r.Property.Name})
		} else {
			journal += len(r.Property.Name) + r.Value.Size() + journalOverhead + len(t.en.id)
		}
		if p := t.st.Named(r.Property.Name); p != nil && p.Quality() != uint8(r.Quality) {
			journal += len(r.Property.Name) + 2*journalOverhead + len(t.en.id)
		}
	}
	if s.sampleBytes > 0 && s.sampleBytes+samples > maxSamples || s.journalBytes > 0 && s.journalBytes+journal > maxJournal {
		return false
	}
	return len(s.outgoing) == 0 || len(s.outgoing)+len(readings) <= maxOutgoing && s.outgoingBytes <= maxOutgoingBytes/2
}

// left notes that something of a message found no room, and is counted.
func (s *save) left(why dropReason, t *twin) {
	t.e.stats.drop(why)
	s.leftOut++
}

// beginLeft: what is left out from now on is of another message.
func (t *twin) beginLeft() {
	if t.save != nil {
		t.save.leftOut = 0
	}
}

// listLeft has the list of refusals say what of a message found no room.
func (t *twin) listLeft(f *actorv1.Frame) {
	s := t.save
	if s == nil || s.leftOut == 0 {
		return
	}
	n := s.leftOut
	s.leftOut = 0
	t.listRefusal(f, CodeTooLarge, fmt.Sprintf("%d of its values are in the state and nowhere else: history takes %d KiB of numbers of one message, "+
		"the journal %d KiB of texts, and routes %d messages; send less at a time", n, maxSamples>>10, maxJournal>>10, maxOutgoing))
}
