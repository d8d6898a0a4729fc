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
	readers          []*reader
}

// reader is a subscriber, with what it was not told yet.
type reader struct {
	id      string
	follows []follow
	queue   []*actorv1.Notice
	// flying are the first of the queue, which are on their way.
	flying  int
	retryAt int64 // by nowMS
	tries   uint8
	rate    meter // of what is sent
}

type (
	// refollow: the followers of a twin changed.
	refollow struct{}
	// told: a subscriber has answered.
	told struct {
		stream uint64
		reader string
		err    error
	}
)

func (*refollow) run(t *twin) {
	if t.mode == modeLive {
		t.follow()
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
		id := newCallID()
		t.audience = &audience{stream: streamOf(id)}
	}
	a := t.audience
	for _, r := range a.readers {
		r.follows = slices.DeleteFunc(r.follows, func(x follow) bool { return !slices.Contains(all, x) })
		r.forget()
	}
	for _, x := range all {
		r := a.reader(x.subscriber)
		if slices.Contains(r.follows, x) {
			continue
		}
		r.follows = append(r.follows, x)
		if p := t.st.Property(state.Intern(x.property)); p != nil {
			t.inform(r, x, p)
		}
	}
	a.readers = slices.DeleteFunc(a.readers, func(r *reader) bool { return len(r.follows) == 0 && r.flying == 0 })
}

func (a *audience) reader(id string) *reader {
	for _, r := range a.readers {
		if r.id == id {
			return r
		}
	}
	r := &reader{id: id}
	a.readers = append(a.readers, r)
	return r
}

// forget drops what waits of subscriptions that ended.
func (r *reader) forget() {
	i := 0
	r.queue = slices.DeleteFunc(r.queue, func(n *actorv1.Notice) bool {
		i++
		return i > r.flying && !slices.ContainsFunc(r.follows, func(x follow) bool { return x.same(n) })
	})
}

func (f *follow) same(n *actorv1.Notice) bool {
	return f.system == n.System && f.name == n.Name && f.property == n.Property
}

// reported tells the subscribers of a property its value.
func (t *twin) reported(p *state.Property) {
	if t.audience == nil {
		return
	}
	for _, r := range t.audience.readers {
		for _, x := range r.follows {
			if x.property == p.Name.Value() {
				t.inform(r, x, p)
			}
		}
	}
}

// requalified tells every subscriber that the values are stale now, or are not any more.
func (t *twin) requalified() {
	if t.audience == nil {
		return
	}
	for i := range t.st.Properties {
		if p := &t.st.Properties[i]; p.Quality == uint8(pb.Quality_QUALITY_GOOD) {
			t.reported(p)
		}
	}
}

// inform queues a notice. A slow reader is told the newest value of each property, and how many it was not told.
func (t *twin) inform(r *reader, x follow, p *state.Property) {
	q := pb.Quality(p.Quality)
	if q == pb.Quality_QUALITY_GOOD && !t.live() {
		q = pb.Quality_QUALITY_STALE
	}
	t.audience.sequence++
	n := &actorv1.Notice{Sequence: t.audience.sequence, Name: x.name, System: x.system, Property: x.property,
		Value: string(p.Value.AppendJSON(nil)), Quality: q, Time: p.Time}
	if len(r.queue) >= min(maxNotices, max(4, maxOwed/len(t.audience.readers))) {
		if i := slices.IndexFunc(r.queue[r.flying:], x.same); i >= 0 {
			n.Missed = r.queue[r.flying+i].Missed + 1
			r.queue = slices.Delete(r.queue, r.flying+i, r.flying+i+1)
			t.e.stats.drop(dropNotice)
		}
	}
	r.queue = append(r.queue, n)
}

// announce sends what waits to the subscribers that have answered what they were told before.
func (t *twin) announce(now int64) {
	if t.audience == nil {
		return
	}
	for _, r := range t.audience.readers {
		if r.flying > 0 || len(r.queue) == 0 || r.retryAt > now {
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
	i := slices.IndexFunc(a.readers, func(r *reader) bool { return r.id == m.reader })
	if i < 0 {
		return
	}
	r := a.readers[i]
	switch {
	case m.err == nil, errors.Is(m.err, mqtt.ErrRefused):
		r.queue = slices.Delete(r.queue, 0, r.flying)
		r.tries, r.retryAt = 0, 0
	case errors.Is(m.err, ErrNotFound) && !t.e.known(r.id):
		r.queue = nil // its subscriptions end with it
	default:
		r.retryAt = t.e.nowMS() + int64(min(noticeMin<<min(r.tries, 10), noticeMax))
		r.tries = min(r.tries+1, 20)
	}
	r.flying = 0
	r.forget()
	a.readers = slices.DeleteFunc(a.readers, func(r *reader) bool { return len(r.follows) == 0 && r.flying == 0 })
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
	for _, r := range a.readers {
		if len(r.queue) == 0 {
			continue
		}
		owes = true
		if r.flying == 0 && (retryAt == 0 || r.retryAt < retryAt) {
			retryAt = max(r.retryAt, 1)
		}
	}
	return retryAt, owes
}
