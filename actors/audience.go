package actors

import (
	"errors"
	"slices"
	"time"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxNotices is how many changes wait for one subscriber; then a property's newest takes the place of an older one.
	maxNotices = 64
	// noticeBatch is how many are sent at a time.
	noticeBatch = 32
	// noticeTimeout bounds one try to tell a subscriber, noticeMin and noticeMax the waits between tries, in milliseconds.
	noticeTimeout = 10 * time.Second
	noticeMin     = 100
	noticeMax     = 30_000
	// maxOwed bounds what waits for all subscribers of a twin together, where each waits for more than a few.
	maxOwed = 16_384
)

// noticeRate is how often one subscriber is told something; what comes meanwhile is told together. Twins that follow each
// other, and answer each change with one, go no faster.
var noticeRate = Rate{PerSecond: 50, Burst: 500}

// audience is what a twin has to tell its durable subscribers. Of each it sends one message at a time, and the next after
// the answer: so the order is the twin's, wherever the subscriber lives and moves to. What has no answer is sent again for as
// long as the subscription is there.
type audience struct {
	// stream is this life of the twin, sequence the number of its newest notice.
	stream, sequence uint64
	readers          map[string]*reader // by the subscribers' ids
	// owed are those that have yet to be told something, or to answer.
	owed map[*reader]bool
}

// reader is a subscriber, with what it was not told yet.
type reader struct {
	id      string
	follows []aim
	queue   []*actorv1.Notice
	// flying are the first of the queue, which are on their way.
	flying  int
	retryAt int64 // by nowMS
	tries   uint8
	rate    meter // of what is sent
}

type (
	// refollow: the followers of a twin changed: one of them, or any.
	refollow struct{ one *follow }
	// told: a subscriber has answered.
	told struct {
		stream uint64
		reader string
		err    error
	}
)

func (m *refollow) run(t *twin) {
	switch {
	case t.mode != modeLive:
	case m.one == nil || t.audience == nil:
		t.follow()
	default:
		if x, ok := t.e.followers.aimed(t.en.id, *m.one); ok {
			t.followedBy(x)
		} else if t.audience.leave(*m.one); len(t.audience.readers) == 0 {
			t.audience = nil
		}
	}
}

// follow brings the list of subscribers up to date, and gives those that are new the first values.
func (t *twin) follow() {
	all := t.e.followers.of(t.en.id)
	if len(all) == 0 {
		t.audience = nil
		return
	}
	if t.audience == nil {
		t.audience = &audience{stream: streamOf(newCallID()), readers: map[string]*reader{}, owed: map[*reader]bool{}}
	}
	now := make(map[follow]bool, len(all))
	for _, x := range all {
		now[x.follow] = true
	}
	for _, r := range t.audience.readers {
		for _, x := range slices.Clone(r.follows) {
			if !now[x.follow] {
				t.audience.leave(x.follow)
			}
		}
	}
	for _, x := range all {
		t.followedBy(x)
	}
}

// followedBy adds a subscription, unless it has been there all the time, and tells the first value, or that there is none: who follows may
// know one of an earlier twin of the id.
func (t *twin) followedBy(x aim) {
	r := t.audience.readers[x.subscriber]
	if r == nil {
		r = &reader{id: x.subscriber}
		t.audience.readers[r.id] = r
	}
	switch i := slices.IndexFunc(r.follows, func(y aim) bool { return x.follow == y.follow }); {
	case i < 0:
		r.follows = append(r.follows, x)
	case r.follows[i].since == x.since:
		return
	default:
		r.follows[i] = x
	}
	t.inform(r, x.follow, t.st.Property(state.Intern(x.property)))
}

// leave ends a subscription.
func (a *audience) leave(x follow) {
	if r := a.readers[x.subscriber]; r != nil {
		r.follows = slices.DeleteFunc(r.follows, func(y aim) bool { return x == y.follow })
		r.forget()
		a.sort(r)
	}
}

// sort notes whether a reader is owed something, and forgets one that is none any more.
func (a *audience) sort(r *reader) {
	if len(r.queue) > 0 {
		a.owed[r] = true
		return
	}
	delete(a.owed, r)
	if len(r.follows) == 0 {
		delete(a.readers, r.id)
	}
}

// forget drops what waits of subscriptions that ended.
func (r *reader) forget() {
	i := 0
	r.queue = slices.DeleteFunc(r.queue, func(n *actorv1.Notice) bool {
		i++
		return i > r.flying && !slices.ContainsFunc(r.follows, func(x aim) bool { return x.same(n) })
	})
}

func (f *follow) same(n *actorv1.Notice) bool {
	return f.system == n.System && f.name == n.Name && f.property == n.Property
}

// reported tells the subscribers of a property its value.
func (t *twin) reported(p *state.Property) {
	t.ownChanged(p.Name.Value())
	if t.audience == nil {
		return
	}
	for _, r := range t.audience.readers {
		for _, x := range r.follows {
			if x.property == p.Name.Value() {
				t.inform(r, x.follow, p)
			}
		}
	}
}

// retell tells a subscriber that computes properties the values again: it is a new life, which has heard nothing.
func (t *twin) retell(subscriber string) {
	if t.audience == nil {
		return
	}
	r := t.audience.readers[subscriber]
	if r == nil {
		return
	}
	for _, x := range r.follows {
		if x.system == derivedSystem {
			t.inform(r, x.follow, t.st.Property(state.Intern(x.property)))
		}
	}
}

// requalified tells every subscriber that the values are stale now, or are not any more.
func (t *twin) requalified() {
	if t.audience == nil {
		return
	}
	for i := range t.st.Properties {
		if p := &t.st.Properties[i]; p.Quality() == uint8(pb.Quality_QUALITY_GOOD) {
			t.reported(p)
		}
	}
}

// inform queues a notice; p is nil where the property has no value. A slow reader is told the newest value of each property, and how many it
// was not told.
func (t *twin) inform(r *reader, x follow, p *state.Property) {
	t.audience.sequence++
	n := &actorv1.Notice{Sequence: t.audience.sequence, Name: x.name, System: x.system, Property: x.property, Value: "null", Quality: pb.Quality_QUALITY_BAD}
	if p != nil {
		if n.Quality = pb.Quality(p.Quality()); n.Quality == pb.Quality_QUALITY_GOOD && !t.live() {
			n.Quality = pb.Quality_QUALITY_STALE
		}
		n.Value, n.Time = string(p.Value.AppendJSON(nil)), p.Time()
	}
	if len(r.queue) >= min(maxNotices, max(4, maxOwed/len(t.audience.readers))) {
		if i := slices.IndexFunc(r.queue[r.flying:], x.same); i >= 0 {
			n.Missed = r.queue[r.flying+i].Missed + 1
			r.queue = slices.Delete(r.queue, r.flying+i, r.flying+i+1)
			t.e.stats.drop(dropNotice)
		}
	}
	r.queue = append(r.queue, n)
	t.audience.owed[r] = true
}

// announce sends what waits to the subscribers that have answered what they were told before.
func (t *twin) announce(now int64) {
	if t.audience == nil {
		return
	}
	for r := range t.audience.owed {
		if r.flying > 0 || r.retryAt > now {
			continue
		}
		if at := t.e.now().UnixNano(); r.rate.left(0, at, noticeRate) > 0 {
			r.rate.spend(0, 1, at, noticeRate)
			t.send(r)
			continue
		}
		r.retryAt = now + int64(1000/noticeRate.PerSecond)
	}
}

func (t *twin) send(r *reader) {
	r.flying = min(len(r.queue), noticeBatch)
	stream := t.audience.stream
	env := &cluster.Envelope{ID: newCallID(), Target: cluster.Target{Kind: "twin", ID: r.id}, Deadline: time.Now().Add(noticeTimeout),
		Principal: principalOf(t.en.id),
		Message:   &actorv1.Notices{Twin: t.en.id, Stream: stream, Notices: slices.Clone(r.queue[:r.flying])}}
	// The answer comes by way of the shard: a twin that leaves does not wait for its subscribers.
	e, id, reader := t.e, t.en.id, r.id
	e.stats.notices.Add(uint64(r.flying))
	e.cluster.Call(env, func(a cluster.Reply) { e.send(&shardTurn{id: id, turn: &told{stream, reader, a.Err}}) })
}

func (m *told) run(t *twin) {
	a := t.audience
	if a == nil || a.stream != m.stream {
		return
	}
	r := a.readers[m.reader]
	if r == nil {
		return
	}
	switch {
	case m.err == nil, errors.Is(m.err, mqtt.ErrRefused):
		r.queue = slices.Delete(r.queue, 0, r.flying)
		r.tries, r.retryAt = 0, 0
	case errors.Is(m.err, ErrNotFound) && !t.e.known(r.id):
		r.queue = nil // its subscriptions end with it
	default:
		r.retryAt = t.nowMS() + int64(min(noticeMin<<min(r.tries, 10), noticeMax))
		r.tries = min(r.tries+1, 20)
	}
	r.flying = 0
	r.forget()
	a.sort(r)
}

// known says whether there is a twin of that id, as far as this node knows.
func (e *Engine) known(id string) bool {
	_, ok, err := e.store.Get(tableTwins, id)
	return err != nil || ok
}

// owes says whether subscribers have yet to be told something, and when to try again; 0: when they have answered.
func (a *audience) owes() (retryAt int64, owes bool) {
	if a == nil {
		return 0, false
	}
	for r := range a.owed {
		owes = true
		if r.flying == 0 && (retryAt == 0 || r.retryAt < retryAt) {
			retryAt = max(r.retryAt, 1)
		}
	}
	return retryAt, owes
}
