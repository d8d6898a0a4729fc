package actors

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Deliver hands one publish to the twins bound to its topic, or else to the twin that has the alias that the topic spells:
// PROJECT/NETWORK/KEY/VALUE/…. Twins of other projects than the topic's get nothing. done is called exactly once: without an error when every twin has handled it (QoS 0), or has it
// committed (QoS 1 and 2), or it is in the inbox; with ErrNoTwin where nobody owns the topic, or with why it was refused. It
// never blocks; while a twin has too much waiting, done waits.
func (e *Engine) Deliver(m *mqtt.Message, done func(error)) {
	if m.Found != nil {
		if s, ok := (*m.Found).(*spelling); ok && s.current(e) {
			e.deliverSpelled(s, m, done)
			return
		}
	}
	now := spelling{topics: e.topics.change.Load(), aliases: e.intake.aliases.change.Load()}
	bound, err := e.topics.twins(m.Topic)
	if err != nil {
		done(err)
		return
	}
	ids := bound.ids
	for range bound.others {
		e.stats.drop(dropForeign)
	}
	if len(ids) == 0 {
		if s := e.spelled(m.Topic, now); s != nil {
			if m.Found != nil && s.id != "" {
				*m.Found = s
			}
			e.deliverSpelled(s, m, done)
			return
		}
		e.stats.drop(dropNoTwin)
		done(fmt.Errorf("topic %q: %w: %w", m.Topic, ErrNoTwin, mqtt.ErrUnowned))
		return
	}
	f := &actorv1.Frame{Topic: m.Topic, Payload: m.Payload, Qos: uint32(m.QoS), Retain: m.Retain, Will: m.Will, Door: doorMQTT}
	if len(ids) == 1 {
		e.deliverTo(ids[0], f, done)
		return
	}
	all := &gathering{done: done}
	all.left.Store(int32(len(ids)))
	for _, id := range ids {
		e.deliverTo(id, again(f), all.one)
	}
}

// spelling is a topic that spells an alias in a project that there is: the project's, and not one of the many other things that MQTT is used
// for.
type spelling struct {
	// topics and aliases are the changes of both indexes as of which id is right.
	topics, aliases uint64

	project string
	alias   *pb.Alias
	key     string
	id      string // of the alias' twin; "": it was not found
	flying  *atomic.Int64
}

// current says whether nobody is bound to the topic since, and the alias is that twin's.
func (s *spelling) current(e *Engine) bool {
	return s.topics == e.topics.change.Load() && s.aliases == e.intake.aliases.change.Load()
}

// spelled is what a topic spells, as of the changes in s, or nil.
func (e *Engine) spelled(topic string, s spelling) *spelling {
	parts := strings.SplitN(topic, "/", 5)
	if len(parts) < 4 || !isName(parts[0], 64, false) || parts[1] == "" || parts[2] == "" || parts[3] == "" {
		return nil
	}
	s.project, s.alias = parts[0], &pb.Alias{Network: parts[1], Key: parts[2], Value: parts[3]}
	s.key = aliasKey(parts[0], parts[1], parts[2], parts[3])
	id, err := e.intake.aliases.twin(s.key)
	if (err != nil || id == "") && !e.projects.has(s.project) {
		return nil
	}
	if err == nil {
		s.id = id
	}
	s.flying = e.intake.door(s.project, doorMQTT)
	return &s
}

const doorMQTT = "mqtt"

// clientMessage is a message of a client on its way in, in one piece.
type clientMessage struct {
	intaking
	in Ingest
}

// client is the sender of a message over MQTT.
type client func(error)

func (done client) hear(x *intaking, r IngestResult) { done(r.mqttError(x.m.Topic)) }

// deliverSpelled brings a message to the twin whose alias its topic spells.
func (e *Engine) deliverSpelled(s *spelling, m *mqtt.Message, done func(error)) {
	x := &clientMessage{in: Ingest{Door: doorMQTT, Project: s.project, Alias: s.alias, Topic: m.Topic, Payload: m.Payload, Commit: m.QoS > 0,
		Retain: m.Retain, Will: m.Will}}
	x.m, x.sender, x.flying = &x.in, client(done), s.flying
	x.flying.Add(1)
	switch code, reason := x.in.check(); {
	case code != "":
		e.refuse(x.m, "", code, reason, x.end)
	case s.id == "":
		e.ingestBy(&x.intaking)
	default:
		e.ingestOf(&x.intaking, s.key, s.id)
	}
}

// Refused lists a message that the broker refuses by itself, in the project of its sender: nobody else is to learn of it.
func (e *Engine) Refused(m *mqtt.Message, why *mqtt.Refusal) {
	g := m.Grant
	if g == nil || g.Project == "" {
		return // an administrator's, or a stranger's: the broker counts it
	}
	in := &Ingest{Door: doorMQTT, Project: g.Project, Payload: m.Payload}
	if g.Twin != "" {
		in.Twin = NameOf(g.Twin)
	}
	code, reason := CodeForbidden, fmt.Sprintf("topic %.140q: %s", m.Topic, why.Text)
	switch project, _, _ := strings.Cut(m.Topic, "/"); {
	case why.Label == mqtt.ErrTooLarge.Label:
		code, reason = CodeTooLarge, why.Text
	case why.Label == mqtt.ErrTopic.Label, why.Label == mqtt.ErrInvalid.Label:
		code = CodeMalformed
	case project != g.Project && e.projects.has(project):
		code = CodeForeignProject
	}
	e.Refuse(in, code, reason, func(IngestResult) {})
}

// mqttError is what the broker is told of a result. What was refused is acknowledged, as that is committed.
func (r IngestResult) mqttError(topic string) error {
	switch r.Outcome { //nolint:exhaustive // the rest comes again
	case pb.IngestOutcome_INGEST_OUTCOME_STORED, pb.IngestOutcome_INGEST_OUTCOME_INBOX, pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE:
		return nil
	case pb.IngestOutcome_INGEST_OUTCOME_REFUSED:
		return fmt.Errorf("topic %q: %s: %s: %w", topic, r.Code, r.Reason, mqtt.ErrRefused)
	}
	return r.Err
}

// deliverTo brings a frame to one twin. What was refused is listed, and with QoS 1 and 2 acknowledged when that is committed,
// so that it does not come back for ever.
func (e *Engine) deliverTo(id string, f *actorv1.Frame, done func(error)) {
	project := ProjectOf(id)
	flying := e.intake.begins(project, f.Door)
	e.backlog.deliver(id, f, func(r *actorv1.Taken, err error) {
		if err == nil && r.GetCode() != "" {
			err = &frameRefusal{id, r.Code, r.Reason}
		} else if errors.Is(err, mqtt.ErrRefused) {
			code, reason := refusalCode(err)
			x := newRefusal(e.stamp(), project, f.Door, code, reason, f.Payload)
			x.Twin = id
			e.intake.ledger.post(&posting{project: project, door: f.Door, refusal: x, done: func(failed error) {
				flying.Add(-1)
				if failed != nil {
					err = failed // it comes again
				}
				done(err)
			}})
			return
		}
		flying.Add(-1)
		done(err)
	})
}

// gathering waits for several twins. Where one of them has not committed and may do so later, the message is not
// acknowledged, whatever the others say.
type gathering struct {
	left    atomic.Int32
	mu      sync.Mutex
	again   error // may work later
	refused error // final
	done    func(error)
}

func (g *gathering) one(err error) {
	if err != nil {
		var final *mqtt.Refusal
		g.mu.Lock()
		if errors.As(err, &final) {
			g.refused = err
		} else {
			g.again = err
		}
		g.mu.Unlock()
	}
	if g.left.Add(-1) > 0 {
		return
	}
	if g.again != nil {
		g.done(g.again)
		return
	}
	g.done(g.refused)
}

// refusalOf tells the broker which refusals are for good: sending again would not help. After the others it has the
// client send again.
func refusalOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mqtt.ErrRefused):
		return err
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrStopped), errors.Is(err, ErrFault):
		return fmt.Errorf("%w: %w", err, mqtt.ErrRefused)
	}
	return err
}

// refusedFrame is the answer to a frame that the twin's driver did not take, and would not take the next time.
func refusedFrame(id, why string) error {
	return &frameRefusal{id, CodeDriver, why}
}
