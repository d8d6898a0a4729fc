package automation

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// JournalAlarm is the kind of the journal's entries that tell what happened to an alarm. They are of the project, not of the alarm's twin, so that they
// are read without a look at what twins said.
const JournalAlarm = "alarm"

// maxTold bounds an alarm's text in the journal, in bytes.
const maxTold = 300

// told is the data of such an entry. It has all of the alarm's spell as it was by then, so that each entry can be understood alone.
type told struct {
	What           string `json:"what"`
	Who            string `json:"who,omitempty"`
	Note           string `json:"note,omitempty"`
	Number         uint64 `json:"number"`
	Severity       string `json:"severity"`
	Text           string `json:"text,omitempty"`
	Twin           string `json:"twin,omitempty"`
	Zone           string `json:"zone,omitempty"`
	By             string `json:"by,omitempty"`
	Raised         int64  `json:"raised"` // milliseconds since 1970, as the next one
	Acknowledged   int64  `json:"acknowledged,omitempty"`
	AcknowledgedBy string `json:"acknowledged_by,omitempty"`
}

// told gives the journal's entry of the change that was made now, if it is one that the alarm remembers.
func (h *Host) told(m *pb.Alarm, now *timestamppb.Timestamp) []storage.JournalEntry {
	if len(m.Changes) == 0 || m.Changes[0].Time != now || h.o.JournalRead == nil || !h.o.JournalRead() {
		return nil
	}
	c := m.Changes[0]
	t := told{What: c.What, Who: c.By, Note: c.Note, Number: m.Raised, Severity: severityWord(m.Severity), Text: clip(m.Text, maxTold), Twin: m.Twin, Zone: m.Zone, By: m.By,
		Raised: m.RaiseTime.AsTime().UnixMilli()}
	if m.Acknowledged {
		t.Acknowledged, t.AcknowledgedBy = m.AcknowledgeTime.AsTime().UnixMilli(), m.AcknowledgedBy
	}
	data, err := json.Marshal(t)
	if err != nil {
		return nil // of texts and numbers: it cannot fail
	}
	project, name, _ := strings.Cut(m.Id, "/")
	return []storage.JournalEntry{{Project: project, Kind: JournalAlarm, Name: name, Time: now.AsTime().UnixMilli(), Data: data}}
}

// clip shortens a text to so many bytes, and breaks no character.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// spellKey names a spell: an alarm's, and its how manieth. An alarm that is deleted and raised anew counts from one again, so the time is part of it.
type spellKey struct {
	alarm  string
	number uint64
	raised int64
}

// Spells gathers when alarms were active. The zero value is empty. Not safe for concurrent use.
type Spells struct{ all map[spellKey]*pb.AlarmSpell }

func (s *Spells) at(alarm string, number uint64, raised int64) (m *pb.AlarmSpell, fresh bool) {
	key := spellKey{alarm, number, raised}
	if m = s.all[key]; m != nil {
		return m, false
	}
	if s.all == nil {
		s.all = map[spellKey]*pb.AlarmSpell{}
	}
	m = &pb.AlarmSpell{Alarm: alarm, Number: number, RaiseTime: timestamppb.New(time.UnixMilli(raised))}
	s.all[key] = m
	return m, true
}

// Tell adds an entry of the journal; what is no alarm's is left out. Where several tell of a spell, the first that is added has its text and severity, so
// the newest entries are to be added first.
func (s *Spells) Tell(e *storage.JournalEntry) {
	var t told
	if e.Kind != JournalAlarm || json.Unmarshal(e.Data, &t) != nil || t.Raised == 0 {
		return
	}
	m, fresh := s.at(e.Project+"/"+e.Name, t.Number, t.Raised)
	if fresh {
		m.Text, m.Twin, m.Zone, m.By = t.Text, t.Twin, t.Zone, t.By
		m.Severity = pb.AlarmSeverity(pb.AlarmSeverity_value["ALARM_SEVERITY_"+strings.ToUpper(t.Severity)])
	}
	if m.AcknowledgeTime == nil && t.Acknowledged > 0 {
		m.AcknowledgeTime, m.AcknowledgedBy = timestamppb.New(time.UnixMilli(t.Acknowledged)), t.AcknowledgedBy
	}
	if t.What == "cleared" {
		m.ClearTime = timestamppb.New(time.UnixMilli(e.Time))
	}
}

// Add adds what an alarm's record says of its last spell. Records are added before entries, as they know best.
func (s *Spells) Add(a *pb.Alarm) {
	if a.RaiseTime == nil {
		return
	}
	m, _ := s.at(a.Id, a.Raised, a.RaiseTime.AsTime().UnixMilli())
	m.Text, m.Twin, m.Zone, m.By, m.Severity = clip(a.Text, maxTold), a.Twin, a.Zone, a.By, a.Severity
	m.AcknowledgeTime, m.AcknowledgedBy, m.ClearTime = nil, "", nil
	if a.Acknowledged {
		m.AcknowledgeTime, m.AcknowledgedBy = timestamppb.New(a.AcknowledgeTime.AsTime().Truncate(time.Millisecond)), a.AcknowledgedBy
	}
	if !a.Active && a.ClearTime != nil {
		m.ClearTime = timestamppb.New(a.ClearTime.AsTime().Truncate(time.Millisecond))
	}
}

// Within gives the spells that have a part in a span and are wanted, those that were raised last first.
func (s *Spells) Within(start, end time.Time, wanted func(*pb.AlarmSpell) bool) []*pb.AlarmSpell {
	var out []*pb.AlarmSpell
	for _, m := range s.all {
		if m.RaiseTime.AsTime().Before(end) && (m.ClearTime == nil || !m.ClearTime.AsTime().Before(start)) && wanted(m) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, CompareSpells)
	return out
}

// CompareSpells is the order of lists of spells: the last first, by alarm where two were raised at the same time.
func CompareSpells(a, b *pb.AlarmSpell) int {
	return cmp.Or(b.RaiseTime.AsTime().Compare(a.RaiseTime.AsTime()), cmp.Compare(a.Alarm, b.Alarm), cmp.Compare(b.Number, a.Number))
}
