package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// A twin whose driver goes on failing, with nothing in between that went well, or very often, is put into quarantine: its
// driver is tried once an hour. Quarantine is in the twin's record, so that it holds after a restart and at the next owner,
// and in a table of its own, where it is counted. Another version of the driver, other settings, a call that went well, and
// an operator who says so end it.

// traps is how often a driver may fail with other calls in between that go well: six times a minute in the long run.
var traps = Rate{PerSecond: 1, Burst: 60 * trapCost}

// trapCost is what one failure takes from the bucket of traps, which fills by one a second.
const trapCost = 10

// quarantineKey is the twin's record in the table.
func quarantineKey(driver, id string) string {
	name, version, _ := strings.Cut(driver, "@")
	return name + "\x00" + version + "\x00" + id
}

// incorrigible says whether a driver that crashed once more is to be left alone for long. A driver that cannot be loaded,
// and a device that does not answer, are not the driver's failures.
func (t *twin) incorrigible() bool {
	now := t.e.now().UnixNano()
	if t.trapped == nil {
		t.trapped = &meter{}
	}
	t.trapped.spend(0, trapCost, now, traps)
	return int(t.failures)+1 >= t.e.o.QuarantineAfter || t.trapped.left(0, now, traps) <= 0
}

func (t *twin) quarantined() bool { return t.st.More != nil && t.st.More.Quarantine.Since > 0 }

// confine puts the twin into quarantine, or keeps it there for another hour.
func (t *twin) confine(s *spec, why string) {
	q := &t.more().Quarantine
	if now := t.stamp(); q.Since == 0 {
		q.Since = now
		t.e.log.Warn("twin in quarantine", "twin", t.en.id, "driver", s.name+"@"+s.version, "failures", t.failures+1, "reason", why)
		t.note("error", "in quarantine: the driver is tried once an hour")
	}
	why = clip(why, 300)
	driver := s.name + "@" + s.version
	if q.Driver != driver && q.Driver != "" {
		t.mark(tableQuarantine, quarantineKey(q.Driver, t.en.id), false)
	}
	q.Reason, q.Failures, q.Driver, q.Digest = why, uint32(t.failures)+1, driver, s.digest
	q.Retry = t.stamp() + t.e.o.QuarantineRetry.Milliseconds()
	t.mark(tableQuarantine, quarantineKey(driver, t.en.id), true)
	t.changed()
}

// confined takes up the quarantine of an earlier life, unless that was another version's.
func (t *twin) confined() {
	if !t.quarantined() {
		return
	}
	q := &t.st.More.Quarantine
	if q.Digest != t.spec.digest {
		t.forgive()
		return
	}
	t.failures = uint8(min(q.Failures, 255))
	t.backoff = t.nowMS() + max(q.Retry-t.stamp(), 1)
	t.fault(q.Reason, drivers.EventLoad)
}

// forgive forgets the driver's failures.
func (t *twin) forgive() {
	t.failures, t.backoff, t.trapped = 0, 0, nil
	if !t.quarantined() {
		return
	}
	m := t.st.More
	t.mark(tableQuarantine, quarantineKey(m.Quarantine.Driver, t.en.id), false)
	m.Quarantine = state.Quarantine{}
	t.note("info", "the quarantine has ended")
	t.changed()
	t.emitStatus()
}

// pardon ends the quarantine because somebody says so.
func (t *twin) pardon(m *call) {
	if !t.quarantined() {
		m.answer(cluster.Reply{Message: &actorv1.Cleared{}})
		return
	}
	t.forgive()
	t.fault("", 0)
	if t.spec != nil && !t.ready && t.run == nil {
		t.obtain()
	}
	t.whenSaved(func(err error) {
		if err != nil {
			m.refuse(err)
			return
		}
		m.answer(cluster.Reply{Message: &actorv1.Cleared{Commands: 1}})
	})
}

// troubled shows how the driver fails.
func (t *twin) troubled(s *pb.TwinStatus) *pb.TwinStatus {
	if t.failures > 0 {
		s.Failures = uint32(t.failures)
	}
	if left := t.backoff - t.nowMS(); left > 0 {
		s.RetryTime = state.Timestamp(t.stamp() + left)
	}
	if m := t.st.More; m != nil {
		s.QuarantineTime = state.Timestamp(m.Quarantine.Since)
	}
	return s
}

// Release takes the twins that match out of quarantine, in the projects that the caller may use (nil: all), and gives their
// ids. Twins that cannot be reached stay in it, which the error says.
func (c *Client) Release(ctx context.Context, f *pb.TwinFilter, projects func(string) bool, principal string) ([]string, error) {
	probe, err := newSubscription(c.e, &pb.WatchTwinsRequest{Filter: f}, projects)
	if err != nil {
		return nil, err
	}
	ids, err := c.confined(f.GetIds())
	if err != nil {
		return nil, err
	}
	var released []string
	for _, id := range ids {
		t, err := c.e.readTwin(id)
		if err != nil || t == nil || !probe.matches(t, c.e) || !probe.holds(t) {
			continue
		}
		m, err := c.call(ctx, id, &actorv1.Release{}, principal)
		if err != nil {
			return released, fmt.Errorf("release twin %s: %w", id, err)
		}
		if r, ok := m.(*actorv1.Cleared); ok && r.Commands > 0 {
			released = append(released, id)
		}
	}
	return released, nil
}

// confined gives the twins that the index has, and those that are named: theirs may not be in it yet.
func (c *Client) confined(named []string) ([]string, error) {
	var ids []string
	for _, name := range named {
		id, err := CanonicalID(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	own := ids
	for rec, err := range c.e.store.Scan(tableQuarantine, "", "") {
		if err != nil {
			return nil, fmt.Errorf("read quarantine: %w", err)
		}
		if id := rec.Key[strings.LastIndexByte(rec.Key, 0)+1:]; !slices.Contains(own, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// ClearCommands rejects the commands that wait in a twin's queue, and says how many there were.
func (c *Client) ClearCommands(ctx context.Context, id, principal string) (int, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return 0, err
	}
	m, err := c.call(ctx, id, &actorv1.ClearQueue{}, principal)
	if err != nil {
		return 0, err
	}
	r, ok := m.(*actorv1.Cleared)
	if !ok {
		return 0, fmt.Errorf("clear commands of %s: unexpected reply %T", id, m)
	}
	return int(r.Commands), nil
}

// Quarantined counts the twins in quarantine: of a driver's version, of all its versions where version is empty, or all
// where both are.
func (r *Registry) Quarantined(driver, version string) (int, error) {
	prefix := ""
	if driver != "" {
		prefix = driver + "\x00"
	}
	if version != "" {
		prefix += version + "\x00"
	}
	n := 0
	for _, err := range r.store.Scan(tableQuarantine, prefix, "") {
		if err != nil {
			return 0, fmt.Errorf("read quarantine: %w", err)
		}
		n++
	}
	return n, nil
}

// mark is a record of an index that goes with the twin's own.
type mark struct {
	table storage.Table
	key   string
}

// mark has the next transaction write (there) or remove a record of an index.
func (t *twin) mark(table storage.Table, key string, there bool) {
	if t.marks == nil {
		t.marks = map[mark]bool{}
	}
	t.marks[mark{table, key}] = there
}

// markWrites are the index records that changed since the last commit.
func (t *twin) markWrites(w []storage.Write) []storage.Write {
	for m, there := range t.marks {
		x := storage.Write{Table: m.table, Key: m.key}
		if there {
			x.Value = []byte{1}
		}
		w = append(w, x)
	}
	return w
}

// remark puts back what a transaction that failed had to write, but for what was changed again since.
func (t *twin) remark(sent map[mark]bool) {
	for m, there := range sent {
		if _, newer := t.marks[m]; !newer {
			t.mark(m.table, m.key, there)
		}
	}
}

// unmarkWrites remove the index records of a twin that is deleted.
func (t *twin) unmarkWrites(w []storage.Write) []storage.Write {
	m := t.st.More
	if m == nil {
		return w
	}
	for _, s := range m.Subscriptions {
		x := follow{subscriber: t.en.id, system: s.System, name: s.Name, property: s.Property}
		w = append(w, storage.Write{Table: tableFollows, Key: x.key()})
	}
	if q := &m.Quarantine; q.Since > 0 {
		w = append(w, storage.Write{Table: tableQuarantine, Key: quarantineKey(q.Driver, t.en.id)})
	}
	return w
}
