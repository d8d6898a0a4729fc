package actors

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Kinds of a twin's journal entries.
const (
	journalEvent   = "event"   // what the twin announced; the data is the event's
	journalValue   = "value"   // a property's value that is no number; the data is the value
	journalQuality = "quality" // a property's quality changed: {"quality": …}
	journalDesired = "desired" // a property was asked for: {"value", "by", "revision"}
	journalCommand = "command" // a command ended: {"outcome", "error", "tries"}
)

// journalQuota is the kind of a project's entries that tell of its quotas; those of alarms are automation.JournalAlarm.
const journalQuota = "quota"

// journalKinds are all kinds of entries.
var journalKinds = []string{journalEvent, journalValue, journalQuality, journalDesired, journalCommand, automation.JournalAlarm, journalQuota}

const (
	// maxJournal bounds the journal entries of one transaction, and maxJournalData one entry's data, in bytes.
	maxJournal     = 32 << 10
	maxJournalData = maxValue
)

// journalOverhead in bytes is what an entry takes beside its texts and data.
const journalOverhead = 32

func journalSize(e *storage.JournalEntry) int {
	return len(e.Project) + len(e.Twin) + len(e.Name) + len(e.Data) + journalOverhead
}

// journal keeps an entry for the next checkpoint, which commits it with what it tells of. Many bring it forward; what is still
// too much is dropped and counted.
func (t *twin) journal(kind, name string, at int64, data []byte) {
	s := t.saves()
	e := storage.JournalEntry{Project: ProjectOf(t.en.id), Twin: NameOf(t.en.id), Kind: kind, Name: name, Time: at, Data: data}
	size := journalSize(&e)
	switch {
	case !t.e.cluster.JournalRead():
		t.e.stats.drop(dropJournal)
		return
	case len(data) > maxJournalData, s.journalBytes+size > maxJournal:
		s.left(dropJournal, t)
		return
	}
	s.journalBytes += size
	s.journal = append(s.journal, e)
	t.soil()
	if s.journalBytes > maxJournal/2 {
		t.dirtyAt = 0
	}
}

func (t *twin) journalEvent(ev drivers.Emitted) {
	data := []byte("null")
	if json.Valid(ev.Data) {
		data = ev.Data
	}
	t.journal(journalEvent, ev.Name, t.e.stamp(), data)
}

func (t *twin) journalQuality(property string, q uint8, at int64) {
	word := strings.ToLower(strings.TrimPrefix(pb.Quality(q).String(), "QUALITY_"))
	t.journal(journalQuality, property, at, append(state.AppendString([]byte(`{"quality":`), word), '}'))
}

func (t *twin) journalDesired(d *state.Desired) {
	b := state.AppendString(append(make([]byte, 0, 96), `{"by":`...), d.By)
	b = strconv.AppendUint(append(b, `,"revision":`...), d.Revision, 10)
	b = d.Value.AppendJSON(append(b, `,"value":`...))
	t.journal(journalDesired, d.Name.Value(), d.Time, append(b, '}'))
}

func (t *twin) journalCommand(c *command, o pb.Outcome, e *drivers.DriverError) {
	b := append(make([]byte, 0, 96), '{')
	if e != nil {
		b = append(state.AppendString(append(b, `"error":`...), e.Message), ',')
	}
	b = append(append(append(b, `"outcome":"`...), strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))...), '"')
	if c.isSet {
		b = append(b, `,"sets":true`...)
	}
	b = strconv.AppendInt(append(b, `,"tries":`...), int64(c.tries), 10)
	t.journal(journalCommand, c.label, t.e.stamp(), append(b, '}'))
}
