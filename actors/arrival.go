package actors

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// errKnownNow: the sender has become a twin while its message was on the way to the inbox.
var errKnownNow = errors.New("the sender is known by now")

// maxInboxIDs are the ids of messages that an entry of the inbox remembers: as many as a twin, for a request that is sent again has as many of one sender.
const maxInboxIDs = 256

// arrival is a message of a sender that no twin has the alias of.
type arrival struct {
	key   string
	alias *pb.Alias
	head  []byte
	size  int
	id    uint64 // hash of the message's; 0: none
	at    int64
}

func msTime(ms int64) time.Time { return time.UnixMilli(ms) }

// unknown does with a message of an unknown sender what its project has chosen.
func (e *Engine) unknown(m *Ingest, key string, done func(IngestResult)) {
	settings, err := e.registry.projectSettings(m.Project)
	if err != nil {
		done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: err})
		return
	}
	switch settings.UnknownSenders {
	case pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE:
		e.refuse(m, "", CodeUnknownSender, unknownSender, done)
		return
	case pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION:
		if rule := matchingRule(settings.Rules, m.Alias); rule != nil {
			e.intake.makers.provide(m, key, rule, done)
			return
		}
	}
	e.toInbox(m, key, done)
}

// toInbox puts a message into its project's inbox.
func (e *Engine) toInbox(m *Ingest, key string, done func(IngestResult)) {
	a := &arrival{key: key, alias: m.Alias, head: head(m.Payload), size: len(m.Payload), at: e.stamp()}
	if m.ID != "" {
		a.id = hashID(m.ID)
	}
	p := &posting{project: m.Project, door: m.Door, arrival: a}
	p.done = func(err error) {
		switch {
		case errors.Is(err, errKnownNow):
			e.intake.aliases.changed(key)
			late := *m
			if late.Time == 0 {
				late.Time = a.at // messages that came after it may have reached the twin already
			}
			e.ingestFrom(&late, done)
		case err != nil:
			done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: err})
		case p.refusal != nil:
			done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_REFUSED, Code: p.refusal.Code, Reason: p.refusal.Reason})
		case p.duplicate:
			done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE})
		default:
			done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_INBOX})
		}
	}
	e.intake.ledger.post(p)
}

// arrive puts an arrival into a transaction: its entry is read once, and counts all of the batch's messages of that sender.
func (l *ledger) arrive(s *sheet, p *posting, guards *[]storage.Guard) (pb.IngestOutcome, error) {
	a := p.arrival
	x := s.entries[a.key]
	if x == nil {
		if _, known, err := l.e.store.Get(tableAliases, a.key); err != nil || known {
			if known {
				s.left = append(s.left, p)
			}
			return 0, err
		}
		rec, listed, err := l.e.store.Get(tableInbox, a.key)
		if err != nil {
			return 0, err
		}
		x = &pb.InboxEntry{Id: a.key, Alias: a.alias, Time: timestamppb.New(msTime(a.at))}
		switch {
		case listed:
			if err := proto.Unmarshal(rec.Value, x); err != nil {
				return 0, err
			}
		case !l.e.registry.inboxRoom(p.project):
			l.e.stats.drop(dropInboxFull)
			p.refusal = newRefusal(a.at, p.project, p.door, CodeInboxFull, "no twin has this alias, and the inbox is full", a.head)
			p.refusal.Alias, p.refusal.Size = a.alias, uint32(a.size)
			return l.enter(s, p, guards)
		}
		s.entries[a.key] = x
		s.size += proto.Size(x) + 3*len(a.key) + 128
		*guards = append(*guards, storage.Guard{Table: tableInbox, Key: a.key, Revision: rec.Revision},
			storage.Guard{Table: tableAliases, Key: a.key})
	}
	p.duplicate = a.id != 0 && slices.Contains(x.MessageIds, a.id)
	if p.duplicate {
		return pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE, nil
	}
	if x.LastTime == nil || a.at-x.LastTime.AsTime().UnixMilli() >= 1000 {
		s.loud[a.key] = true
	}
	s.size += len(a.head) + 16
	x.Count++
	x.LastTime, x.Door = timestamppb.New(msTime(a.at)), p.door
	if !x.Ignored {
		x.Samples = append(x.Samples, a.head)
		x.Samples = x.Samples[max(0, len(x.Samples)-maxInboxSamples):]
	}
	if a.id != 0 {
		x.MessageIds = append(x.MessageIds, a.id)
		x.MessageIds = x.MessageIds[max(0, len(x.MessageIds)-maxInboxIDs):]
	}
	return pb.IngestOutcome_INGEST_OUTCOME_INBOX, nil
}
