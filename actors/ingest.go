package actors

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/polluxhq/pollux/actors/model"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Bounds of a message.
const (
	// MaxPayload in bytes of one message. Larger things are files, not measurements.
	MaxPayload = 64 << 10
	// MaxMessageID in bytes of the id of a message.
	MaxMessageID = 256
	// maxJSONDepth of nested arrays and objects.
	maxJSONDepth = 32
	// maxAhead in milliseconds is how far a device's clock may be ahead of ours, where its project says nothing else.
	maxAhead = 10 * 60 * 1000
	// maxAge in milliseconds of a message that is to change the current state, likewise. Older ones are for history only.
	maxAge = 30 * 24 * 3600 * 1000
	// maxHistoryAge in milliseconds of any value, likewise: thirteen months, which is what history keeps.
	maxHistoryAge = 13 * 31 * 24 * 3600 * 1000
	// timely is how far in milliseconds a message's time may be from ours that is right in any project.
	timely = 1000
)

// Codes of refusals.
const (
	CodeMalformed      = "malformed"
	CodeTooLarge       = "too_large"
	CodeTooDeep        = "too_deep"
	CodeTimeFuture     = "time_future"
	CodeTimeAncient    = "time_ancient"
	CodeForeignProject = "foreign_project"
	CodeForbidden      = "forbidden"
	CodeUnknownTwin    = "unknown_twin"
	CodeUnknownSender  = "unknown_sender"
	CodeInboxFull      = "inbox_full"
	CodeStopped        = "stopped"
	CodeDriver         = "driver"
	CodeFault          = "fault"
	CodeModel          = "model"
)

// Ingest is a message of a device on its way in, through whatever door. It is not changed by anybody.
type Ingest struct {
	// Door that it came through: http, influx, mqtt, connect, pubsub, kafka. Messages are counted by it.
	Door    string
	Project string
	// Twin is its name in the project, or its id; or else Alias is the sender's.
	Twin  string
	Alias *pb.Alias
	// Topic that a driver is told; empty: PROJECT/TWIN or PROJECT/NETWORK/KEY/VALUE.
	Topic string
	// Payload belongs to the engine from now on.
	Payload []byte
	// Size in bytes, of a message of which Payload is the beginning, for its refusal; 0: Payload is all of it.
	Size int64
	// JSON says that the payload has to be JSON, and has yet to be looked at by CheckJSON.
	JSON bool
	// Time of the source in milliseconds since 1970; 0: now.
	Time int64
	// Historical messages go to history only.
	Historical bool
	// ID by which a message that is sent again is known, among the last 256 of the twin; empty: none.
	ID string
	// Commit: done is called when the message is committed; else when the twin has it in hand, and a crash of its node
	// within the checkpoint interval may take it.
	Commit bool
	// Device that the sender's key belongs to: only that twin may be reached. Empty: any.
	Device string
	// Retain and Will are as MQTT means them.
	Retain, Will bool
}

// IngestResult is what became of a message.
type IngestResult struct {
	Outcome pb.IngestOutcome
	// Code and Reason of a refusal.
	Code, Reason string
	// Err, where it may be tried again.
	Err error
}

// intake is the way in for messages: what is in flight, and what is known of senders.
type intake struct {
	aliases *aliases
	ledger  *ledger
	makers  *makers

	mu     sync.Mutex
	flying map[doorKey]*atomic.Int64
}

// doorKey is a project's door.
type doorKey struct{ project, door string }

func newIntake(e *Engine) *intake {
	in := &intake{aliases: newAliases(e.store, e.o.TopicCache), ledger: newLedger(e), flying: map[doorKey]*atomic.Int64{}}
	in.makers = newMakers(e)
	return in
}

// begins counts a message in flight; the counter is taken down when it has its result.
func (in *intake) begins(project, door string) *atomic.Int64 {
	n := in.door(project, door)
	n.Add(1)
	return n
}

// door counts the messages of a project's door that are in flight. The counter stays.
func (in *intake) door(project, door string) *atomic.Int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := in.flying[doorKey{project, door}]
	if n == nil {
		n = &atomic.Int64{}
		in.flying[doorKey{project, door}] = n
	}
	return n
}

// check says why a message is refused by what it says itself.
func (e *Engine) check(m *Ingest) (code, reason string) {
	if now := e.stamp(); m.Time != 0 && (m.Time > now+timely || m.Time < now-timely) {
		if code, reason = m.checkTime(now, e.messageTimes(m.Project)); code != "" {
			return code, reason
		}
	}
	return m.check()
}

// checkTime holds a message's time against how old it may be, and how far ahead.
func (m *Ingest) checkTime(now int64, x model.Times) (code, reason string) {
	switch {
	case m.Time > now+x.Ahead:
		return CodeTimeFuture, fmt.Sprintf("its time is %s, %s ahead of ours", when(m.Time), about(m.Time-now))
	case m.Time < now-x.History:
		return CodeTimeAncient, fmt.Sprintf("its time is %s; what is older than %s is not taken", when(m.Time), days(x.History))
	case !m.Historical && m.Time < now-x.Age:
		return CodeTimeAncient, fmt.Sprintf("its time is %s; what is older than %s has to be sent as historical", when(m.Time), days(x.Age))
	}
	return "", ""
}

// days is a span as people say it.
func days(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// about is a span in whole seconds, or days where it is long.
func about(ms int64) string {
	if days := ms / (24 * time.Hour.Milliseconds()); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String()
}

func (m *Ingest) check() (code, reason string) {
	switch {
	case len(m.Payload) > MaxPayload:
		return CodeTooLarge, fmt.Sprintf("%d bytes, %d are allowed", len(m.Payload), MaxPayload)
	case len(m.ID) > MaxMessageID:
		return CodeMalformed, fmt.Sprintf("its id has %d bytes, %d are allowed", len(m.ID), MaxMessageID)
	case !utf8.ValidString(m.ID) || !utf8.ValidString(m.Topic):
		return CodeMalformed, "its id or topic is no text in UTF-8"
	case m.Twin == "":
		switch a := m.Alias; {
		case a.GetNetwork() == "" || a.GetKey() == "" || a.GetValue() == "":
			return CodeMalformed, fmt.Sprintf("an alias has network, key and value: that of its sender is %.100q", a.GetNetwork()+"/"+a.GetKey()+"/"+a.GetValue())
		case len(a.Network)+len(a.Key)+len(a.Value) > 512:
			return CodeMalformed, "network, key and value of an alias have at most 512 bytes together"
		case !utf8.ValidString(a.Network) || !utf8.ValidString(a.Key) || !utf8.ValidString(a.Value):
			return CodeMalformed, fmt.Sprintf("an alias is text in UTF-8, and its value is %.100q", a.Value)
		}
	case !isName(m.Project, 64, false) || !isName(m.name(), 128, true):
		if project, name, ok := strings.Cut(m.Twin, "/"); ok && isName(project, 64, false) && isName(name, 128, true) {
			return CodeForeignProject, fmt.Sprintf("%s is a twin of project %s, and the message came for project %s", name, project, m.Project)
		}
		return CodeUnknownTwin, fmt.Sprintf("%.140q is no name of a twin", m.Twin)
	}
	if m.JSON {
		return CheckJSON(m.Payload)
	}
	return "", ""
}

// isName says whether s is a part of an id, without the price of an expression: it is asked for each message and call.
func isName(s string, most int, dots bool) bool {
	if len(s) == 0 || len(s) > most {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-' || dots && c == '.'):
		default:
			return false
		}
	}
	return true
}

func when(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// intaking is a message on its way in. It is all that the way needs, in one piece.
type intaking struct {
	late
	first  actorv1.Frame
	e      *Engine
	m      *Ingest
	flying *atomic.Int64 // nil: it is not counted
	// sender hears its result; number is the message's among the sender's.
	sender sender
	number int
}

// sender hears once what became of a message.
type sender interface {
	hear(x *intaking, r IngestResult)
}

// one is the sender of a message, each that of several.
type (
	one  func(IngestResult)
	each func(int, IngestResult)
)

func (f one) hear(_ *intaking, r IngestResult)  { f(r) }
func (f each) hear(x *intaking, r IngestResult) { f(x.number, r) }

// end tells the sender.
func (x *intaking) end(r IngestResult) {
	if x.flying != nil {
		x.flying.Add(-1)
	}
	x.sender.hear(x, r)
}

// Ingest takes a message in. It never blocks; done is called exactly once, from any goroutine, or before Ingest returns.
// The order of the messages of one twin is kept.
func (e *Engine) Ingest(m *Ingest, done func(IngestResult)) {
	e.ingest(&intaking{m: m, sender: one(done)})
}

// intakings are put together so many at a time.
const intakings = 64

// IngestAll is Ingest of several messages; those that are nil are left out. done is called once for each, with its number.
func (e *Engine) IngestAll(all []*Ingest, done func(int, IngestResult)) {
	var space []intaking
	for i, m := range all {
		if m == nil {
			continue
		}
		if len(space) == 0 {
			space = make([]intaking, min(intakings, len(all)-i))
		}
		x := &space[0]
		space = space[1:]
		x.m, x.sender, x.number = m, each(done), i
		e.ingest(x)
	}
}

func (e *Engine) ingest(x *intaking) {
	m := x.m
	x.flying = e.intake.begins(m.Project, m.Door)
	if code, reason := e.check(m); code != "" {
		e.refuse(m, m.twinID(), code, reason, x.end)
		return
	}
	if m.Twin != "" {
		e.ingestTo(x, m.twinID())
		return
	}
	e.ingestBy(x)
}

// Refuse counts and lists a message that its door could not read, under the project that it was for. done is called when
// that is committed.
func (e *Engine) Refuse(m *Ingest, code, reason string, done func(IngestResult)) {
	flying := e.intake.begins(m.Project, m.Door)
	e.refuse(m, m.twinID(), code, reason, func(r IngestResult) {
		flying.Add(-1)
		done(r)
	})
}

// twinID is the id of the twin that the message names, or "".
func (m *Ingest) twinID() string {
	if m.Twin == "" {
		return ""
	}
	return m.Project + "/" + m.name()
}

// name of the twin that the message names, which may be preceded by its own project.
func (m *Ingest) name() string {
	if name, ok := strings.CutPrefix(m.Twin, m.Project); ok && strings.HasPrefix(name, "/") {
		return name[1:]
	}
	return m.Twin
}

// ingestFrom finds the twin of an alias, for a message that is counted already.
func (e *Engine) ingestFrom(m *Ingest, done func(IngestResult)) {
	e.ingestBy(&intaking{m: m, sender: one(done)})
}

// ingestBy finds the twin of an alias.
func (e *Engine) ingestBy(x *intaking) {
	m := x.m
	key := aliasKey(m.Project, m.Alias.Network, m.Alias.Key, m.Alias.Value)
	id, err := e.intake.aliases.twin(key)
	switch {
	case err != nil:
		x.end(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: err})
	case id != "":
		e.ingestOf(x, key, id)
	case m.Device != "":
		code, reason := e.checkSender(m)
		e.refuse(m, m.Device, code, reason, x.end)
	default:
		e.unknown(m, key, x.end)
	}
}

// ingestOf brings a message to the twin of its alias.
func (e *Engine) ingestOf(x *intaking, key, id string) {
	if !e.intake.makers.behind(x, key) {
		e.ingestTo(x, id)
	}
}

// ingestTo brings a message to its twin.
func (e *Engine) ingestTo(x *intaking, id string) {
	m := x.m
	if m.Device != "" && m.Device != id {
		code, reason := foreignTwin(m, id)
		e.refuse(m, m.Device, code, reason, x.end)
		return
	}
	f := &x.first
	f.Topic, f.Payload, f.Door, f.Time, f.Historical, f.Id = m.topic(id), m.Payload, m.Door, m.Time, m.Historical, m.ID
	f.Alias, f.Retain, f.Will = m.Alias, m.Retain, m.Will
	if m.Commit {
		f.Qos = 1
	}
	x.e, x.id, x.frame, x.done = e, id, f, x
	e.backlog.bring(&x.late)
}

// taken tells what a twin said to a message.
func (x *intaking) taken(r *actorv1.Taken, err error) {
	switch {
	case err != nil && errors.Is(err, mqtt.ErrRefused):
		code, reason := refusalCode(err)
		if code == CodeUnknownTwin {
			reason = "there is no twin " + x.id
		}
		x.e.refuse(x.m, x.id, code, reason, x.end)
	case err != nil:
		x.end(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: err})
	case r.GetDuplicate():
		x.end(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE})
	case r.GetCode() != "":
		x.end(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_REFUSED, Code: r.Code, Reason: r.Reason})
	default:
		x.end(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_STORED})
	}
}

// refuse lists a message that no twin took.
func (e *Engine) refuse(m *Ingest, twin, code, reason string, done func(IngestResult)) {
	x := newRefusal(e.stamp(), m.Project, m.Door, code, reason, m.Payload)
	x.Twin, x.MessageId = clip(twin, MaxHead), clip(m.ID, MaxHead)
	if a := m.Alias; a != nil {
		x.Alias = &pb.Alias{Network: clip(a.Network, MaxHead), Key: clip(a.Key, MaxHead), Value: clip(a.Value, MaxHead)}
	}
	if m.Size > 0 {
		x.Size = uint32(min(m.Size, math.MaxUint32))
	}
	e.intake.ledger.post(&posting{project: m.Project, door: m.Door, refusal: x, done: func(err error) {
		if err != nil {
			done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: err})
			return
		}
		done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_REFUSED, Code: code, Reason: reason})
	}})
}

// topic is what a driver is told; twin is the id of the message's.
func (m *Ingest) topic(twin string) string {
	switch {
	case m.Topic != "":
		return m.Topic
	case m.Twin != "":
		return twin
	}
	return m.Project + "/" + m.Alias.Network + "/" + m.Alias.Key + "/" + m.Alias.Value
}

// hashID is what a twin remembers of a message's id.
func hashID(id string) uint64 { return xxhash.Sum64String(id) }

// CheckJSON says why a text is no JSON that is taken: code and reason, or "".
func CheckJSON(b []byte) (code, reason string) {
	depth, text := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return CodeTooDeep, fmt.Sprintf("nested deeper than %d at byte %d", maxJSONDepth, i)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if wire.Valid(b) {
		return "", ""
	}
	if err := model.ValidJSON(b); err != nil {
		return CodeMalformed, err.Error()
	}
	return "", ""
}

// refusalCode is what the list says of an error that is final.
func refusalCode(err error) (code, reason string) {
	var f *frameRefusal
	switch {
	case errors.As(err, &f):
		return f.code, f.why
	case errors.Is(err, ErrNotFound):
		return CodeUnknownTwin, "there is no such twin"
	case errors.Is(err, ErrStopped):
		return CodeStopped, stoppedTwin
	case errors.Is(err, ErrFault):
		return CodeFault, "the twin's driver failed and is not tried again yet"
	}
	return CodeDriver, strings.TrimSuffix(err.Error(), ": "+mqtt.ErrRefused.Error())
}
