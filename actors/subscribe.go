package actors

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxSubscriptions is how many a twin may have.
const maxSubscriptions = 128

// checkSubscriptions says why a driver's subscriptions cannot be made, or gives them with their systems' full ids.
func (t *twin) checkSubscriptions(list []drivers.Subscription) ([]drivers.Subscription, error) {
	if len(list) == 0 {
		return nil, nil
	}
	list = slices.Clone(list)
	project := ProjectOf(t.en.id)
	count := 0
	if t.st.More != nil {
		count = len(t.st.More.Subscriptions)
	}
	for i := range list {
		s := &list[i]
		if strings.ContainsRune(s.Twin+s.System+s.Property, 0) {
			return nil, fmt.Errorf("subscribe to %q: a zero byte", s.Property)
		}
		named, what := &s.Twin, "twin"
		var err error
		if s.System, err = systemNamed(s.System, t.cfg.system); err != nil {
			return nil, fmt.Errorf("subscribe to %s of %s: %w", s.Property, s.Twin, err)
		}
		if s.System != "" {
			s.System = within(project, s.System)
			named, what = &s.System, "system"
		}
		id, err := CanonicalID(within(project, *named))
		switch {
		case err != nil:
			return nil, fmt.Errorf("subscribe: %q is no %s", *named, what)
		case ProjectOf(id) != project:
			return nil, fmt.Errorf("subscribe: %s is in another project", id)
		}
		if !s.Cancel && t.subscription(s.System, s.Twin, s.Property) == nil {
			count++
		}
	}
	if count > maxSubscriptions {
		return nil, fmt.Errorf("more than %d subscriptions", maxSubscriptions)
	}
	return list, nil
}

// subscription finds one of the twin's subscriptions, or nil.
func (t *twin) subscription(system, name, property string) *state.Subscription {
	if t.st.More == nil {
		return nil
	}
	for i := range t.st.More.Subscriptions {
		if s := &t.st.More.Subscriptions[i]; s.Name == name && s.System == system && s.Property == property {
			return s
		}
	}
	return nil
}

// subscribe makes and ends subscriptions. They are in force once they are committed: every node learns of them by their
// records, and the twin that they are to tells the first value.
func (t *twin) subscribe(list []drivers.Subscription) {
	changed := false
	for _, s := range list {
		old := t.subscription(s.System, s.Twin, s.Property)
		if (old == nil) == s.Cancel {
			continue
		}
		changed = true
		if s.Cancel {
			m := t.more()
			m.Subscriptions = slices.DeleteFunc(m.Subscriptions, func(x state.Subscription) bool {
				return x.Name == s.Twin && x.System == s.System && x.Property == s.Property
			})
		} else {
			m := t.more()
			m.Subscriptions = append(m.Subscriptions, state.Subscription{System: s.System, Name: s.Twin, Property: s.Property})
		}
		x := follow{subscriber: t.en.id, system: s.System, name: s.Twin, property: s.Property}
		t.mark(tableFollows, x.key(), !s.Cancel)
	}
	if changed {
		t.changed()
		t.whenSaved(func(error) {})
	}
}

// unbind ends the subscriptions within a system that the twin was bound to: its driver asks for those of the new one.
func (t *twin) unbind(system string) {
	if t.st.More == nil || system == "" {
		return
	}
	var all []drivers.Subscription
	for _, s := range t.st.More.Subscriptions {
		if s.System == system {
			all = append(all, drivers.Subscription{Twin: s.Name, System: s.System, Property: s.Property, Cancel: true})
		}
	}
	t.subscribe(all)
}

// notices takes what a twin that this one follows has to tell. The answer comes when the driver has heard all of it. One that is no twin is
// not heard: it was deleted, which may be known already, or it is new and not known here yet, and says it again.
func (t *twin) notices(m *actorv1.Notices, c *call) {
	if !t.e.known(m.Twin) {
		c.refuse(fmt.Errorf("twin %s: no twin %s is known here: %w", t.en.id, m.Twin, cluster.ErrOverloaded))
		return
	}
	if t.sourcesTold(m) {
		c.answer(takenReply)
		return
	}
	if err := t.receivable(); err != nil {
		t.e.stats.drop(dropFault)
		c.refuse(fmt.Errorf("twin %s: %w", t.en.id, err))
		return
	}
	type pending struct {
		left int
		err  error
	}
	p := &pending{left: 1}
	settle := func(err error) {
		if err != nil && !errors.Is(err, mqtt.ErrRefused) {
			p.err = err
		}
		if p.left--; p.left > 0 {
			return
		}
		if p.err != nil {
			c.refuse(p.err)
			return
		}
		c.answer(takenReply)
	}
	for _, n := range m.Notices {
		if n.System == derivedSystem {
			continue
		}
		s := t.subscription(n.System, n.Name, n.Property)
		if s == nil || s.Stream == m.Stream && s.Sequence >= n.Sequence {
			continue
		}
		if err := t.misdirected(n, m.Twin); err != nil {
			settle(err)
			return
		}
		if t.hearing(s, m.Stream, n.Sequence) {
			settle(fmt.Errorf("twin %s: what it was told before waits: %w", t.en.id, cluster.ErrOverloaded))
			return
		}
		told := uint64(0)
		if n.Time != 0 { // else it has not said anything
			told = sumOf(m.Twin, n)
		}
		if s.Told == told && !t.hears(s, func(*heard) bool { return true }) { // else it will have been told something else
			s.Stream, s.Sequence = m.Stream, n.Sequence // by an earlier life of that twin
			t.touched = true
			continue
		}
		p.left++
		t.hear(n, m.Twin, told, m.Stream, settle)
	}
	settle(nil)
}

// misdirected says why a notice is not from the twin that the subscription is to now, or nil.
func (t *twin) misdirected(n *actorv1.Notice, from string) error {
	if n.System == "" {
		return nil
	}
	if id, err := memberOf(t.e.store, n.System, n.Name); err != nil || id != from {
		return fmt.Errorf("twin %s: %s in %s is another twin: %w", t.en.id, n.Name, n.System, cluster.ErrOverloaded)
	}
	return nil
}

// hearing says whether the driver is about to hear that notice already.
func (t *twin) hearing(s *state.Subscription, stream, sequence uint64) bool {
	return t.hears(s, func(h *heard) bool { return h.stream == stream && h.sequence >= sequence })
}

// hears says whether the driver is about to hear such a notice of a subscription.
func (t *twin) hears(s *state.Subscription, such func(*heard) bool) bool {
	is := func(v *event) bool {
		h := v.notice
		return h != nil && h.name == s.Name && h.system == s.System && h.property == s.Property && such(h)
	}
	w := t.work
	return w != nil && (w.call != nil && is(&w.call.event) || slices.ContainsFunc(w.events, func(v event) bool { return is(&v) }))
}

// heard is which notice an event brings.
type heard struct {
	system, name, property string
	stream, sequence, told uint64
}

// hear queues the event of a notice.
func (t *twin) hear(n *actorv1.Notice, from string, told, stream uint64, done func(error)) {
	in, _ := json.Marshal(drivers.SubscriptionInput{Twin: from, Name: n.Name, System: n.System, Property: n.Property,
		Value: json.RawMessage(n.Value), Quality: drivers.Quality(n.Quality).String(), Time: cmp.Or(n.Time, t.stamp()), Missed: int(n.Missed)})
	h := &heard{n.System, n.Name, n.Property, stream, n.Sequence, told}
	t.working().push(event{kind: drivers.EventSubscription, input: in, notice: h, done: func(err error) {
		if s := t.subscription(h.system, h.name, h.property); s != nil && (err == nil || errors.Is(err, mqtt.ErrRefused)) {
			s.Stream, s.Sequence, s.Told = h.stream, h.sequence, h.told
			t.touched = true
		}
		done(err)
	}})
}

// orphans tells the driver of what it follows and is gone, as far as nobody told it while the twin was away.
func (t *twin) orphans() {
	if t.st.More == nil {
		return
	}
	for _, s := range t.st.More.Subscriptions {
		if s.Told == 0 {
			continue
		}
		(&orphaned{follow{subscriber: t.en.id, system: s.System, name: s.Name, property: s.Property}}).run(t)
	}
}

// follows says whether what is followed means a twin that is there, now.
func (t *twin) follows(x follow) bool {
	id := x.direct()
	if x.system != "" {
		id = t.e.followers.member(x.system, x.name)
	}
	return id != "" && t.e.known(id)
}

// orphaned: what the twin follows is gone, or its name in the system means nobody now.
type orphaned struct{ follow follow }

func (m *orphaned) run(t *twin) {
	if m.follow.system == derivedSystem {
		t.sourceGone(m.follow.name, m.follow.property)
		t.sourceAnew(m.follow.name)
		return
	}
	if t.mode != modeLive || t.receivable() != nil {
		return
	}
	s := t.subscription(m.follow.system, m.follow.name, m.follow.property)
	if s == nil || s.Told == 0 || t.hearing(s, 0, 0) || t.follows(m.follow) {
		return
	}
	n := &actorv1.Notice{System: s.System, Name: s.Name, Property: s.Property, Value: "null", Quality: pb.Quality_QUALITY_BAD}
	t.hear(n, "", 0, 0, func(error) {})
}

// sumOf is what a notice says, in short.
func sumOf(from string, n *actorv1.Notice) uint64 {
	h := fnv.New64a()
	h.Write([]byte(from + "\x00" + n.Value + "\x00"))
	h.Write(binary.LittleEndian.AppendUint64([]byte{byte(n.Quality)}, uint64(n.Time)))
	return max(h.Sum64(), 1)
}

func streamOf(id [16]byte) uint64 { return max(binary.LittleEndian.Uint64(id[:8]), 1) }

// principalOf is the name under which a twin's driver asks others.
func principalOf(id string) string { return "twin:" + id }
