package actors

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// refusalRoom in bytes is what lines of refusals may take of a twin's transaction at most, of what its cargo leaves them; the rest goes with
// the next one.
const refusalRoom = 40 << 10

// maxRefusals that wait for their commit in a twin. Beyond, they are counted, and have no line in the list.
const maxRefusals = 1024

// frameRefusal is an mqtt.ErrRefused that says why.
type frameRefusal struct{ twin, code, why string }

func (e *frameRefusal) Error() string {
	return fmt.Sprintf("twin %s: %s: %s", e.twin, e.why, mqtt.ErrRefused)
}

func (e *frameRefusal) Unwrap() []error {
	switch e.code {
	case CodeFault:
		return []error{mqtt.ErrRefused, ErrFault}
	case CodeStopped:
		return []error{mqtt.ErrRefused, ErrStopped}
	}
	return []error{mqtt.ErrRefused}
}

// doorOf is the door that a frame came through. Those of a node of an earlier version come over MQTT.
func doorOf(f *actorv1.Frame) string {
	if f.Door == "" {
		return doorMQTT
	}
	return f.Door
}

func (t *twin) counts() *state.Ingested {
	if t.st.Ingested == nil {
		t.st.Ingested = &state.Ingested{}
	}
	return t.st.Ingested
}

// repeatedFrame answers a frame whose id, or number, is known: it was here, or is being handled.
func (t *twin) repeatedFrame(f *actorv1.Frame, m *call) bool {
	if f.Id == "" && !(f.Again && numbered(f)) {
		return false
	}
	if t.work.handles(f) {
		m.refuse(fmt.Errorf("twin %s: message %s is being handled: %w", t.en.id, f.Id, cluster.ErrOverloaded))
		return true
	}
	if f.Id == "" {
		if !t.st.Ingested.Took(f.Link, f.Sequence) {
			return false
		}
		t.answerFrame(f, m, takenMessage) // it is counted, and came from its sender once
		return true
	}
	if !t.st.Ingested.Knows(hashID(f.Id)) {
		return false
	}
	t.counts().Door(doorOf(f)).Duplicate++
	t.answerFrame(f, m, &actorv1.Taken{Duplicate: true})
	return true
}

// numbered says whether a frame is remembered by its number: one without an id that its node may bring again. What a twin takes of a node it
// takes in the order of the numbers, so the newest tells.
func numbered(f *actorv1.Frame) bool { return f.Qos > 0 && f.Id == "" && f.Link != 0 }

// handles says whether a frame waits for the driver, or is with it.
func (w *work) handles(f *actorv1.Frame) bool {
	if w == nil {
		return false
	}
	id := uint64(0)
	if f.Id != "" {
		id = hashID(f.Id)
	}
	is := func(v event) bool { return v.id == id && (id != 0 || v.link == f.Link && v.sequence == f.Sequence) }
	return w.call != nil && is(w.call.event) || slices.ContainsFunc(w.events, is)
}

// took ends a frame: it is counted, and answered when that is committed, where its sender waits for it. An error that
// may go away is answered at once, and counts nothing.
func (t *twin) took(f *actorv1.Frame, m *call, err error) {
	final := errors.Is(refusalOf(err), mqtt.ErrRefused)
	if err != nil && !final || t.mode != modeLive && t.mode != modeLeaving {
		if err == nil {
			err = t.unavailable()
		}
		m.refuse(err)
		return
	}
	r := takenMessage
	d := t.counts().Door(doorOf(f))
	if err == nil {
		d.Stored++
		t.listLeft(f)
	} else {
		d.Refused++
		code, reason := refusalCode(refusalOf(err))
		reason = clip(t.cfg.veil(reason), 500)
		t.listRefusal(f, code, reason)
		r = &actorv1.Taken{Code: code, Reason: reason}
	}
	if f.Id != "" {
		t.st.Ingested.Remember(hashID(f.Id))
	} else if numbered(f) {
		t.st.Ingested.Take(f.Link, f.Sequence)
	}
	t.answerFrame(f, m, r)
}

// uncount takes a frame out of the counters that will not be answered as it was counted: whoever hears that counts it.
func (t *twin) uncount(w *saveWaiter) {
	if w.call == nil {
		return
	}
	f, _ := w.call.env.Message.(*actorv1.Frame)
	r, _ := w.reply.Message.(*actorv1.Taken)
	if f == nil {
		return
	}
	d := t.counts().Door(doorOf(f))
	switch {
	case r.GetDuplicate():
		d.Duplicate--
	case r.GetCode() != "":
		d.Refused--
	default:
		d.Stored--
	}
}

// answerFrame answers a frame: with QoS 0 at once, else when all that the twin knows now is committed.
func (t *twin) answerFrame(f *actorv1.Frame, m *call, r *actorv1.Taken) {
	reply := takenReply
	if r != takenMessage {
		reply = cluster.Reply{Message: r}
	}
	if f.Qos == 0 {
		t.touched = true
		m.answer(reply)
		return
	}
	t.soil()
	s := t.saves()
	s.waiting = append(s.waiting, saveWaiter{call: m, reply: reply})
}

// listRefusal has the next transaction write a line.
func (t *twin) listRefusal(f *actorv1.Frame, code, reason string) {
	x := newRefusal(t.stamp(), ProjectOf(t.en.id), doorOf(f), code, reason, f.Payload)
	x.Twin, x.Alias, x.MessageId = t.en.id, f.Alias, clip(f.Id, MaxHead)
	s := t.saves()
	w, err := refusalWrite(x)
	if err != nil || len(s.refusals) >= maxRefusals {
		t.e.stats.drop(dropRefusalLine)
		return
	}
	s.refusals = append(s.refusals, w)
	t.soil()
	t.e.intake.ledger.wrote(x.GetId())
}

// refusalWrites takes the lines that fit the next transaction.
func (s *save) refusalWrites(writes []storage.Write) []storage.Write {
	n, room := 0, min(refusalRoom, maxCargo-s.sampleBytes-s.journalBytes-s.outgoingBytes)
	for n < len(s.refusals) && room > 0 {
		room -= len(s.refusals[n].Value) + 128
		n++
	}
	s.offered = n
	return append(writes, s.refusals[:n]...)
}

// newRefusal is a line of the list of refusals.
func newRefusal(now int64, project, door, code, reason string, payload []byte) *pb.Refusal {
	return &pb.Refusal{Id: fmt.Sprintf("%s/%013x-%016x", project, now, rand.Uint64()), Time: timestamppb.New(msTime(now)), Door: door,
		Code: code, Reason: clip(reason, 500), Payload: head(payload), Size: uint32(min(len(payload), math.MaxUint32))}
}

func refusalWrite(x *pb.Refusal) (storage.Write, error) {
	value, err := proto.Marshal(x)
	return storage.Write{Table: tableRefusals, Key: x.Id, Value: value, Quiet: true}, err
}

// inputOf is what a driver hears of a frame: its topic and payload as over MQTT, or the payload alone where the driver
// speaks another protocol.
func (t *twin) inputOf(f *actorv1.Frame) []byte {
	if doorOf(f) != doorMQTT && t.spec.via(t.cfg.uri) != nil && !t.spec.ownBroker(t.cfg.uri) {
		return f.Payload
	}
	in := make([]byte, 0, len(f.Topic)+1+len(f.Payload))
	return append(append(append(in, f.Topic...), 0), f.Payload...)
}

// date gives changes that a driver makes of a message the message's time.
func (v *event) date(changes []drivers.Change) {
	for i := range changes {
		if v.at != 0 && changes[i].Time <= 0 {
			changes[i].Time = v.at
		}
	}
}

// past gives history what a historical message brings, and the present nothing.
func (t *twin) past(changes []drivers.Change, values []state.Value) {
	for i, c := range changes {
		at := c.Time
		if at <= 0 {
			at = t.stamp()
		}
		t.sampleOf(c.Property, values[i], at)
	}
}
